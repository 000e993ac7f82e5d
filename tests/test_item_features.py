"""The contract of models that read the content of items, on a model of a few lines."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline as plain_pipeline
from sklearn.preprocessing import Binarizer

from sklrec.base import BaseRecommender, ItemFeaturesMixin
from sklrec.metrics import RankingScorer
from sklrec.model_selection import StrongGeneralizationSplit
from sklrec.pipeline import ItemFeatures, make_pipeline


class ContentProduct(ItemFeaturesMixin, BaseRecommender):
    """Score items by the inner product of their features with those of a user's items."""

    def fit(self, X, y=None, *, item_features=None):
        X = self._check_X(X, reset=True)
        self._learn_popularity(X)
        F = self._check_item_features(item_features, X)
        self.features_ = np.eye(X.shape[1]) if F is None else F
        return self

    def decision_function(self, X):
        X = self._check_X(X, reset=False)
        scores = X @ self.features_ @ self.features_.T
        return self._with_popularity(X, scores.toarray() if sp.issparse(scores) else scores)

    def _add_items(self, F):
        stack = sp.vstack if sp.issparse(F) else np.vstack
        self.features_ = stack([self.features_, F])


@pytest.fixture
def X():
    X = (np.random.default_rng(0).random((12, 12)) < 0.4) * 1.0
    X[:, 0] = 1  # no empty row
    return sp.csr_array(X)


@pytest.fixture
def F():
    return np.random.default_rng(1).random((12, 3))


def search(model):
    return GridSearchCV(
        model,
        {},
        scoring=RankingScorer("ndcg@5"),
        cv=StrongGeneralizationSplit(2, test_size=4, random_state=0),
        error_score="raise",
    )


def test_a_search_hands_the_features_on_whole_where_there_are_as_many_items_as_users(X, F):
    found = search(ContentProduct()).fit(X, item_features=ItemFeatures(F))
    assert_array_equal(found.best_estimator_.features_, F)


@pytest.mark.filterwarnings("ignore:item_features has as many rows as X:UserWarning")
def test_features_that_a_search_sliced_are_an_error_that_names_the_holder(X, F):
    with pytest.raises(ValueError, match=r"each of the 12 items.*sklrec\.pipeline\.ItemFeatures"):
        search(ContentProduct()).fit(X, item_features=F)


def test_as_many_items_as_users_without_the_holder_is_a_warning(X, F):
    with pytest.warns(UserWarning, match=r"item_features has as many rows as X.*ItemFeatures"):
        ContentProduct().fit(X, item_features=F)


@pytest.mark.parametrize("pipeline", [plain_pipeline, make_pipeline])
def test_features_reach_a_model_in_a_pipeline_in_a_search_with_and_without_routing(pipeline, X, F):
    model = pipeline(Binarizer(), ContentProduct())
    plain = search(model).fit(X, contentproduct__item_features=ItemFeatures(F))
    with config_context(enable_metadata_routing=True):
        routed = search(model).fit(X, item_features=ItemFeatures(F))
    for found in (plain, routed):
        assert_array_equal(found.best_estimator_[-1].features_, F)
    assert plain.best_score_ == routed.best_score_


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array, sp.coo_matrix, sp.csc_array])
def test_new_items_are_the_last_columns_of_a_copy(kind, X, F):
    old = ContentProduct().fit(X[:, :10], item_features=kind(F[:10]))
    before = old.decision_function(X[:, :10])
    new = old.with_items(kind(F[10:]))
    assert type(new) is ContentProduct
    assert new.n_features_in_ == 12
    seen = sp.csr_array(X.toarray() * (np.arange(12) < 10))
    all_at_once = ContentProduct().fit(seen[:11], item_features=F)
    np.testing.assert_allclose(
        new.decision_function(seen), all_at_once.decision_function(seen), rtol=1e-5
    )
    assert_array_equal(old.decision_function(X[:, :10]), before)
    ranking = new.predict_ranking(seen, k=2, items=[10, 11])
    assert_array_equal(np.sort(ranking, axis=1), np.tile([10, 11], (12, 1)))


@pytest.mark.parametrize("kinds", [(np.asarray, sp.csr_array), (sp.csr_array, np.asarray)])
def test_new_items_come_in_the_format_and_the_precision_of_fit(kinds, X, F):
    model = ContentProduct().fit(X[:11].astype(np.float32), item_features=kinds[0](F))
    new = model.with_items(kinds[1](F[:2]))
    assert type(new.features_) is type(model.features_)
    assert new.features_.dtype == np.float32


def test_no_new_items_change_nothing(X, F):
    old = ContentProduct().fit(X[:10], item_features=F)
    new = old.with_items(F[:0])
    assert_array_equal(new.decision_function(X), old.decision_function(X))


def test_features_are_cast_to_the_precision_of_X_and_not_changed(X, F):
    kept = F.copy()
    model = ContentProduct().fit(X[:10].astype(np.float32), item_features=F)
    assert model.features_.dtype == np.float32
    assert_array_equal(F, kept)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones((11, 3)), r"a row for each of the 12 items of X, got shape \(11, 3\)"),
        (np.full((12, 3), np.nan), "item_features contains NaN"),
        (np.full((12, 3), np.inf), "item_features"),
        (np.ones(12), "item_features is no matrix"),
        (np.full((12, 3), "word"), "item_features is no matrix"),
        (np.ones((12, 0)), "item_features is no matrix"),
    ],
)
def test_bad_features_are_an_error_in_fit(bad, message, X):
    with pytest.raises(ValueError, match=message):
        ContentProduct().fit(X[:10], item_features=bad)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones((2, 4)), r"item_features must have 3 columns, got shape \(2, 4\)"),
        (np.full((2, 3), np.nan), "item_features contains NaN"),
        (np.ones(3), "item_features is no matrix"),
    ],
)
def test_bad_features_are_an_error_in_with_items(bad, message, X, F):
    model = ContentProduct().fit(X[:10], item_features=F)
    with pytest.raises(ValueError, match=message):
        model.with_items(bad)


def test_new_items_need_a_fitted_model_with_features(X, F):
    with pytest.raises(NotFittedError):
        ContentProduct().with_items(F)
    with pytest.raises(ValueError, match="with_items needs a ContentProduct that was fitted with"):
        ContentProduct().fit(X).with_items(F)


def test_names_of_items_go_on_with_the_index_of_the_features(X, F):
    pd = pytest.importorskip("pandas")
    names = [f"old {i}" for i in range(10)]
    frame = pd.DataFrame(X[:, :10].toarray(), columns=names)
    model = ContentProduct().fit(frame, item_features=F[:10])
    new = model.with_items(pd.DataFrame(F[10:], index=["new 0", "new 1"]))
    assert_array_equal(new.feature_names_in_, [*names, "new 0", "new 1"])
    assert_array_equal(model.feature_names_in_, names)
    new.decision_function(pd.DataFrame(X.toarray(), columns=new.feature_names_in_))
    for unnamed in (F[10:], pd.DataFrame(F[10:])):
        with pytest.raises(ValueError, match="whose index has the names of the new items"):
            model.with_items(unnamed)
    with pytest.raises(ValueError, match="names that are taken"):
        model.with_items(pd.DataFrame(F[10:], index=["old 0", "new 1"]))
