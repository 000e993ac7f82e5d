"""What all models of item-to-item weights share."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from .._linalg import dot_on_threads
from .._typing import MatrixLike
from ..base import BaseRecommender, ExplainMixin, SimilarItemsMixin


class BaseItemWeights(ExplainMixin, SimilarItemsMixin, BaseRecommender):
    """Base of the models that score ``X @ coef_``.

    A model writes ``fit``, which sets ``coef_`` of shape (n_items, n_items), dense or CSR: the
    weight of each item (row) in the score of each item (column).
    """

    coef_: np.ndarray | sp.csr_array

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Score all items for each user.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, known from ``fit`` or not.

        Returns
        -------
        scores : ndarray of shape (n_users, n_items)
            Product of X and ``coef_``. Rows without known items are scored by popularity.
        """
        X = self._check_X(X, reset=False)
        if sp.issparse(self.coef_):
            scores = (X @ self.coef_).toarray()
        else:
            scores = dot_on_threads(X, self.coef_)
        return self._with_popularity(X, scores)

    def _contributions(self, X: sp.csr_array, item: int) -> np.ndarray:
        if sp.issparse(self.coef_):
            items, entry = np.unique(X.indices, return_inverse=True)
            return X.data * self.coef_[items][:, [item]].toarray().ravel()[entry]
        return X.data * self.coef_[X.indices, item]

    def _item_similarity(self, items: np.ndarray) -> np.ndarray:
        weights = self.coef_[items]
        return weights.toarray() if sp.issparse(weights) else weights
