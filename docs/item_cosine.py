"""A recommender in 30 lines: docs/new_model.rst shows it, tests/test_docs.py checks it."""

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator
from sklearn.preprocessing import normalize
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from sklrec.base import RecommenderMixin

FLOATS = (np.float32, np.float64)  # any other type becomes the first


class ItemCosine(RecommenderMixin, BaseEstimator):
    """Score items by their cosine to the items of the user, damped where an item is rare."""

    def __init__(self, shrinkage=10.0):
        self.shrinkage = shrinkage

    def fit(self, X, y=None):
        """Learn how similar items are."""
        if self.shrinkage < 0:
            raise ValueError(f"shrinkage must not be negative, got {self.shrinkage!r}.")
        X = validate_data(self, X, accept_sparse="csr", dtype=FLOATS)
        check_non_negative(X, "ItemCosine")
        X = csr_array(X)  # (n_users, n_items), also where X is dense
        n = X.sum(axis=0)
        Q = normalize(X, axis=0) * (n / (n + self.shrinkage + 1e-9))
        S = (Q.T @ Q).toarray().astype(X.dtype)  # (n_items, n_items)
        np.fill_diagonal(S, 0)
        self.coef_ = S
        self.popularity_ = n.astype(X.dtype)
        return self

    def decision_function(self, X):
        """Return the score of each item for each user."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=FLOATS, reset=False)
        check_non_negative(X, "ItemCosine")
        scores = csr_array(X) @ self.coef_  # (n_users, n_items)
        scores[~scores.any(axis=1)] = self.popularity_  # where the row says nothing
        return scores
