"""Solvers of the latent factor model: all minimise the objective of :class:`LFM`.

Users and items have one row of parameters each: a bias in column 0, then the factors. With
``Z = with_ones(Q)``, which has ones in place of the item biases Q[:, 0], the observed values of
user u are fitted by ``intercept + Q[:, 0] + Z @ P[u]``: ridge regression where Q is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from scipy.sparse.linalg import LinearOperator, cg
from sklearn.utils import gen_batches

from ._ridge import RidgeRows

# Factors gathered at once for the residuals stay below this many bytes.
BATCH_BYTES = 2**23

# Residual of the conjugate gradients relative to the right-hand side, both scaled by the diagonal.
# Above the rounding error of the products; the loss is then exact in float64.
CG_TOLERANCE = 1e-12
CG_MAX_ITER = 2_000

# Standard deviation of the initial factors: not close to zero, where their gradient is zero, but
# small compared with the biases.
FACTOR_SCALE = 0.1

# A relative increase of the loss below this is a rounding error.
ROUNDING = 1e-12


class State(NamedTuple):
    """State of a solver: the parameters of the model, and the objective."""

    intercept: float
    items: np.ndarray  # (n_items, 1 + n_components)
    loss: float
    is_minimum: bool = False  # whether there is nothing left to improve


def with_ones(parameters: np.ndarray) -> np.ndarray:
    """Return `parameters` with ones in place of the biases: what the other side's bias meets."""
    Z = parameters.astype(np.float64)
    Z[:, 0] = 1
    return Z


def solve_biases(T: sp.csr_array, lambda_: float) -> State:
    """Minimise the objective without factors: one linear system, by conjugate gradients.

    The user biases are eliminated in closed form, which leaves the intercept and the item biases.
    The matrix of that system, of items by items, is never formed.

    Parameters
    ----------
    T : CSR array of shape (n_users, n_items), float64
        Observed values.
    lambda_ : float
        Penalty on the squared biases.

    Returns
    -------
    state : State
        The minimum.

    Raises
    ------
    ValueError
        If `lambda_` is too small for the conjugate gradients to converge.
    """
    pattern = with_values(T, np.ones(T.nnz))
    mean = T.data.mean()  # near the intercept: taking it off first keeps digits
    centred = with_values(T, T.data - mean)
    n_of_user, n_of_item = np.diff(T.indptr), np.bincount(T.indices, minlength=T.shape[1])
    w = 1 / (n_of_user + lambda_)  # a user's best bias is w times the sum of their residuals

    def eliminate(sum_of_user: np.ndarray, sum_of_item: np.ndarray) -> np.ndarray:
        """Eliminate the user biases from the equations of the intercept and of the items."""
        # The intercept's is a difference of large numbers, but 1 - n w is lambda_ w.
        weighted = w * sum_of_user
        return np.concatenate([[lambda_ * weighted.sum()], sum_of_item - pattern.T @ weighted])

    def matvec(x: np.ndarray) -> np.ndarray:
        intercept, item_bias = scale[0] * x[0], scale[1:] * x[1:]
        sum_of_user = n_of_user * intercept + pattern @ item_bias
        sum_of_item = n_of_item * intercept + (n_of_item + lambda_) * item_bias
        return scale * eliminate(sum_of_user, sum_of_item)

    diagonal = np.concatenate([[lambda_ * (w @ n_of_user)], n_of_item + lambda_ - pattern.T @ w])
    scale = 1 / np.sqrt(diagonal)
    x, failed = cg(
        LinearOperator((scale.size, scale.size), matvec=matvec, dtype=np.float64),
        scale * eliminate(centred.sum(axis=1), centred.sum(axis=0)),
        rtol=CG_TOLERANCE,
        atol=0.0,
        maxiter=CG_MAX_ITER,
    )
    if failed:
        raise ValueError(
            f"lambda_={lambda_} is too small: the conjugate gradients had not converged after "
            f"{CG_MAX_ITER} iterations; use a larger one."
        )
    x *= scale
    P = w * (centred.sum(axis=1) - n_of_user * x[0] - pattern @ x[1:])
    state, _ = _state(T, mean + x[0], P[:, None], x[1:, None], lambda_)
    return state._replace(is_minimum=True)


