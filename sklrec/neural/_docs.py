"""What the docstrings of all neural recommenders say alike, written once."""

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
    Proportion of the users to set aside for early stopping, of those with two or more
    interactions.
n_iter_no_change : int
    Number of epochs without a better validation score after which training stops.
warm_start : bool
    When True, ``fit`` continues where the last call ended, up to `max_epochs` in all, as the
    ensembles of scikit-learn do: raise `max_epochs` to train for longer. Parameters of the
    network must stay as they were; changes of all others take effect. The state of the optimizer,
    up to twice the size of the weights, is then kept, also in pickles, as it is by
    ``partial_fit``.
callbacks : list of skorch callbacks or None
    Callbacks of training, as in :class:`skorch.NeuralNet`.
device : str or torch.device
    Where to compute: "cpu", "cuda", "cuda:1", or "auto" for CUDA if available.
mixed_precision : bool
    Whether to multiply in bfloat16, on CUDA or on a CPU with units for it (AVX512-BF16 or AMX).
    On any other CPU it has no effect.
compile : bool
    Whether to compile the network with :func:`torch.compile`.
random_state : int, RandomState instance or None
    Seed of the weights, the order of the users, the noise in training and the validation users.
    One seed on one device gives identical scores.
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
    """Complete the docstring of a neural recommender, as a class decorator.

    Parameters that training has in every model follow those that the docstring describes, with
    the defaults of ``__init__``, and so do the attributes. What the docstring describes itself
    stays as it is.
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
    """Return what is before the parameters, parameters, attributes, and what is after them."""
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
