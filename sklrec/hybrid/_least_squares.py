"""Least squares of users and items around the content of items, as in CTR, CDL and CVAE."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from ..factorization._ridge import RidgeRows

# Numbers in the factors of a user or an item are at first of this order, divided by sqrt(K).
INITIAL_SCALE = 0.1

# Parameters of a model that are those of LeastSquares, in order.
PROBLEM = ("lambda_u", "lambda_v", "confidence", "unobserved_weight")


@dataclass(frozen=True)
class LeastSquares:
    r"""The part of the objective of CTR, CDL and CVAE that depends on the users.

    .. math:: \frac12 \sum_{i, j} C_{ij} (R_{ij} - u_i^\top v_j)^2
        + \frac{\lambda_u}2 \sum_i \|u_i\|^2 + \frac{\lambda_v}2 \sum_j \|v_j - \theta_j\|^2

    R is 1 at the stored entries of X and 0 elsewhere. The confidence C is ``b + (a - b) x``, which
    is a for an entry of 1, and b without one. Nothing is known of items without users: they are
    not in the first sum, and :math:`v_j = \theta_j`.

    Parameters
    ----------
    lambda_u : float
        Penalty on the factors of users.
    lambda_v : float
        Penalty on the distance of items from their content.
    confidence : float
        Confidence a of an entry of 1.
    unobserved_weight : float
        Confidence b of the pairs without an entry, smaller than a.
    """

    lambda_u: float
    lambda_v: float
    confidence: float
    unobserved_weight: float

    def __post_init__(self) -> None:
        if self.unobserved_weight >= self.confidence:
            raise ValueError(
                "unobserved_weight must be smaller than confidence, got "
                f"{self.unobserved_weight:g} and {self.confidence:g}."
            )

    def gram(self, V: np.ndarray) -> np.ndarray:
        """Return ``b V'V``."""
        return np.asarray(self.unobserved_weight * (V.T @ V))

    def confidences(self, X: sp.csr_array) -> sp.csr_array:
        """Return the confidences C of the stored entries of X."""
        a, b = self.confidence, self.unobserved_weight
        C = b + (a - b) * X.data
        return sp.csr_array((C.astype(X.dtype, copy=False), X.indices, X.indptr), shape=X.shape)

    def users(
        self, X: sp.csr_array, V: np.ndarray, gram: np.ndarray, known: np.ndarray
    ) -> RidgeRows:
        """Return the regressions whose solutions are the factors of users.

        Parameters
        ----------
        X : CSR array of shape (n_users, n_items)
            Interactions of users of ``fit``, or of others.
        V : ndarray of shape (n_items, n_components)
            Factors of the items.
        gram : ndarray of shape (n_components, n_components)
            :meth:`gram` of the factors of known items.
        known : ndarray of shape (n_items,), bool
            Whether an item has users in ``fit``. Of all others, a user's regression has the ones
            in the user's row only.
        """
        C = self.confidences(X)
        weight = C.data - np.where(known[X.indices], C.dtype.type(self.unobserved_weight), 0)
        rows = sp.csr_array((weight, X.indices, X.indptr), shape=X.shape)
        return RidgeRows(rows, V, self.lambda_u, C.data / weight, gram=gram)

    def items(self, Xt: sp.csr_array, U: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Return the factors of items.

        Parameters
        ----------
        Xt : CSR array of shape (n_items, n_users)
            The transposed interactions.
        U : ndarray of shape (n_users, n_components)
            Factors of the users.
        theta : ndarray of shape (n_items, n_components)
            Content of the items.

        Returns
        -------
        V : ndarray of shape (n_items, n_components)
        """
        every = np.ones(Xt.shape[1], dtype=bool)
        rows = self.users(Xt, U, self.gram(U), every)
        V = replace(rows, lambda_=self.lambda_v, mean=theta).solve()
        return np.where(np.diff(Xt.indptr)[:, None] > 0, V, theta)

    def objective(self, Xt: sp.csr_array, U: np.ndarray, V: np.ndarray, theta: np.ndarray) -> float:
        """Return the objective at factors U and the best V for them, as :meth:`items` has it.

        The part of an item with the equations ``A v = r`` is half of ``v'Av - 2r'v``, which is
        ``-r'v`` at the solution, plus half of what it is for v = 0.
        """
        C = self.confidences(Xt)
        r = C @ U + self.lambda_v * theta
        at_zero = C.data.sum(dtype=np.float64) + self.lambda_v * _square(theta)
        solved = np.einsum("ij,ij->", r, V, dtype=np.float64)
        return 0.5 * float(at_zero - solved + self.lambda_u * _square(U))


def initial_factors(
    shape: tuple[int, int], rng: np.random.RandomState, dtype: np.dtype
) -> np.ndarray:
    """Return small random factors of items, to begin with where there is no content."""
    scale = INITIAL_SCALE / np.sqrt(shape[1])
    return rng.normal(scale=scale, size=shape).astype(dtype, copy=False)


def _square(A: np.ndarray) -> float:
    return float(np.einsum("ij,ij->", A, A, dtype=np.float64))
