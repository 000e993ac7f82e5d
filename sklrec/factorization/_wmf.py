"""Weighted matrix factorization of implicit feedback."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from scipy.linalg import eigh
from scipy.stats import loguniform
from sklearn.utils import check_random_state

from .._sklearn import Interval, _fit_context, fit_progress
from .._typing import MatrixLike
from ._base import BaseFactorRecommender
from ._ridge import RidgeRows


class WMF(BaseFactorRecommender):
    r"""Weighted matrix factorization by alternating least squares, also called iALS.

    The factors of users and items minimise [1]_ [2]_

    .. math:: \sum_{(u, i)} x_{ui} (1 - w_u^\top h_i)^2 + \alpha_0 \sum_{u, i} (w_u^\top h_i)^2
        + \lambda \Big(\sum_u (n_u + \alpha_0 I)^\nu \|w_u\|^2
        + \sum_i (n_i + \alpha_0 U)^\nu \|h_i\|^2\Big)

    The first sum is over the stored values of X, which are confidences; the second is over all
    pairs of the U users and I items. :math:`n_u` and :math:`n_i` are the numbers of stored values
    of a user and an item. Users and items are solved for exactly, in turn.

    A user's factors are the solution for their row with the item factors fixed, for new users as
    for those of ``fit``.

    Parameters
    ----------
    n_components : int, default=64
        Number of factors. Typical range: 64 to 1,024; more factors need more time and usually
        rank better.
    lambda_ : float, default=0.01
        L2 penalty on the factors, multiplied as `frequency_exponent` says. The best value differs
        by orders of magnitude between data sets. Typical range: 1e-4 to 0.1, on a logarithmic
        scale.
    unobserved_weight : float, default=0.1
        Weight :math:`\alpha_0` of the pairs without a stored value, relative to a stored value of
        1. Typical range: 0.01 to 1, on a logarithmic scale.
    frequency_exponent : float, default=1.0
        Exponent :math:`\nu` of the number of values in the penalty of a user or an item. With 0
        the penalty is the same for all; with 1 it grows as the loss does [2]_.
    max_iter : int, default=16
        Number of iterations, each of which solves for all users and for all items.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial item factors.

    Attributes
    ----------
    item_factors_ : ndarray of shape (n_items, n_components)
        Factors of each item, in the precision of X: orthogonal, in descending order of their
        norms.
    components_ : ndarray of shape (n_components, n_items)
        The same array transposed, as scikit-learn's decompositions have it.
    loss_curve_ : list of float
        The objective after each iteration.
    n_iter_ : int
        Number of iterations.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items where X is a DataFrame with names.

    See Also
    --------
    sklrec.linear.EASE : Scores without factors, in closed form.

    References
    ----------
    .. [1] Y. Hu, Y. Koren and C. Volinsky, "Collaborative Filtering for Implicit Feedback
       Datasets", ICDM 2008.
    .. [2] S. Rendle, W. Krichene, L. Zhang and Y. Koren, "Revisiting the Performance of iALS on
       Item Recommendation Benchmarks", RecSys 2022.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklrec.factorization import WMF
    >>> X = csr_array([[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
    >>> wmf = WMF(2, random_state=0).fit(X)
    >>> wmf.predict_ranking(X[:1], k=2)
    array([[3, 2]])
    >>> wmf.transform(X).shape
    (4, 2)
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "lambda_": [Interval(Real, 0, None, closed="neither")],
        "unobserved_weight": [Interval(Real, 0, None, closed="left")],
        "frequency_exponent": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    _suggested_distributions: dict = {
        "n_components": [64, 128, 256, 512, 1024],
        "lambda_": loguniform(1e-4, 0.1),
        "unobserved_weight": loguniform(0.01, 1),
    }

    def __init__(
        self,
        n_components: int = 64,
        *,
        lambda_: float = 0.01,
        unobserved_weight: float = 0.1,
        frequency_exponent: float = 1.0,
        max_iter: int = 16,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.lambda_ = lambda_
        self.unobserved_weight = unobserved_weight
        self.frequency_exponent = frequency_exponent
        self.max_iter = max_iter
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None) -> WMF:
        """Learn the item factors.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Confidences, positive where there is an interaction.
        y : None
            Ignored.

        Returns
        -------
        self : WMF
            The fitted model.

        Raises
        ------
        ValueError
            If `lambda_` is too small for a unique solution in the precision of X.
        """
        X = self._check_X(X, reset=True)
        self._learn_popularity(X)
        # What scores depend on besides the fitted attributes.
        self._penalty = (self.lambda_, self.unobserved_weight, self.frequency_exponent)
        self.loss_curve_: list[float] = []
        with fit_progress(self, X, max_subtasks=self.max_iter) as step:
            for factors, gram, loss in self._iterations(X):
                self.loss_curve_.append(loss)
                stopped = step("iteration", item_factors_=factors, _gram=gram)
                if stopped or len(self.loss_curve_) == self.max_iter:
                    break
        self.item_factors_, self._gram = factors, gram
        self.n_iter_ = len(self.loss_curve_)
        return self

    def _iterations(self, X: sp.csr_array) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """Yield item factors, the diagonal of their weighted Gram matrix, and the objective."""
        rng = check_random_state(self.random_state)
        by_item = X.T.tocsr()
        H = rng.normal(scale=0.1 / np.sqrt(self.n_components), size=(X.shape[1], self.n_components))
        H, gram = _in_eigenbasis(H.astype(X.dtype), self.unobserved_weight)
        while True:
            W = _rows(X, H, gram, self._penalty).solve()
            W, gram_of_users = _in_eigenbasis(W, self.unobserved_weight)
            H = _rows(by_item, W, gram_of_users, self._penalty).solve()
            loss = _objective(X, by_item, W, H, self._penalty)
            H, gram = _in_eigenbasis(H, self.unobserved_weight)
            yield H, gram, loss

    def _ridge(self, X: sp.csr_array) -> RidgeRows:
        return _rows(X, self.item_factors_, self._gram, self._penalty)


def _rows(
    X: sp.csr_array, V: np.ndarray, gram: np.ndarray, penalty: tuple[float, float, float]
) -> RidgeRows:
    """Return the regressions of the rows of X on the factors V of its columns."""
    return RidgeRows(X, V, _penalties(X, penalty), gram=gram)


def _penalties(X: sp.csr_array, penalty: tuple[float, float, float]) -> np.ndarray:
    """Return the penalty of each row of X."""
    lambda_, unobserved_weight, exponent = penalty
    return lambda_ * (np.diff(X.indptr) + unobserved_weight * X.shape[1]) ** exponent


def _in_eigenbasis(V: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Rotate factors so that their Gram matrix is diagonal; return them and the diagonal.

    Scores do not change, as the other factors are computed in this basis afterwards. The solver
    then needs no eigendecomposition, which makes folding in a single user faster.
    """
    eigenvalues, Q = eigh((V.T @ V).astype(np.float64))
    order = slice(None, None, -1)
    return V @ Q[:, order].astype(V.dtype), weight * eigenvalues[order].clip(min=0)


def _objective(
    X: sp.csr_array,
    by_item: sp.csr_array,
    W: np.ndarray,
    H: np.ndarray,
    penalty: tuple[float, float, float],
) -> float:
    """Return the objective at user factors W and the best item factors H for them.

    The part of an item with the equations ``A h = b`` is ``h'Ah - 2b'h``, which is ``-b'h`` at
    the solution, plus what it is for h = 0.
    """
    of_items = np.einsum("ij,ij->", by_item @ W, H, dtype=np.float64)
    of_users = np.einsum("ij,ij,i->", W, W, _penalties(X, penalty), dtype=np.float64)
    return float(X.data.sum(dtype=np.float64) - of_items + of_users)
