"""ItemKNN against answers by hand, dense similarities, and itself on other data."""

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import Binarizer, Normalizer

from sklrec import _memory
from sklrec.datasets import make_interactions
from sklrec.metrics import RankingScorer, evaluate
from sklrec.model_selection import (
    StrongGeneralizationSplit,
    split_interactions,
    strong_generalization_split,
)
from sklrec.neighbors import ItemKNN
from sklrec.pipeline import ItemFeatures, make_pipeline
from sklrec.preprocessing import BM25Transformer

METRICS = ["cosine", "asymmetric-cosine", "jaccard", "conditional-probability"]


def dense_similarity(V, metric, alpha, shrinkage):
    """Return the similarities of all rows of V, pair by pair."""
    n = len(V)
    S = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            product, of_i, of_j = V[i] @ V[j], V[i] @ V[i], V[j] @ V[j]
            if metric == "cosine":
                denominator = np.sqrt(of_i) * np.sqrt(of_j)
            elif metric == "asymmetric-cosine":
                denominator = of_i**alpha * of_j ** (1 - alpha)
            elif metric == "jaccard":
                denominator = of_i + of_j - product
            else:
                product = V[j][V[i] != 0].sum()
                denominator = np.count_nonzero(V[i]) * np.count_nonzero(V[j]) ** alpha
            if product:
                S[i, j] = product / (denominator + shrinkage)
    return S


def largest_of_columns(S, k):
    """Return the k largest positive entries of each column off the diagonal, lower rows first."""
    kept = np.zeros_like(S)
    for j in range(S.shape[1]):
        others = np.delete(np.arange(len(S)), j)
        best = others[np.argsort(-S[others, j], kind="stable")[:k]]
        kept[best, j] = np.maximum(S[best, j], 0)
    return kept


@pytest.fixture
def values(X):
    """Return 60 users of 20 items with values from .5 to 3."""
    X.data *= np.random.default_rng(0).uniform(0.5, 3, X.nnz)
    return X


@pytest.mark.parametrize("shrinkage", [0, 2.5])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 5, 19, 1000])
def test_weights_are_those_of_a_dense_computation(values, k, metric, shrinkage):
    model = ItemKNN(k, metric=metric, alpha=0.3, shrinkage=shrinkage).fit(values)
    S = dense_similarity(values.toarray().T, metric, 0.3, shrinkage)
    assert_allclose(model.coef_.toarray(), largest_of_columns(S, k), rtol=1e-12)
    assert isinstance(model.coef_, sp.csr_array)
    assert model.coef_.has_canonical_format


@pytest.mark.parametrize("metric", METRICS)
def test_ties_go_to_the_lower_index(X, metric):
    # Values of 2 have exact products and, but for the roots, exact sizes.
    X.data[:] = 2
    model = ItemKNN(4, metric=metric, alpha=1.0).fit(X)
    S = dense_similarity(X.toarray().T, metric, 1.0, 0)
    assert_allclose(model.coef_.toarray(), largest_of_columns(S, 4), rtol=1e-12)


# Users of items 0, 1, 2: {0, 1}, {0, 1}, {0}, {1}, {1, 2}.
BY_HAND = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1]], dtype=float)


@pytest.mark.parametrize(
    ("parameters", "of_0_in_1", "of_1_in_0"),
    [
        ({}, 2 / np.sqrt(3 * 4), 2 / np.sqrt(3 * 4)),
        ({"shrinkage": 1.0}, 2 / (np.sqrt(12) + 1), 2 / (np.sqrt(12) + 1)),
        # The probability that a user of the one has the other.
        ({"metric": "asymmetric-cosine", "alpha": 1.0}, 2 / 3, 2 / 4),
        ({"metric": "asymmetric-cosine", "alpha": 0.0}, 2 / 4, 2 / 3),
        ({"metric": "jaccard"}, 2 / 5, 2 / 5),
        ({"metric": "conditional-probability", "alpha": 0.0}, 2 / 3, 2 / 4),
        ({"metric": "conditional-probability", "alpha": 1.0}, 2 / 12, 2 / 12),
    ],
)
def test_similarities_by_hand(parameters, of_0_in_1, of_1_in_0):
    B = ItemKNN(**parameters).fit(BY_HAND).coef_
    assert_allclose(B[0, 1], of_0_in_1, rtol=1e-6)
    assert_allclose(B[1, 0], of_1_in_0, rtol=1e-6)
    assert B[0, 2] == B[2, 0] == B[0, 0] == 0


