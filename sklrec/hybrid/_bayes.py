r"""Normal distributions of the factors of users and items around the content of items.

They are those of the variational inference in section 2.3 of the paper of CVAE. The factors of a
user i have the precision and the mean

.. math:: \Lambda_i = \sum_j C_{ij} \mathbb{E}[v_j v_j^\top] + \lambda_u I, \quad
    \mu_i = \Lambda_i^{-1} \sum_j C_{ij} R_{ij} \mathbb{E}[v_j]

and likewise the items, whose prior mean is their content. The expectation of a product has the
covariance of the other side: ``E[vv'] = E[v]E[v]' + inv(Lambda)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from .._linalg import blocks
from ._least_squares import LeastSquares

# Size in bytes of the matrices of the users, or items, that are solved for at a time.
BLOCK_BYTES = 2**24


@dataclass(frozen=True)
class Normals:
    """Normal distributions of the factors of items.

    Parameters
    ----------
    mean : ndarray of shape (n_items, n_components)
        Means.
    covariance : ndarray of shape (n_items, n_components, n_components)
        Covariances, of which those of users have no counterpart in memory.
    """

    mean: np.ndarray
    covariance: np.ndarray

    def __getitem__(self, items: np.ndarray) -> Normals:
        return Normals(self.mean[items], self.covariance[items])

    def products(self) -> np.ndarray:
        """Return ``E[vv']`` of each item."""
        return np.asarray(self.mean[:, :, None] * self.mean[:, None, :] + self.covariance)

    def gram(self, weight: float) -> np.ndarray:
        """Return `weight` times the sum of ``E[vv']``."""
        return np.asarray(weight * (self.mean.T @ self.mean + self.covariance.sum(axis=0)))


def solved_users(
    problem: LeastSquares, X: sp.csr_array, items: Normals, gram: np.ndarray, known: np.ndarray
) -> Iterator[tuple[slice, Normals]]:
    """Yield slices of the rows of X, and the distributions of their users.

    Parameters
    ----------
    problem : LeastSquares
        The penalties and confidences.
    X : CSR array of shape (n_users, n_items)
        Interactions of users of ``fit``, or of others.
    items : Normals
        Distributions of the items.
    gram : ndarray of shape (n_components, n_components)
        :meth:`Normals.gram` of the known items, times b.
    known : ndarray of shape (n_items,), bool
        Whether an item has users in ``fit``, see :meth:`LeastSquares.users`.
    """
    width = items.mean.shape[1]
    shared = gram + problem.lambda_u * np.eye(width, dtype=gram.dtype)
    weights = problem.users(X, items.mean, gram, known).C
    C = problem.confidences(X)
    for rows in _blocks(X.shape[0], width):
        used, part = _used_columns(weights[rows])
        of_items = items[used].products().reshape(used.size, width * width)
        precision = (part @ of_items).reshape(-1, width, width) + shared
        covariance = np.linalg.inv(precision)
        right = C[rows] @ items.mean
        yield rows, Normals(np.einsum("nij,nj->ni", covariance, right), covariance)


def solved_items(
    problem: LeastSquares, X: sp.csr_array, items: Normals, gram: np.ndarray, theta: np.ndarray
) -> tuple[Normals, float]:
    """Solve for all users, and then for all items.

    Parameters
    ----------
    problem : LeastSquares
        The penalties and confidences.
    X : CSR array of shape (n_users, n_items)
        Interactions of the users of ``fit``.
    items : Normals
        Distributions of the items before.
    gram : ndarray of shape (n_components, n_components)
        :meth:`Normals.gram` of the items with users, times b.
    theta : ndarray of shape (n_items, n_components)
        Content of the items.

    Returns
    -------
    items : Normals
        Distributions of the items. Those without users have the mean theta and the precision
        lambda_v.
    loss : float
        The negative lower bound, without terms that do not depend on the two distributions.
    """
    n_items, width = theta.shape
    b, eye = problem.unobserved_weight, np.eye(width, dtype=theta.dtype)
    known = np.bincount(X.indices, minlength=n_items) > 0
    C = problem.confidences(X)
    above = sp.csr_array((C.data - C.dtype.type(b), C.indices, C.indptr), shape=C.shape)
    precision = np.zeros((n_items, width, width), dtype=theta.dtype)
    right = problem.lambda_v * theta
    total = np.zeros_like(eye)
    loss = float(C.data.sum(dtype=np.float64)) / 2
    for rows, users in solved_users(problem, X, items, gram, known):
        of_users = users.products().reshape(-1, width * width)
        used, part = _used_columns(above[rows])
        precision[used] += (part.T @ of_users).reshape(-1, width, width)
        right += C[rows].T @ users.mean
        total += of_users.sum(axis=0).reshape(width, width)
        loss -= np.linalg.slogdet(users.covariance)[1].sum(dtype=np.float64) / 2
    loss += problem.lambda_u / 2 * np.trace(total)
    precision[known] += b * total
    precision += problem.lambda_v * eye
    mean = np.empty_like(theta)
    for part_of in _blocks(n_items, width):
        loss += np.linalg.slogdet(precision[part_of])[1].sum(dtype=np.float64) / 2
        precision[part_of] = np.linalg.inv(precision[part_of])
        mean[part_of] = np.einsum("nij,nj->ni", precision[part_of], right[part_of])
    # At the solution, the part of an item with r on the right-hand side is -r'E[v].
    square = problem.lambda_v * np.einsum("ij,ij->", theta, theta, dtype=np.float64)
    solved = np.einsum("ij,ij->", right, mean, dtype=np.float64)
    return Normals(mean, precision), float(loss + (square - solved) / 2)


def _blocks(n: int, width: int) -> Iterator[slice]:
    return blocks(n, max(1, BLOCK_BYTES // (8 * width * width)))


def _used_columns(C: sp.csr_array) -> tuple[np.ndarray, sp.csr_array]:
    """Return the columns that have entries, and C without the others."""
    used, indices = np.unique(C.indices, return_inverse=True)
    return used, sp.csr_array((C.data, indices, C.indptr), shape=(C.shape[0], used.size))
