"""Regression of the item factors of any recommender on the content of items."""

from __future__ import annotations

import copy
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import Ridge
from sklearn.utils import get_tags

from .._sklearn import HasMethods, Interval, _fit_context, fit_progress
from .._typing import MatrixLike
from ..base import ItemFeaturesMixin
from ..factorization import WMF
from ..factorization._base import BaseFactorRecommender


class FactorsFromContent(ItemFeaturesMixin, BaseFactorRecommender):
    """Recommender of factors for new items, whose factors a regressor predicts from their content.

    A recommender such as :class:`~sklrec.factorization.WMF` learns factors of users and items.
    A regressor is then fitted on the features and factors of the items that have interactions.
    Items without interactions, in ``fit`` or in ``with_items``, have the factors that it predicts
    [1]_. Other items keep their factors, so that they are ranked as by the recommender alone,
    unless they have fewer interactions than `min_interactions`: the factors of an item with one or
    two say less than its content does.

    Without features this is the recommender.

    Parameters
    ----------
    recommender : estimator or None, default=None
        Recommender with ``item_factors_`` of shape (n_items, n_components) and, if it has biases,
        ``item_bias_``, whose ``transform`` computes the factors of users by them. None means
        ``WMF()``.
    regressor : estimator or None, default=None
        Regressor of several outputs, of scikit-learn or with its interface. It gets the features as
        they are given to ``fit``, sparse or dense, in the precision of X. None means ``Ridge()``.
    min_interactions : int or None, default=1
        Number of interactions from which on an item keeps its factors. None means that the factors
        of all items with features are predicted, which is best where most items have few
        interactions.

    Attributes
    ----------
    recommender_ : estimator
        The fitted recommender, with the predicted factors.
    regressor_ : estimator
        The fitted regressor. Only with `item_features`.
    item_factors_ : ndarray of shape (n_items, n_components)
        Factors of each item.
    item_bias_ : ndarray of shape (n_items,)
        Bias of each item, predicted with the factors. Only if the recommender has biases.
    n_item_features_ : int
        Number of features; 0 without `item_features`.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items. Only if X is a DataFrame with names.

    See Also
    --------
    ContentELSA : Item vectors that are trained with their map from the content.
    CollectiveEASE : EASE with the features of items, in closed form.

    Notes
    -----
    The recommender folds users in with all factors, predicted or not; some recommenders, such as
    :class:`~sklrec.factorization.BPR`, only use the items of a user that have interactions.
    Items without interactions are not among the unobserved items of WMF: that a user has none of
    today's items says nothing about the user.

    References
    ----------
    .. [1] A. van den Oord, S. Dieleman and B. Schrauwen, "Deep Content-Based Music Recommendation",
       NIPS 2013.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklrec.factorization import WMF
    >>> from sklrec.hybrid import FactorsFromContent
    >>> X = csr_array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 1]])
    >>> genres = [[1, 0], [1, 0], [0, 1], [0, 1]]
    >>> model = FactorsFromContent(WMF(2, random_state=0)).fit(X, item_features=genres)
    >>> today = model.with_items([[0, 1], [1, 0]])  # items 4 and 5
    >>> today.predict_ranking([[1, 1, 0, 0, 0, 0]], k=1, items=[4, 5])
    array([[5]])
    """

    _parameter_constraints: dict = {
        "recommender": [HasMethods(["fit", "transform"]), None],
        "regressor": [HasMethods(["fit", "predict"]), None],
        "min_interactions": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        recommender: BaseEstimator | None = None,
        *,
        regressor: BaseEstimator | None = None,
        min_interactions: int | None = 1,
    ) -> None:
        self.recommender = recommender
        self.regressor = regressor
        self.min_interactions = min_interactions

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: MatrixLike, y: Any = None, *, item_features: Any = None) -> FactorsFromContent:
        """Fit the recommender, and then the regressor of its item factors.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, as the recommender requires them.
        y : None
            Ignored.
        item_features : {array-like, sparse array, DataFrame} of shape (n_items, n_features), \
ItemFeatures or None, default=None
            Features of the items.

        Returns
        -------
        self : FactorsFromContent
            The fitted model.

        Raises
        ------
        ValueError
            If the recommender has no item factors, if no item with features has interactions, or
            if the regressor predicts another number of values.
        """
        X = self._check_X(X, reset=True)
        F = self._check_item_features(item_features, X)
        self._learn_popularity(X)
        for name in ("regressor_", "item_bias_"):
            self.__dict__.pop(name, None)
        with fit_progress(self, X, max_subtasks=2) as step:
            self.recommender_: Any = clone(self._unfitted_recommender())
            self.recommender_.fit(X)
            if not hasattr(self.recommender_, "item_factors_"):
                raise ValueError(
                    "recommender must have item_factors_ after fit, got "
                    f"{self._unfitted_recommender()!r}."
                )
            step("recommender")
            values = _values(self.recommender_)
            predicted = np.zeros(X.shape[1], dtype=bool)
            if F is not None:
                self._fit_regressor(F, values)
                step("regressor")
                predicted = self._described & self._with_few_interactions(X)
                if predicted.any():
                    values = values.copy()
                    values[predicted] = self._predict(F[predicted])
        self._set_values(values)
        if (predicted & super()._known_items()).any() and hasattr(
            self.recommender_, "_items_changed"
        ):
            self.recommender_._items_changed()
        return self

    def _with_few_interactions(self, X: sp.csr_array) -> np.ndarray:
        """Return for each item whether its own factors are not used where it has features."""
        if self.min_interactions is None:
            return np.ones(X.shape[1], dtype=bool)
        return np.bincount(X.indices, minlength=X.shape[1]) < self.min_interactions

    def _unfitted_recommender(self) -> BaseEstimator:
        return WMF() if self.recommender is None else self.recommender

    def _unfitted_regressor(self) -> BaseEstimator:
        return Ridge() if self.regressor is None else self.regressor

    def _fit_regressor(self, F: Any, values: np.ndarray) -> None:
        old = super()._known_items()
        if not (old & self._described).any():
            raise ValueError(
                "The regressor learns from items with interactions and features, and no item has "
                f"both: {old.sum()} of {len(old)} items have interactions, "
                f"{self._described.sum()} have features."
            )
        self.regressor_: Any = clone(self._unfitted_regressor())
        target = values[old]
        self.regressor_.fit(F[old], target[:, 0] if target.shape[1] == 1 else target)

    def _predict(self, F: Any) -> np.ndarray:
        """Return the factors and biases that the regressor predicts."""
        width = self.recommender_.item_factors_.shape[1] + hasattr(self.recommender_, "item_bias_")
        values = np.asarray(self.regressor_.predict(F))
        if values.shape not in ((F.shape[0], width), (F.shape[0],) if width == 1 else ()):
            raise ValueError(
                f"The regressor must predict {width} values for each item, got an array of shape "
                f"{values.shape} for {F.shape[0]} items from {self.regressor_!r}."
            )
        return values.reshape(F.shape[0], width)

    def _set_values(self, values: np.ndarray) -> None:
        """Set the factors and biases of all items, in a copy of the recommender."""
        recommender = copy.copy(self.recommender_)
        values = values.astype(recommender.item_factors_.dtype, copy=False)
        if hasattr(recommender, "item_bias_"):
            recommender.item_bias_ = self.item_bias_ = np.ascontiguousarray(values[:, -1])
            values = np.ascontiguousarray(values[:, :-1])
        recommender.item_factors_ = self.item_factors_ = values
        recommender.n_features_in_ = len(values)
        self.recommender_ = recommender

    def _add_items(self, F: Any) -> None:
        if sp.issparse(F):
            F = F.astype(self.item_factors_.dtype, copy=False)
        self._set_values(np.vstack([_values(self.recommender_), self._predict(F)]))
        if hasattr(self.recommender_, "_popularity"):
            zeros = np.zeros(F.shape[0])
            popularity = np.concatenate([self.recommender_._popularity, zeros])
            self.recommender_._popularity = popularity

    def _known_items(self, items: Any = slice(None)) -> np.ndarray:
        return super()._known_items(items) | self._described[items]

    def _fold_in(self, X: sp.csr_array) -> np.ndarray:
        return np.asarray(self.recommender_.transform(X))

    def _explains(self) -> bool:
        return hasattr(getattr(self, "recommender_", self._unfitted_recommender()), "explain")

    def _contributions(self, X: sp.csr_array, item: int) -> np.ndarray:
        return self.recommender_._contributions(X, item)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        recommender = self._unfitted_recommender()
        if isinstance(recommender, BaseEstimator):
            of_recommender: Any = get_tags(recommender)
            own: Any = tags
            own.recommender_tags = getattr(of_recommender, "recommender_tags", own.recommender_tags)
        return tags


def _values(recommender: Any) -> np.ndarray:
    """Return the factors of each item and, in the last column, its bias if there is one."""
    factors = recommender.item_factors_
    if not hasattr(recommender, "item_bias_"):
        return factors
    return np.column_stack([factors, recommender.item_bias_])
