"""Save and load estimators for deployment, without pickle.

A saved estimator is a file in the safetensors format. Arrays are stored as tensors. The class, the
parameters, the other fitted attributes and the versions are stored as JSON in the metadata.
Loading a file does not execute any code from it: the class is looked up by name among the
estimators of sklrec, and its attributes are numbers, strings and arrays.
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

FORMAT_VERSION = 1  # to be increased when older versions of sklrec cannot read new files

_METADATA = "sklrec"  # key of the JSON text in the metadata

# Attributes that only affect fits, and that may hold arbitrary objects.
_NOT_SAVED = {"_metadata_request", "_skl_callbacks"}

# Errors that a damaged or manipulated file can cause. torch raises a RuntimeError if weights have
# other shapes.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def save(estimator: BaseEstimator, path: str | os.PathLike) -> None:
    """Save an estimator of sklrec to one file, without pickle.

    The file is replaced as a whole: other processes read either the old or the complete new file,
    and an interruption does not change the old one.

    Parameters
    ----------
    estimator : estimator
        An estimator of sklrec, fitted or not. If a neural model has the state of the optimizer, it
        is saved too.
    path : str or path-like
        Path of the file, usually with the suffix ``.safetensors``. An existing file is replaced.

    Raises
    ------
    TypeError
        If `estimator` is not a single estimator of sklrec, or if a parameter or attribute has a
        type that cannot be saved. Supported are None, booleans, numbers, strings, bytes, UUIDs,
        dates, datetimes without a named time zone, numpy types, and lists, tuples, dicts,
        arrays and CSR arrays of these. No file is written in case of an error.
    FileNotFoundError
        If the folder does not exist.
    OSError
        If the file cannot be written.
    ImportError
        If safetensors is not installed.

    See Also
    --------
    load : Load a saved estimator.

    Notes
    -----
    Callbacks of scikit-learn (``set_callbacks``) and metadata requests are not saved, as they only
    affect fits.

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
            f"save needs an estimator of sklrec, got {type(estimator).__module__}.{name}; save the "
            "steps of a pipeline separately, and the best_estimator_ of a search."
        )
    for held in ("estimators_", "recommender_"):
        if hasattr(estimator, held):
            raise TypeError(f"{name} holds other estimators: pickle it, or save its {held}.")
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
    """Load an estimator that was saved by :func:`~sklrec.persistence.save`.

    On the same machine and with the same versions, its results are identical to those of the
    saved estimator, and training can be continued with ``partial_fit`` if the model has it. A
    neural model that was trained on CUDA is loaded on the CPU if there is no CUDA device.

    Parameters
    ----------
    path : str or path-like
        Path of the file.

    Returns
    -------
    estimator : estimator
        A new estimator with the class, the parameters and the fitted attributes of the file.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file was not written by :func:`save`, has the format of a later version, is damaged,
        or has an unknown class or parameter.
    ImportError
        If safetensors or a dependency of the model, such as torch, is not installed.

    Warns
    -----
    UserWarning
        If the file was saved by another major or minor version of sklrec.

    See Also
    --------
    save : Save an estimator.

    Notes
    -----
    Unlike unpickling, loading does not execute code from the file. A file from an untrusted source
    may still contain a bad model, or one that is too large for the machine.

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
            # An ImportError, such as without torch, is not an error of the file.
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
    """Return the JSON document of a file, after a check of its format and version."""
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
    """Return the public estimator with this name, or None.

    Unlike :func:`sklrec.utils.all_estimators`, it imports torch only for neural models.
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
    """Return the message of an error without full stop; the message of a KeyError is a key."""
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
