"""The checks of models that read item content: what passes them, and what they catch."""

import copy

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.utils.validation import check_is_fitted

from sklrec.base import BaseRecommender, ItemFeaturesMixin, fit_progress
from sklrec.pipeline import ItemFeatures
from sklrec.utils._content_checks import planted_features
from sklrec.utils.estimator_checks import parametrize_with_checks, recommender_checks


class Products(ItemFeaturesMixin, BaseRecommender):
    """Score items by products with a user's items: of their users, and of their features."""

    def fit(self, X, y=None, *, item_features=None):
        X = self._check_X(X, reset=True)
        self._learn_popularity(X)
        F = self._check_item_features(item_features, X)
        with fit_progress(self, X, max_subtasks=1) as step:
            step("products")
        norm = np.sqrt(X.power(2).sum(axis=0)) + 1
        self.similarity_ = ((X.T @ X).toarray() / np.outer(norm, norm)).astype(X.dtype)
        np.fill_diagonal(self.similarity_, 0)
        self.features_ = np.zeros((X.shape[1], 1), X.dtype) if F is None else dense(F)
        return self

    def decision_function(self, X):
        X = self._check_X(X, reset=False)
        scores = X @ self.features_ @ self.features_.T / 100
        n_old = len(self.similarity_)
        scores[:, :n_old] += X[:, :n_old] @ self.similarity_
        return self._with_popularity(X, scores.astype(X.dtype))

    def _add_items(self, F):
        self.features_ = np.vstack([self.features_, dense(F)]).astype(self.features_.dtype)


def dense(F):
    return F.toarray() if sp.issparse(F) else F


@parametrize_with_checks([Products()])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_a_model_that_keeps_the_contract_passes(estimator, check):
    check(estimator)


class AddsItemsAnyway(Products):
    def with_items(self, item_features):
        new = super().with_items(item_features)
        if new.n_features_in_ == self.n_features_in_:
            new._add_items(planted_features(1))
            new.n_features_in_ += 1
        return new


class ChangesTheOriginal(Products):
    def _add_items(self, F):
        self.features_ *= 2
        super()._add_items(F)


class ScoresNoNewItem(Products):
    def decision_function(self, X):
        scores = super().decision_function(X)
        scores[:, len(self.similarity_) :] = np.nan
        return scores


class RanksNewItemsByChance(Products):
    def decision_function(self, X):
        scores = super().decision_function(X)
        n_new = X.shape[1] - len(self.similarity_)
        scores[:, len(self.similarity_) :] = np.random.default_rng(1).random(n_new)
        return scores


class LooksAtAllNewItemsTogether(Products):
    def _add_items(self, F):
        super()._add_items(dense(F) / F.shape[0])


class ForgetsNewItemsInPickles(Products):
    def __getstate__(self):
        state = super().__getstate__().copy()
        if "features_" in state:
            state["features_"] = state["features_"].copy()
            state["features_"][len(self.similarity_) :] = 0
        return state


class IgnoresTheHolder(Products):
    def fit(self, X, y=None, *, item_features=None):
        return super().fit(X, item_features=None if is_held(item_features) else item_features)


def is_held(features):
    return isinstance(features, ItemFeatures)


class NormalizesInPlace(Products):
    def _check_item_features(self, item_features, X):
        if isinstance(item_features, np.ndarray) and item_features.dtype.kind == "f":
            item_features /= 2
        elif sp.issparse(item_features):
            item_features = item_features / 2
        return super()._check_item_features(item_features, X)


class ReadsDenseFeaturesOtherwise(Products):
    def _add_items(self, F):
        super()._add_items(F if sp.issparse(F) else 2 * F)


class TakesNaN(Products):
    def _check_item_features(self, item_features, X):
        if isinstance(item_features, np.ndarray) and item_features.dtype.kind == "f":
            item_features = np.nan_to_num(item_features)
        return super()._check_item_features(item_features, X)


class AddsItemsWithoutFeatures(Products):
    def with_items(self, item_features):
        check_is_fitted(self)
        return self if self.n_item_features_ == 0 else super().with_items(item_features)


class LearnsFromFeaturesAlone(Products):
    def fit(self, X, y=None, *, item_features=None):
        super().fit(X, item_features=item_features)
        if item_features is not None:  # each item on its own
            self.features_ = np.eye(X.shape[1], dtype=self.features_.dtype)
            self.similarity_[:] = 0
        return self


@pytest.mark.parametrize(
    ("model", "caught_by"),
    [
        (AddsItemsAnyway, "check_no_new_items_change_nothing"),
        (ChangesTheOriginal, "check_original_is_unchanged_by_new_items"),
        (ScoresNoNewItem, "check_new_items_are_ranked"),
        (RanksNewItemsByChance, "check_new_items_are_ranked"),
        (LooksAtAllNewItemsTogether, "check_new_items_are_ranked"),
        (ForgetsNewItemsInPickles, "check_new_items_pickle"),
        (IgnoresTheHolder, "check_searches_pass_item_features_whole"),
        (NormalizesInPlace, "check_item_features_are_unchanged"),
        (ReadsDenseFeaturesOtherwise, "check_types_of_item_features_agree"),
        (TakesNaN, "check_bad_item_features_are_refused"),
        (AddsItemsWithoutFeatures, "check_new_items_need_item_features"),
        (LearnsFromFeaturesAlone, "check_beats_a_random_ranking_with_item_features"),
    ],
)
def test_a_broken_promise_is_caught(model, caught_by):
    checks = {check.__name__: check for check in recommender_checks(model())}
    with pytest.raises((AssertionError, ValueError)):
        checks[caught_by](model())


def test_features_of_more_items_begin_with_those_of_fewer():
    np.testing.assert_array_equal(
        planted_features(20).toarray(), planted_features(30).toarray()[:20]
    )


def test_checks_with_features_have_their_own_names():
    names = [check.__name__ for check in recommender_checks(Products())]
    assert len(set(names)) == len(names)
    assert "check_checkerboard_with_item_features" in names
    assert not any(
        "item" in check.__name__ and "features" in check.__name__
        for check in recommender_checks(copy.copy(Plain()))
    )


class Plain(BaseRecommender):
    """A model without content."""

    def fit(self, X, y=None):
        return self

    def decision_function(self, X):
        return X
