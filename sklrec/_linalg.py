"""Parallel products and inverses of matrices."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp
from scipy.linalg import get_lapack_funcs
from threadpoolctl import ThreadpoolController

from ._sklearn import n_threads

T = TypeVar("T")

# Number of rows in a block of a product of two sparse matrices. Larger blocks are faster, smaller
# ones need less memory.
BLOCK = 1024

# Minimum number of multiplications for which threads are started.
_WORTH_A_THREAD = 10**7

# Maximum size in bytes of a part of a matrix that is converted at a time.
_BYTES_CONVERTED = 2**24

# Size in bytes from which a matrix is multiplied by a vector row by row: it is not in the caches.
_BYTES_NOT_CACHED = 3 * 2**22

# Maximum size in bytes of a row of a matrix that LAPACK inverts as a whole. With few threads,
# OpenBLAS writes past the end of a buffer for larger ones: for 41,000 rows in float32 and two
# threads the process crashes (OpenBLAS issues 1413, 2562 and 2821).
_MOST_BYTES_OF_A_ROW = 88_000


def add_gram(X: sp.csr_array, G: np.ndarray) -> None:
    """Add the upper triangle of ``X'X`` to `G`, in blocks of items on all cores.

    Only the triangle that LAPACK reads is computed, which takes half the multiplications, and the
    lower triangle of the diagonal blocks.

    Parameters
    ----------
    X : CSR array of shape (n_users, n_items)
        Rows of users.
    G : ndarray of shape (n_items, n_items), C-contiguous
        Matrix to add to, in place.
    """
    Xt = X.T.tocsr()  # (n_items, n_users)

    def add_block(rows: slice) -> None:
        G[rows, rows.start :] += (Xt[rows] @ X[:, rows.start :]).toarray()

    in_threads(add_block, blocks(X.shape[1]), work=np.sum(np.diff(X.indptr) ** 2.0))


def invert_positive_definite(G: np.ndarray) -> None:
    """Invert a positive definite matrix in place; only its upper triangle is read.

    This uses LAPACK's potrf and potri or, if the matrix is too large for these, blocks with the
    same number of multiplications.

    Parameters
    ----------
    G : ndarray of shape (n, n), C-contiguous, float32 or float64
        Matrix, whose two triangles are replaced by the inverse.

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
    """Invert the upper triangle by sweeps of blocks; return as :func:`_invert_by_lapack`.

    See J. H. Goodnight, "A Tutorial on the SWEEP Operator", The American Statistician, 1979. After
    all rows have been swept, G is minus its inverse; it is symmetric after each step.
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
    """Return the symmetric matrix with the upper triangle of a given one."""
    return np.triu(square) + np.triu(square, 1).T


def dot_on_threads(X: sp.csr_array, B: np.ndarray) -> np.ndarray:
    """Return ``X @ B`` of a sparse and a dense matrix; threads compute different rows.

    Rows are independent, so that the result does not depend on the number of threads.

    Parameters
    ----------
    X : CSR array of shape (n_rows, n)
        Sparse factor.
    B : ndarray of shape (n, n_columns), C-contiguous
        Dense factor.

    Returns
    -------
    product : ndarray of shape (n_rows, n_columns)
        The product, in the type to which numpy promotes those of X and B.
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
    """Return ``X @ B`` in the type of X, to which blocks of columns of B are converted.

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


def dot_of_vector(A: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return ``A @ x`` for a dense matrix in C order and a vector.

    A matrix that is not in the caches is read row by row, as fast as memory allows. BLAS, which
    reads several rows at a time, takes twice as long or more, and less for a small matrix.
    """
    if A.nbytes < _BYTES_NOT_CACHED or not hasattr(np, "vecdot"):  # it is of numpy 2.0
        return A @ x
    return np.vecdot(A, x)


def blocks(n: int, size: int | None = None) -> Iterator[slice]:
    """Yield slices of length `size`, by default BLOCK, from 0 to n; the last may be shorter."""
    size = BLOCK if size is None else size
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def in_threads(task: Callable[[T], None], parts: Iterable[T], *, work: float) -> None:
    """Run a task on each part, such as a slice, in threads if there is enough work."""
    if work < _WORTH_A_THREAD or n_threads() == 1:
        for part in parts:
            task(part)
        return
    left = deque(parts)

    def run() -> None:
        try:
            while left:
                try:
                    part = left.popleft()
                except IndexError:  # another thread has taken the last one
                    break
                task(part)
        finally:
            left.clear()  # some are left after an error or an interrupt only

    # Not a call for each part, and the calling thread works too: both cost more than small parts.
    with ThreadPoolExecutor(n_threads() - 1) as threads:
        others = [threads.submit(run) for _ in range(n_threads() - 1)]
        run()
        for other in others:
            other.result()


_blas_lock = threading.Lock()
_blas_users = 0
_blas_limit: Any = None


@cache
def _controller() -> ThreadpoolController:
    """Return the controller of the libraries that are loaded, which takes some ms to find them."""
    return ThreadpoolController()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep BLAS to one thread while our own threads call it.

    The limit is that of the process. Where several fits run in threads the last of them to leave
    takes it off: each for itself might restore the limit of another.
    """
    global _blas_users, _blas_limit
    with _blas_lock:
        if _blas_users == 0:
            _blas_limit = _controller().limit(limits=1, user_api="blas")
        _blas_users += 1
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            if _blas_users == 0:
                _blas_limit.restore_original_limits()
