"""The largest entries of each row of a product of two matrices, without the whole product."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

from ._linalg import blocks, in_threads
from ._matrix import index_dtype
from ._memory import check_memory
from ._ranking import top_k
from ._sklearn import n_threads

# Maximum number of entries of the product that a thread holds, unless one row has more.
ENTRIES = 2**21

# Bytes of temporary arrays for each of these entries, besides its value and its column.
_BYTES_OF_AN_ENTRY = 24

# Changes the entries of a block in place, given the row and the column of each; both have a shape
# that broadcasts to that of the entries.
Finish = Callable[[np.ndarray, np.ndarray, np.ndarray], None]


def largest_of_rows(
    A: Any,
    B: Any,
    k: int,
    *,
    finish: Finish | None = None,
    diagonal: bool = True,
) -> sp.csr_array:
    """Return the `k` largest positive entries of each row of ``A @ B``.

    The product is computed in blocks of rows on all cores. A row is the same in any block, so that
    the result does not depend on the number of threads.

    Parameters
    ----------
    A : CSR array, CSC array or ndarray of shape (n_rows, n)
        Left factor.
    B : CSR array, CSC array or ndarray of shape (n, n_columns)
        Right factor, sparse if A is, and of the same type of numbers.
    k : int
        Number of entries to keep in each row.
    finish : callable or None, default=None
        ``finish(entries, rows, columns)`` replaces entries of the product in place. Entries that
        are zero in the product stay zero.
    diagonal : bool, default=True
        Whether entries of the diagonal are kept.

    Returns
    -------
    largest : CSR array of shape (n_rows, n_columns)
        The largest entries, with sorted indices. Of equal entries those with the lowest column are
        kept.
    """
    if not sp.issparse(A):
        parts = _of_dense_blocks(A, B, k, finish, diagonal)
        return stacked(parts, (A.shape[0], B.shape[1]))
    A, B = A.tocsr(), B.tocsr()
    most = _most_entries(A, B)
    found: dict[int, tuple] = {}

    def find(rows: slice) -> None:
        found[rows.start] = largest_of_block(A[rows] @ B, rows.start, k, finish, diagonal)

    in_threads(find, _balanced(most), work=float(most.sum(dtype=np.float64)))
    return stacked([found.pop(start) for start in sorted(found)], (A.shape[0], B.shape[1]))


def largest_of_block(
    product: sp.csr_array, first_row: int, k: int, finish: Finish | None, diagonal: bool
) -> tuple[np.ndarray, ...]:
    """Return the largest entries of some rows, as a part for :func:`stacked`.

    The entries of `product` are changed; its first row is `first_row` of the whole product.
    """
    row = np.repeat(np.arange(product.shape[0]), np.diff(product.indptr))
    if finish is not None:
        finish(product.data, row + first_row, product.indices)
    if not diagonal:
        product.data[product.indices == row + first_row] = 0
    return _largest(product, row, k)


def check_memory_of_largest(A: Any, B: Any, k: int, what: str) -> None:
    """Raise a MemoryError if the memory of the machine is too small for the largest entries.

    What is counted are a copy of each sparse factor that is not CSR yet, the blocks of all threads,
    the entries that are kept, and half of a copy of these in another order, for which the blocks
    that are copied make place.
    """
    most = _most_entries(A, B)
    entry = A.dtype.itemsize + np.dtype(np.int32).itemsize
    copies = sum(entry * M.nnz for M in (A, B) if sp.issparse(M) and M.format != "csr")
    n_kept = float(np.minimum(most, k).sum(dtype=np.float64))
    largest_block = min(float(most.sum(dtype=np.float64)), ENTRIES + float(most.max(initial=0)))
    n_blocks = n_threads() if sp.issparse(A) else 1
    in_blocks = n_blocks * largest_block * (entry + _BYTES_OF_AN_ENTRY)
    check_memory(int(copies + in_blocks + 1.5 * n_kept * entry), what)


def _most_entries(A: Any, B: Any) -> np.ndarray:
    """Return an upper bound of the number of entries of each row of the product."""
    if isinstance(A, np.ndarray):
        return np.full(A.shape[0], B.shape[1])
    by_rows = B.format == "csr"
    n_in_rows = np.diff(B.indptr) if by_rows else np.bincount(B.indices, minlength=B.shape[0])
    ones = type(A)((np.ones(A.nnz, dtype=np.int64), A.indices, A.indptr), shape=A.shape)
    return np.minimum(ones @ n_in_rows.astype(np.int64), B.shape[1])


def _balanced(most: np.ndarray) -> Iterator[slice]:
    """Yield slices of rows with at most ENTRIES entries together, or of a single row."""
    end = np.cumsum(most)
    start = 0
    while start < most.size:
        before = end[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(end, before + ENTRIES, side="right")))
        yield slice(start, stop)
        start = stop


def _largest(S: sp.csr_array, row: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
    """Return the number of kept entries of each row of S, their columns and their values.

    `row` is the row of each entry. All entries above the k-th largest of their row are kept, and
    of those equal to it as many as there is place for.
    """
    n_rows, n_columns = S.shape
    kth = np.zeros(n_rows, dtype=S.dtype)
    ends = S.indptr.tolist()
    for i in np.flatnonzero(np.diff(S.indptr) > k).tolist():
        entries = S.data[ends[i] : ends[i + 1]].copy()
        entries.partition(entries.size - k)
        kth[i] = entries[-k]
    np.maximum(kth, 0, out=kth)  # negative entries are not kept
    bound = kth[row]
    above = np.flatnonzero(S.data > bound)
    tied = np.flatnonzero((S.data == bound) & (bound > 0))
    places = row[above] * n_columns + S.indices[above]
    tied_places = np.sort(row[tied] * n_columns + S.indices[tied])
    tied_row = tied_places // n_columns
    rank = np.arange(tied_row.size) - np.searchsorted(tied_row, tied_row)
    kept = rank < k - np.bincount(row[above], minlength=n_rows)[tied_row]
    places = np.concatenate([places, tied_places[kept]])
    values = np.concatenate([S.data[above], kth[tied_row[kept]]])
    return _in_order(places, values, n_rows, n_columns)


def _of_dense_blocks(
    A: np.ndarray, B: np.ndarray, k: int, finish: Finish | None, diagonal: bool
) -> list[tuple[np.ndarray, ...]]:
    """Return for each block of rows what :func:`_largest` does."""
    found = []
    n_columns = B.shape[1]
    column = np.arange(n_columns)
    for rows in blocks(A.shape[0], max(1, ENTRIES // n_columns)):
        product = A[rows] @ B
        row = np.arange(rows.start, rows.stop)
        if finish is not None:
            finish(product, row[:, None], column)
        if not diagonal:
            product[row - rows.start, row] = 0
        columns, values = top_k(product, k)
        kept = values > 0
        places = (columns + (row - rows.start)[:, None] * n_columns)[kept]
        found.append(_in_order(places, values[kept], len(product), n_columns))
    return found


def _in_order(
    places: np.ndarray, values: np.ndarray, n_rows: int, n_columns: int
) -> tuple[np.ndarray, ...]:
    """Return the number of entries of each row, and columns and values in the order of places."""
    order = np.argsort(places)
    row, column = np.divmod(places[order], n_columns)
    index_type = index_dtype(n_columns)
    return np.bincount(row, minlength=n_rows), column.astype(index_type), values[order]


def stacked(parts: list[tuple[np.ndarray, ...]], shape: tuple[int, int]) -> sp.csr_array:
    """Return the blocks of rows as one array; the list is emptied, so as to free their memory."""
    indptr = np.concatenate([[0], np.cumsum(np.concatenate([counts for counts, _, _ in parts]))])
    index_type = index_dtype(max(int(indptr[-1]), *shape))
    indptr = indptr.astype(index_type)
    indices = np.empty(indptr[-1], dtype=index_type)
    data = np.empty(indptr[-1], dtype=parts[0][2].dtype)
    end = indptr[-1]
    while parts:
        _, column, value = parts.pop()
        start = end - value.size
        indices[start:end], data[start:end] = column, value
        end = start
    return sp.csr_array((data, indices, indptr), shape=shape)
