"""Encoding of Python values and numpy arrays as JSON and named arrays, and decoding."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timezone
from typing import Any
from uuid import UUID

import numpy as np
import scipy.sparse as sp

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


def encode(value: Any, where: str, arrays: dict[str, np.ndarray], n_items: int | None) -> Any:
    """Return a value as a JSON value, and add its arrays to `arrays`.

    A JSON object has a single key, which is the kind of the encoded value. `where` is the name of
    the value, for errors and for its array.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if np.isfinite(value) else {"float": repr(value)}
    if kind in (list, tuple):
        items = [encode(item, f"{where}.{i}", arrays, n_items) for i, item in enumerate(value)]
        return items if kind is list else {"tuple": items}
    if kind is dict:
        return {
            "dict": [
                [
                    encode(key, where, arrays, n_items),
                    encode(v, f"{where}.{key}", arrays, n_items),
                ]
                for key, v in value.items()
            ]
        }
    if kind in (np.ndarray, np.memmap):
        return {"array": _encode_array(value, where, arrays, n_items)}
    if kind is sp.csr_array:
        parts = [
            _encode_array(getattr(value, part), f"{where}.{part}", arrays, None)
            for part in ("data", "indices", "indptr")
        ]
        # As in _encode_array, n_items is stored by name.
        return {"csr": [*parts, ["n_items" if n == n_items else int(n) for n in value.shape]]}
    # isoformat does not keep the names of time zones.
    if kind in _AS_TEXT and isinstance(getattr(value, "tzinfo", None), timezone | None):
        name, write, _ = _AS_TEXT[kind]
        return {name: write(value)}
    if kind is np.datetime64:
        return {"scalar": [value.dtype.str, int(value.astype(np.int64))]}
    if kind is np.str_:
        return {"scalar": ["str", str(value)]}
    if isinstance(value, np.generic) and value.dtype.name in _NUMERIC:
        return {"scalar": [value.dtype.name, encode(value.item(), where, arrays, n_items)]}
    if kind is type and value in _NUMERIC.values():
        return {"type": np.dtype(value).name}
    raise CannotSaveError(f"{where} holds a {kind.__module__}.{kind.__qualname__}")


def _encode_array(
    array: np.ndarray, where: str, arrays: dict[str, np.ndarray], n_items: int | None
) -> dict[str, Any]:
    dtype = {"O": "object", "U": "str"}.get(array.dtype.kind, array.dtype.name)
    name = where if where not in arrays else f"{where} ({len(arrays)})"
    if dtype in ("object", "str"):
        # Stored as an array, as the size of the metadata is limited.
        items = [encode(item, where, arrays, n_items) for item in array.ravel().tolist()]
        arrays[name] = np.frombuffer(json.dumps(items).encode(), dtype=np.uint8)
    elif dtype in _NUMERIC:
        arrays[name] = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    else:
        raise CannotSaveError(f"{where} holds an array of {array.dtype}")
    # n_items is stored by name, so that a file where it does not match the arrays is refused.
    shape = ["n_items" if n == n_items else n for n in array.shape]
    return {"name": name, "dtype": dtype, "shape": shape}


def decode(value: Any, file: Any, n_items: int | None) -> Any:
    """Undo :func:`encode`."""
    if isinstance(value, list):
        return [decode(item, file, n_items) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "float":
        return float(content)
    if kind == "tuple":
        return tuple(decode(content, file, n_items))
    if kind == "dict":
        return {decode(k, file, n_items): decode(v, file, n_items) for k, v in content}
    if kind == "array":
        return _decode_array(content, file, n_items)
    if kind == "csr":
        *parts, shape = content
        arrays = tuple(_decode_array(part, file, None) for part in parts)
        return _decode_csr(arrays, tuple(n_items if n == "n_items" else n for n in shape))
    if kind in _FROM_TEXT:
        return _FROM_TEXT[kind](content)
    if kind == "scalar" and content[0] == "str":
        return np.str_(content[1])
    if kind == "scalar" and np.dtype(content[0]).kind == "M":
        return np.int64(content[1]).astype(content[0])
    if kind == "scalar" and content[0] in _NUMERIC:
        return _NUMERIC[content[0]](decode(content[1], file, n_items))
    if kind == "type" and content in _NUMERIC:
        return _NUMERIC[content]
    raise ValueError(f"it holds a value of an unknown kind, {kind!r}")


def _decode_array(content: dict[str, Any], file: Any, n_items: int | None) -> np.ndarray:
    name, dtype = content["name"], content["dtype"]
    shape: tuple[Any, ...] = tuple(n_items if n == "n_items" else n for n in content["shape"])
    array = file.get_tensor(name)
    if dtype in ("object", "str"):
        items = decode(json.loads(array.tobytes()), file, n_items)
        # np.array would convert tuples to a second dimension.
        array = np.fromiter(items, dtype=object, count=len(items))
        return array.reshape(shape).astype(dtype)
    if (array.dtype.name, array.shape) != (dtype, shape):
        raise ValueError(
            f"its array {name!r} should be of {dtype} and shape {shape}, but is of {array.dtype} "
            f"and shape {array.shape}"
        )
    return array


def _decode_csr(arrays: tuple[np.ndarray, ...], shape: tuple[Any, ...]) -> sp.csr_array:
    """Return the CSR array, whose indices are checked: scipy does not, and would read beyond."""
    found = sp.csr_array(arrays, shape=shape)
    found.check_format(full_check=True)
    return found
