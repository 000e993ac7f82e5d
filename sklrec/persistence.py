"""Save and load estimators for deployment, without pickle.

A saved estimator is one file in the safetensors format. Its arrays are the tensors of the file,
and a text in JSON in the file's metadata holds the rest: the class, the parameters, the other
fitted attributes and the versions. Nothing in a file is ever run: the class is looked up by its
name among the estimators of sklrec, and what it is filled with is numbers, strings and arrays.
"""

from __future__ import annotations

import inspect
import json
import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

import sklrec

from ._encoding import CannotSaveError, decode, encode
from ._files import replacing

__all__ = ["load", "save"]

FORMAT_VERSION = 1  # of the files; grows when an older sklrec could not read them

_METADATA = "sklrec"  # the key of the text in the metadata of a file

# What matters only to fits inside of searches and holds objects of any kind.
_NOT_SAVED = {"_metadata_request", "_skl_callbacks"}

# What a file that was damaged or tampered with can make of the code that reads it. torch has a
# RuntimeError for weights of other shapes.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def save(estimator: BaseEstimator, path: str | os.PathLike) -> None:
    """Save an estimator of sklrec to one file, without pickle.

    The file is written beside `path` and takes its place when it is complete: whoever reads
    `path` meanwhile sees the old file or the new one, and an interruption leaves the old one.

    Parameters
    ----------
    estimator : estimator
        Any estimator of sklrec, fitted or not. Of a neural model the weights are saved, and the
        state of the optimizer where ``pickle_optimizer=True``.
    path : str or path-like
        The file, by custom with the ending ``.safetensors``. One that exists is replaced.

    Raises
    ------
    TypeError
        If `estimator` is none of sklrec's, such as a pipeline, or a parameter or attribute is
        of a kind that cannot be saved: all but None, booleans, numbers, strings, numpy types,
        and lists, tuples, dicts and arrays of them. Nothing is written then.
    FileNotFoundError
        If the folder does not exist.
    OSError
        If the file cannot be written.
    ImportError
        If safetensors is not installed.

    See Also
    --------
    load : Load what was saved.

    Notes
    -----
    Callbacks of scikit-learn (``set_callbacks``) and metadata requests are left out, as they
    matter only to fits.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.linear import EASE
    >>> from sklrec.persistence import load, save
    >>> X = make_interactions(50, 20, random_state=0).data
    >>> ease = EASE(lambda_=10.0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "ease.safetensors"
    ...     save(ease, path)
    ...     deployed = load(path)
    >>> deployed
    EASE(lambda_=10.0)
    >>> bool((deployed.predict_ranking(X) == ease.predict_ranking(X)).all())
    True
    """
    safetensors = _import_safetensors()
    path = Path(path)
    name = type(estimator).__name__
    if _public_estimator(name) is not type(estimator):
        raise TypeError(
            f"save takes one estimator of sklrec, got {type(estimator).__module__}.{name}; of a "
            "pipeline save each step of its own, of a search its best_estimator_."
        )
    if hasattr(estimator, "estimators_"):
        raise TypeError(f"{name} holds recommenders: pickle it, or save each of its estimators_.")
    params = estimator.get_params(deep=False)
    state = {key: value for key, value in estimator.__getstate__().items() if key not in _NOT_SAVED}
    n_items = state.get("n_features_in_")
    arrays: dict = {}
    encoded = {}
    for key, value in state.items():
        try:
            encoded[key] = encode(value, key, arrays, n_items)
        except CannotSaveError as error:
            advice = (
                f"before saving, use set_params({key}=...) with None, numbers, strings"
                if key in params
                else "what can be saved are None, numbers, strings"
            )
            raise TypeError(
                f"{name}.{error}, which cannot be saved; {advice}, "
                "or lists, tuples, dicts and arrays of them."
            ) from None
    document = {
        "format_version": FORMAT_VERSION,
        "sklrec_version": sklrec.__version__,
        "class": name,
        "params": {key: encoded.pop(key) for key in params},
        "attributes": encoded,
    }
    with replacing(path) as part:
        try:
            safetensors.numpy.save_file(arrays, part, metadata={_METADATA: json.dumps(document)})
        except safetensors.SafetensorError as error:
            raise OSError(f"{path} could not be written: {error}.") from error