def test_only_the_nearest_item_contributes():
    # Item 2 has one neighbor, 1; of those of item 1 the nearest is 0.
    B = ItemKNN(1).fit(BY_HAND).coef_.toarray()
    assert_array_equal(np.argwhere(B), [[0, 1], [1, 0], [1, 2]])


def test_asymmetric_cosine_of_a_half_is_the_cosine(values):
    model = ItemKNN(5, metric="asymmetric-cosine", alpha=0.5).fit(values)
    assert_allclose(model.coef_.toarray(), ItemKNN(5).fit(values).coef_.toarray(), rtol=1e-12)


def test_scores_are_sums_over_the_items_of_the_user(values):
    model = ItemKNN(5).fit(values)
    expected = values.toarray() @ model.coef_.toarray()
    assert_allclose(model.decision_function(values), expected, rtol=1e-12)
    assert_allclose(model.explain(values, 3).sum(axis=1), expected[:, 3], rtol=1e-12)


def test_weighting_is_a_step_of_a_pipeline(X):
    pipeline = make_pipeline(BM25Transformer(), ItemKNN(5)).fit(X)
    weighted = BM25Transformer().fit_transform(X)
    S = dense_similarity(weighted.toarray().T, "cosine", 0.5, 0)
    expected = weighted.toarray() @ largest_of_columns(S, 5)
    assert_allclose(pipeline.decision_function(X), expected, rtol=1e-12)


def test_conditional_probability_of_normalized_rows_is_that_of_the_paper(X):
    # Deshpande and Karypis, section 4.1.2: rows of unit length, counted where there is the item.
    model = make_pipeline(Normalizer(), ItemKNN(metric="conditional-probability", alpha=0.5))
    B = model.fit(X)[-1].coef_
    R = X.toarray() / np.sqrt(X.toarray().sum(axis=1, keepdims=True).clip(1))
    n = X.toarray().sum(axis=0)
    i, j = np.argwhere(B.toarray())[7]
    assert_allclose(B[i, j], R[X.toarray()[:, i] > 0, j].sum() / (n[i] * np.sqrt(n[j])))


def test_similar_items_are_the_neighbors_of_the_item(values):
    S = dense_similarity(values.toarray().T, "cosine", 0, 0)
    np.fill_diagonal(S, -1)
    model = ItemKNN(3).fit(values)
    assert_array_equal(model.similar_items(np.arange(20), k=3), np.argsort(-S, axis=1)[:, :3])


