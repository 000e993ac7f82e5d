"""CollectiveEASE and AddEASE, against dense solves and EASE on stacked rows."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from sklrec.hybrid import AddEASE, CollectiveEASE
from sklrec.linear import EASE

N_OLD, N_NEW = 20, 5


@pytest.fixture
def X():
    return sp.csr_array((np.random.default_rng(0).random((50, N_OLD)) < 0.3) * 1.0)


@pytest.fixture
def F():
    """Features of old and new items; signed, and many of them 0."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(N_OLD + N_NEW, 7)) * (rng.random((N_OLD + N_NEW, 7)) < 0.5)


MODELS = [
    CollectiveEASE(3.0, content_weight=2.0),
    CollectiveEASE(3.0, content_weight=0.5, dropout=0.3),
    AddEASE(3.0, content_lambda=2.0, content_share=0.4),
]
KINDS = [np.asarray, sp.csr_array]


def with_empty_columns(X):
    return sp.csr_array(np.hstack([X.toarray(), np.zeros((X.shape[0], N_NEW))]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_collective_ease_is_ease_with_a_user_for_each_feature(dropout, kind, X, F):
    F = np.abs(F[:N_OLD])  # EASE takes no negative values
    rows = np.vstack([X.toarray(), np.sqrt(2.0) * F.T])
    expected = EASE(3.0, dropout=dropout).fit(rows).coef_
    model = CollectiveEASE(3.0, content_weight=2.0, dropout=dropout)
    assert_allclose(model.fit(X, item_features=kind(F)).coef_, expected, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_collective_ease_solves_the_constrained_regression_of_users_and_features(kind, X, F):
    F = F[:N_OLD]
    B = CollectiveEASE(3.0, content_weight=2.0).fit(X, item_features=kind(F)).coef_
    G = X.toarray().T @ X.toarray() + 2.0 * F @ F.T
    for j in range(3):
        rest = np.arange(N_OLD) != j
        penalized = G[np.ix_(rest, rest)] + 3.0 * np.eye(N_OLD - 1)
        assert_allclose(B[rest, j], np.linalg.solve(penalized, G[rest, j]), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_add_ease_is_a_weighted_sum_of_two(kind, X, F):
    F = np.abs(F[:N_OLD])
    expected = 0.6 * EASE(3.0).fit(X).coef_ + 0.4 * EASE(2.0).fit(F.T).coef_
    model = AddEASE(3.0, content_lambda=2.0, content_share=0.4).fit(X, item_features=kind(F))
    assert_allclose(model.coef_, expected, atol=1e-12)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_without_features_it_is_ease(model, X):
    dropout = model.get_params().get("dropout", 0.0)
    assert_array_equal(model.fit(X).coef_, EASE(3.0, dropout=dropout).fit(X).coef_)


def test_a_small_weight_of_the_content_is_ease(X, F):
    model = CollectiveEASE(3.0, content_weight=1e-12).fit(X, item_features=F[:N_OLD])
    assert_allclose(model.coef_, EASE(3.0).fit(X).coef_, atol=1e-9)


@pytest.mark.parametrize("new_kind", KINDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_new_items_have_the_weights_of_a_fit_with_empty_columns(model, kind, new_kind, X, F):
    new = model.fit(X, item_features=kind(F[:N_OLD])).with_items(new_kind(F[N_OLD:]))
    twice = model.with_items(new_kind(F[N_OLD:-1])).with_items(new_kind(F[-1:]))
    refitted = model.fit(with_empty_columns(X), item_features=F)
    assert_allclose(new.coef_, refitted.coef_, atol=1e-12)
    assert_allclose(twice.coef_, refitted.coef_, atol=1e-12)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_new_items_in_float32_have_the_weights_of_float64(model, X, F):
    wide = model.fit(X, item_features=F[:N_OLD]).with_items(F[N_OLD:]).coef_
    model.fit(X.astype(np.float32), item_features=F[:N_OLD])
    narrow = model.with_items(F[N_OLD:]).coef_
    assert narrow.dtype == np.float32
    assert_allclose(narrow, wide, atol=1e-6)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_a_new_item_with_the_features_of_an_old_one_is_the_most_similar_to_it(model, X, F):
    F = 5 * np.eye(N_OLD)
    new = model.fit(X, item_features=F[:N_OLD]).with_items(F[:3])
    assert_array_equal(new.similar_items([0, 1, 2], k=1).ravel(), [20, 21, 22])
    assert_array_equal(new.similar_items([20, 21, 22], k=1).ravel(), [0, 1, 2])


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_users_of_new_items_alone_are_not_ranked_by_popularity(model, X, F):
    F = 5 * np.eye(N_OLD)
    new = model.fit(X, item_features=F[:N_OLD]).with_items(F[:3])
    user = np.zeros((1, N_OLD + 3))
    user[0, 20] = 1
    assert_array_equal(new.predict_ranking(user, k=1), [[0]])
    user = np.zeros((1, N_OLD + 1))
    user[0, N_OLD] = 1
    without_features = model.with_items(np.zeros((1, N_OLD)))
    popular = np.argsort(-X.sum(axis=0), kind="stable")[:5]
    assert_array_equal(without_features.predict_ranking(user, k=5)[0], popular)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_set_params_after_fit_does_not_change_new_items(model, X, F):
    model.fit(X, item_features=F[:N_OLD])
    expected = model.with_items(F[N_OLD:]).coef_
    params = model.get_params()
    try:
        model.set_params(**{name: value / 2 for name, value in params.items()})
        assert_array_equal(model.with_items(F[N_OLD:]).coef_, expected)
    finally:
        model.set_params(**params)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_too_little_memory_is_an_error_before_anything_is_allocated(model, X, F, monkeypatch):
    model.fit(X, item_features=F[:N_OLD])
    monkeypatch.setattr("sklrec._memory.available_memory", lambda: 1000)
    with pytest.raises(MemoryError, match=f"{type(model).__name__} on 20 items in float64 needs"):
        model.fit(X, item_features=F[:N_OLD])
    with pytest.raises(MemoryError, match="A copy with 5 items beside 20 others in float64 needs"):
        model.with_items(F[N_OLD:])


@pytest.mark.parametrize("kind", KINDS)
def test_features_too_large_for_the_precision_are_an_error(kind, X, F):
    F = kind(F[:N_OLD] * 1e20)
    with pytest.raises(ValueError, match="The squares of item_features are too large for float32"):
        CollectiveEASE().fit(X.astype(np.float32), item_features=F)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (CollectiveEASE(0.0), "lambda_"),
        (CollectiveEASE(content_weight=0.0), "content_weight"),
        (CollectiveEASE(dropout=1.0), "dropout"),
        (AddEASE(-1.0), "lambda_"),
        (AddEASE(content_lambda=0.0), "content_lambda"),
        (AddEASE(content_share=1.0), "content_share"),
        (AddEASE(content_share=0.0), "content_share"),
    ],
)
def test_parameters_out_of_range_are_an_error(model, message, X):
    with pytest.raises(ValueError, match=f"'{message}' parameter"):
        model.fit(X)
