"""Solvers of weighted matrix factorization: all minimise the objective of :class:`WMF`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.linalg import cholesky, eigh, solve_triangular

from .._linalg import blocks, in_threads
from ._conjugate_gradients import RidgeSteps
from ._ridge import RidgeRows, single_threaded_blas

# Rows of factors that a thread multiplies at a time.
BLOCK = 2**10


class Objective(NamedTuple):
    """Parameters of the objective, which are also those of folding in."""

    lambda_: float
    unobserved_weight: float
    frequency_exponent: float
    zeros: str

    def penalty(self, n_stored: np.ndarray, n_others: int) -> np.ndarray:
        """Return the penalty of rows, from their numbers of stored values and of columns."""
        weight = n_stored + self.unobserved_weight * n_others
        return self.lambda_ * weight**self.frequency_exponent

    def target(self, X: sp.csr_array) -> float | np.ndarray:
        """Return the target of the stored values, whose confidences are in addition to zeros.

        An observed pair without a zero of the weight ``a`` has ``(x + a) (1 - s)^2``, which is
        ``x (1 + a / x - s)^2 + a s^2`` but for a constant.
        """
        if self.zeros == "all" or X.nnz == 0:
            return 1.0
        if X.data.min() == X.data.max():
            return 1 + self.unobserved_weight / float(X.data[0])
        return 1 + self.unobserved_weight / X.data

    def constant(self, X: sp.csr_array) -> float:
        """Return the loss of factors that are zero."""
        zeros = 0.0 if self.zeros == "all" else self.unobserved_weight * X.nnz
        return float(X.data.sum(dtype=np.float64) + zeros)

    def ridge(self, X: sp.csr_array, V: np.ndarray, gram: np.ndarray) -> RidgeRows:
        """Return the regressions of the rows of X on the factors V of its columns."""
        penalty = self.penalty(np.diff(X.indptr), X.shape[1])
        return RidgeRows(X, V, penalty, self.target(X), gram)


class State(NamedTuple):
    """Factors after an iteration, in the basis where the Gram matrix of the items is diagonal."""

    users: np.ndarray  # (n_users, n_components)
    items: np.ndarray  # (n_items, n_components)
    gram: np.ndarray  # this diagonal, times the weight of unobserved pairs
    loss: float


def alternate(
    X: sp.csr_array, H: np.ndarray, objective: Objective, cg_steps: int | None
) -> Iterator[State]:
    """Solve for users and items in turn.

    Parameters
    ----------
    X : CSR array of shape (n_users, n_items)
        Confidences.
    H : ndarray of shape (n_items, n_components)
        Where to begin.
    objective : Objective
        What to minimise.
    cg_steps : int or None
        Number of conjugate gradient steps; None for exact solutions.

    Yields
    ------
    state : State
        After each iteration, when users and items have been solved for once.
    """
    by_item = X.T.tocsr()
    of_users = objective.penalty(np.diff(X.indptr), X.shape[1])
    if cg_steps is not None:
        of_items = objective.penalty(np.diff(by_item.indptr), X.shape[0])
        users = RidgeSteps(X, objective.target(X), of_users, H.shape[1])
        items = RidgeSteps(by_item, objective.target(by_item), of_items, H.shape[1])
    W = None
    gram, H, _ = in_eigenbasis(H, objective)
    while True:
        with single_threaded_blas():  # between our own threads, those of BLAS would only wait
            if cg_steps is None:
                W = objective.ridge(X, H, gram).solve()
            else:
                W, _ = users.improve(W, H, gram, cg_steps)
            gram, W, Q = in_eigenbasis(W, objective)
            if cg_steps is None:
                rows = objective.ridge(by_item, W, gram)
                H = rows.solve()
                loss = of_solutions(rows, H)
            else:
                H, loss = items.improve(_rotated(H, Q), W, gram, cg_steps)
            loss += np.einsum("ij,ij,i->", W, W, of_users, dtype=np.float64)
            gram, H, Q = in_eigenbasis(H, objective)
            W = _rotated(W, Q)
        yield State(W, H, gram, float(loss + objective.constant(X)))


def of_solutions(rows: RidgeRows, H: np.ndarray) -> float:
    """Return the sum of ``h'Ah - 2 h'b``, which is ``-b'h`` where ``A h = b``."""
    C = rows.C
    b = sp.csr_array((C.data * rows.target, C.indices, C.indptr), shape=C.shape) @ rows.V
    return -float(np.einsum("ij,ij->", b, H, dtype=np.float64))


