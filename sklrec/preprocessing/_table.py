"""Reading the columns of an interaction table, and assembling the matrix."""

from __future__ import annotations

from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse as sp

from .._matrix import index_dtype
from .._times import as_times
from ._ids import as_ids

Name = str | int | None


def read_table(
    X: Any, names: tuple[Name, Name, Name, Name]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return the validated users, items, values and times of a table; the last two may be None.

    `names` are the names of these four columns, which are ignored for a tuple.
    """
    columns = X if isinstance(X, tuple) else _named_columns(X, names)
    if not 2 <= len(columns) <= 4:
        raise ValueError(
            "A tuple must hold users, items and optionally values and times, "
            f"got {len(columns)} columns."
        )
    users, items, values, times = (*columns, None, None)[:4]
    users, items = as_ids(users, "user"), as_ids(items, "item")
    values = None if values is None else as_values(values)
    times = None if times is None else as_times(times)
    lengths = [column.size for column in (users, items, values, times) if column is not None]
    if len(set(lengths)) > 1:
        raise ValueError(f"All columns must have the same length, got {lengths}.")
    return users, items, values, times


def assemble(
    rows: np.ndarray,
    cols: np.ndarray,
    values: np.ndarray | None,
    times: np.ndarray | None,
    *,
    shape: tuple[int, int],
    duplicates: str,
    dtype: type,
) -> tuple[sp.csr_array, sp.csr_array | None]:
    """Return the matrix and the matrix of the latest times, None without times.

    `rows` and `cols` hold the row and the column of each interaction.
    """
    if values is None:
        values = np.ones(rows.size)
    order = _stable_order(cols, shape[1])
    order = order[_stable_order(rows[order], shape[0])]
    cell = rows[order] * shape[1] + cols[order]
    starts = np.ones(cell.size, dtype=bool)
    np.not_equal(cell[1:], cell[:-1], out=starts[1:])
    first = np.flatnonzero(starts)  # position in `order` of the first interaction of each cell
    cell = cell[first]
    latest: Any = None if times is None else np.maximum.reduceat(times[order], first)
    with np.errstate(over="ignore"):  # checked below
        if duplicates == "sum":
            data = np.add.reduceat(values[order], first)
        elif duplicates == "binary":
            data = np.maximum.reduceat(values[order], first) > 0
        else:
            if times is not None:
                count = np.diff(first, append=order.size)
                order = np.where(times[order] == np.repeat(latest, count), order, -1)
            data = values[np.maximum.reduceat(order, first)]
        stored: np.ndarray = data.astype(dtype)
    if not np.isfinite(stored).all():
        raise ValueError(f"Values up to {data.max()} are too large for {dtype.__name__}.")

    kept = stored != 0
    cell = cell[kept]
    of_indices = index_dtype(max(cell.size, shape[1]))
    indptr = np.searchsorted(cell, np.arange(shape[0] + 1) * shape[1]).astype(of_indices)
    matrix = sp.csr_array((stored[kept], (cell % shape[1]).astype(of_indices), indptr), shape=shape)
    if latest is None:
        return matrix, None
    # Copies, so that a change of one matrix in place does not affect the other.
    structure = matrix.indices.copy(), matrix.indptr.copy()
    return matrix, sp.csr_array((latest[kept], *structure), shape=shape)


def _named_columns(X: Any, names: tuple[Name, ...]) -> tuple:
    """Return the columns of a table by their names."""
    available = None
    for owner, attribute in (
        (X, "column_names"),
        (X, "columns"),
        (getattr(X, "dtype", None), "names"),
    ):
        if available is None:  # of Arrow, of other DataFrames and of structured arrays
            available = getattr(owner, attribute, None)
    if available is None:
        raise TypeError(
            "X must be a DataFrame, an Arrow table, a structured array or a tuple of columns "
            f"(users, items, values, times), got {type(X).__name__}."
        )
    for name in names:
        if name is not None and name not in available:
            raise ValueError(f"X has no column {name!r}, it has {list(available)}.")
    return tuple(None if name is None else X[name] for name in names)


def as_values(values: Any) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"values must be one-dimensional, got an array of shape {values.shape}.")
    if values.dtype.kind == "O":
        for row, value in enumerate(values.tolist()):
            if not isinstance(value, Real | Decimal):
                raise ValueError(f"values must be numbers, got {value!r} in row {row}.")
    elif values.dtype.kind not in "biuf":
        raise ValueError(f"values must be numbers, got an array of {values.dtype}.")
    values = values.astype(np.float64, copy=False)
    for wrong, what in ((~np.isfinite(values), "finite"), (values < 0, "non-negative")):
        if wrong.any():
            row = wrong.argmax()
            raise ValueError(f"values must be {what}, got {values[row]} in row {row}.")
    return values


def _stable_order(codes: np.ndarray, n_codes: int) -> np.ndarray:
    """Return the stable order of integers from 0 to n_codes - 1.

    The conversion from CSC to CSR is a counting sort, which is faster than sorting by comparison.
    """
    n = codes.size
    of_indices = index_dtype(max(n, n_codes))
    indptr = np.arange(n + 1, dtype=of_indices)
    one_per_column = (np.ones(n, dtype=bool), codes.astype(of_indices), indptr)
    return sp.csc_array(one_per_column, shape=(n_codes, n)).tocsr().indices
