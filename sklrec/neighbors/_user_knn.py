"""User-based nearest neighbours."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.stats import loguniform, uniform
from sklearn.utils import Tags

from .._linalg import blocks
from .._nearest import largest_of_rows
from .._sklearn import Interval, _fit_context, fit_progress
from .._typing import MatrixLike
from ..base import BaseRecommender, ExplainMixin
from ._similarity import PARAMETER_CONSTRAINTS, Similarity

# Number of users whose neighbors are held at a time for explanations.
_EXPLAINED_AT_ONCE = 64


class UserKNN(ExplainMixin, BaseRecommender):
    r"""Nearest neighbours of users.

    The score of an item is the sum over the `n_neighbors` training users that are most similar to
    the user, of their similarity times their value of the item [1]_. It is the user-based
    counterpart of :class:`ItemKNN`, with the same metrics for rows of users: the user is the given
    row i, the training user the target row j.

    **The model keeps the interactions of all training users**, as no other model here does: its
    pickle and its file hold them, and must be protected as the data themselves. Use
    :class:`ItemKNN` where a model must not hold user rows.

    Parameters
    ----------
    n_neighbors : int, default=100
        Number of training users that contribute to the scores of a user. Typical range: 20 to
        1,000.
    metric : {"cosine", "asymmetric-cosine", "jaccard", "conditional-probability"}, default="cosine"
        Similarity of two users.
    alpha : float, default=0.5
        Exponent of ``"asymmetric-cosine"``, which is the cosine at 0.5 and favours active users
        above, and of ``"conditional-probability"``, which favours them below. Typical range: 0 to
        1.
    shrinkage : float, default=0.0
        Number added to the denominator, which lowers similarities of users with few items. It
        has the scale of the squares of the values. Typical range: 1 to 1,000, on a logarithmic
        scale.

    Attributes
    ----------
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items. Only if X is a DataFrame with names.

    See Also
    --------
    ItemKNN : Neighbours of items.
    sklrec.preprocessing.BM25Transformer : Weighting of the interactions before UserKNN.

    Notes
    -----
    A user of the training data is their own nearest neighbour, which adds to the scores of their
    own items only. Users are compared in blocks; memory is that of the interactions, twice: by
    user and by item. A prediction takes time in proportion to the training interactions with the
    items of the user.

    References
    ----------
    .. [1] J. L. Herlocker, J. A. Konstan, A. Borchers and J. Riedl, "An Algorithmic Framework for
       Performing Collaborative Filtering", SIGIR 1999.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklrec.neighbors import UserKNN
    >>> X = csr_array([[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
    >>> UserKNN(n_neighbors=3).fit(X).predict_ranking(X[:1], k=2)
    array([[3, 2]])
    """

    _parameter_constraints: dict = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        **PARAMETER_CONSTRAINTS,
    }
    _suggested_distributions: dict = {
        "n_neighbors": [20, 50, 100, 200, 500, 1000],
        "alpha": uniform(0, 1),
        "shrinkage": loguniform(1, 1000),
    }

    def __init__(
        self,
        n_neighbors: int = 100,
        *,
        metric: str = "cosine",
        alpha: float = 0.5,
        shrinkage: float = 0.0,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.alpha = alpha
        self.shrinkage = shrinkage

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None) -> UserKNN:
        """Store the interactions of the training users.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.

        Returns
        -------
        self : UserKNN
            The fitted model.
        """
        X = self._check_X(X, reset=True)
        self._learn_popularity(X)
        self._fitted_with = (self.n_neighbors, self.metric, self.alpha, self.shrinkage)
        with fit_progress(self, X, max_subtasks=1) as step:
            _, self._sizes = self._similarity().sizes(X)
            self._users = X.copy()
            self._by_item = X.T.tocsr()  # (n_items, n_users)
            step("users")
        return self

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Score all items for each user.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, known from ``fit`` or not.

        Returns
        -------
        scores : ndarray of shape (n_users, n_items)
            Sums over the nearest training users. Rows without known items, and without similar
            users, are scored by popularity.
        """
        X = self._check_X(X, reset=False)
        return self._with_popularity(X, (self._nearest(X) @ self._users).toarray())

    def _similarity(self) -> Similarity:
        _, metric, alpha, shrinkage = self._fitted_with
        return Similarity(metric, alpha, shrinkage)

    def _nearest(self, X: sp.csr_array) -> sp.csr_array:
        """Return the similarity of each row of X to its nearest training users."""
        similarity = self._similarity()
        given, _ = similarity.sizes(X)

        def to_similarity(products: np.ndarray, u: np.ndarray, v: np.ndarray) -> None:
            similarity.divide(products, given[u], self._sizes[v])

        n_neighbors = self._fitted_with[0]
        return largest_of_rows(
            similarity.of_given(X), self._by_item, n_neighbors, finish=to_similarity
        )

    def _contributions(self, X: sp.csr_array, item: int) -> np.ndarray:
        """Return the part of each entry in the similarities to users of the item.

        The similarity to a neighbor is the sum over common items of products of values, divided by
        a number that is the same for all of them.
        """
        contributions = np.zeros(X.nnz, dtype=np.result_type(X.dtype, self._users.dtype))
        of_item = self._users[:, [item]].toarray().ravel()
        for rows in blocks(X.shape[0], _EXPLAINED_AT_ONCE):
            batch = X[rows]
            pairs = self._nearest(batch).tocoo()
            weight = pairs.data * of_item[pairs.col]
            u, v, weight = (part[weight > 0] for part in (pairs.row, pairs.col, weight))
            products = self._users[v] * self._similarity().of_given(batch)[u]
            weight /= products.sum(axis=1)
            adding = sp.csr_array((weight, (u, np.arange(u.size))), shape=(batch.shape[0], u.size))
            parts = adding @ products  # (n_rows, n_items), nonzero at entries of the batch only
            entries = X.indptr[rows.start] + np.searchsorted(_places(batch), _places(parts))
            contributions[entries] = parts.data
        return contributions

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.recommender_tags.keeps_users = True
        return tags


def _places(M: sp.csr_array) -> np.ndarray:
    """Return the position of each stored entry in the raveled matrix."""
    row = np.repeat(np.arange(M.shape[0]), np.diff(M.indptr))
    return row * M.shape[1] + M.indices
