"""Base class of matrix factorization models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.metrics.pairwise import cosine_similarity

from .._typing import MatrixLike
from ..base import BaseRecommender, ExplainMixin, SimilarItemsMixin
from ._ridge import RidgeRows


class BaseFactorRecommender(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ExplainMixin,
    SimilarItemsMixin,
    BaseRecommender,
):
    """Base class of models whose scores are products of user factors and item factors.

    A subclass implements ``fit``, which calls ``_learn_popularity(X)`` and sets ``item_factors_``
    and, if it has biases, ``item_bias_``, both in the precision of X, and one of:

    - ``_ridge(X)``, which returns the :class:`RidgeRows` whose solutions are the factors of the
      users. The model then has ``explain``.
    - ``_fold_in(X)``, which returns the factors of the users, an ndarray of shape (n_users,
      n_components), if they are not solutions of ridge regressions.

    Attributes
    ----------
    item_factors_ : ndarray of shape (n_items, n_components)
        Factors of each item.
    """

    item_factors_: np.ndarray
    _ridge: Callable[[sp.csr_array], RidgeRows]

    @property
    def components_(self) -> np.ndarray:
        """Transposed item factors, ndarray of shape (n_components, n_items)."""
        return self.item_factors_.T

    def transform(self, X: MatrixLike) -> np.ndarray:
        """Compute the factors of each user.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, known from ``fit`` or not.

        Returns
        -------
        factors : ndarray of shape (n_users, n_components)
            Factors of the users, in the precision of X.
        """
        X = self._check_X(X, reset=False)
        return self._fold_in(X).astype(X.dtype, copy=False)

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Score all items for each user.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, known from ``fit`` or not.

        Returns
        -------
        scores : ndarray of shape (n_users, n_items)
            Products of the factors of users and items, plus the biases. Rows without known items
            are scored by popularity.
        """
        X = self._check_X(X, reset=False)
        return self._with_popularity(X, self._scores(X).astype(X.dtype, copy=False))

    def _scores(self, X: sp.csr_array) -> np.ndarray:
        return self._product(self._fold_in(X))

    def _product(self, user_factors: np.ndarray) -> np.ndarray:
        """Return the scores of user factors of shape (n_users, n_components), with item biases."""
        scores = user_factors.astype(self.item_factors_.dtype, copy=False) @ self.components_
        if hasattr(self, "item_bias_"):
            scores += self.item_bias_
        return scores

    def _fold_in(self, X: sp.csr_array) -> np.ndarray:
        return self._ridge(X).solve()

    def _items_changed(self) -> None:
        """Compute what is derived from the item factors, after others took their place."""

    def _explains(self) -> bool:
        return hasattr(self, "_ridge")

    def _contributions(self, X: sp.csr_array, item: int) -> np.ndarray:
        rows = self._ridge(X)
        return rows.contributions(rows.V[item])

    def _item_similarity(self, items: np.ndarray) -> np.ndarray:
        return cosine_similarity(self.item_factors_[items], self.item_factors_)

    @property
    def _n_features_out(self) -> int:
        return self.item_factors_.shape[1]