def in_eigenbasis(V: np.ndarray, objective: Objective) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotate factors so that their Gram matrix is diagonal.

    Scores do not change if the other factors are rotated too, or computed in this basis. The
    solver then needs no eigendecomposition, which makes folding in a single user faster.

    Parameters
    ----------
    V : ndarray of shape (n, n_components)
        Factors.
    objective : Objective
        Has the weight of unobserved pairs, the factor of the Gram matrix.

    Returns
    -------
    gram : ndarray of shape (n_components,)
        The diagonal times the weight, in descending order.
    V : ndarray of shape (n, n_components)
        The rotated factors.
    Q : ndarray of shape (n_components, n_components)
        The rotation, in the precision of V.
    """
    parts = list(blocks(len(V), max(BLOCK, len(V) // 8 + 1)))
    grams = np.empty((len(parts), V.shape[1], V.shape[1]))

    def add_part(k: int) -> None:
        grams[k] = V[parts[k]].T @ V[parts[k]]

    in_threads(add_part, range(len(parts)), work=V.size * V.shape[1])
    gram, Q = eigenbasis(grams.sum(axis=0), objective)
    Q = np.ascontiguousarray(Q, dtype=V.dtype)
    return gram, _rotated(V, Q), Q


def eigenbasis(G: np.ndarray, objective: Objective) -> tuple[np.ndarray, np.ndarray]:
    """Return the diagonal and the rotation of :func:`in_eigenbasis` from the Gram matrix."""
    eigenvalues, Q = eigh(G)
    return objective.unobserved_weight * eigenvalues[::-1].clip(min=0), Q[:, ::-1]


def _rotated(V: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Return ``V @ Q``."""
    product = np.empty_like(V)

    def multiply(rows: slice) -> None:
        np.matmul(V[rows], Q, out=product[rows])

    in_threads(multiply, blocks(len(V), BLOCK), work=V.size * V.shape[1])
    return product


def curvature_of(X: sp.csr_array, W: np.ndarray, objective: Objective) -> np.ndarray:
    """Return the sum over all items of the matrices of their equations, without the penalty."""
    weight = X.sum(axis=1) + objective.unobserved_weight * X.shape[1]
    return ((W * weight[:, None].astype(W.dtype)).T @ W).astype(np.float64)


def add_users(
    X: sp.csr_array,
    H: np.ndarray,
    gram: np.ndarray,
    objective: Objective,
    weight: np.ndarray,
    curvature: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the items to new users, from a prior that stands for the earlier ones.

    Parameters
    ----------
    X : CSR array of shape (n_users, n_items)
        Confidences of the new users.
    H, gram : ndarray of shape (n_items, n_components) and (n_components,)
        Factors of the items and the diagonal of their Gram matrix, as in :class:`State`.
    objective : Objective
        What to minimise.
    weight : ndarray of shape (n_items,)
        Total weight of the pairs of each item with the earlier users.
    curvature : ndarray of shape (n_components, n_components)
        Sum over all items of the matrices of their equations, of the earlier users.

    Returns
    -------
    H : ndarray of shape (n_items, n_components)
        Factors of the items.
    curvature : ndarray of shape (n_components, n_components)
        That of all users.

    Notes
    -----
    The loss of the earlier users is a quadratic function of an item's factors around its minimum.
    The matrix of each item is replaced by the average one, in proportion to the item's weight; they
    add up to the same. Where the average matrix is the identity, this is a ridge penalty.
    """
    W = objective.ridge(X, H, gram).solve()
    L = cholesky(curvature / weight.sum(), lower=True)
    V = solve_triangular(L, W.T.astype(np.float64), lower=True).T.astype(H.dtype)
    by_item = X.T.tocsr()
    # Without zeros, nothing else may be known of an item that earlier users have not chosen.
    least = X.data.mean() if X.nnz else 1.0
    rows = RidgeRows(
        by_item,
        V,
        np.maximum(weight, least),
        objective.target(by_item),
        gram=objective.unobserved_weight * (V.T @ V),
        mean=H @ L,
    )
    found = solve_triangular(L, rows.solve().T.astype(np.float64), lower=True, trans="T").T
    return found.astype(H.dtype, order="C"), curvature + curvature_of(X, W, objective)
