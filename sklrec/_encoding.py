"""Encoding of Python values and numpy arrays as JSON and named arrays, and decoding."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Any
from uuid import UUID

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch

_NUMERIC = {
    name: np.dtype(name).type
    for name in [
        "bool",
        *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
        *(f"float{bits}" for bits in (16, 32, 64)),
    ]
}


# Types that are encoded as strings, with the functions that write and read them.
_AS_TEXT: dict[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    bytes: ("bytes", bytes.hex, bytes.fromhex),
    UUID: ("uuid", str, UUID),
    date: ("date", date.isoformat, date.fromisoformat),
    datetime: ("datetime", datetime.isoformat, datetime.fromisoformat),
}
_FROM_TEXT = {name: read for name, _, read in _AS_TEXT.values()}


class CannotSaveError(Exception):
    """A value is of a type that cannot be saved."""


@dataclass
class Encoder:
    """Encoding of the values of one estimator as JSON values and arrays.

    Parameters
    ----------
    arrays : dict of str to ndarray
        Arrays of the file, to which those of the values are added.
    n_items : int or None
        Number of items of the estimator. Sizes that are equal to it are stored by name, so that a
        file where they do not match the arrays is refused.
    hold : callable
        Stores an estimator that is a value, and returns its number in the file, or None if it
        cannot be stored.
    prefix : str
        Beginning of the names of arrays.
    """

    arrays: dict[str, np.ndarray]
    n_items: int | None
    hold: Callable[[BaseEstimator], int | None]
    prefix: str

    def encode(self, value: Any, where: str) -> Any:
        """Return a value as a JSON value, and add its arrays.

        A JSON object has a single key, which is the kind of the encoded value. `where` is the name
        of the value, for errors and for its array.
        """
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if np.isfinite(value) else {"float": repr(value)}
        if kind in (list, tuple):
            items = [self.encode(item, f"{where}.{i}") for i, item in enumerate(value)]
            return items if kind is list else {"tuple": items}
        if kind in (dict, Bunch):
            pairs = [
                [self.encode(key, where), self.encode(v, f"{where}.{key}")]
                for key, v in value.items()
            ]
            return {"dict" if kind is dict else "bunch": pairs}
        if kind in (np.ndarray, np.memmap):
            return {"array": self._encode_array(value, where, self.n_items)}
        if kind is sp.csr_array:
            parts = [
                self._encode_array(getattr(value, part), f"{where}.{part}", None)
                for part in ("data", "indices", "indptr")
            ]
            return {
                "csr": [*parts, ["n_items" if n == self.n_items else int(n) for n in value.shape]]
            }
        # isoformat does not keep the names of time zones.
        if kind in _AS_TEXT and isinstance(getattr(value, "tzinfo", None), timezone | None):
            name, write, _ = _AS_TEXT[kind]
            return {name: write(value)}
        if kind is np.datetime64:
            return {"scalar": [value.dtype.str, int(value.astype(np.int64))]}
        if kind is np.str_:
            return {"scalar": ["str", str(value)]}
        if isinstance(value, np.generic) and value.dtype.name in _NUMERIC:
            return {"scalar": [value.dtype.name, self.encode(value.item(), where)]}
        if kind is type and value in _NUMERIC.values():
            return {"type": np.dtype(value).name}
        if isinstance(value, BaseEstimator) and (number := self.hold(value)) is not None:
            return {"estimator": number}
        raise CannotSaveError(f"{where} holds a {kind.__module__}.{kind.__qualname__}")

    def _encode_array(self, array: np.ndarray, where: str, n_items: int | None) -> dict[str, Any]:
        dtype = {"O": "object", "U": "str"}.get(array.dtype.kind, array.dtype.name)
        name = self.prefix + where
        if name in self.arrays:
            name = f"{name} ({len(self.arrays)})"
        if dtype in ("object", "str"):
            # Stored as an array, as the size of the metadata is limited.
            items = [self.encode(item, where) for item in array.ravel().tolist()]
            self.arrays[name] = np.frombuffer(json.dumps(items).encode(), dtype=np.uint8)
        elif dtype in _NUMERIC:
            self.arrays[name] = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
        else:
            raise CannotSaveError(f"{where} holds an array of {array.dtype}")
        shape = ["n_items" if n == n_items else n for n in array.shape]
        return {"name": name, "dtype": dtype, "shape": shape}


@dataclass
class Decoder:
    """Undoes what :class:`Encoder` does.

    Parameters
    ----------
    file : object
        The arrays, by ``get_tensor(name)``.
    n_items : int or None
        Number of items of the estimator.
    held : callable
        Returns the estimator with a number.
    """

    file: Any
    n_items: int | None
    held: Callable[[int], BaseEstimator]

    def decode(self, value: Any) -> Any:
        """Return the value that was encoded."""
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "float":
            return float(content)
        if kind == "tuple":
            return tuple(self.decode(content))
        if kind in ("dict", "bunch"):
            pairs = {self.decode(k): self.decode(v) for k, v in content}
            return pairs if kind == "dict" else Bunch(**pairs)
        if kind == "array":
            return self._decode_array(content, self.n_items)
        if kind == "csr":
            *parts, shape = content
            arrays = tuple(self._decode_array(part, None) for part in parts)
            return _decode_csr(arrays, tuple(self.n_items if n == "n_items" else n for n in shape))
        if kind in _FROM_TEXT:
            return _FROM_TEXT[kind](content)
        if kind == "scalar" and content[0] == "str":
            return np.str_(content[1])
        if kind == "scalar" and np.dtype(content[0]).kind == "M":
            return np.int64(content[1]).astype(content[0])
        if kind == "scalar" and content[0] in _NUMERIC:
            return _NUMERIC[content[0]](self.decode(content[1]))
        if kind == "type" and content in _NUMERIC:
            return _NUMERIC[content]
        if kind == "estimator":
            return self.held(content)
        raise ValueError(f"it holds a value of an unknown kind, {kind!r}")

    def _decode_array(self, content: dict[str, Any], n_items: int | None) -> np.ndarray:
        name, dtype = content["name"], content["dtype"]
        shape: tuple[Any, ...] = tuple(n_items if n == "n_items" else n for n in content["shape"])
        array = self.file.get_tensor(name)
        if dtype in ("object", "str"):
            items = self.decode(json.loads(array.tobytes()))
            # np.array would convert tuples to a second dimension.
            array = np.fromiter(items, dtype=object, count=len(items))
            return array.reshape(shape).astype(dtype)
        if (array.dtype.name, array.shape) != (dtype, shape):
            raise ValueError(
                f"its array {name!r} should be of {dtype} and shape {shape}, but is of "
                f"{array.dtype} and shape {array.shape}"
            )
        return array


def _decode_csr(arrays: tuple[np.ndarray, ...], shape: tuple[Any, ...]) -> sp.csr_array:
    """Return the CSR array, whose indices are checked: scipy does not, and would read beyond."""
    found = sp.csr_array(arrays, shape=shape)
    found.check_format(full_check=True)
    return found
