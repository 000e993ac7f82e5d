"""What all models of factors share, by a model that only folds in."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from sklrec.factorization._base import BaseFactorRecommender
from sklrec.factorization._ridge import RidgeRows


class MeanOfItems(BaseFactorRecommender):
    """Fixed item factors; a user is the mean of their items."""

    def fit(self, X, y=None):
        X = self._check_X(X, reset=True)
        self._learn_popularity(X)
        self.item_factors_ = (
            np.random.default_rng(0).standard_normal((X.shape[1], 4)).astype(X.dtype)
        )
        return self

    def _fold_in(self, X):
        return (X @ self.item_factors_) / np.maximum(np.diff(X.indptr), 1)[:, None]


class WithBiases(MeanOfItems):
    def fit(self, X, y=None):
        super().fit(X)
        self.item_bias_ = np.arange(X.shape[1], dtype=self.item_factors_.dtype)
        return self


class FoldsInByRidge(MeanOfItems):
    """Weighted matrix factorization with fixed item factors."""

    _fold_in = BaseFactorRecommender._fold_in

    def _ridge(self, X):
        V = self.item_factors_
        return RidgeRows(X, V, 0.5, gram=0.1 * V.T @ V)


def test_scores_are_products_of_factors(X):
    model = MeanOfItems().fit(X)
    expected = model.transform(X) @ model.item_factors_.T
    assert_allclose(model.decision_function(X), expected, rtol=1e-12)
    assert_array_equal(model.components_, model.item_factors_.T)


def test_item_biases_are_added(X):
    without, model = MeanOfItems().fit(X), WithBiases().fit(X)
    expected = without.decision_function(X) + np.arange(X.shape[1])
    assert_allclose(model.decision_function(X), expected)


def test_similar_items_have_a_similar_direction(X):
    model = MeanOfItems().fit(X)
    unit = model.item_factors_ / np.linalg.norm(model.item_factors_, axis=1, keepdims=True)
    expected = np.argsort(-np.delete(unit @ unit[2], 2), kind="stable")[:5]
    assert_array_equal(model.similar_items(2, k=5), expected + (expected >= 2))


def test_scores_of_a_user_in_float32_do_not_depend_on_the_batch():
    rng = np.random.default_rng(0)
    X = sp.random_array((300, 500), density=0.1, rng=rng, format="csr", dtype=np.float32)
    for model in (MeanOfItems().fit(X), FoldsInByRidge().fit(X)):
        scores = model.decision_function(X)
        alone = np.vstack([model.decision_function(X[[user]]) for user in range(50)])
        size = np.abs(scores[:50]).max(axis=1, keepdims=True)
        assert (np.abs(alone - scores[:50]) <= 1e-5 * size).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_precision_of_X(X, dtype):
    model = WithBiases().fit(X)
    assert model.transform(X.astype(dtype)).dtype == dtype
    assert model.decision_function(X.astype(dtype)).dtype == dtype


def test_a_model_that_folds_in_by_ridge_regression_explains_its_scores(X):
    model = FoldsInByRidge().fit(X)
    contributions = model.explain(X, 3)
    assert_array_equal(contributions.indices, X.indices)
    assert_allclose(contributions.sum(axis=1), model.decision_function(X)[:, 3], atol=1e-12)


def test_a_model_that_folds_in_otherwise_does_not(X):
    model = MeanOfItems().fit(X)
    assert not hasattr(model, "explain")
    with pytest.raises(AttributeError, match="explain"):
        model.explain(X, 0)


def test_features_are_named_after_the_model(X):
    model = MeanOfItems().fit(X)
    assert_array_equal(model.get_feature_names_out(), [f"meanofitems{k}" for k in range(4)])
