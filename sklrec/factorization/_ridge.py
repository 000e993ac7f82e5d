"""Many small ridge regressions at once, one for each row of a sparse matrix.

All models of factors solve for the factors of users, or of items, by this one solver.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from joblib import Parallel, delayed
from scipy.linalg import eigh, get_lapack_funcs

from .._linalg import single_threaded_blas
from .._sklearn import n_threads

# Size in bytes of the features that a thread gathers at a time. Smaller chunks fit into the caches,
# larger ones need fewer calls.
CHUNK_BYTES = 2**20

# Rows of one chunk are padded to the longest of them, by at most this factor.
PADDING = 1.15

# Unknowns from which a call of LAPACK for each system is faster than numpy's batched solver,
# which does not use that the matrices are symmetric. Of 64 unknowns they take 13 and 32
# microseconds, numpy's batched Cholesky factorization alone 26.
LAPACK_FROM = 32

# Minimum number of multiplications for which threads are started.
_WORTH_A_THREAD = 10**8


@dataclass
class RidgeRows:
    r"""A ridge regression for each row of a sparse matrix.

    The solution of row u, whose stored entries i have the confidences :math:`c_i`, is

    .. math:: \arg\min_w \sum_i c_i (t_i - v_i^\top w)^2 + w^\top G w + \lambda_u \|w - m_u\|^2

    A sum over all columns, as in weighted matrix factorization, goes into G: a weight b of the
    columns that are not stored is ``gram=b * V.T @ V``, with ``c - b`` as the confidence of those
    that are and ``c / (c - b)`` times the value as their target.

    Parameters
    ----------
    C : CSR array of shape (n_rows, n_columns)
        Confidence in each stored entry, not negative.
    V : ndarray of shape (n_columns, n_components), float32 or float64
        Features of each column. Their precision is that of the computation.
    lambda_ : float or ndarray of shape (n_rows,)
        Penalty of all rows, or of each.
    target : float or ndarray of shape (nnz,) or (n_targets, nnz), default=1.0
        What to regress, in the order of the entries of `C`. With several targets the matrices of
        the regressions are factored once.
    gram : ndarray of shape (n_components, n_components) or (n_components,), default=None
        Positive semi-definite matrix G that all rows share, or its diagonal where it has no other
        entries, which saves its eigendecomposition. None means zero.
    mean : ndarray of shape (n_components,) or (n_rows, n_components), default=None
        Prior mean m of all rows, or of each. None means zero.

    Notes
    -----
    G is made diagonal by a change of the basis. A row with fewer entries than features is then
    solved for as many unknowns as it has entries, by the Woodbury identity.
    """

    C: sp.csr_array
    V: np.ndarray
    lambda_: float | np.ndarray
    target: float | np.ndarray = 1.0
    gram: np.ndarray | None = None
    mean: np.ndarray | None = None

    def solve(self) -> np.ndarray:
        """Solve all rows.

        Rows are sorted by their number of entries into chunks of about equal work, which threads
        share. The solution of a row depends on the other rows by rounding alone.

        Returns
        -------
        solutions : ndarray of shape (n_rows, n_components) or (n_targets, n_rows, n_components)
            In the precision of `V`; the second shape where `target` has two dimensions. A row
            without entries gets its prior mean, shrunk by G.

        Raises
        ------
        ValueError
            If a confidence is negative, or a row has no unique solution in this precision.
        """
        target = np.asarray(self.target, dtype=self.V.dtype)
        target = np.broadcast_to(target, (*target.shape[:-1], self.C.nnz))
        rhs = None
        if self.mean is not None:
            penalty = np.reshape(self.lambda_, (-1, 1))
            rhs = np.broadcast_to(penalty * self.mean, (self.C.shape[0], self.V.shape[1]))
        solutions = self._solve(np.atleast_2d(target), rhs)
        return solutions[0] if target.ndim == 1 else solutions

    def contributions(self, direction: np.ndarray) -> np.ndarray:
        """Return the contributions of entries to the projection of each row's solution.

        Without a prior mean the solution is linear in the targets, so that ``direction @ w`` is a
        sum over the entries.

        Parameters
        ----------
        direction : ndarray of shape (n_components,)
            Vector on which solutions are projected, such as the features of an item.

        Returns
        -------
        contributions : ndarray of shape (nnz,)
            In the order of the entries of `C`. The sum over a row is ``direction @ w``.

        Raises
        ------
        ValueError
            As :meth:`solve`.
        """
        rhs = np.broadcast_to(direction, (self.C.shape[0], self.V.shape[1]))
        (solved,) = self._solve(np.zeros((1, self.C.nnz)), rhs)
        row = np.repeat(np.arange(self.C.shape[0]), np.diff(self.C.indptr))
        along = np.einsum("ij,ij->i", self.V[self.C.indices], solved[row])
        return self.C.data * self.target * along

    def _solve(self, target: np.ndarray, rhs: np.ndarray | None) -> np.ndarray:
        """Solve ``(V' C V + G + lambda I) w = V' C t + rhs`` for each target t and row."""
        C, V, gram = self.C, self.V, self.gram
        if C.nnz and C.data.min() < 0:
            raise ValueError(f"Confidences must not be negative, got {C.data.min():g}.")
        basis = None
        if gram is not None and gram.ndim == 2:
            # In float64: the eigenvalues of a sum over all columns differ by many magnitudes.
            eigenvalues, basis = eigh(gram.astype(np.float64))
            gram, basis = eigenvalues.clip(min=0), basis.astype(V.dtype)
            if C.nnz < V.shape[0]:  # a few rows, for which not all columns are turned
                columns, indices = np.unique(C.indices, return_inverse=True)
                C = sp.csr_array((C.data, indices, C.indptr), shape=(C.shape[0], columns.size))
                V = V[columns]
            V = V @ basis
            rhs = None if rhs is None else rhs @ basis
        weights = None
        if C.nnz and C.data.min() < C.data.max():
            weights = np.sqrt(C.data).astype(V.dtype)
            target = target * weights
        elif C.nnz and C.data[0] != 1:
            scale = np.sqrt(V.dtype.type(C.data[0]))
            V, target = V * scale, target * scale
        systems = _Systems(
            C.indptr,
            C.indices,
            V,
            weights,
            target=np.ascontiguousarray(target.T, dtype=V.dtype),
            diagonal=np.zeros(V.shape[1]) if gram is None else gram,
            penalty=np.broadcast_to(np.asarray(self.lambda_, dtype=np.float64), C.shape[:1]),
            rhs=rhs,
        )
        solutions = systems.solve()
        if not np.isfinite(solutions).all():
            row = np.flatnonzero(~np.isfinite(solutions).all(axis=(1, 2)))[0]
            raise ValueError(
                f"A row with the penalty {systems.penalty[row]:g} has no unique solution in "
                f"{V.dtype}; use a larger lambda_."
            )
        if basis is not None:
            solutions = solutions @ basis.T
        return np.moveaxis(solutions, 1, 0)


@dataclass
class _Systems:
    """The linear systems of all rows, in the basis where G is diagonal.

    With ``S = sqrt(c) V`` and ``y = sqrt(c) t`` of the entries of a row and the diagonal matrix
    ``D = G + lambda I`` its system is ``(S'S + D) w = S'y + rhs``.
    """

    indptr: np.ndarray
    indices: np.ndarray
    V: np.ndarray
    weights: np.ndarray | None  # sqrt(c), (nnz,); None where V has been multiplied by it
    target: np.ndarray  # y, (nnz, n_targets)
    diagonal: np.ndarray  # of G, (n_components,)
    penalty: np.ndarray  # lambda, (n_rows,)
    rhs: np.ndarray | None  # (n_rows, n_components)

    def solve(self) -> np.ndarray:
        """Return the solutions, (n_rows, n_targets, n_components); NaN for singular systems."""
        n_entries, width = np.diff(self.indptr), self.V.shape[1]
        solutions = np.zeros((len(n_entries), self.target.shape[1], width), dtype=self.V.dtype)
        order = np.argsort(n_entries, kind="stable")
        numbers = CHUNK_BYTES // self.V.itemsize
        chunks = [order[part] for part in _chunks(n_entries[order], width, numbers)]

        def solve_share(chunks: list[np.ndarray]) -> None:
            with np.errstate(all="ignore"):  # the caller looks for what is not finite
                for rows in chunks:
                    n_longest = n_entries[rows[-1]]
                    if n_longest == 0 and self.rhs is None:
                        continue
                    solve = self._solve_by_entries if n_longest < width else self._solve_by_features
                    solutions[rows] = solve(rows, n_entries[rows])

        work = width * np.sum(n_entries * np.minimum(n_entries, width), dtype=np.float64)
        n_jobs = min(n_threads(), len(chunks)) if work > _WORTH_A_THREAD else 1
        if n_jobs == 1:
            solve_share(chunks)
        else:
            with single_threaded_blas():
                shares = (delayed(solve_share)(chunks[k::n_jobs]) for k in range(n_jobs))
                Parallel(n_jobs=n_jobs, backend="threading")(shares)
        return solutions

    def _solve_by_features(self, rows: np.ndarray, n_entries: np.ndarray) -> np.ndarray:
        """Solve for as many unknowns as there are features; a long row is summed in pieces."""
        n_rows, width = len(rows), self.V.shape[1]
        A = np.zeros((n_rows, width, width), dtype=self.V.dtype)
        b = np.zeros((n_rows, self.target.shape[1], width), dtype=self.V.dtype)
        step = max(1, CHUNK_BYTES // (n_rows * max(1, width) * self.V.itemsize))
        for first in range(0, n_entries[-1], step):
            S, y = self._gather(rows, n_entries, first, min(first + step, n_entries[-1]))
            A += S.transpose(0, 2, 1) @ S
            b += y @ S
        A.reshape(n_rows, -1)[:, :: width + 1] += self._diagonals(rows)
        if self.rhs is not None:
            b += self.rhs[rows][:, None]
        return _solve_positive_definite(A, b)

    def _solve_by_entries(self, rows: np.ndarray, n_entries: np.ndarray) -> np.ndarray:
        """Solve for as many unknowns as the longest of the rows has entries.

        By the Woodbury identity ``w = w0 + D^-1 S' z`` with ``w0 = D^-1 rhs`` and
        ``(I + S D^-1 S') z = y - S w0``.
        """
        S, y = self._gather(rows, n_entries, 0, n_entries[-1])
        inverse = 1 / self._diagonals(rows)[:, None]  # (n_rows, 1, n_components)
        w0 = np.zeros_like(inverse)
        if self.rhs is not None:
            w0 = self.rhs[rows][:, None] * inverse
            y -= w0 @ S.transpose(0, 2, 1)
        A = (S * inverse) @ S.transpose(0, 2, 1)
        A.reshape(len(rows), -1)[:, :: A.shape[1] + 1] += 1
        return w0 + (_solve_positive_definite(A, y) @ S) * inverse

    def _diagonals(self, rows: np.ndarray) -> np.ndarray:
        """Return the diagonals of D, (n_rows, n_components)."""
        return (self.penalty[rows][:, None] + self.diagonal).astype(self.V.dtype)

    def _gather(
        self, rows: np.ndarray, n_entries: np.ndarray, first: int, last: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return S, (n_rows, length, n_components), and y, (n_rows, n_targets, length).

        Rows that are shorter than the others are padded with zeros.
        """
        offset = np.arange(first, last, dtype=self.indptr.dtype)
        entry = self.indptr[rows][:, None] + offset
        padded = None
        if n_entries[0] < last:
            padded = offset >= n_entries[:, None]
            entry[padded] = 0
        S = self.V.take(self.indices.take(entry), axis=0)
        if self.weights is not None:
            S *= self.weights.take(entry)[:, :, None]
        y = self.target.take(entry, axis=0)
        if padded is not None:
            S[padded] = 0
            y[padded] = 0
        return S, y.transpose(0, 2, 1)


def _chunks(n_entries: np.ndarray, width: int, n_numbers: int) -> Iterator[slice]:
    """Cut rows in ascending order of their number of entries into chunks.

    A chunk has at most about `n_numbers` features. Its rows have about the same length, and are
    solved by entries or by features as each alone would be.
    """
    start = 0
    while start < len(n_entries):
        longest = int(PADDING * n_entries[start])
        if n_entries[start] < width:
            longest = min(longest, width - 1)
        stop = int(np.searchsorted(n_entries, longest, side="right"))
        n_of_a_row = max(1, int(n_entries[stop - 1])) * max(1, width)
        stop = min(stop, start + max(1, n_numbers // n_of_a_row))
        yield slice(start, stop)
        start = stop


def _solve_positive_definite(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Solve ``A[k] x[k, j] = b[k, j]`` for all k and j; NaN where A[k] is singular.

    Parameters
    ----------
    A : ndarray of shape (n, m, m)
        Symmetric; may be overwritten.
    b : ndarray of shape (n, n_targets, m)
        Right-hand sides; may be overwritten.

    Returns
    -------
    x : ndarray of shape (n, n_targets, m)
        Solutions.
    """
    if A.shape[1] < LAPACK_FROM:
        with suppress(np.linalg.LinAlgError):  # below each is tried alone
            return np.linalg.solve(A, b.transpose(0, 2, 1)).transpose(0, 2, 1)
    b = np.ascontiguousarray(b)
    (posv,) = get_lapack_funcs(("posv",), (A,))
    for A_k, b_k in zip(A, b, strict=True):
        # Transposed they are in the order of LAPACK, and changed in place.
        _, _, info = posv(A_k.T, b_k.T, overwrite_a=True, overwrite_b=True)
        if info != 0:
            b_k[:] = np.nan
    return b
