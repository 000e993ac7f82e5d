"""A few steps of conjugate gradients for each of many ridge regressions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from .._linalg import blocks, in_threads
from .._sklearn import n_threads
from ._ridge import single_threaded_blas

# Size in bytes of the features that a thread gathers at a time. They are read several times, which
# is faster in a cache, but larger chunks need fewer calls.
CHUNK_BYTES = 2**22

# Vectors of the conjugate gradients for each row, which are most of the memory of short ones.
N_VECTORS = 8


class Chunk(NamedTuple):
    """Rows of about the same length, padded to the longest of them."""

    rows: slice  # in ascending order of their number of entries
    columns: np.ndarray  # (n, length), the number of columns where there is padding
    weights: np.ndarray | None  # sqrt(c), (n, length); None if all confidences are one
    target: np.ndarray  # y, (n, length), or () if all are equal
    confidence: np.ndarray  # sum of c, (n, 1)
    penalty: np.ndarray  # (n, 1)


class RidgeSteps:
    r"""Steps towards the solutions of :class:`RidgeRows`, from given approximations of them.

    The rows are laid out once for all iterations of a fit, in which the features change.

    Parameters
    ----------
    C : CSR array of shape (n_rows, n_columns)
        Confidence in each stored entry, positive.
    target : float or ndarray of shape (nnz,)
        What to regress, in the order of the entries of `C`.
    penalty : ndarray of shape (n_rows,)
        Penalty of each row.
    n_components : int
        Number of unknowns of each row.

    Notes
    -----
    With ``S = sqrt(c) V``, ``y = sqrt(c) t`` and the diagonal matrix ``D = G + lambda I`` the
    system of a row is ``(S'S + D) w = S'y``. It is preconditioned by D plus what the diagonal of
    ``S'S`` is for an average row of the same total confidence.
    """

    def __init__(
        self,
        C: sp.csr_array,
        target: float | np.ndarray,
        penalty: np.ndarray,
        n_components: int,
    ) -> None:
        self.shape = (C.shape[0], n_components)
        self.of_columns = C.sum(axis=0)
        self.work = float(C.nnz * n_components)
        n_entries = np.diff(C.indptr)
        self.order = rows_by_length(n_entries)  # others are zero
        confidence = C.sum(axis=1)[self.order, None]
        penalty = penalty.astype(C.dtype)[self.order, None]
        numbers = CHUNK_BYTES // C.dtype.itemsize
        # The largest first, so that no thread is left with them.
        parts = list(_chunks(n_entries[self.order], n_components, numbers))[::-1]
        self.chunks = [
            Chunk(part, *_padded(C, target, self.order[part]), confidence[part], penalty[part])
            for part in parts
        ]

    def improve(
        self,
        W: np.ndarray | None,
        V: np.ndarray,
        gram: np.ndarray,
        n_steps: int,
        *,
        average: np.ndarray | None = None,
    ) -> tuple[np.ndarray, float]:
        """Take some steps for all rows.

        Parameters
        ----------
        W : ndarray of shape (n_rows, n_components) or None
            Where to begin, which is not changed. None means zero.
        V : ndarray of shape (n_columns, n_components)
            Features of each column.
        gram : ndarray of shape (n_components,)
            Diagonal of the positive semi-definite matrix G that all rows share.
        n_steps : int
            Number of steps.
        average : ndarray of shape (n_components,) or None, default=None
            Average of the squares of V, weighted by the total confidences of the columns; for the
            preconditioner. To be given if these are some of several rows.

        Returns
        -------
        W : ndarray of shape (n_rows, n_components)
            Improved solutions.
        objective : float
            Sum of ``w'(S'S + D)w - 2 w'S'y`` over the rows.
        """
        padded = np.concatenate([V, np.zeros_like(V[:1])])
        gram = gram.astype(V.dtype)
        if average is None:
            total = max(self.of_columns.sum(dtype=np.float64), np.finfo(V.dtype).tiny)
            squares = (self.of_columns[rows] @ np.square(V[rows]) for rows in blocks(len(V)))
            average = sum(squares, start=np.zeros(V.shape[1], dtype=V.dtype)) / total
        average = average.astype(V.dtype)
        size = max((chunk.columns.size for chunk in self.chunks), default=0) * V.shape[1]
        buffers = [np.empty(0, dtype=V.dtype) for _ in range(n_threads())]
        solutions = np.zeros(self.shape, dtype=V.dtype)
        objectives: list[float] = []

        def improve_chunk(chunk: Chunk) -> None:
            buffer = buffers.pop()
            if not buffer.size:
                buffer = np.empty(size, dtype=V.dtype)
            S = buffer[: chunk.columns.size * V.shape[1]].reshape(*chunk.columns.shape, -1)
            padded.take(chunk.columns, axis=0, out=S, mode="clip")
            if chunk.weights is not None:
                S *= chunk.weights[:, :, None]
            D = chunk.penalty + gram
            P = chunk.confidence * average
            P += D
            rows = self.order[chunk.rows]
            w = np.zeros_like(D) if W is None else W[rows]
            objectives.append(_steps(S, chunk.target, D, P, w, n_steps, from_zero=W is None))
            solutions[rows] = w
            buffers.append(buffer)

        with single_threaded_blas():
            in_threads(improve_chunk, self.chunks, work=self.work)
        return solutions, sum(objectives)


def _steps(
    S: np.ndarray,
    y: np.ndarray,
    D: np.ndarray,
    P: np.ndarray,
    w: np.ndarray,
    n_steps: int,
    *,
    from_zero: bool,
) -> float:
    """Take preconditioned conjugate gradient steps for each row of a chunk.

    Threads wait for each other at each call of numpy, so there are as few as can be.

    Parameters
    ----------
    S : ndarray of shape (n, length, n_components)
        Weighted features.
    y : ndarray of shape (n, length) or ()
        Weighted target.
    D : ndarray of shape (n, n_components)
        Diagonal that is added to ``S'S``.
    P : ndarray of shape (n, n_components)
        Diagonal of the preconditioner.
    w : ndarray of shape (n, n_components)
        Where to begin; replaced by the improved solutions.
    n_steps : int
        Number of steps.
    from_zero : bool
        Whether w is zero.

    Returns
    -------
    objective : float
        Sum of ``w'(S'S + D)w - 2 w'S'y``. A step of length a lowers it by ``a r'P^-1 r``.
    """
    tiny = np.finfo(S.dtype).tiny
    if from_zero:
        r = _transposed_times(S, np.broadcast_to(y, S.shape[:2]))
        objective = 0.0
    else:
        fitted = _times(S, w)
        error = y - fitted
        r = _transposed_times(S, error)
        Dw = D * w
        r -= Dw
        error += y  # nothing fitted, nothing added: padding does not count
        objective = float(np.vdot(w, Dw) - np.vdot(fitted, error))
    z = r / P
    p = z
    rz = _dot(r, z)
    for step in range(1, n_steps + 1):
        Sp, Dp = _times(S, p), D * p
        length = rz / np.maximum(_dot(Sp, Sp) + _dot(p, Dp), tiny)
        w += length[:, None] * p
        objective -= float(np.vdot(length, rz))
        if step == n_steps:  # the next direction is not needed
            break
        Dp += _transposed_times(S, Sp)
        Dp *= length[:, None]
        r -= Dp
        z = r / P
        rz, before = _dot(r, z), rz
        p = z + (rz / np.maximum(before, tiny))[:, None] * p
    return objective


def rows_by_length(n_entries: np.ndarray) -> np.ndarray:
    """Return the rows that have entries, in ascending order of their number."""
    order = np.argsort(n_entries, kind="stable")
    return order[np.searchsorted(n_entries[order], 1) :]


def _times(S: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.matmul(S, w[:, :, None])[:, :, 0]


def _transposed_times(S: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.matmul(y[:, None, :], S)[:, 0]


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", a, b)


def _chunks(n_entries: np.ndarray, width: int, n_numbers: int) -> Iterator[slice]:
    """Cut rows, in ascending order of their number of entries, into chunks that are full.

    Rows of a chunk are padded to the longest of them. As there are many chunks wherever this would
    matter, their rows are of about the same length.
    """
    start = 0
    while start < len(n_entries):
        most = max(1, n_numbers // ((int(n_entries[start]) + N_VECTORS) * width))
        lengths = n_entries[start : start + most].astype(np.int64) + N_VECTORS
        size = lengths * np.arange(1, len(lengths) + 1) * width
        stop = start + max(1, int(np.searchsorted(size, n_numbers, side="right")))
        yield slice(start, stop)
        start = stop


def _padded(
    C: sp.csr_array, target: float | np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Return columns, weights and target of rows in ascending order of their number of entries."""
    n_entries = np.diff(C.indptr)[rows]
    offset = np.arange(n_entries[-1], dtype=C.indptr.dtype)
    entry = C.indptr[rows][:, None] + offset
    padding = offset >= n_entries[:, None]
    entry[padding] = 0
    columns = C.indices[entry]
    columns[padding] = C.shape[1]
    confidence = C.data[entry]
    weights = None if (confidence == 1).all() else np.sqrt(confidence)
    of_entries = target[entry] if isinstance(target, np.ndarray) else np.asarray(target)
    y = of_entries if weights is None else weights * of_entries
    return columns, weights, y.astype(C.dtype, copy=False)
