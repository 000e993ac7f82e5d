"""What the closed-form models of item content share: the Gram matrix of features, new items."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from .._linalg import add_gram, blocks
from .._memory import check_memory


def add_content_gram(F: Any, weight: float, G: np.ndarray) -> None:
    """Add the upper triangle of ``weight F F'`` to `G`, in blocks of items.

    Parameters
    ----------
    F : CSR array or ndarray of shape (n_items, n_features)
        Features of the items.
    weight : float
        Factor of the product.
    G : ndarray of shape (n_items, n_items), C-contiguous
        Matrix to add to, in place.

    Raises
    ------
    ValueError
        If the squares of the features are too large for their precision.
    """
    F = F * np.sqrt(weight).astype(F.dtype)
    with np.errstate(over="ignore"):  # an error is raised instead
        if sp.issparse(F):
            add_gram(F.T.tocsr(), G)
        else:
            for rows in blocks(F.shape[0]):
                G[rows, rows.start :] += F[rows] @ F[rows.start :].T
    if not np.isfinite(np.diag(G)).all():
        raise ValueError(f"The squares of item_features are too large for {F.dtype}.")


def dense_product(F: Any, F_new: Any, weight: float) -> np.ndarray:
    """Return ``weight F F_new'``, an ndarray of shape (n_items, n_new_items)."""
    product = F @ F_new.T
    return weight * (product.toarray() if sp.issparse(product) else product)


def stacked(F: Any, F_new: Any) -> Any:
    """Return the features of all items, sparse if the first are."""
    if sp.issparse(F):
        return sp.vstack([F, sp.csr_array(F_new)], format="csr")
    return np.vstack([F, F_new.toarray() if sp.issparse(F_new) else F_new])


def with_new_items(
    B: np.ndarray, precision: np.ndarray, C: np.ndarray, D: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Extend the weights of an EASE by items, as if its Gram matrix had had them.

    With ``P = G^-1``, the weights are ``B_ij = -P_ij / P_jj`` off the diagonal. The inverse of the
    Gram matrix with the additional rows and columns ``[C; D]`` follows from P by blocks.

    Parameters
    ----------
    B : ndarray of shape (n_items, n_items)
        Weights.
    precision : ndarray of shape (n_items,)
        Diagonal of P.
    C : ndarray of shape (n_items, n_new_items)
        Entries of the Gram matrix of an old and a new item.
    D : ndarray of shape (n_new_items, n_new_items)
        Those of two new items, with the penalty on the diagonal.

    Returns
    -------
    B : ndarray of shape (n_items + n_new_items, n_items + n_new_items)
        Weights of all items. Those of old items change too.
    precision : ndarray of shape (n_items + n_new_items,)
        Diagonal of the inverse of the extended matrix.

    Raises
    ------
    MemoryError
        If the machine lacks the memory for the extended matrix.
    """
    n, n_new = C.shape
    check_memory(
        (n + n_new) ** 2 * B.itemsize + 3 * C.size * 8,
        f"A copy with {n_new:,} items beside {n:,} others in {B.dtype}",
    )
    scaled = precision[:, np.newaxis] * C
    M = (scaled - B @ scaled).astype(np.float64)  # P C
    S = np.linalg.inv(D - C.T.astype(np.float64) @ M)
    T = M @ S
    extended = np.concatenate([precision + np.einsum("ij,ij->i", T, M), np.diag(S)])
    extended = extended.astype(B.dtype)  # the diagonal of the new inverse
    of_all = np.empty((len(extended), len(extended)), dtype=B.dtype)
    T, M, S = (part.astype(B.dtype) for part in (T, M, S))
    for rows in blocks(n):
        of_all[rows, :n] = B[rows] * precision - T[rows] @ M.T
    of_all[:n, n:] = T
    of_all[n:, :n] = T.T
    of_all[n:, n:] = -S
    for row in of_all:  # row by row, which does not allocate another matrix of this size
        row /= extended
    np.fill_diagonal(of_all, 0)
    return of_all, extended
