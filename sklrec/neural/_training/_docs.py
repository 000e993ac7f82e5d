"""Docstrings of the parameters and attributes that all neural recommenders share."""

from __future__ import annotations

import inspect
import re
from typing import Any

PARAMETERS = """\
max_epochs : int
    Number of passes over the users.
batch_size : int
    Number of users in a gradient step.
learning_rate : float
    Adam's learning rate.
early_stopping : bool
    Whether to set aside `validation_fraction` of the users, stop training when ``ndcg@100`` on
    them has not improved for `n_iter_no_change` epochs, and keep the weights of the best epoch.
validation_fraction : float
    Proportion of the users with two or more interactions to set aside for early stopping.
n_iter_no_change : int
    Number of epochs without a better validation score after which training stops.
warm_start : bool
    When True, ``fit`` continues the training of the previous call until there are `max_epochs`
    in total; otherwise it trains a new network. Parameters of the network must not be changed in
    between; changes of all others take effect. The state of the optimizer, up to twice the size
    of the weights, is kept in the model and its pickles, as it always is after ``partial_fit``.
callbacks : list of skorch callbacks or None
    Callbacks for training, as in :class:`skorch.NeuralNet`. They can monitor "train_loss" and,
    with validation users, "validation_score".
device : str or torch.device
    Device to compute on: "cpu", "cuda", "cuda:1", or "auto" for CUDA if available.
mixed_precision : bool
    Whether to compute matrix products in bfloat16, on CUDA or on a CPU with instructions for it
    (AVX512-BF16 or AMX). On other CPUs it has no effect.
compile : bool
    Whether to compile the network with :func:`torch.compile`.
random_state : int, RandomState instance or None
    Determines the initial weights, the order of the users, the noise in training and the
    validation users. Pass an int for identical scores in each fit on the same device.
verbose : int
    If 1, print a line for each epoch.
"""

ATTRIBUTES = """\
net_ : skorch.NeuralNet
    The trained network.
n_iter_ : int
    Number of epochs.
loss_curve_ : list of float
    Mean loss in each epoch.
validation_scores_ : list of float
    ``ndcg@100`` of the validation users after each epoch.
best_epoch_ : int
    Epoch with the best validation score, counted from 1. Only with validation users.
n_features_in_ : int
    Number of items.
feature_names_in_ : ndarray of shape (n_items,)
    Names of the items. Only if X is a DataFrame with names.
"""


def with_training_docs(model: type) -> type:
    """Add the shared parameters and attributes to the docstring of a class, as a decorator.

    Parameters are in the order of ``__init__`` and have its defaults. Entries that the docstring
    already has are kept.
    """
    if model.__doc__ is None:  # python -OO
        return model
    before, parameters, attributes, after = _sections(model.__doc__)
    own = _entries(parameters)
    known = {**_with_defaults(_entries(PARAMETERS), model), **own}
    order = list(inspect.signature(model).parameters)
    described = [known[name] for name in order if name in known]
    own, shared = _entries(attributes), _entries(ATTRIBUTES)
    names = dict.fromkeys(["net_", *(name for name in own if name not in shared), *shared])
    model.__doc__ = (
        before + _indented(described) + "\n    Attributes\n    ----------\n"
        + _indented([{**shared, **own}[name] for name in names]) + after
    )  # fmt: skip
    return model


def _sections(doc: str) -> tuple[str, str, str, str]:
    """Split a docstring into the text before its parameters, parameters, attributes and rest."""
    match = re.search(
        r"(    Parameters\n    -+\n)(.*?)"
        r"\n    Attributes\n    -+\n(.*?)"
        r"(\n    [A-Z][\w ]+\n    -+\n.*)",
        doc,
        flags=re.DOTALL,
    )
    if match is None:
        raise ValueError("The docstring needs the sections Parameters and Attributes, and another.")
    return doc[: match.start()] + match[1], match[2], match[3], match[4]


def _entries(section: str) -> dict[str, str]:
    """Return the entries of a section by name, without indentation."""
    text = inspect.cleandoc("\n" + section)
    return {
        re.match(r"\w+", entry)[0]: entry  # type: ignore[index]
        for entry in re.split(r"\n(?=\S)", text)
        if entry
    }


def _with_defaults(entries: dict[str, str], model: type) -> dict[str, str]:
    parameters = inspect.signature(model).parameters
    return {
        name: re.sub(
            "$", f", default={_shown(parameters[name].default)}", entry, count=1, flags=re.M
        )
        for name, entry in entries.items()
        if name in parameters
    }


def _shown(default: Any) -> str:
    return f'"{default}"' if isinstance(default, str) else repr(default)


def _indented(entries: list[str]) -> str:
    lines = "\n".join(entries).split("\n")
    return "".join(f"    {line}\n" if line else "\n" for line in lines)
