"""Models that read the content of items, and the validation of it."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from sklearn.utils.validation import check_is_fitted

from ._holder import Unsliced, whole
from ._matrix import check_matrix
from ._typing import MatrixLike

__all__ = ["ItemFeaturesMixin"]


class ReadsItemFeatures:
    """Mixin for recommenders whose ``fit`` takes features, whether they add new items or not."""

    __metadata_request__fit = {"item_features": True}

    _described: np.ndarray  # whether each item has a feature other than 0, (n_items,)

    def _check_item_features(self, item_features: Any, X: sp.csr_array) -> Any:
        """Validate the features of the items of X, and store their number.

        Parameters
        ----------
        item_features : {array-like, sparse array, DataFrame} of shape (n_items, n_features), \
ItemFeatures or None
            Features, which are not changed.
        X : CSR array of shape (n_users, n_items)
            Training data, validated.

        Returns
        -------
        F : CSR array or ndarray of shape (n_items, n_features), or None
            Features in the precision of X; sparse if `item_features` is.
        """
        if item_features is None:
            self.n_item_features_ = 0
            self._described = np.zeros(X.shape[1], dtype=bool)
            return None
        F = check_matrix(whole(item_features, "item_features", X), "item_features", signed=True)
        if F.shape[0] != X.shape[1]:
            raise ValueError(
                f"item_features must have a row for each of the {X.shape[1]} items of X, got shape "
                f"{F.shape}. If a search selected rows of it, as it does if there are as many "
                "items as users, pass sklrec.pipeline.ItemFeatures(item_features)."
            )
        self.n_item_features_ = F.shape[1]
        self._features_are_sparse = sp.issparse(F)
        self._features_dtype = X.dtype.type
        self._described = _is_described(F)
        return F.astype(X.dtype, copy=False)


class ItemFeaturesMixin(ReadsItemFeatures):
    """Mixin for recommenders that learn from the content of items.

    A subclass implements ``fit(X, y=None, *, item_features=None)``, which calls
    ``_check_item_features(item_features, X)``, and ``_add_items(F)``, which extends the attributes
    of the model by new items. ``item_features`` is requested from scikit-learn's metadata routing.

    Users whose items have no interactions are ranked by popularity. A model that reads a user's
    items by their features implements ``_known_items(items)`` as
    ``super()._known_items(items) | self._described[items]``.
    """

    n_features_in_: int
    feature_names_in_: np.ndarray
    _popularity: np.ndarray

    def with_items(self, item_features: MatrixLike) -> Self:
        """Return a copy of the fitted model whose catalogue ends with new items.

        Nothing is trained. The copy takes an X with a column for each new item, after those of the
        items that it was fitted on; ``items=`` of ``predict_ranking`` ranks new items only.

        Parameters
        ----------
        item_features : {array-like, sparse array, DataFrame} of shape (n_new_items, n_features)
            Features of the new items, as in ``fit``. If the model was fitted on a DataFrame with
            names of items, a DataFrame whose index has the names of the new ones.

        Returns
        -------
        model : object of the same class
            The copy. This model is not changed.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            If the model was fitted without `item_features`, their number is another, or names of
            the new items are missing or taken.
        """
        check_is_fitted(self)
        if isinstance(item_features, Unsliced):
            item_features = item_features.value
        if not self.n_item_features_:
            raise ValueError(
                f"with_items needs a {type(self).__name__} that was fitted with item_features."
            )
        names = self._names_with(item_features)
        width = (None, self.n_item_features_)
        model = copy.copy(self)
        if np.shape(item_features) == (0, self.n_item_features_):  # no new item today
            return model
        F = check_matrix(item_features, "item_features", shape=width, signed=True)
        F = sp.csr_array(F) if self._features_are_sparse else _dense(F)
        model._add_items(F.astype(self._features_dtype, copy=False))
        model.n_features_in_ = self.n_features_in_ + F.shape[0]
        model._popularity = np.concatenate([self._popularity, np.zeros(F.shape[0])])
        model._described = np.concatenate([self._described, _is_described(F)])
        if names is not None:
            model.feature_names_in_ = names
        return model

    def _add_items(self, F: Any) -> None:
        """Extend the model, a shallow copy, by items with features F.

        F is sparse if the features in ``fit`` were, and in their precision. Attributes are
        replaced and not changed in place, as the original model shares them.
        """
        raise NotImplementedError

    def _names_with(self, item_features: Any) -> np.ndarray | None:
        """Return the names of old and new items, or None if the old ones have none."""
        if not hasattr(self, "feature_names_in_"):
            return None
        new = np.asarray(getattr(item_features, "index", []), dtype=object)
        names = np.concatenate([self.feature_names_in_, new])
        if len(new) != np.shape(item_features)[0] or not all(isinstance(name, str) for name in new):
            raise ValueError(
                "The model was fitted on a DataFrame with names of items; item_features must be a "
                "DataFrame whose index has the names of the new items."
            )
        if len(set(names)) != len(names):
            raise ValueError("The index of item_features has names that are taken.")
        return names


def _dense(F: Any) -> np.ndarray:
    return F.toarray() if sp.issparse(F) else F


def _is_described(F: Any) -> np.ndarray:
    """Return whether each row of F has an entry other than 0."""
    return np.diff(F.indptr) > 0 if sp.issparse(F) else F.any(axis=1)
