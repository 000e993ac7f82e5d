"""Products and inverses that the item-item models share, on all cores and in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse as sp
from scipy.linalg import get_lapack_funcs

from ._sklearn import n_threads

# Rows of one block of a product of two sparse matrices: larger blocks repeat less work,
# smaller ones need less memory besides the result.
BLOCK = 1024

# Multiplications below which starting threads costs more than they save.
_WORTH_A_THREAD = 10**7

# Bytes of the largest part of a matrix that is held in another type beside it.
_BYTES_CONVERTED = 2**24

# Bytes of a row of the largest matrix that LAPACK is given whole. OpenBLAS factors larger ones on
# few threads past the end of a buffer of its own: with 41,000 rows in float32 on two threads it
# ends the process (OpenBLAS issues 1413, 2562 and 2821).
_MOST_BYTES_OF_A_ROW = 88_000


def add_gram(X: sp.csr_array, G: np.ndarray) -> None:
    """Add the upper triangle of ``X'X`` to `G`, in blocks of items on all cores.

    Only the triangle that LAPACK reads is computed: half the multiplications. Above the diagonal
    block-wise; below it, within the diagonal blocks, G holds the mirrored entries.

    Parameters
    ----------
    X : CSR array of shape (n_users, n_items)
        One row a user.
    G : ndarray of shape (n_items, n_items), C-contiguous
        Changed in place.
    """
    Xt = X.T.tocsr()  # (n_items, n_users)

    def add_block(rows: slice) -> None:
        G[rows, rows.start :] += (Xt[rows] @ X[:, rows.start :]).toarray()

    in_threads(add_block, blocks(X.shape[1]), work=np.sum(np.diff(X.indptr) ** 2.0))


def invert_positive_definite(G: np.ndarray) -> None:
    """Replace a positive definite matrix by its inverse, reading its upper triangle alone.

    In place: by LAPACK's potrf and potri, or, where the matrix is too large for these, block by
    block with as many multiplications.

    Parameters
    ----------
    G : ndarray of shape (n, n), C-contiguous, float32 or float64
        Changed in place; both triangles hold the inverse afterwards.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is not positive definite in its precision.
    """
    whole = G.strides[0] <= _MOST_BYTES_OF_A_ROW
    pivot = _invert_by_lapack(G) if whole else _invert_by_blocks(G)
    if pivot is not None:
        raise np.linalg.LinAlgError(
            f"The matrix of shape {G.shape} is not positive definite in {G.dtype}: "
            f"the pivot of row {pivot} is not positive."
        )

    def mirror(rows: slice) -> None:
        for columns in blocks(rows.start):
            G[rows, columns] = G[columns, rows].T
        G[rows, rows] = _mirrored(G[rows, rows])

    in_threads(mirror, blocks(G.shape[0]), work=G.size)


def _invert_by_lapack(G: np.ndarray) -> int | None:
    """Invert the upper triangle; return the row of a pivot that is not positive, or None."""
    A = G.T  # LAPACK's column-major order, without a copy: G's upper triangle is A's lower one
    potrf, potri = get_lapack_funcs(("potrf", "potri"), (A,))
    _, info = potrf(A, lower=True, clean=False, overwrite_a=True)
    if info == 0:
        _, info = potri(A, lower=True, overwrite_c=True)
    return None if info == 0 else info - 1


def _invert_by_blocks(G: np.ndarray) -> int | None:
    """Invert the upper triangle by sweeping blocks of rows; return as :func:`_invert_by_lapack`.

    The sweep of J. H. Goodnight, "A Tutorial on the SWEEP Operator", The American Statistician,
    1979: after all rows are swept G is minus its inverse, and symmetric at every step.
    """
    n = G.shape[0]
    for rows in blocks(n):
        block = np.array(G[rows, rows])
        pivot = _invert_by_lapack(block)
        if pivot is not None:
            return rows.start + pivot
        block = _mirrored(block)
        panel = np.hstack([G[: rows.start, rows].T, G[rows, rows.start :]])
        solved = block @ panel
        for others in blocks(n):
            if others != rows:
                G[others, others.start :] -= panel[:, others].T @ solved[:, others.start :]
        G[: rows.start, rows] = solved[:, : rows.start].T
        G[rows, rows.stop :] = solved[:, rows.stop :]
        G[rows, rows] = -block
    np.negative(G, out=G)
    return None


def _mirrored(square: np.ndarray) -> np.ndarray:
    """Return the symmetric matrix of an upper triangle."""
    return np.triu(square) + np.triu(square, 1).T


def dot_on_threads(X: sp.csr_array, B: np.ndarray) -> np.ndarray:
    """Return ``X @ B`` of a sparse and a dense matrix, the rows of X shared out to all cores.

    Each row is computed alone, so that the result does not depend on the number of threads.

    Parameters
    ----------
    X : CSR array of shape (n_rows, n)
        Sparse factor.
    B : ndarray of shape (n, n_columns), C-contiguous
        Dense factor.

    Returns
    -------
    product : ndarray of shape (n_rows, n_columns)
        In the precision of numpy's type promotion of X and B.
    """
    work = X.nnz * B.shape[1]
    dtype = np.result_type(X.dtype, B.dtype)
    if dtype != B.dtype:
        return _dot_of_converted(X.astype(dtype), B, work=work)
    if work < _WORTH_A_THREAD or n_threads() == 1:
        return X @ B
    product = np.empty((X.shape[0], B.shape[1]), dtype=dtype)
    # Rows differ in length, so each thread gets the same number of stored entries.
    ends = np.searchsorted(X.indptr, np.linspace(0, X.nnz, n_threads() + 1)[1:-1])
    bounds = [0, *(int(end) for end in ends), X.shape[0]]

    def multiply(rows: slice) -> None:
        product[rows] = X[rows] @ B

    in_threads(multiply, map(slice, bounds[:-1], bounds[1:]), work=work)
    return product


def _dot_of_converted(X: sp.csr_array, B: np.ndarray, *, work: float) -> np.ndarray:
    """Return ``X @ B`` in the type of X, of which only a block of columns of B is held at a time.

    scipy would convert all of B in each product.
    """
    rows, position = np.unique(X.indices, return_inverse=True)
    X = sp.csr_array(
        (X.data, position.astype(X.indices.dtype), X.indptr), shape=(X.shape[0], rows.size)
    )
    product = np.zeros((X.shape[0], B.shape[1]), dtype=X.dtype)
    if not rows.size:
        return product

    def multiply(columns: slice) -> None:
        product[:, columns] = X @ B[rows, columns].astype(X.dtype)

    width = max(1, _BYTES_CONVERTED // (rows.size * X.dtype.itemsize))
    in_threads(multiply, blocks(B.shape[1], width), work=work)
    return product


def blocks(n: int, size: int | None = None) -> Iterator[slice]:
    """Yield the slices of `size`, None for BLOCK, from 0 to n; the last one may be shorter."""
    size = BLOCK if size is None else size
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def in_threads(task: Callable[[slice], None], slices: Iterator[slice], *, work: float) -> None:
    """Run a task on each slice, on all cores where there is enough work to share."""
    if work < _WORTH_A_THREAD or n_threads() == 1:
        for part in slices:
            task(part)
    else:
        with ThreadPoolExecutor(n_threads()) as threads:  # joblib polls, some ms a call
            list(threads.map(task, slices))
