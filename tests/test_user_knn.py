"""UserKNN against answers by hand and a dense computation, user by user."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from sklrec import _nearest
from sklrec.neighbors import UserKNN, _user_knn
from sklrec.pipeline import make_pipeline
from sklrec.preprocessing import BM25Transformer

METRICS = ["cosine", "asymmetric-cosine", "jaccard", "conditional-probability"]


def dense_scores(train, users, k, metric, alpha, shrinkage):
    """Return the scores of dense users, one training user at a time."""
    scores = np.zeros(users.shape)
    for u, x in enumerate(users):
        similarity = np.zeros(len(train))
        for v, z in enumerate(train):
            product = x @ z
            if metric == "cosine":
                denominator = np.sqrt(x @ x) * np.sqrt(z @ z)
            elif metric == "asymmetric-cosine":
                denominator = (x @ x) ** alpha * (z @ z) ** (1 - alpha)
            elif metric == "jaccard":
                denominator = x @ x + z @ z - product
            else:
                product = z[x != 0].sum()
                denominator = np.count_nonzero(x) * np.count_nonzero(z) ** alpha
            if product:
                similarity[v] = product / (denominator + shrinkage)
        for v in np.argsort(-similarity, kind="stable")[:k]:
            scores[u] += similarity[v] * train[v]
    return scores


@pytest.fixture
def values(X):
    """Return 60 users of 20 items with values from .5 to 3, each with items and no one with all."""
    X.data *= np.random.default_rng(0).uniform(0.5, 3, X.nnz)
    return X


@pytest.mark.parametrize("shrinkage", [0, 2.5])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 5, 1000])
def test_scores_are_those_of_a_dense_computation(values, k, metric, shrinkage):
    train, new = values[:40], values[40:]
    model = UserKNN(k, metric=metric, alpha=0.3, shrinkage=shrinkage).fit(train)
    expected = dense_scores(train.toarray(), new.toarray(), k, metric, 0.3, shrinkage)
    found = model.decision_function(new)
    scored = expected.any(axis=1)  # the others are ranked by popularity
    assert scored.sum() > 15
    assert_allclose(found[scored], expected[scored], rtol=1e-10)


def test_scores_by_hand():
    train = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], dtype=float)
    # Item 1 alone: cosine 1 / sqrt(2) to the first two users.
    scores = UserKNN(2).fit(train).decision_function([[0.0, 1, 0, 0]])
    assert_allclose(scores, [[np.sqrt(0.5), np.sqrt(2), np.sqrt(0.5), 0]])
    # Of two users who are equally near, the first is kept.
    scores = UserKNN(1).fit(train).decision_function([[0.0, 1, 0, 0]])
    assert_allclose(scores, [[np.sqrt(0.5), np.sqrt(0.5), 0, 0]])
    # Jaccard: 1 of 2 items.
    scores = UserKNN(2, metric="jaccard").fit(train).decision_function([[0.0, 1, 0, 0]])
    assert_allclose(scores, [[0.5, 1, 0.5, 0]])


def test_weighting_is_a_step_of_a_pipeline(X):
    pipeline = make_pipeline(BM25Transformer(), UserKNN(5)).fit(X)
    weighted = BM25Transformer().fit_transform(X).toarray()
    expected = dense_scores(weighted, weighted, 5, "cosine", 0.5, 0)
    assert_allclose(pipeline.decision_function(X), expected, rtol=1e-10)


@pytest.mark.parametrize("metric", METRICS)
def test_explanation_is_the_part_of_each_common_item(values, metric):
    train, new = values[:40], values[40:]
    model = UserKNN(5, metric=metric, alpha=0.3).fit(train)
    contributions = model.explain(new, 3)
    scores = model.decision_function(new)
    assert_allclose(contributions.sum(axis=1), scores[:, 3], rtol=1e-10)
    # By hand, for one user: similarity without an item, the denominators as they are.
    x = new[[2]].toarray()[0]
    item = int(np.flatnonzero(x)[0])
    similarity = model._nearest(new[[2]]).toarray()[0]
    part = 0.0
    for v in np.flatnonzero(similarity):
        z = train[[v]].toarray()[0]
        common = z * (x != 0 if metric == "conditional-probability" else x)
        part += similarity[v] * z[3] * common[item] / common.sum()
    assert_allclose(contributions[2, item], part, rtol=1e-10)


def test_explanations_of_many_users_are_those_of_each(values, monkeypatch):
    monkeypatch.setattr(_user_knn, "_EXPLAINED_AT_ONCE", 7)
    model = UserKNN(5).fit(values)
    together = model.explain(values, 3).toarray()
    alone = np.vstack([model.explain(values[[u]], 3).toarray() for u in range(60)])
    assert_array_equal(together, alone)


def test_blocks_change_no_score(values, monkeypatch):
    model = UserKNN(5).fit(values)
    scores = model.decision_function(values)
    monkeypatch.setattr(_nearest, "ENTRIES", 1)
    assert_array_equal(model.decision_function(values), scores)


def test_a_user_who_is_like_nobody_is_ranked_by_popularity():
    model = UserKNN(1).fit(np.array([[1, 1, 0], [0, 1, 0]]))
    assert_array_equal(model.predict_ranking([[0, 0, 1]], k=2), [[1, 0]])


def test_training_data_may_change_after_fit(X):
    model = UserKNN().fit(X)
    scores = model.decision_function(X)
    other = X.copy()
    X.data[:] = 7
    assert_array_equal(model.decision_function(other), scores)


def test_pickle_holds_the_training_users_as_the_documentation_says(X):
    restored = pickle.loads(pickle.dumps(UserKNN().fit(X)))
    assert_array_equal(restored._users.toarray(), X.toarray())
    assert "keeps the interactions of all training users" in " ".join(UserKNN.__doc__.split())
    assert UserKNN().__sklearn_tags__().recommender_tags.keeps_users


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_have_the_precision_of_X(values, dtype):
    model = UserKNN(5).fit(values.astype(dtype))
    scores = model.decision_function(values.astype(dtype))
    assert scores.dtype == dtype
    assert_allclose(scores, UserKNN(5).fit(values).decision_function(values), rtol=1e-4)


@pytest.mark.parametrize("X", [np.zeros((3, 4)), np.ones((1, 4)), np.ones((3, 1))])
def test_degenerate_data_rank_by_index(X):
    n_items = X.shape[1]
    ranking = UserKNN().fit(X).predict_ranking(np.zeros((1, n_items)), k=n_items)
    assert_array_equal(ranking, [np.arange(n_items)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_neighbors": 0},
        {"n_neighbors": None},
        {"metric": "pearson"},
        {"alpha": 2},
        {"shrinkage": -1},
    ],
    ids=repr,
)
def test_parameters_out_of_range_are_refused(X, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        UserKNN(**wrong).fit(X)


def test_values_whose_squares_are_too_large_are_refused(X):
    large = sp.csr_array((X * 1e30).astype(np.float32))
    with pytest.raises(ValueError, match="squares of the values are too large for float32"):
        UserKNN().fit(large)
    with pytest.raises(ValueError, match="squares of the values are too large for float32"):
        UserKNN().fit(X).decision_function(large)