def alternate(
    T: sp.csr_array, lambda_: float, n_components: int, rng: RandomState
) -> Iterator[State]:
    """Solve exactly for the intercept and all users, then for all items, and so on.

    Starts from the best biases, so that no fit is worse than the one without factors. The factors
    of the items are orthogonal, and in descending order of their norms.

    Parameters
    ----------
    T : CSR array of shape (n_users, n_items), float64
        Observed values.
    lambda_ : float
        Penalty on the squared biases and factors.
    n_components : int
        Number of factors.
    rng : RandomState
        Source of the first item factors.

    Yields
    ------
    state : State
        After each pass over users and items; the loss never rises.
    """
    by_item = T.T.tocsr()
    ones = np.ones(T.nnz)
    pattern, pattern_by_item = with_values(T, ones), with_values(by_item, ones)
    factors = rng.normal(scale=FACTOR_SCALE, size=(T.shape[1], n_components))
    Q = np.hstack([solve_biases(T, lambda_).items, factors])
    while True:
        intercept, P = _solve_users(T, pattern, Q, lambda_)
        target = by_item.data - P[by_item.indices, 0] - intercept
        Q = RidgeRows(pattern_by_item, with_ones(P), lambda_, target).solve()
        del target
        _balance(P[:, 1:], Q[:, 1:])
        yield _state(T, intercept, P, Q, lambda_)[0]


def _solve_users(
    T: sp.csr_array, pattern: sp.csr_array, Q: np.ndarray, lambda_: float
) -> tuple[float, np.ndarray]:
    """Return the best intercept and the best parameters of the users, given those of the items.

    With an intercept a the users' solution is P0 - a P1. The best a makes their biases sum to
    zero: the derivative by a is the sum of those by the biases, but for the penalty.
    """
    targets = np.stack([T.data - Q[T.indices, 0], pattern.data])
    P0, P1 = RidgeRows(pattern, with_ones(Q), lambda_, targets).solve()
    intercept = P0[:, 0].sum() / P1[:, 0].sum()
    return intercept, P0 - intercept * P1


def descend(
    T: sp.csr_array, lambda_: float, n_components: int, rng: RandomState, learning_rate: float
) -> Iterator[State]:
    """Follow the gradient of the biases and factors, with the best intercept at each step.

    Parameters
    ----------
    T : CSR array of shape (n_users, n_items), float64
        Observed values.
    lambda_ : float
        Penalty on the squared biases and factors.
    n_components : int
        Number of factors.
    rng : RandomState
        Source of the first factors; the biases start at zero.
    learning_rate : float
        Length of a step, relative to the gradient.

    Yields
    ------
    state : State
        After each step.

    Raises
    ------
    ValueError
        If the loss rises, or overflows.
    """
    P, Q = (rng.normal(scale=FACTOR_SCALE, size=(n, 1 + n_components)) for n in T.shape)
    P[:, 0] = Q[:, 0] = 0
    state, residual = _state(T, None, P, Q, lambda_)
    while True:
        R = with_values(T, residual)
        # Half of the negative gradients.
        dP, dQ = R @ with_ones(Q) - lambda_ * P, R.T @ with_ones(P) - lambda_ * Q
        with np.errstate(over="ignore", invalid="ignore"):
            P, Q = P + 2 * learning_rate * dP, Q + 2 * learning_rate * dQ
            previous, (state, residual) = state, _state(T, None, P, Q, lambda_)
        if not state.loss <= previous.loss * (1 + ROUNDING):
            raise ValueError(
                f"learning_rate={learning_rate} is too large: a step took the loss from "
                f"{previous.loss:.6g} to {state.loss:.6g}; use a smaller one, or solver='exact'."
            )
        yield state


def _balance(P: np.ndarray, Q: np.ndarray) -> None:
    """Change the basis of the factors in place to where ``P @ Q.T`` has the smallest penalty.

    That is its singular value decomposition, with the singular values shared out evenly. Left to
    themselves, the alternating solutions need thousands of iterations to even out their norms.
    """
    (U, R), (V, S) = np.linalg.qr(P), np.linalg.qr(Q)
    left, singular, right = np.linalg.svd(R @ S.T, full_matrices=False)
    P[:], Q[:] = 0, 0  # where there are fewer users or items than factors, some are not needed
    P[:, : singular.size] = U @ left * np.sqrt(singular)
    Q[:, : singular.size] = V @ right.T * np.sqrt(singular)


def _state(
    T: sp.csr_array, intercept: float | None, P: np.ndarray, Q: np.ndarray, lambda_: float
) -> tuple[State, np.ndarray]:
    """Return the state and the residuals of T's entries; without an intercept at the best one."""
    residual = T.data - np.repeat(P[:, 0], np.diff(T.indptr)) - Q[T.indices, 0]
    if P.shape[1] > 1:
        user = np.repeat(np.arange(T.shape[0]), np.diff(T.indptr))
        for part in gen_batches(T.nnz, max(1, BATCH_BYTES // (8 * P.shape[1]))):
            residual[part] -= np.einsum("ij,ij->i", P[user[part], 1:], Q[T.indices[part], 1:])
    if intercept is None:
        intercept = residual.mean()
    residual -= intercept
    loss = residual @ residual + lambda_ * (np.vdot(P, P) + np.vdot(Q, Q))
    return State(float(intercept), Q, float(loss)), residual


def with_values(T: sp.csr_array, values: np.ndarray) -> sp.csr_array:
    """Return `T` with other values at its entries."""
    return sp.csr_array((values, T.indices, T.indptr), shape=T.shape)