def test_an_item_that_is_nobodys_neighbor_is_ranked_by_popularity():
    # Nobody has item 2 and another one.
    X = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 1, 0]])
    model = ItemKNN().fit(X)
    assert_array_equal(model.predict_ranking([[0, 0, 1]], k=2), [[1, 0]])
    assert_array_equal(model.similar_items(2, k=2), [1, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_have_the_precision_of_X(values, dtype):
    model = ItemKNN(5).fit(values.astype(dtype))
    assert model.coef_.dtype == dtype
    assert_allclose(model.coef_.toarray(), ItemKNN(5).fit(values).coef_.toarray(), rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("size", [1e-25, 1e15])
def test_tiny_and_large_values_have_finite_similarities(X, metric, size):
    model = ItemKNN(5, metric=metric).fit((X * size).astype(np.float32))
    assert np.isfinite(model.coef_.data).all()


@pytest.mark.parametrize("metric", METRICS)
def test_tiny_values_of_one_item_are_no_reason_to_divide_by_zero(X, metric):
    X = X.toarray().astype(np.float32)
    X[:, 0] *= 1e-25
    model = ItemKNN(5, metric=metric, alpha=1.0).fit(X)
    assert np.isfinite(model.coef_.data).all()


def test_cosine_of_tiny_values_is_that_of_others(X):
    X = X.toarray().astype(np.float32)
    expected = ItemKNN(19).fit(X).coef_.toarray()
    X[:, 0] *= 1e-25
    assert_allclose(ItemKNN(19).fit(X).coef_.toarray(), expected, rtol=1e-5)


def test_values_whose_squares_are_too_large_are_refused(X):
    with pytest.raises(ValueError, match="squares of the values are too large for float32"):
        ItemKNN().fit((X * 1e30).astype(np.float32))


def test_one_item_has_no_neighbor():
    model = ItemKNN().fit(np.ones((3, 1)))
    assert model.coef_.nnz == 0
    assert_array_equal(model.predict_ranking([[0]], k=2), [[0, -1]])


def test_matrix_without_interactions_ranks_by_index():
    model = ItemKNN().fit(np.zeros((3, 4)))
    assert_array_equal(model.predict_ranking(np.ones((1, 4)), k=2, exclude_seen=False), [[0, 1]])


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_neighbors": 0},
        {"n_neighbors": 1.5},
        {"n_neighbors": None},
        {"metric": "euclidean"},
        {"metric": None},
        {"alpha": -0.1},
        {"alpha": 1.1},
        {"alpha": np.nan},
        {"shrinkage": -1},
        {"shrinkage": "0"},
    ],
    ids=repr,
)
def test_parameters_out_of_range_are_refused(X, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ItemKNN(**wrong).fit(X)


def test_fit_beyond_the_memory_is_refused(X, monkeypatch):
    monkeypatch.setattr(_memory, "available_memory", lambda: 1000)
    with pytest.raises(
        MemoryError, match=r"ItemKNN\(n_neighbors=100\) of 20 items in float64 needs .* available"
    ):
        ItemKNN().fit(X)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "expected"),
    [([ItemKNN()], 0.3626), ([BM25Transformer(), ItemKNN(100, shrinkage=10)], 0.3805)],
    ids=["ones", "bm25"],
)
def test_accuracy_on_ml1m(ml1m, steps, expected):
    X = Binarizer(threshold=3.5).fit_transform(ml1m)
    split = strong_generalization_split(X, n_heldout=1000)
    model = make_pipeline(*steps).fit(split.train)
    found = evaluate(model, split.test_fold_in, split.test_held_out, "ndcg@100")
    assert_allclose(found.mean["ndcg@100"], expected, atol=5e-4)


# Neighbours by content


@pytest.fixture
def made():
    """Return 300 users of 60 items in five groups, and words of each item."""
    return make_interactions(300, 60, n_groups=5, n_features=40, random_state=0)


@pytest.mark.parametrize("form", [sp.csr_array, np.asarray, sp.coo_matrix])
@pytest.mark.parametrize("metric", METRICS)
def test_content_weights_are_those_of_a_dense_computation(made, metric, form):
    F = made.item_features.toarray().astype(np.float64)
    X = made.data.astype(np.float64)
    model = ItemKNN(6, metric=metric, alpha=0.3, shrinkage=1.5).fit(X, item_features=form(F))
    expected = largest_of_columns(dense_similarity(F, metric, 0.3, 1.5), 6)
    assert_allclose(model.coef_.toarray(), expected, rtol=1e-10)


