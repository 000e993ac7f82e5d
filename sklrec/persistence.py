"""Save and load estimators for deployment, without pickle.

A saved estimator is a file in the safetensors format. Arrays are stored as tensors. The class, the
parameters, the other fitted attributes and the versions are stored as JSON in the metadata, and so
are estimators that are values of them, as the steps of a pipeline. Loading a file does not execute
any code from it: classes are looked up by name among the estimators of sklrec and some of
scikit-learn, and their attributes are numbers, strings and arrays.
"""

from __future__ import annotations

import inspect
import json
import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
from sklearn.base import BaseEstimator

import sklrec

from ._classes import class_named, name_of
from ._encoding import CannotSaveError, Decoder, Encoder
from ._files import is_file_object, replacing, write_whole

__all__ = ["load", "save"]

# To be increased when older versions of sklrec cannot read new files. A file of an estimator that
# holds no others has the first.
FORMAT_VERSION = 2

_METADATA = "sklrec"  # key of the JSON text in the metadata

# Attributes that only affect fits, and that may hold arbitrary objects: those of scikit-learn for
# all estimators, and for its neural networks.
_NOT_SAVED = {"_metadata_request", "_skl_callbacks", "_optimizer", "_random_state"}

# Errors that a damaged or manipulated file can cause. torch raises a RuntimeError if weights have
# other shapes.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def save(estimator: BaseEstimator, file: str | os.PathLike | IO[bytes]) -> None:
    """Save an estimator to one file, without pickle.

    A file with this path is replaced as a whole: other processes read either the old or the
    complete new file, and an interruption does not change the old one.

    Parameters
    ----------
    estimator : estimator
        An estimator of sklrec, fitted or not, or a pipeline of sklrec or scikit-learn. Estimators
        that it holds, such as the steps of a pipeline or the members of an ensemble, are saved with
        it. They are estimators of sklrec, or of one of the modules of scikit-learn ``pipeline``,
        ``preprocessing``, ``feature_extraction.text``, ``decomposition``, ``linear_model``,
        ``neural_network`` and ``frozen``. If a neural model of sklrec has the state of the
        optimizer, it is saved too.
    file : str, path-like or binary file object
        Path of the file, usually with the suffix ``.safetensors``, or an object with ``write``,
        which is only written to when the estimator has been encoded.

    Raises
    ------
    TypeError
        If an estimator is none of those above, or if a parameter or attribute has a type that
        cannot be saved. Supported are None, booleans, numbers, strings, bytes, UUIDs, dates,
        datetimes without a named time zone, numpy types, estimators, and lists, tuples, dicts,
        arrays and CSR arrays of these. Nothing is written in case of an error.
    FileNotFoundError
        If the folder does not exist.
    OSError
        If the file cannot be written.
    ImportError
        If safetensors is not installed.

    See Also
    --------
    load : Load a saved estimator.
    sklrec.export.to_onnx : A file for other runtimes than Python.

    Notes
    -----
    Callbacks of scikit-learn (``set_callbacks``), metadata requests and the optimizers of
    scikit-learn's neural networks are not saved, as they only affect fits.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.preprocessing import Binarizer
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.linear import EASE
    >>> from sklrec.persistence import load, save
    >>> from sklrec.pipeline import make_pipeline
    >>> X = make_interactions(50, 20, ratings=True, random_state=0).data
    >>> model = make_pipeline(Binarizer(threshold=3.5), EASE(lambda_=10.0)).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.safetensors"
    ...     save(model, path)
    ...     deployed = load(path)
    >>> deployed[-1]
    EASE(lambda_=10.0)
    >>> bool((deployed.predict_ranking(X) == model.predict_ranking(X)).all())
    True
    """
    safetensors = _import_safetensors()
    to_object = is_file_object(file, "write")
    writer = _Writer(estimator)
    document, *parts = writer.documents
    versions = {
        "format_version": FORMAT_VERSION if parts else 1,
        "sklrec_version": sklrec.__version__,
    }
    document = {**versions, **document, **({"parts": parts} if parts else {})}
    metadata = {_METADATA: json.dumps(document)}
    if to_object:
        write_whole(safetensors.numpy.save(writer.arrays, metadata=metadata), file)
        return
    with replacing(file) as part:  # type: ignore[arg-type]
        try:
            safetensors.numpy.save_file(writer.arrays, part, metadata=metadata)
        except safetensors.SafetensorError as error:
            raise OSError(f"{file} could not be written: {error}.") from error


