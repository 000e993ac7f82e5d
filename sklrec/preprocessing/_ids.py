"""Distinct ids of any hashable kind, and the position of ids among them.

Integer ids are int64 arrays and have a fast path. All others are hashed as Python objects, so that
a tuple stays one id. The ids of a column must be of one kind: if it holds both ``1`` and ``"1"``,
one of them is a mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from typing import Any

import numpy as np

_CHUNK = 1 << 18  # number of ids that are converted to Python objects at a time
_FREE_SPAN = 1 << 16  # range of integers for which a lookup table is always cheap


def as_ids(values: Any, name: str) -> np.ndarray:
    """Return a column of ids as a one-dimensional array, int64 where all are integers."""
    ids = _narrow(list(values)) if isinstance(values, list | tuple) else np.asarray(values)
    if ids.ndim != 1:
        raise ValueError(f"{name} ids must be one-dimensional, got an array of shape {ids.shape}.")
    if ids.dtype.kind in "iu" and (
        np.can_cast(ids.dtype, np.int64) or not ids.size or ids.max() <= np.iinfo(np.int64).max
    ):
        ids = ids.astype(np.int64, copy=False)
    return ids


def distinct(ids: np.ndarray, name: str) -> np.ndarray:
    """Return each id once: sorted where ids can be compared, else as they first occur.

    Raises an error where an id is missing (None, NaN, NaT or pandas.NA) or of another kind than
    the first.
    """
    if ids.dtype == np.int64:
        return _distinct_integers(ids)
    with _hashing(name):
        found = list(dict.fromkeys(_objects(ids)))
    if found:
        _check_ids(found, _kind(found[0]), ids, name)
    with suppress(TypeError):  # such as tuples of a string and of an integer
        found = sorted(found)
    return _narrow(found)


def positions(ids: np.ndarray, vocabulary: np.ndarray, name: str) -> np.ndarray:
    """Return the position of each id in `vocabulary`, -1 for one that it does not have.

    Raises an error where an id is missing or of another kind than those of the vocabulary.
    """
    if ids.dtype == vocabulary.dtype == np.int64:
        return _positions_of_integers(ids, vocabulary)
    index = {id_: position for position, id_ in enumerate(_objects(vocabulary))}
    with _hashing(name):
        found = map(index.get, _objects(ids), repeat(-1))
        found = np.fromiter(found, dtype=np.int64, count=ids.size)
    if vocabulary.size and (found < 0).any():
        unknown = list(dict.fromkeys(_objects(ids[found < 0])))
        _check_ids(unknown, _kind(next(_objects(vocabulary))), ids, name)
    return found


def refuse_repeated(users: np.ndarray) -> None:
    """Raise an error if an id occurs twice."""
    if distinct(users, "user").size < users.size:
        seen: set = set()
        for user in users.tolist():
            if user in seen:
                raise ValueError(f"users must hold each id once, but {user!r} comes twice.")
            seen.add(user)


def indices(ids: Any, vocabulary: np.ndarray, name: str, unknown: str) -> np.ndarray:
    """Return the position of each id in `vocabulary`; `unknown` is "error" or "ignore"."""
    column = as_ids(ids, name)
    found = positions(column, vocabulary, name)
    if unknown == "error" and (found < 0).any():
        row = int((found < 0).argmax())
        (first,) = column[row : row + 1].tolist()
        raise ValueError(
            f"{name} ids must be among those that fit has seen, got {first!r} in row {row}; with "
            f"unknown_{name}s='ignore' the index of an unknown id is -1."
        )
    return found


def _check_ids(distinct_ids: list, kind: type, ids: np.ndarray, name: str) -> None:
    """Raise an error for the first of `ids` that is missing or not of the kind."""
    if any(map(_is_missing, distinct_ids)):
        row, id_ = next((row, id_) for row, id_ in enumerate(_objects(ids)) if _is_missing(id_))
        raise ValueError(f"{name} ids must not be missing, got {id_!r} in row {row}.")
    if any(_kind(id_) is not kind for id_ in _one_of_each_type(distinct_ids)):
        row, id_ = next(
            (row, id_) for row, id_ in enumerate(_objects(ids)) if _kind(id_) is not kind
        )
        raise ValueError(
            f"{name} ids must be of one kind, here {kind.__name__}, got {id_!r} in row {row}."
        )


def _one_of_each_type(ids: list) -> list:
    return list(dict(zip(map(type, ids), ids, strict=True)).values())


def _kind(id_: Any) -> type:
    """Return the type of an id, of Python also for the scalars of numpy that stand for it."""
    if isinstance(id_, np.generic) and type(id_.item()) in (bool, int, float, str, bytes):
        return type(id_.item())
    return type(id_)


def _is_missing(id_: Any) -> bool:
    if id_ is None:
        return True
    try:
        return bool(id_ != id_)
    except TypeError:  # pandas.NA has no truth value
        return True


def _narrow(ids: list) -> np.ndarray:
    """Return int64 where all ids are integers that fit, else an array of the objects."""
    # numpy would convert [1, "a"] to strings, and tuples to a second dimension.
    if all(kind is int or issubclass(kind, np.integer) for kind in set(map(type, ids))):
        try:
            return np.array(ids, dtype=np.int64)
        except OverflowError:
            pass
    return np.fromiter(ids, dtype=object, count=len(ids))


def _objects(ids: np.ndarray) -> Iterator[Any]:
    """Yield ids as Python objects, which are hashed faster than numpy's scalars."""
    chunks = (ids[start : start + _CHUNK] for start in range(0, ids.size, _CHUNK))
    if ids.dtype.kind in "mM":  # tolist would convert nanoseconds to integers
        return chain.from_iterable(chunks)
    return chain.from_iterable(chunk.tolist() for chunk in chunks)


@contextmanager
def _hashing(name: str) -> Iterator[None]:
    """Name the column in the error about ids that cannot be hashed."""
    try:
        yield
    except TypeError as error:
        raise TypeError(f"{name} ids must be hashable, but one is not: {error}.") from error


def _distinct_integers(ids: np.ndarray) -> np.ndarray:
    if ids.size and _is_dense(ids, ids.size):
        low = ids.min()
        occurs = np.zeros(ids.max() - low + 1, dtype=bool)
        occurs[ids - low] = True
        return np.flatnonzero(occurs) + low
    return np.unique(ids)


def _positions_of_integers(ids: np.ndarray, vocabulary: np.ndarray) -> np.ndarray:
    if not vocabulary.size:
        return np.full(ids.size, -1)
    if _is_dense(vocabulary, ids.size + vocabulary.size):
        low, high = vocabulary.min(), vocabulary.max()
        table = np.full(high - low + 1, -1)
        table[vocabulary - low] = np.arange(vocabulary.size)
        outside = (ids < low) | (ids > high)
        found = table[np.where(outside, 0, ids - low)]
        found[outside] = -1
        return found
    order = np.argsort(vocabulary)
    found = np.searchsorted(vocabulary, ids, sorter=order)
    found = order[np.minimum(found, vocabulary.size - 1)]
    return np.where(vocabulary[found] == ids, found, -1)


def _is_dense(ids: np.ndarray, n_lookups: int) -> bool:
    """Return whether a table over the range of the ids is cheap relative to `n_lookups`."""
    return int(ids.max()) - int(ids.min()) < max(_FREE_SPAN, 4 * n_lookups)