def load(path: str | os.PathLike) -> BaseEstimator:
    """Load an estimator that :func:`~sklrec.persistence.save` has saved.

    It gives what the saved one gives, to the last bit on the same machine and versions, and
    ``partial_fit`` goes on where the model has it. A neural model that was trained on CUDA is
    loaded on the CPU where there is no such device.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    estimator : estimator
        A new estimator of the class, the parameters and the fitted attributes in the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file was not written by :func:`save` or by that of a later version with another
        format, is truncated or was changed, or names a class or parameter that there is not.
    ImportError
        If safetensors is not installed, or what the model needs, such as torch.

    Warns
    -----
    UserWarning
        If the file was saved by a version of sklrec with another major or minor number.

    See Also
    --------
    save : Save an estimator; with an example.

    Notes
    -----
    Loading runs no code from the file, unlike unpickling. A file from an untrusted source can
    still hold a bad model, or one too large for the machine.

    Examples
    --------
    >>> from sklrec.persistence import load
    >>> load("nowhere.safetensors")
    Traceback (most recent call last):
    FileNotFoundError: There is no file nowhere.safetensors.
    """
    safetensors = _import_safetensors()
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            document = _read_document(path, file.metadata() or {})
            # Not among what is taken for damage: where torch is missing, an ImportError says so.
            estimator_class = _public_estimator(document["class"])
            if estimator_class is None:
                raise ValueError(
                    f"its class {document['class']!r} is no estimator of sklrec "
                    f"{sklrec.__version__}; it was saved by sklrec {document['sklrec_version']}"
                )
            return _make(estimator_class, document, file)
    except (safetensors.SafetensorError, *_DAMAGE) as error:
        raise ValueError(f"{path} cannot be loaded: {_in_one_sentence(error)}.") from error


def _read_document(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """Return the JSON text of a file of a format and version that can be read."""
    if _METADATA not in metadata:
        raise ValueError("it was not written by sklrec.persistence.save")
    document = json.loads(metadata[_METADATA])
    theirs, ours = document["sklrec_version"], sklrec.__version__
    if document["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"it has format {document['format_version']} of sklrec {theirs}, but sklrec {ours} "
            f"reads formats up to {FORMAT_VERSION}; install a newer sklrec"
        )
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        warnings.warn(
            f"{path} was saved by sklrec {theirs} and is loaded by sklrec {ours}: "
            "its results may differ.",
            UserWarning,
            stacklevel=3,
        )
    return document


def _make(estimator_class: type[BaseEstimator], document: dict[str, Any], file: Any) -> Any:
    n_items = document["attributes"].get("n_features_in_")
    params, attributes = (
        {key: decode(value, file, n_items) for key, value in document[part].items()}
        for part in ("params", "attributes")
    )
    known = set(inspect.signature(estimator_class).parameters)
    if unknown := sorted(set(params) - known):
        raise ValueError(f"{estimator_class.__name__} has no parameter {unknown[0]!r}")
    if clash := sorted(known & set(attributes)):
        raise ValueError(f"{clash[0]!r} is a parameter of {estimator_class.__name__}")
    estimator = estimator_class(**params)
    estimator._validate_params()
    estimator.__setstate__({**vars(estimator), **attributes})
    return estimator


def _public_estimator(name: str) -> type[BaseEstimator] | None:
    """Return the public estimator of that name, None if there is none.

    Other than :func:`sklrec.utils.all_estimators` it imports torch only for models that need it.
    """
    if name.startswith("Base"):
        return None
    for module in (getattr(sklrec, module) for module in sklrec.__all__):
        if name in module.__all__:
            value = getattr(module, name)
            if (
                inspect.isclass(value)
                and issubclass(value, BaseEstimator)
                and not issubclass(value, Pipeline)
            ):
                return value
    return None


def _in_one_sentence(error: Exception) -> str:
    """Return the message of an error without its full stop; that of a KeyError is but a key."""
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return " ".join(str(error).split()).rstrip(".")


def _import_safetensors() -> ModuleType:
    try:
        import safetensors
        import safetensors.numpy
    except ModuleNotFoundError as error:
        raise ImportError(
            "sklrec.persistence needs safetensors, which is not installed: "
            "pip install 'sklrec[persistence]'"
        ) from error
    return safetensors