@pytest.mark.parametrize("form", [sp.csr_array, np.asarray])
def test_embeddings_may_be_negative(X, form):
    F = np.random.default_rng(0).normal(size=(20, 3))
    B = ItemKNN(19).fit(X, item_features=form(F)).coef_.toarray()
    assert_allclose(B, largest_of_columns(dense_similarity(F, "cosine", 0, 0), 19), rtol=1e-10)
    assert (B == 0).sum() > 100  # those of opposite directions


def test_features_of_the_interactions_are_the_neighbors_by_users(values):
    by_content = ItemKNN(5).fit(values, item_features=values.T)
    assert_allclose(by_content.coef_.toarray(), ItemKNN(5).fit(values).coef_.toarray(), rtol=1e-12)


def test_groups_are_found_by_content_alone(made):
    fold_in, held_out = split_interactions(made.data[200:], random_state=0)
    model = ItemKNN(20).fit(made.data[:200], item_features=made.item_features)
    found = evaluate(model, fold_in, held_out, "ndcg@10").mean["ndcg@10"]
    shuffled = made.item_features[np.random.default_rng(0).permutation(60)]
    by_chance = ItemKNN(20).fit(made.data[:200], item_features=shuffled)
    assert found > 0.1 + evaluate(by_chance, fold_in, held_out, "ndcg@10").mean["ndcg@10"]


def test_item_without_users_is_recommended_by_its_content(made):
    X = made.data.toarray()
    X[:, 7] = 0
    model = ItemKNN().fit(X, item_features=made.item_features)
    twin = model.similar_items(7, k=1)
    user = np.zeros((1, 60))
    user[0, 7] = 1
    assert_array_equal(model.predict_ranking(user, k=1)[0], twin)
    user = np.zeros((1, 60))
    user[0, twin] = 1
    assert model.decision_function(user)[0, 7] > 0


def test_item_without_features_is_nobodys_neighbor(made):
    F = made.item_features.tolil()
    F[3] = 0
    B = ItemKNN().fit(made.data, item_features=F).coef_
    assert B[[3]].nnz == B[:, [3]].nnz == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_take_the_precision_of_X(made, dtype):
    model = ItemKNN().fit(made.data.astype(dtype), item_features=made.item_features.astype(int))
    assert model.coef_.dtype == dtype


def test_features_are_not_changed(made):
    F = made.item_features
    before = F.copy()
    ItemKNN(metric="conditional-probability").fit(made.data, item_features=F)
    assert_array_equal(F.toarray(), before.toarray())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda F: F[:-1], r"item_features must have a row for each of the 60 items .* \(59, 40\)"),
        (lambda F: F[:, :0], "item_features"),
        (lambda F: F.toarray()[0], "item_features"),
        (lambda F: F * np.nan, "item_features contains NaN"),
        (lambda F: F * np.inf, "item_features contains"),
        (lambda F: [["a"]] * 60, "item_features is no matrix of numbers"),
        (lambda F: ItemFeatures(F[:10]), "ItemFeatures"),
    ],
)
def test_bad_features_are_refused(made, change, message):
    with pytest.raises(ValueError, match=message):
        ItemKNN().fit(made.data, item_features=change(made.item_features))


def test_held_features_are_those_they_hold(made):
    expected = ItemKNN().fit(made.data, item_features=made.item_features).coef_
    found = ItemKNN().fit(made.data, item_features=ItemFeatures(made.item_features)).coef_
    assert_array_equal(found.toarray(), expected.toarray())


def test_as_many_items_as_users_warns_that_a_search_selects_rows(made):
    square = made.data[:60]
    with pytest.warns(UserWarning, match=r"pass sklrec.pipeline.ItemFeatures\(item_features\)"):
        ItemKNN().fit(square, item_features=made.item_features)
    ItemKNN().fit(square, item_features=ItemFeatures(made.item_features))


