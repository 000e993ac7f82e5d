"""Solvers of weighted matrix factorization by torch, on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from .._device import check_float32_products, free_memory, torch_dtype
from .._memory import check_memory
from ._conjugate_gradients import N_VECTORS, rows_by_length
from ._wmf_solvers import Objective, State, eigenbasis

# Numbers in the features of a chunk of rows, or in its matrices.
CHUNK = 2**26

# Tensors of this size at a time: features, their places, their squares or a matrix and its factor.
TENSORS_OF_A_CHUNK = 5

# Rows in a chunk, as libraries do not agree on how many matrices a call may have.
MOST_ROWS = 2**15


def check_wmf(X: sp.csr_array, n_components: int, device: torch.device) -> None:
    """Raise an error if the GPU lacks the memory, or computes too imprecisely."""
    if device.type != "cuda":
        return
    if X.dtype == np.float32:
        check_float32_products("WMF")
    itemsize = X.dtype.itemsize
    longest = max(np.diff(X.indptr).max(), np.bincount(X.indices, minlength=1).max())
    chunk = max(CHUNK, int(longest) * n_components)
    check_memory(
        2 * X.nnz * (8 + 2 * itemsize)
        + 3 * sum(X.shape) * n_components * itemsize
        + TENSORS_OF_A_CHUNK * chunk * itemsize,
        f"WMF with n_components={n_components} on {X.nnz:,} values on {device}",
        available=free_memory(device),
    )


def alternate_on_device(
    X: sp.csr_array,
    H: np.ndarray,
    objective: Objective,
    cg_steps: int | None,
    device: torch.device,
) -> Iterator[State]:
    """Solve for users and items in turn, as :func:`sklrec.factorization._wmf_solvers.alternate`.

    Parameters
    ----------
    X, H, objective, cg_steps
        As there.
    device : torch.device
        Where to compute.

    Yields
    ------
    state : State
        After each iteration, in main memory.
    """
    n_components = H.shape[1]
    users = Rows(X, objective, n_components, cg_steps, device)
    items = Rows(X.T.tocsr(), objective, n_components, cg_steps, device)
    gram, V, _ = _in_eigenbasis(torch.from_numpy(H).to(device), objective)
    U = None
    while True:
        U, _ = users.improve(U, V, gram)
        gram, U, Q = _in_eigenbasis(U, objective)
        V, loss = items.improve(V @ Q, U, gram)
        loss += float((U.square() * users.penalty[:, None]).sum(dtype=torch.float64))
        gram, V, Q = _in_eigenbasis(V, objective)
        U = U @ Q
        yield State(
            U.cpu().numpy(), V.cpu().numpy(), gram.cpu().numpy(), loss + objective.constant(X)
        )


def _in_eigenbasis(
    V: torch.Tensor, objective: Objective
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rotate factors so that their Gram matrix is diagonal; see ``in_eigenbasis`` in numpy."""
    G = sum(part.T.double() @ part.double() for part in V.split(CHUNK // V.shape[1] + 1))
    gram, Q = eigenbasis(G.cpu().numpy(), objective)  # type: ignore[union-attr]
    rotation = torch.from_numpy(np.ascontiguousarray(Q)).to(V)
    return torch.from_numpy(gram.copy()).to(V.device), V @ rotation, rotation


class Chunk(NamedTuple):
    """Rows of about the same length."""

    rows: torch.Tensor  # (n,)
    n_entries: torch.Tensor  # (n,)
    longest: int


class Rows:
    r"""The ridge regressions of the rows of a matrix, in which the features change.

    Parameters
    ----------
    C : CSR array of shape (n_rows, n_columns)
        Confidence in each stored entry, positive.
    objective : Objective
        Has the targets and the penalties.
    n_components : int
        Number of unknowns of each row.
    cg_steps : int or None
        Number of conjugate gradient steps; None for exact solutions.
    device : torch.device
        Where to compute.

    Notes
    -----
    With ``S = sqrt(c) V``, ``y = sqrt(c) t`` and the diagonal matrix ``D = G + lambda I`` the
    system of a row is ``(S'S + D) w = S'y``, as in :class:`RidgeSteps`, which has the same steps.
    """

    def __init__(
        self,
        C: sp.csr_array,
        objective: Objective,
        n_components: int,
        cg_steps: int | None,
        device: torch.device,
    ) -> None:
        def moved(array: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
            return torch.from_numpy(np.array(array)).to(device, dtype)

        dtype = torch_dtype(C.dtype)
        n_entries = np.diff(C.indptr)
        root = np.sqrt(C.data)
        self.cg_steps = cg_steps
        self.shape = (C.shape[0], n_components)
        self.penalty = moved(objective.penalty(n_entries, C.shape[1]), dtype)
        self.of_rows, self.of_columns = moved(C.sum(axis=1), dtype), moved(C.sum(axis=0), dtype)
        self.start, self.columns = moved(C.indptr[:-1]), moved(C.indices)
        self.weights = moved(root)
        self.target = moved(root * objective.target(C), dtype)
        order = rows_by_length(n_entries)  # others are zero
        of_matrix = 0 if cg_steps else n_components
        self.chunks = [
            Chunk(moved(rows), moved(n_entries[rows]), int(n_entries[rows[-1]]))
            for rows in _chunks(order, n_entries, n_components, of_matrix)
        ]

    def improve(
        self, W: torch.Tensor | None, V: torch.Tensor, gram: torch.Tensor
    ) -> tuple[torch.Tensor, float]:
        """Take the steps for all rows, or solve them.

        Parameters
        ----------
        W : Tensor of shape (n_rows, n_components) or None
            Where to begin, which an exact solution does not need. None means zero.
        V : Tensor of shape (n_columns, n_components)
            Features of each column.
        gram : Tensor of shape (n_components,), float64
            Diagonal of the matrix G that all rows share.

        Returns
        -------
        W : Tensor of shape (n_rows, n_components)
            The solutions.
        objective : float
            Sum of ``w'(S'S + D)w - 2 w'S'y`` over the rows.

        Raises
        ------
        ValueError
            If a row has no unique solution in this precision.
        """
        found = V.new_zeros(self.shape)
        gram = gram.to(V)
        total = self.of_columns.sum().clamp(min=torch.finfo(V.dtype).tiny)
        average = (self.of_columns[:, None] * V.square()).sum(dim=0) / total
        objective = torch.zeros((), dtype=torch.float64, device=V.device)
        for chunk in self.chunks:
            S, y = self._gather(chunk, V)
            D = self.penalty[chunk.rows, None] + gram
            if self.cg_steps is None:
                w, value = self._solve(S, y, D)
            else:
                P = D + self.of_rows[chunk.rows, None] * average
                start = torch.zeros_like(D) if W is None else W[chunk.rows]
                w, value = _steps(S, y, D, P, start, self.cg_steps)
            found[chunk.rows] = w
            objective += value
        if not bool(found.isfinite().all()):
            row = int((~found.isfinite().all(dim=1)).nonzero()[0])
            raise ValueError(
                f"A row with the penalty {float(self.penalty[row]):g} has no unique solution in "
                f"{str(V.dtype).removeprefix('torch.')}; use a larger lambda_."
            )
        return found, float(objective)

    def _gather(self, chunk: Chunk, V: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return S, (n, longest, n_components), and y, (n, longest), padded with zeros."""
        offset = torch.arange(chunk.longest, device=V.device)
        kept = offset < chunk.n_entries[:, None]
        entry = torch.where(kept, self.start[chunk.rows, None] + offset, 0)
        S = V[self.columns[entry]]
        S *= (self.weights[entry] * kept)[:, :, None]
        return S, self.target[entry] * kept

    @staticmethod
    def _solve(
        S: torch.Tensor, y: torch.Tensor, D: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        A = S.mT @ S
        A.diagonal(dim1=1, dim2=2).add_(D)
        b = S.mT @ y[:, :, None]  # (n, n_components, 1)
        L, info = torch.linalg.cholesky_ex(A)
        w = torch.cholesky_solve(b, L).squeeze(2)
        w.masked_fill_((info != 0)[:, None], torch.nan)
        return w, -(b.squeeze(2) * w).sum(dtype=torch.float64)


def _steps(
    S: torch.Tensor,
    y: torch.Tensor,
    D: torch.Tensor,
    P: torch.Tensor,
    w: torch.Tensor,
    n_steps: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take preconditioned conjugate gradient steps for each row of a chunk.

    Parameters
    ----------
    S : Tensor of shape (n, length, n_components)
        Weighted features.
    y : Tensor of shape (n, length)
        Weighted targets.
    D : Tensor of shape (n, n_components)
        Diagonal that is added to ``S'S``.
    P : Tensor of shape (n, n_components)
        Diagonal of the preconditioner.
    w : Tensor of shape (n, n_components)
        Where to begin.
    n_steps : int
        Number of steps.

    Returns
    -------
    w : Tensor of shape (n, n_components)
        Improved solutions.
    objective : Tensor
        Sum of ``w'(S'S + D)w - 2 w'S'y``. A step of length a lowers it by ``a r'P^-1 r``.
    """
    tiny = torch.finfo(S.dtype).tiny
    fitted, Dw = _times(S, w), D * w
    objective = (fitted * (fitted - 2 * y)).sum(dtype=torch.float64)
    objective += (w * Dw).sum(dtype=torch.float64)
    r = _times(S.mT, y - fitted) - Dw
    p = z = r / P
    rz = (r * z).sum(dim=1)
    for step in range(n_steps):
        if step:
            z = r / P
            rz, before = (r * z).sum(dim=1), rz
            p = z + (rz / before.clamp(min=tiny))[:, None] * p
        Sp, Dp = _times(S, p), D * p
        curvature = Sp.square().sum(dim=1) + (p * Dp).sum(dim=1)
        length = (rz / curvature.clamp(min=tiny))[:, None]
        w = w + length * p
        objective -= (length.squeeze(1) * rz).sum(dtype=torch.float64)
        if step + 1 < n_steps:
            r = r - length * (Dp + _times(S.mT, Sp))
    return w, objective


def _times(S: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return the products of a matrix and a vector for each row."""
    return (S @ w[:, :, None]).squeeze(2)


def _chunks(
    order: np.ndarray, n_entries: np.ndarray, width: int, of_matrix: int
) -> Iterator[np.ndarray]:
    """Yield rows of about the same length, in ascending order, of at most CHUNK numbers each."""
    start = 0
    while start < len(order):
        lengths = n_entries[order[start : start + MOST_ROWS]].astype(np.int64)
        sizes = np.maximum(lengths, of_matrix) + N_VECTORS
        # Rows are padded to the longest, by a fifth at most.
        stop = np.searchsorted(sizes * np.arange(1, len(sizes) + 1) * width, CHUNK, side="right")
        longest = np.searchsorted(lengths, lengths[0] * 1.2 + N_VECTORS, side="right")
        stop = max(1, min(int(stop), int(longest)))
        yield order[start : start + stop]
        start += stop
