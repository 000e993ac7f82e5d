"""X'X and the weights of EASE by torch, on a GPU."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from .._device import check_float32_products, free_memory, torch_dtype
from .._linalg import blocks
from .._memory import check_memory
from ._ease import explained_singular, penalties

# Rows of users that are made dense at a time, and rows of items of a product or a sweep.
BLOCK = 4096

# What cuBLAS takes beside the matrices, at most, in bytes.
_WORKSPACE = 2**27


def check_ease(X: sp.csr_array, device: torch.device) -> None:
    """Raise an error if the GPU lacks the memory for the weights, or computes too imprecisely.

    It needs the matrix, and blocks of it or of dense users: at most three at a time.
    """
    n_items, itemsize = X.shape[1], X.dtype.itemsize
    if device.type == "cuda":
        if X.dtype == np.float32:
            check_float32_products("EASE")
        n_numbers = n_items**2 + 3 * min(BLOCK, n_items) * n_items
        check_memory(
            n_numbers * itemsize + _WORKSPACE,
            f"EASE on {n_items:,} items in {X.dtype} on {device}",
            available=free_memory(device),
        )


def gram(X: sp.csr_array, device: torch.device) -> torch.Tensor:
    """Return the upper triangle of ``X'X``, from blocks of dense users.

    Parameters
    ----------
    X : CSR array of shape (n_users, n_items), canonical
        Rows of users.
    device : torch.device
        Where to compute.

    Returns
    -------
    G : Tensor of shape (n_items, n_items)
        On the device, in the precision of X. The lower triangle is not that of ``X'X``.
    """
    n_items = X.shape[1]
    dtype = torch_dtype(X.dtype)
    G = torch.zeros(n_items, n_items, dtype=dtype, device=device)
    dense = torch.empty(min(BLOCK, X.shape[0]), n_items, dtype=dtype, device=device)
    for users in blocks(X.shape[0], BLOCK):
        part = X[users]
        D = dense[: part.shape[0]].zero_()
        rows = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
        at = (torch.from_numpy(index.astype(np.int64)) for index in (rows, part.indices))
        values = torch.from_numpy(np.array(part.data))  # which may be read-only in X
        D[tuple(index.to(device) for index in at)] = values.to(device)
        for items in blocks(n_items, BLOCK):
            G[items, items.start :].addmm_(D[:, items].T, D[:, items.start :])
    return G


def solve(G: torch.Tensor, lambda_: float, dropout: float) -> np.ndarray:
    """Return the weights of EASE from X'X, of which the upper triangle is read and overwritten.

    Raises
    ------
    ValueError
        As in :func:`sklrec.linear._ease.solve_in_place`.
    """
    diagonal = G.diagonal().cpu().numpy()
    G.diagonal().add_(torch.from_numpy(penalties(diagonal, lambda_, dropout)).to(G))
    with explained_singular(lambda_, diagonal.dtype):
        invert_positive_definite(G)
    return G.mul_(-1 / G.diagonal()).fill_diagonal_(0).cpu().numpy()


def invert_positive_definite(G: torch.Tensor) -> None:
    """Invert a positive definite matrix in place; only its upper triangle is read.

    torch.cholesky_inverse would need three matrices. These are the sweeps of
    :func:`sklrec._linalg._invert_by_blocks`, which need one and blocks of rows.
    """
    n = len(G)
    for rows in blocks(n, BLOCK):
        block = G[rows, rows].triu()
        L, info = torch.linalg.cholesky_ex(block + block.triu(1).T)
        if int(info) or not bool(L.diagonal().isfinite().all()):
            raise np.linalg.LinAlgError(
                f"The matrix of shape {tuple(G.shape)} is not positive definite in {G.dtype}."
            )
        block = torch.cholesky_inverse(L)
        panel = torch.cat([G[: rows.start, rows].T, G[rows, rows.start :]], dim=1)
        panel[:, rows] = 0  # whose part is set below
        solved = block @ panel
        for others in blocks(n, BLOCK):
            if others != rows:
                G[others, others.start :].addmm_(
                    panel[:, others].T, solved[:, others.start :], alpha=-1
                )
        G[: rows.start, rows] = solved[:, : rows.start].T
        G[rows, rows.stop :] = solved[:, rows.stop :]
        G[rows, rows] = -block
    G.neg_()
    for rows in blocks(n, BLOCK):
        for columns in blocks(rows.start, BLOCK):
            G[rows, columns] = G[columns, rows].T
        block = G[rows, rows].triu()
        G[rows, rows] = block + block.triu(1).T


def to_device(G: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy a matrix, which may be read-only, in blocks of rows."""
    found = torch.empty(G.shape, dtype=torch_dtype(G.dtype), device=device)
    for rows in blocks(len(G), BLOCK):
        found[rows] = torch.from_numpy(np.array(G[rows])).to(device)
    return found


def add_to(G: np.ndarray, found: torch.Tensor) -> None:
    """Add a matrix on a device to one in main memory, in blocks of rows."""
    for rows in blocks(len(G), BLOCK):
        G[rows] += found[rows].cpu().numpy()