def test_search_hands_over_all_features_though_there_are_as_many_users(made):
    search = GridSearchCV(
        ItemKNN(),
        {"n_neighbors": [5, 20]},
        scoring=RankingScorer("ndcg@10"),
        cv=StrongGeneralizationSplit(2, random_state=0),
        error_score="raise",
    )
    search.fit(made.data[:60], item_features=ItemFeatures(made.item_features))
    expected = ItemKNN(**search.best_params_)
    expected.fit(made.data[:60], item_features=ItemFeatures(made.item_features))
    assert_array_equal(search.best_estimator_.coef_.toarray(), expected.coef_.toarray())


def test_search_that_selects_rows_is_an_error_that_says_so(made):
    search = GridSearchCV(
        ItemKNN(),
        {},
        scoring=RankingScorer("ndcg@10"),
        cv=StrongGeneralizationSplit(2, random_state=0),
        error_score="raise",
    )
    with (
        pytest.warns(UserWarning, match="If a search calls this fit"),
        pytest.raises(ValueError, match="If a search selected rows"),
    ):
        search.fit(made.data[:60], item_features=made.item_features)


@pytest.mark.parametrize("routing", [False, True])
def test_features_reach_the_last_step_of_a_pipeline(made, routing):
    expected = make_pipeline(TfidfTransformer(), ItemKNN(5))
    expected[-1].fit(expected[0].fit_transform(made.data), item_features=made.item_features)
    name = "item_features" if routing else "itemknn__item_features"
    with sklearn.config_context(enable_metadata_routing=routing):
        pipeline = make_pipeline(TfidfTransformer(), ItemKNN(5))
        pipeline.fit(made.data, **{name: made.item_features})
    assert_array_equal(pipeline[-1].coef_.toarray(), expected[-1].coef_.toarray())


@pytest.mark.parametrize("routing", [False, True])
def test_features_reach_a_pipeline_in_a_search(made, routing):
    name = "item_features" if routing else "itemknn__item_features"
    with sklearn.config_context(enable_metadata_routing=routing):
        search = GridSearchCV(
            make_pipeline(Binarizer(), ItemKNN()),
            {"itemknn__n_neighbors": [5, 20]},
            scoring=RankingScorer("ndcg@10"),
            cv=StrongGeneralizationSplit(2, random_state=0),
            error_score="raise",
        ).fit(made.data, **{name: ItemFeatures(made.item_features)})
    found = search.best_estimator_[-1]
    expected = ItemKNN(found.n_neighbors).fit(made.data, item_features=made.item_features)
    assert_array_equal(found.coef_.toarray(), expected.coef_.toarray())


def test_request_for_features_can_be_withdrawn(made):
    with sklearn.config_context(enable_metadata_routing=True):
        model = ItemKNN().set_fit_request(item_features=False)
        with pytest.raises(TypeError, match="item_features"):
            make_pipeline(Binarizer(), model).fit(made.data, item_features=made.item_features)
        requests = ItemKNN().get_metadata_routing().fit.requests
    assert requests == {"item_features": True}


@pytest.mark.parametrize("kind", [sp.csr_array, lambda F: F.toarray()])
def test_model_with_new_items_is_that_of_all_features(kind, made):
    F = made.item_features
    old = ItemKNN(5, shrinkage=1.0).fit(made.data[:, :50], item_features=kind(F[:50]))
    old.set_params(n_neighbors=2, shrinkage=9.0)  # of no effect on a fitted model
    new = old.with_items(kind(F[50:]))
    seen = sp.csr_array(made.data.multiply(np.arange(60) < 50))
    expected = ItemKNN(5, shrinkage=1.0).fit(seen, item_features=kind(F))
    assert_array_equal(new.coef_.toarray(), expected.coef_.toarray())
    assert_array_equal(new.predict_ranking(seen, k=5), expected.predict_ranking(seen, k=5))
    assert old.coef_.shape == (50, 50)


def test_model_of_interactions_has_no_new_items(made):
    model = ItemKNN(5).fit(made.data, item_features=made.item_features).fit(made.data)
    with pytest.raises(ValueError, match="fitted with item_features"):
        model.with_items(made.item_features[:1])
