"""Baselines for recommenders."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.random import RandomState
from sklearn.utils import Tags, check_random_state

from ._sklearn import _fit_context, fit_progress
from ._typing import MatrixLike
from .base import BaseRecommender

__all__ = ["PopularityRecommender", "RandomRecommender"]


class PopularityRecommender(BaseRecommender):
    """Rank the items by their popularity, in the same order for all users.

    Attributes
    ----------
    popularity_ : ndarray of shape (n_items,)
        Sum of each column of X; if X is binary, the number of users of each item.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items. Only if X is a DataFrame with names.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> X = csr_array([[1, 0, 1], [0, 0, 1]])
    >>> PopularityRecommender().fit(X).predict_ranking(X, k=2)
    array([[ 1, -1],
           [ 0,  1]])
    """

    _parameter_constraints: dict = {}

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None) -> PopularityRecommender:
        """Count the interactions of each item.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.

        Returns
        -------
        self : PopularityRecommender
            The fitted model.
        """
        X = self._check_X(X, reset=True)
        self._learn_popularity(X)
        with fit_progress(self, X, max_subtasks=1) as step:
            self.popularity_ = self._popularity.astype(X.dtype)
            step("count")
        return self

    def _set_popularity(self, popularity: np.ndarray) -> PopularityRecommender:
        """Fit on the column sums of an X in float32."""
        self.n_features_in_ = popularity.size
        self._popularity = popularity
        self.popularity_ = popularity.astype(np.float32)
        return self

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Score the items for each user by their popularity.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user; only the number of rows is used.

        Returns
        -------
        scores : ndarray of shape (n_users, n_items)
            Popularity of each item; all rows are equal.
        """
        X = self._check_X(X, reset=False)
        return np.tile(self.popularity_, (X.shape[0], 1))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.recommender_tags.personalized = False
        return tags


class RandomRecommender(BaseRecommender):
    """Rank the items at random.

    The scores depend on the items of a row and the seed only, so that a user gets the same ranking
    in every batch.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        Determines the scores. Pass an int for the same scores in each fit.

    Attributes
    ----------
    seed_ : int
        Seed drawn from `random_state`.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items. Only if X is a DataFrame with names.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> X = csr_array([[1, 0, 1], [0, 0, 1]])
    >>> sorted(RandomRecommender(random_state=0).fit(X).predict_ranking(X, k=2)[1].tolist())
    [0, 1]
    """

    _parameter_constraints: dict = {"random_state": ["random_state"]}

    def __init__(self, *, random_state: int | RandomState | None = None) -> None:
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None) -> RandomRecommender:
        """Draw the seed.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.

        Returns
        -------
        self : RandomRecommender
            The fitted model.
        """
        X = self._check_X(X, reset=True)
        self._learn_popularity(X)
        with fit_progress(self, X, max_subtasks=1) as step:
            self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
            step("seed")
        return self

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Score the items for each user at random.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user.

        Returns
        -------
        scores : ndarray of shape (n_users, n_items)
            Uniform random numbers between 0 and 1, in the precision of X. Rows with the same items
            have the same scores.
        """
        X = self._check_X(X, reset=False)
        scores = np.empty(X.shape, dtype=X.dtype)
        for row, (start, end) in enumerate(zip(X.indptr[:-1], X.indptr[1:], strict=True)):
            # The values are not used: rounding them to float32 must not change the ranking.
            items = X.indices[start:end].astype(np.int64).tobytes()
            key = hashlib.blake2b(items, digest_size=8, key=self.seed_.to_bytes(8, "little"))
            rng = np.random.default_rng(int.from_bytes(key.digest(), "little"))
            scores[row] = rng.random(X.shape[1])
        return scores

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.recommender_tags.poor_score = True
        return tags