class _Writer:
    """Encoding of an estimator and of those that it holds.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Arrays of all of them.
    documents : list of dict
        JSON values of each, the estimator itself first. One that is held twice is there once.
    """

    def __init__(self, estimator: BaseEstimator) -> None:
        self.arrays: dict = {}
        self.documents: list[dict[str, Any]] = []
        self.numbers: dict[int, int] = {}
        if self.hold(estimator) is None:
            kind = type(estimator)
            raise TypeError(
                f"save needs an estimator of sklrec or a pipeline, got {kind.__module__}."
                f"{kind.__name__}; of a search, save the best_estimator_."
            )

    def hold(self, estimator: BaseEstimator) -> int | None:
        """Encode an estimator and return its number, or None if it has no name in files."""
        if id(estimator) in self.numbers:
            return self.numbers[id(estimator)]
        name = name_of(type(estimator))
        if name is None:
            return None
        number = self.numbers[id(estimator)] = len(self.documents)
        self.documents.append({"class": name})
        params = estimator.get_params(deep=False)
        if params.get("memory") is not None:
            raise TypeError(
                f"{name}.memory is {params['memory']!r}, and caches are not saved; before saving, "
                "use set_params(memory=None)."
            )
        state = {k: v for k, v in estimator.__getstate__().items() if k not in _NOT_SAVED}
        prefix = f"{number}/" if number else ""
        encoder = Encoder(self.arrays, state.get("n_features_in_"), self.hold, prefix)
        encoded = {}
        for key, value in state.items():
            try:
                encoded[key] = encoder.encode(value, key)
            except CannotSaveError as error:
                advice = (
                    f"before saving, use set_params({key}=...) with None, numbers, strings"
                    if key in params
                    else "what can be saved are None, numbers, strings"
                )
                raise TypeError(
                    f"{name}.{error}, which cannot be saved; {advice}, estimators of sklrec and "
                    "for its pipelines, or lists, tuples, dicts and arrays of them."
                ) from None
        self.documents[number]["params"] = {key: encoded.pop(key) for key in params}
        self.documents[number]["attributes"] = encoded
        return number


def load(file: str | os.PathLike | IO[bytes]) -> BaseEstimator:
    """Load an estimator that was saved by :func:`~sklrec.persistence.save`.

    On the same machine and with the same versions, its results are identical to those of the
    saved estimator, and training can be continued with ``partial_fit`` if the model has it. A
    neural model that was trained on CUDA is loaded on the CPU if there is no CUDA device.

    Parameters
    ----------
    file : str, path-like or binary file object
        Path of the file, or an object with ``read``, which is read from where it is to its end.

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
    from_object = is_file_object(file, "read")
    try:
        if from_object:
            return _read(file, _InMemory(file.read()))  # type: ignore[union-attr]
        path = Path(file)  # type: ignore[arg-type]
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}.")
        with safetensors.safe_open(path, framework="numpy") as opened:
            return _read(file, opened)
    except (safetensors.SafetensorError, *_DAMAGE) as error:
        raise ValueError(f"{file} cannot be loaded: {_in_one_sentence(error)}.") from error


class _InMemory:
    """Bytes of a file in the safetensors format, with the methods of an opened one."""

    def __init__(self, data: bytes) -> None:
        self._arrays = _import_safetensors().numpy.load(data)  # which checks the bytes
        size = int.from_bytes(data[:8], "little")
        self._metadata = json.loads(data[8 : 8 + size]).get("__metadata__")

    def metadata(self) -> dict[str, str] | None:
        return self._metadata

    def get_tensor(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            raise ValueError(f"File does not contain tensor {name}")
        return self._arrays[name]


def _read(file: Any, opened: Any) -> Any:
    """Make the estimator of a file; `opened` has its metadata and arrays."""
    document = _checked_document(file, opened.metadata() or {})
    reader = _Reader([document, *document.get("parts", [])], opened, document["sklrec_version"])
    return reader.held(0)


def _checked_document(file: Any, metadata: dict[str, str]) -> dict[str, Any]:
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
            f"{file} was saved by sklrec {theirs} and is loaded by sklrec {ours}: "
            "its results may differ.",
            UserWarning,
            stacklevel=4,
        )
    return document


class _Reader:
    """Estimators of a file, which are made when they are needed.

    Parameters
    ----------
    documents : list of dict
        JSON values of each.
    opened : object
        The file, which has the arrays.
    version : str
        Version of sklrec that wrote the file, for errors.
    """

    def __init__(self, documents: list[dict[str, Any]], opened: Any, version: str) -> None:
        self.documents = documents
        self.opened = opened
        self.version = version
        self.made: dict[int, Any] = {}

    def held(self, number: int) -> Any:
        """Return the estimator with a number."""
        if not 0 <= number < len(self.documents):
            raise ValueError(f"it has no estimator {number}")
        if number not in self.made:
            self.made[number] = None  # until it is made
            self.made[number] = self._make(self.documents[number])
        if self.made[number] is None:
            raise ValueError(f"its estimator {number} holds itself")
        return self.made[number]

    def _make(self, document: dict[str, Any]) -> Any:
        # An ImportError, such as without torch, is not an error of the file.
        name = document["class"]
        estimator_class = class_named(name)
        if estimator_class is None:
            raise ValueError(
                f"its class {name!r} is no estimator of sklrec {sklrec.__version__}; it was saved "
                f"by sklrec {self.version}"
            )
        decoder = Decoder(self.opened, document["attributes"].get("n_features_in_"), self.held)
        params, attributes = (
            {key: decoder.decode(value) for key, value in document[part].items()}
            for part in ("params", "attributes")
        )
        known = set(inspect.signature(estimator_class).parameters)
        if unknown := sorted(set(params) - known):
            raise ValueError(f"{name} has no parameter {unknown[0]!r}")
        if clash := sorted(known & set(attributes)):
            raise ValueError(f"{clash[0]!r} is a parameter of {name}")
        if params.get("memory") is not None:
            raise ValueError(f"the memory of its {name} is {params['memory']!r}, and not None")
        estimator = estimator_class(**params)
        estimator._validate_params()
        estimator.__setstate__({**vars(estimator), **attributes})
        return estimator


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
