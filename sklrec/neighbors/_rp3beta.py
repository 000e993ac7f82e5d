"""Random walks over users and items."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.stats import uniform

from .._nearest import check_memory_of_largest, largest_of_rows
from .._sklearn import Interval, _fit_context, fit_progress
from .._typing import MatrixLike
from ..linear._base import BaseItemWeights


class RP3beta(BaseItemWeights):
    r"""Random walks of three steps with a penalty of popular items.

    A walk goes from a user to an item, from there to another user and on to an item. Each step is
    in proportion to the values of X. The score of an item is the probability that the walk ends
    there, divided by a power of its popularity [1]_. The last two steps are the weight of item i in
    the score of item j,

    .. math:: B_{ij} = d_j^{-\beta} \sum_u
        \left( \frac{x_{ui}}{d_i} \right)^\alpha \left( \frac{x_{uj}}{d_u} \right)^\alpha

    with :math:`d_i` and :math:`d_u` the sums of the columns and rows of X, and :math:`\alpha` as
    in [2]_. The first step is the row of the user. Only the `n_neighbors` largest weights of each
    item are kept.

    Parameters
    ----------
    n_neighbors : int, default=100
        Number of largest weights in the score of each item. Typical range: 50 to 1,000.
    alpha : float, default=1.0
        Exponent of the probabilities of the steps; 1 is a random walk. Typical range: 0.5 to 1.5.
    beta : float, default=0.3
        Exponent of the popularity by which scores are divided: with 0 popular items are favoured,
        with 1 they are not. Typical range: 0 to 1.

    Attributes
    ----------
    coef_ : csr_array of shape (n_items, n_items)
        Weight of each item (row) in the score of each item (column), in the precision of X. The
        diagonal is zero, and zeros are not stored.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items. Only if X is a DataFrame with names.

    See Also
    --------
    ItemKNN : Neighbours by similarity.

    Notes
    -----
    Memory is proportional to the number of interactions and to items times `n_neighbors`, as in
    :class:`ItemKNN`.

    References
    ----------
    .. [1] B. Paudel, F. Christoffel, C. Newell and A. Bernstein, "Updatable, Accurate, Diverse, and
       Scalable Recommendations for Interactive Applications", ACM Transactions on Interactive
       Intelligent Systems 7(1), 2017.
    .. [2] C. Cooper, S. H. Lee, T. Radzik and Y. Siantos, "Random Walks in Recommender Systems:
       Exact Computation and Simulations", WWW 2014 Companion.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklrec.neighbors import RP3beta
    >>> X = csr_array([[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
    >>> RP3beta(n_neighbors=2).fit(X).predict_ranking(X[:1], k=2)
    array([[3, 2]])
    """

    _parameter_constraints: dict = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
    }
    _suggested_distributions: dict = {
        "n_neighbors": [50, 100, 200, 500, 1000],
        "alpha": uniform(0.5, 1),  # from 0.5, of length 1
        "beta": uniform(0, 1),
    }

    def __init__(self, n_neighbors: int = 100, *, alpha: float = 1.0, beta: float = 0.3) -> None:
        self.n_neighbors = n_neighbors
        self.alpha = alpha
        self.beta = beta

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None) -> RP3beta:
        """Compute the largest weights of each item.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.

        Returns
        -------
        self : RP3beta
            The fitted model.

        Raises
        ------
        MemoryError
            If the machine lacks the memory.
        """
        X = self._check_X(X, reset=True)
        self._learn_popularity(X)
        with fit_progress(self, X, max_subtasks=1) as step:
            what = f"RP3beta(n_neighbors={self.n_neighbors}) of {X.shape[1]:,} items in {X.dtype}"
            check_memory_of_largest(X.T, X, self.n_neighbors, what)
            to_items, to_users = self._walks(X, self._popularity)
            nearest = largest_of_rows(to_items.T, to_users, self.n_neighbors, diagonal=False)
            self.coef_ = nearest.T.tocsr()
            step("neighbors")
        return self

    def _walks(self, X: sp.csr_array, popularity: np.ndarray) -> tuple[sp.csr_array, sp.csr_array]:
        """Return the steps from each user to items and, transposed, from items to users.

        The former have the penalty of popular items.
        """
        user = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        of_users = np.bincount(user, weights=X.data, minlength=X.shape[0])
        to_items = _steps(X, of_users[user], self.alpha)
        penalty = np.ones(X.shape[1])
        np.power(popularity, -self.beta, out=penalty, where=popularity > 0)
        to_items.data *= penalty[X.indices].astype(X.dtype)
        return to_items, _steps(X, popularity[X.indices], self.alpha)

    def _set_nearest(self, nearest: sp.csr_array, popularity: np.ndarray) -> RP3beta:
        """Fit on the largest weights of each item, and the column sums of X."""
        self.n_features_in_ = popularity.size
        self._popularity = popularity
        self.coef_ = nearest.T.tocsr()
        return self


def _steps(M: sp.csr_array, sums: np.ndarray, alpha: float) -> sp.csr_array:
    """Return the probability of each stored step, to the power of alpha."""
    steps = (M.data / sums) ** alpha
    return sp.csr_array((steps.astype(M.dtype), M.indices, M.indptr), shape=M.shape)
