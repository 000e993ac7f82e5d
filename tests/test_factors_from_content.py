"""FactorsFromContent against its recommender and its regressor, and dense least squares."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor

from sklrec.datasets import make_interactions
from sklrec.factorization import BPR, LFM, WMF
from sklrec.hybrid import CTR, CVAE, FactorsFromContent
from sklrec.linear import EASE

N_OLD, N_NEW, N_FEATURES = 40, 6, 9
KINDS = [np.asarray, sp.csr_array]


@pytest.fixture(scope="module")
def X():
    return make_interactions(150, N_OLD, random_state=0).data.astype(np.float64)


@pytest.fixture(scope="module")
def F():
    rng = np.random.default_rng(1)
    shape = N_OLD + N_NEW, N_FEATURES
    return rng.normal(size=shape) * (rng.random(shape) < 0.5)


def wmf():
    return WMF(4, random_state=0)


def widened(X, n_new=N_NEW):
    return sp.csr_array((X.data, X.indices, X.indptr), shape=(X.shape[0], X.shape[1] + n_new))


@pytest.mark.parametrize("kind", KINDS)
def test_factors_of_new_items_are_ridge_regressions_of_the_others(kind, X, F):
    model = FactorsFromContent(wmf(), regressor=Ridge(2.0)).fit(X, item_features=kind(F[:N_OLD]))
    V = wmf().fit(X).item_factors_
    assert_array_equal(model.item_factors_, V)
    centered, mean = F[:N_OLD] - F[:N_OLD].mean(axis=0), V.mean(axis=0)
    A = centered.T @ centered + 2.0 * np.eye(N_FEATURES)
    W = np.linalg.solve(A, centered.T @ (V - mean))
    expected = (F[N_OLD:] - F[:N_OLD].mean(axis=0)) @ W + mean
    new = model.with_items(kind(F[N_OLD:]))
    assert_allclose(new.item_factors_[:N_OLD], V)
    assert_allclose(new.item_factors_[N_OLD:], expected, atol=1e-4)


def test_without_features_it_is_the_recommender(X):
    model = FactorsFromContent(wmf()).fit(X)
    assert_array_equal(model.decision_function(X), wmf().fit(X).decision_function(X))
    assert_array_equal(model.transform(X), wmf().fit(X).transform(X))
    assert not hasattr(model, "regressor_")
    default = FactorsFromContent().fit(X)
    assert type(default.recommender_) is WMF


def test_old_items_are_ranked_as_by_the_recommender(X, F):
    model = FactorsFromContent(wmf()).fit(X, item_features=F[:N_OLD])
    alone = wmf().fit(X)
    assert_allclose(model.decision_function(X), alone.decision_function(X), atol=1e-12)
    new = model.with_items(F[N_OLD:])
    # The penalty of WMF depends on the number of items.
    assert_allclose(new.transform(widened(X)), model.transform(X), rtol=0.1, atol=0.02)


def test_items_known_at_fit_without_users_have_predicted_factors(X, F):
    model = FactorsFromContent(wmf()).fit(widened(X), item_features=F)
    expected = model.with_items(F[N_OLD:]).item_factors_[-N_NEW:]
    assert_allclose(model.item_factors_[N_OLD:], expected, atol=1e-10)
    assert_array_equal(model.recommender_.item_factors_, model.item_factors_)
    assert np.abs(expected).max() > 0.01
    featureless = F.copy()
    featureless[-1] = 0
    model.fit(widened(X), item_features=featureless)
    assert_array_equal(model.item_factors_[-1], 0)  # as WMF has it


@pytest.mark.parametrize("n", [2, 30, None])
def test_items_with_few_interactions_have_predicted_factors(n, X, F):
    n_of_item = (X.toarray() > 0).sum(axis=0)
    few = np.full(N_OLD, True) if n is None else n_of_item < n
    assert n == 2 or few.any()
    model = FactorsFromContent(wmf(), min_interactions=n).fit(X, item_features=F[:N_OLD])
    V = wmf().fit(X).item_factors_
    expected = np.where(few[:, None], Ridge().fit(F[:N_OLD], V).predict(F[:N_OLD]), V)
    assert_allclose(model.item_factors_, expected, atol=1e-10)
    # Users are regressed on these factors of all items.
    b, x = 0.1, X[:5].toarray()
    assert wmf().unobserved_weight == b
    for user, w in zip(x, model.transform(X[:5]), strict=True):
        penalty = wmf().lambda_ * (np.count_nonzero(user) + b * N_OLD)
        A = expected.T @ np.diag(b + user) @ expected + penalty * np.eye(4)
        assert_allclose(w, np.linalg.solve(A, expected.T @ user), atol=1e-8)


@pytest.mark.parametrize(
    "recommender",
    [
        wmf(),
        WMF(4, zeros="unobserved", random_state=0),
        CTR(4, random_state=0),
        CVAE(4, max_epochs=2, random_state=0),
        BPR(4, random_state=0),
    ],
    ids=lambda recommender: type(recommender).__name__,
)
def test_factors_that_are_predicted_as_they_were_change_nothing(recommender, X):
    regressor = KNeighborsRegressor(1)
    model = FactorsFromContent(recommender, regressor=regressor, min_interactions=None)
    model.fit(X, item_features=np.eye(N_OLD))
    alone = clone(recommender).fit(X)
    assert_allclose(model.decision_function(X), alone.decision_function(X), atol=1e-5)


@pytest.mark.parametrize("n", [0, -1, 1.5, "all"])
def test_a_number_of_interactions_that_is_none_is_an_error(n, X, F):
    with pytest.raises(ValueError, match="min_interactions"):
        FactorsFromContent(wmf(), min_interactions=n).fit(X, item_features=F[:N_OLD])


@pytest.mark.parametrize(
    "regressor",
    [
        LinearRegression(),
        KNeighborsRegressor(1),
        MLPRegressor(hidden_layer_sizes=(8, 8), solver="lbfgs", max_iter=2000, random_state=0),
    ],
    ids=lambda regressor: type(regressor).__name__,
)
def test_any_regressor_predicts_the_factors(regressor, X, F):
    model = FactorsFromContent(wmf(), regressor=regressor).fit(X, item_features=F[:N_OLD])
    new = model.with_items(F[N_OLD:])
    assert_allclose(new.item_factors_[N_OLD:], model.regressor_.predict(F[N_OLD:]))
    assert not hasattr(regressor, "n_features_in_")  # cloned


def test_a_new_item_with_the_features_of_an_old_one_ranks_beside_it(X):
    """Where the regressor repeats what it has learnt."""
    F = np.eye(N_OLD)
    model = FactorsFromContent(wmf(), regressor=KNeighborsRegressor(1)).fit(X, item_features=F)
    new = model.with_items(F[:3])
    assert_array_equal(new.similar_items([0, 1, 2], k=1).ravel(), [40, 41, 42])
    scores = new.decision_function(widened(X, 3))
    assert_allclose(scores[:, :3], scores[:, N_OLD:], atol=1e-12)


@pytest.mark.parametrize(
    "recommender", [BPR(4, random_state=0), LFM(4, tol=1e-2, random_state=0)], ids=repr
)
def test_biases_are_predicted_too(recommender, X, F):
    X = sp.csr_array(X)
    if isinstance(recommender, LFM):
        X.data = np.random.default_rng(0).integers(1, 6, X.nnz).astype(float)
    regressor = KNeighborsRegressor(1)
    model = FactorsFromContent(recommender, regressor=regressor).fit(X, item_features=F[:N_OLD])
    new = model.with_items(F[:3])
    assert_allclose(new.item_bias_[N_OLD:], new.item_bias_[:3], atol=1e-6)
    scores = new.decision_function(widened(X, 3))
    assert_allclose(scores[:, :3], scores[:, N_OLD:], atol=1e-5)
    alone = clone(recommender).fit(X).predict_ranking(X, k=N_OLD)
    assert_array_equal(model.predict_ranking(X, k=N_OLD), alone)
    if isinstance(recommender, LFM):  # BPR folds users in with negatives of all items
        ranking = new.predict_ranking(widened(X, 3), k=N_OLD, items=np.arange(N_OLD))
        assert_array_equal(ranking, alone)


def test_users_of_new_items_are_folded_in_by_their_predicted_factors(X):
    F = np.eye(N_OLD)
    model = FactorsFromContent(wmf(), regressor=KNeighborsRegressor(1)).fit(X, item_features=F)
    new = model.with_items(F[:2])
    users = np.zeros((2, N_OLD + 2))
    users[0, 0] = users[1, N_OLD] = 1
    assert_allclose(*new.transform(users), atol=1e-12)
    assert_array_equal(*new.predict_ranking(users, k=5, items=np.arange(1, N_OLD)))


@pytest.mark.parametrize(("recommender", "explains"), [(None, True), (WMF(), True), (BPR(), False)])
def test_it_explains_if_the_recommender_does(recommender, explains):
    assert hasattr(FactorsFromContent(recommender), "explain") == explains


def test_a_recommender_without_factors_is_an_error(X):
    with pytest.raises(ValueError, match="'recommender' parameter"):
        FactorsFromContent(EASE()).fit(X)


class HasNoFactors(BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X


def test_a_transformer_without_item_factors_is_an_error(X):
    with pytest.raises(ValueError, match=r"item_factors_ after fit, got HasNoFactors\(\)"):
        FactorsFromContent(HasNoFactors()).fit(X)


class PredictsOneValue(BaseEstimator):
    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.zeros(len(X))


def test_a_regressor_of_one_output_is_an_error_that_names_it(X, F):
    model = FactorsFromContent(wmf(), regressor=PredictsOneValue())
    model.fit(X, item_features=F[:N_OLD])
    with pytest.raises(ValueError, match=r"4 values for each item.*\(6,\) for 6.*PredictsOneValue"):
        model.with_items(F[N_OLD:])


def test_features_of_items_without_users_alone_are_an_error(X, F):
    F = F * (np.arange(N_OLD + N_NEW) >= N_OLD)[:, None]
    with pytest.raises(ValueError, match="40 of 46 items have interactions, 6 have features"):
        FactorsFromContent(wmf()).fit(widened(X), item_features=F)


def test_one_component_is_enough(X, F):
    model = FactorsFromContent(
        WMF(1, random_state=0),
        regressor=MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", random_state=0),
    )
    new = model.fit(X, item_features=F[:N_OLD]).with_items(F[N_OLD:])
    assert new.item_factors_.shape == (N_OLD + N_NEW, 1)
