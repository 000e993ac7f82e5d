"""Metrics beyond accuracy: each beside a slow loop that follows its definition."""

import math
import pickle
from itertools import combinations

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import GridSearchCV

from sklrec.dummy import PopularityRecommender, RandomRecommender
from sklrec.linear import EASE
from sklrec.metrics import (
    RankingEvaluation,
    RankingScorer,
    _beyond_accuracy,
    average_popularity_at_k,
    catalogue_coverage_at_k,
    evaluate,
    gini_at_k,
    intra_list_diversity_at_k,
    novelty_at_k,
)
from sklrec.model_selection import StrongGeneralizationSplit, split_interactions

N_ITEMS = 15
PER_USER = {
    "novelty": novelty_at_k,
    "average popularity": average_popularity_at_k,
    "diversity": lambda ranking, X, **options: intra_list_diversity_at_k(ranking, X.T, **options),
}
every_user_metric = pytest.mark.parametrize("metric", PER_USER.values(), ids=list(PER_USER))
TOGETHER = {"coverage": catalogue_coverage_at_k, "Gini": gini_at_k}
every_joint_metric = pytest.mark.parametrize("metric", TOGETHER.values(), ids=list(TOGETHER))


@pytest.fixture(scope="module")
def random_rankings():
    """Return rankings of 80 users that end with -1, some at once, and item 14 is never ranked."""
    rng = np.random.default_rng(0)
    ranking = np.array([rng.permutation(N_ITEMS - 1)[:12] for _ in range(80)])
    ranking[np.arange(12) >= rng.integers(0, 13, 80)[:, None]] = -1
    assert {0, 1, 2} <= set((ranking >= 0).sum(axis=1))
    return ranking


@pytest.fixture(scope="module")
def interactions():
    """Return ratings of 30 users; nobody has rated item 3."""
    rng = np.random.default_rng(1)
    X = (rng.random((30, N_ITEMS)) < rng.uniform(0.1, 0.9, N_ITEMS)) * rng.integers(
        1, 6, (30, N_ITEMS)
    )
    X[:, 3] = 0
    return sp.csr_array(X.astype(float))


def listed(row, k):
    return [int(item) for item in row[:k] if item >= 0]


# By their definitions


@pytest.mark.parametrize("k", [1, 2, 7, 12, None])
def test_coverage_counts_the_different_items(k, random_rankings):
    found = {item for row in random_rankings for item in listed(row, k)}
    assert catalogue_coverage_at_k(random_rankings, N_ITEMS, k=k) == len(found) / N_ITEMS


@pytest.mark.parametrize("k", [1, 2, 7, 12, None])
def test_gini_is_half_the_relative_mean_difference_of_all_pairs_of_items(k, random_rankings):
    ranked = [item for row in random_rankings for item in listed(row, k)]
    times = np.array([ranked.count(item) for item in range(N_ITEMS)])
    # With n (n - 1) pairs instead of n^2, which is what makes the largest value 1.
    difference = np.abs(times[:, None] - times).sum() / (N_ITEMS * (N_ITEMS - 1))
    expected = difference / (2 * times.mean())
    assert gini_at_k(random_rankings, N_ITEMS, k=k) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 7, 12, None])
def test_novelty_is_the_mean_of_the_items_self_information(k, random_rankings, interactions):
    users = (interactions.toarray() > 0).sum(axis=0)
    expected = [
        np.mean([math.log2(30 / max(users[item], 1)) for item in listed(row, k)])
        if listed(row, k)
        else np.nan
        for row in random_rankings
    ]
    value = novelty_at_k(random_rankings, interactions, k=k, average=None)
    assert_allclose(value, expected, rtol=1e-12)
    assert novelty_at_k(random_rankings, interactions, k=k) == pytest.approx(np.nanmean(expected))


@pytest.mark.parametrize("k", [1, 2, 7, 12, None])
def test_average_popularity_is_the_mean_share_of_users(k, random_rankings, interactions):
    share = (interactions.toarray() > 0).mean(axis=0)
    expected = [
        np.mean(share[listed(row, k)]) if listed(row, k) else np.nan for row in random_rankings
    ]
    value = average_popularity_at_k(random_rankings, interactions, k=k, average=None)
    assert_allclose(value, expected, rtol=1e-12)
    mean = average_popularity_at_k(random_rankings, interactions, k=k)
    assert mean == pytest.approx(np.nanmean(expected), rel=1e-12)


def slow_diversity(ranking, features, k):
    distance = 1 - cosine_similarity(features)
    return [
        np.mean([distance[i, j] for i, j in combinations(listed(row, k), 2)])
        if len(listed(row, k)) > 1
        else np.nan
        for row in ranking
    ]


@pytest.mark.parametrize("k", [2, 7, 12, None])
@pytest.mark.parametrize("kind", ["dense", "sparse", "dense float32", "sparse float32"])
def test_diversity_is_the_mean_distance_of_all_pairs(k, kind, random_rankings):
    rng = np.random.default_rng(2)
    features = rng.normal(size=(N_ITEMS, 6)) * (rng.random((N_ITEMS, 6)) < 0.6)
    features[5] = 0
    expected = slow_diversity(random_rankings, features, k)
    given = features.astype(np.float32) if "float32" in kind else features
    given = sp.csr_array(given) if "sparse" in kind else given
    value = intra_list_diversity_at_k(random_rankings, given, k=k, average=None)
    assert_allclose(value, expected, rtol=1e-5 if "float32" in kind else 1e-12)
    mean = intra_list_diversity_at_k(random_rankings, given, k=k)
    assert mean == pytest.approx(np.nanmean(expected), rel=1e-5)


# By hand


def test_coverage_and_gini_by_hand():
    # Of four items, 0 is ranked twice, 1 and 2 once and 3 never; in order 0, 1, 1, 2 of 4 ranks
    # with weights -3, -1, 1, 3: 6 / 4 / 3.
    ranking = [[0, 1], [2, 0]]
    assert catalogue_coverage_at_k(ranking, 4) == 3 / 4
    assert gini_at_k(ranking, 4) == pytest.approx(1 / 2, rel=1e-12)


def test_novelty_and_popularity_by_hand():
    # Of eight users, eight, four and one have items 0, 1 and 2: 0, 1 and 3 bits.
    X = np.array([[1, 1, 1]] + [[1, 1, 0]] * 3 + [[1, 0, 0]] * 4)
    assert novelty_at_k([[0, 1, 2]], X) == pytest.approx(4 / 3, rel=1e-12)
    assert average_popularity_at_k([[0, 1, 2]], X) == pytest.approx(13 / 24, rel=1e-12)


def test_gini_is_that_of_lenskit_but_for_its_largest_value():
    # lenskit.stats.gini (2025.8.1) of 5, 3, 0, 0, 9, 1 is 0.574074; it divides by n, not n - 1.
    ranking = np.repeat(np.arange(6), [5, 3, 0, 0, 9, 1])[:, None]
    assert gini_at_k(ranking, 6) * 5 / 6 == pytest.approx(31 / 54, rel=1e-12)


def test_novelty_and_popularity_are_those_of_rectools():
    # The examples of MeanInvUserFreq and AvgRecPopularity in RecTools 0.19.0, which counts users.
    X = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0]])
    value = novelty_at_k([[2, -1], [1, 2], [0, 1]], X, average=None)
    assert_allclose(value, [1.5849625, 1.5849625, 0.79248125], rtol=1e-8)
    X = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0]])
    value = average_popularity_at_k([[0, 1, -1], [2, 0, 1], [2, 1, -1]], X, average=None)
    assert_allclose(value * 3, [2.5, 2, 1.5], rtol=1e-12)


def test_diversity_by_hand():
    # Cosines of 1 / sqrt(2), 1 / sqrt(2) and 0.
    features = [[1, 0], [3, 3], [0, 2]]
    expected = 1 - math.sqrt(2) / 3
    assert intra_list_diversity_at_k([[0, 1, 2]], features) == pytest.approx(expected, rel=1e-12)


def test_opposite_items_have_a_diversity_of_two():
    assert intra_list_diversity_at_k([[0, 1]], [[1.0, 2.0], [-2.0, -4.0]]) == pytest.approx(2)


@pytest.mark.parametrize("k", [1, 3, 4])
def test_the_same_list_for_all_users_covers_k_items_and_is_least_even(k):
    ranking = np.tile([5, 2, 9, 0], (7, 1))
    assert catalogue_coverage_at_k(ranking, 10, k=k) == k / 10
    assert gini_at_k(ranking, 10, k=k) == pytest.approx((10 - k) / 9, rel=1e-12)


def test_each_item_equally_often_covers_all_and_is_even():
    ranking = np.arange(10).reshape(5, 2)
    assert catalogue_coverage_at_k(ranking, 10) == 1
    assert gini_at_k(ranking, 10) == pytest.approx(0, abs=1e-12)


def test_an_item_without_users_is_as_novel_as_one_with_one():
    X = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]])
    assert_array_equal(novelty_at_k([[0], [1], [2]], X, average=None), [0, 2, 2])
    assert_array_equal(average_popularity_at_k([[0], [1], [2]], X, average=None), [1, 1 / 4, 0])


def test_an_item_without_features_is_orthogonal_to_all():
    features = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    rankings = [[0, 1], [0, 2], [2, 3]]
    for given in (features, sp.csr_array(features)):
        assert_array_equal(intra_list_diversity_at_k(rankings, given, average=None), [0, 1, 1])


# Invariances


@every_user_metric
def test_the_order_of_users_moves_their_values(metric, random_rankings, interactions):
    order = np.random.default_rng(3).permutation(80)
    value = metric(random_rankings, interactions, average=None)
    assert_allclose(
        metric(random_rankings[order], interactions, average=None), value[order], rtol=1e-12
    )


@every_joint_metric
def test_the_order_of_users_does_not_matter_to_all_together(metric, random_rankings):
    order = np.random.default_rng(3).permutation(80)
    assert metric(random_rankings[order], N_ITEMS) == metric(random_rankings, N_ITEMS)


@every_joint_metric
def test_users_given_twice_do_not_matter_to_all_together(metric, random_rankings):
    twice = np.tile(random_rankings, (2, 1))
    assert metric(twice, N_ITEMS) == pytest.approx(metric(random_rankings, N_ITEMS), rel=1e-12)


@every_joint_metric
def test_the_names_of_items_do_not_matter_to_all_together(metric, random_rankings):
    renamed = np.random.default_rng(4).permutation(N_ITEMS)
    other = np.where(random_rankings >= 0, renamed[random_rankings], -1)
    assert metric(other, N_ITEMS) == pytest.approx(metric(random_rankings, N_ITEMS), rel=1e-12)


@every_user_metric
def test_the_names_of_items_do_not_matter(metric, random_rankings, interactions):
    renamed = np.random.default_rng(4).permutation(N_ITEMS)
    other = np.where(random_rankings >= 0, renamed[random_rankings], -1)
    moved = interactions[:, np.argsort(renamed)]
    assert_allclose(
        metric(other, moved, average=None), metric(random_rankings, interactions, average=None)
    )


@every_user_metric
def test_the_order_of_a_list_does_not_matter(metric, random_rankings, interactions):
    value = metric(random_rankings, interactions, average=None)
    assert_allclose(metric(random_rankings[:, ::-1], interactions, average=None), value)


@every_user_metric
@pytest.mark.parametrize(
    "convert",
    [lambda X: X.toarray(), sp.csr_matrix, sp.csc_array, sp.coo_array, lambda X: X.astype(int)],
    ids=["dense", "csr_matrix", "csc", "coo", "int"],
)
def test_interactions_may_be_of_any_type(metric, convert, random_rankings, interactions):
    expected = metric(random_rankings, interactions)
    assert metric(random_rankings, convert(interactions)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("metric", [novelty_at_k, average_popularity_at_k])
def test_popularity_counts_users_whatever_they_rated(metric, random_rankings, interactions):
    binary = interactions != 0
    assert metric(random_rankings, interactions) == metric(random_rankings, binary)


def test_the_scale_of_an_items_features_does_not_matter(random_rankings):
    rng = np.random.default_rng(5)
    features = rng.random((N_ITEMS, 4))
    scaled = features * rng.uniform(0.1, 9, (N_ITEMS, 1))
    expected = intra_list_diversity_at_k(random_rankings, features)
    assert intra_list_diversity_at_k(random_rankings, scaled) == pytest.approx(expected, rel=1e-12)


def test_equal_items_are_not_diverse_and_never_less_than_that():
    features = np.tile(np.random.default_rng(6).random(7), (40, 1))
    value = intra_list_diversity_at_k(np.arange(40).reshape(4, 10), features, average=None)
    assert (value >= 0).all()
    assert_allclose(value, 0, atol=1e-12)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_diversity_does_not_depend_on_the_size_of_the_batches(kind, random_rankings, monkeypatch):
    features = kind(np.random.default_rng(7).random((N_ITEMS, 6)))
    whole = intra_list_diversity_at_k(random_rankings, features, average=None)
    sizes = []
    slow = _beyond_accuracy._squared_length
    monkeypatch.setattr(
        _beyond_accuracy, "_squared_length", lambda A: sizes.append(A.shape[0]) or slow(A)
    )
    for n_bytes in (16, 16 * 6 * 10):  # less than a user, and ten of them
        monkeypatch.setattr(_beyond_accuracy, "BATCH_BYTES", n_bytes)
        batched = intra_list_diversity_at_k(random_rankings, features, average=None)
        assert_allclose(batched, whole, rtol=1e-12)
    assert sizes.count(1) >= 70
    assert max(sizes) < 80


def test_features_are_not_changed(random_rankings):
    for features in (np.full((N_ITEMS, 2), 3.0), sp.csr_array(np.full((N_ITEMS, 2), 3.0))):
        intra_list_diversity_at_k(random_rankings, features)
        assert features.max() == features.min() == 3


# Lists that are empty or short


@every_user_metric
def test_users_without_items_have_no_value(metric, interactions):
    value = metric([[0, 1], [-1, -1]], interactions, average=None)
    assert_array_equal(np.isnan(value), [False, True])
    assert metric([[0, 1], [-1, -1]], interactions) == value[0]


@every_user_metric
def test_without_any_item_a_metric_is_nan_and_warns(metric, interactions):
    with pytest.warns(UndefinedMetricWarning, match=r"No user of 2 has .* enough items ranked"):
        assert math.isnan(metric([[-1, -1], [-1, -1]], interactions))


def test_without_any_item_nothing_is_covered_and_gini_is_undefined():
    assert catalogue_coverage_at_k([[-1, -1]], 5) == 0
    assert math.isnan(gini_at_k([[-1, -1]], 5))


def test_a_list_of_one_item_has_no_diversity():
    value = intra_list_diversity_at_k([[2, -1], [0, 1]], np.eye(3), average=None)
    assert_array_equal(value, [np.nan, 1])


# Bad input


@pytest.mark.parametrize(
    ("ranking", "message"),
    [
        ([0, 1], r"2-d array of integers .* got an array of shape \(2,\)"),
        ([[0.0, 1.0]], "integers .* type float64"),
        (np.empty((0, 2), dtype=int), r"at least one user .* got an array of shape \(0, 2\)"),
        (np.empty((2, 0), dtype=int), r"at least one rank, got an array of shape \(2, 0\)"),
        ([[0, 15]], "item indices from 0 to 14, or -1 .* got values from 0 to 15"),
        ([[0, -2]], "item indices from 0 to 14, or -1 .* got values from -2 to 0"),
        ([[0, 1], [2, 2]], "same item twice in row 1"),
    ],
)
@pytest.mark.parametrize("metric", [*PER_USER.values(), *TOGETHER.values()])
def test_a_bad_ranking_is_refused(metric, ranking, message, interactions):
    with pytest.raises(ValueError, match=message):
        metric(ranking, N_ITEMS if metric in TOGETHER.values() else interactions)


@pytest.mark.parametrize("k", [0, -1, 3, 1.0, "2"])
@pytest.mark.parametrize("metric", [*PER_USER.values(), *TOGETHER.values()])
def test_a_bad_k_is_refused(metric, k, interactions):
    with pytest.raises(ValueError, match=f"k must be an integer between 1 and the 2 .* got {k!r}"):
        metric([[0, 1]], N_ITEMS if metric in TOGETHER.values() else interactions, k=k)


@every_user_metric
def test_a_bad_average_is_refused(metric, interactions):
    with pytest.raises(ValueError, match="average must be 'mean' or None, got 'median'"):
        metric([[0, 1]], interactions, average="median")


@every_joint_metric
@pytest.mark.parametrize("n_items", [0, -1, 2.0, None])
def test_a_bad_number_of_items_is_refused(metric, n_items):
    with pytest.raises(ValueError, match=f"n_items must be a positive integer, got {n_items!r}"):
        metric([[0]], n_items)


def test_gini_of_one_item_is_refused():
    with pytest.raises(ValueError, match="needs n_items of at least 2, got 1"):
        gini_at_k([[0]], 1)


def test_diversity_of_one_rank_is_refused():
    with pytest.raises(ValueError, match="k must be at least 2, got 1"):
        intra_list_diversity_at_k([[0, 1]], np.eye(2), k=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        intra_list_diversity_at_k([[0, 1]], [[1.0, bad], [0.0, 1.0]])


@pytest.mark.parametrize("metric", [novelty_at_k, average_popularity_at_k])
def test_negative_interactions_are_refused(metric):
    with pytest.raises(ValueError, match="Negative values"):
        metric([[0, 1]], [[1.0, -1.0]])


# In a scorer and in an evaluation

NAMES = {
    "catalogue_coverage@5": lambda ranking, X, F: catalogue_coverage_at_k(ranking, 20, k=5),
    "gini@5": lambda ranking, X, F: gini_at_k(ranking, 20, k=5),
    "neg_gini@5": lambda ranking, X, F: -gini_at_k(ranking, 20, k=5),
    "novelty@3": lambda ranking, X, F: novelty_at_k(ranking, X, k=3),
    "average_popularity@5": lambda ranking, X, F: average_popularity_at_k(ranking, X, k=5),
    "neg_average_popularity@5": lambda ranking, X, F: -average_popularity_at_k(ranking, X, k=5),
    "intra_list_diversity@4": lambda ranking, X, F: intra_list_diversity_at_k(ranking, F, k=4),
    "intra_list_diversity/users@4": lambda ranking, X, F: intra_list_diversity_at_k(
        ranking, X.T > 0, k=4
    ),
}
LOWER_IS_BETTER = ["gini@5", "average_popularity@5"]


@pytest.fixture
def features():
    """Return features of the 20 items."""
    return sp.csr_array(np.random.default_rng(8).random((20, 5)))


@pytest.fixture
def parts(X):
    """Return 40 training users, and the two parts of 20 others."""
    X.data[:] = np.random.default_rng(9).integers(1, 6, X.nnz)
    return X[:40], *split_interactions(X[40:], random_state=0)


@pytest.mark.parametrize("name", NAMES)
def test_an_evaluation_gives_what_the_function_gives(name, parts, features):
    train, fold_in, held_out = parts
    model = EASE(lambda_=1.0).fit(train)
    found = evaluate(
        model,
        fold_in,
        held_out,
        ["ndcg@9", name],
        interactions=train,
        item_features=features,
    )
    expected = NAMES[name](model.predict_ranking(fold_in, k=9), train, features)
    assert found.mean[name] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LOWER_IS_BETTER])
def test_a_scorer_gives_what_an_evaluation_gives(name, X, features):
    model = EASE(lambda_=1.0).fit(X)
    matrices = {"interactions": X, "item_features": features}
    expected = evaluate(model, *split_interactions(X, random_state=0), name, **matrices).mean
    assert RankingScorer(name, **matrices)(model, X) == expected[name]
    assert RankingScorer([name], **matrices)(model, X) == expected


@pytest.mark.parametrize("name", LOWER_IS_BETTER)
def test_a_scorer_refuses_what_is_better_when_it_is_lower(name, X):
    with pytest.raises(ValueError, match=f"{name} is better when it is lower.* use 'neg_{name}'"):
        RankingScorer(["ndcg@5", name], interactions=X)(PopularityRecommender().fit(X), X)


def test_all_recommended_users_count_not_only_those_with_something_held_out(parts):
    train, fold_in, held_out = parts
    held_out = held_out.tolil()
    held_out[3] = 0
    names = ["novelty@5", "ndcg@5"]
    model = PopularityRecommender().fit(train)
    found = evaluate(model, fold_in, held_out, names, interactions=train).per_user
    assert np.isfinite(found["novelty@5"]).all()
    assert np.isnan(found["ndcg@5"][3])


def test_what_all_users_have_together_has_no_value_of_a_user_and_no_standard_error(parts):
    train, fold_in, held_out = parts
    names = ["gini@5", "ndcg@5", "catalogue_coverage@5"]
    found = evaluate(EASE().fit(train), fold_in, held_out, names)
    assert list(found.per_user) == ["ndcg@5"]
    assert list(found.together) == ["gini@5", "catalogue_coverage@5"]
    assert set(found.mean) == set(names)
    assert math.isnan(found.standard_error["gini@5"])
    assert np.isfinite(found.standard_error["ndcg@5"])


def test_the_representation_has_no_error_for_all_users_together():
    found = RankingEvaluation({"novelty@5": np.array([0.0, 1.0, 1.0, 0.0])}, {"gini@5": 0.25})
    assert repr(found) == "novelty@5: 0.5000 ± 0.2887\ngini@5: 0.2500"


def test_an_evaluation_in_which_no_user_counts_is_nan_and_warns():
    with pytest.warns(UndefinedMetricWarning, match="No user of 2 has"):
        assert math.isnan(RankingEvaluation({"novelty@5": np.full(2, np.nan)}).mean["novelty@5"])


def test_only_metrics_of_users_are_compared(parts):
    train, fold_in, held_out = parts
    names = ["gini@5", "novelty@5"]
    popular, chance = (
        evaluate(model.fit(train), fold_in, held_out, names, interactions=train)
        for model in (PopularityRecommender(), RandomRecommender(random_state=0))
    )
    comparison = chance.compare(popular)
    assert list(comparison) == ["novelty@5"]
    assert comparison["novelty@5"].difference > 0
    assert comparison["novelty@5"].pvalue < 0.001


def test_random_rankings_are_more_novel_and_more_even_than_popular_ones(parts):
    train, fold_in, held_out = parts
    names = ["novelty@3", "gini@3", "catalogue_coverage@3", "average_popularity@3"]
    popular, chance = (
        evaluate(model.fit(train), fold_in, held_out, names, interactions=train).mean
        for model in (PopularityRecommender(), RandomRecommender(random_state=0))
    )
    assert chance["novelty@3"] > popular["novelty@3"]
    assert chance["gini@3"] < popular["gini@3"]
    assert chance["catalogue_coverage@3"] > popular["catalogue_coverage@3"]
    assert chance["average_popularity@3"] < popular["average_popularity@3"]


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("novelty@5", "interactions"),
        ("neg_average_popularity@5", "interactions"),
        ("intra_list_diversity/users@5", "interactions"),
        ("intra_list_diversity@5", "item_features"),
    ],
)
def test_a_metric_says_what_it_lacks(name, needs, X):
    model = PopularityRecommender().fit(X)
    with pytest.raises(ValueError, match=f"{name} needs {needs}, got None"):
        RankingScorer(name)(model, X)
    with pytest.raises(ValueError, match=f"{name} needs {needs}, got None"):
        evaluate(model, *split_interactions(X, random_state=0), name)


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        (
            {"interactions": np.ones((4, 19))},
            r"interactions must have 20 columns, got shape \(4, 19\)",
        ),
        (
            {"item_features": np.ones((21, 3))},
            r"item_features must have 20 rows, got shape \(21, 3\)",
        ),
        ({"item_features": np.ones(20)}, r"item_features is no matrix of numbers. Expected 2D"),
    ],
)
def test_matrices_of_other_items_are_refused(matrices, message, X):
    with pytest.raises(ValueError, match=message):
        RankingScorer("catalogue_coverage@5", **matrices)(PopularityRecommender().fit(X), X)


def test_a_scorer_with_matrices_can_be_pickled_cloned_and_read(X, features):
    scorer = RankingScorer(
        ["novelty@5", "intra_list_diversity@5"], interactions=X, item_features=features
    )
    model = PopularityRecommender().fit(X)
    assert pickle.loads(pickle.dumps(scorer))(model, X) == scorer(model, X)
    assert clone(scorer, safe=False)(model, X) == scorer(model, X)
    assert repr(scorer).endswith("random_state=0, interactions=..., item_features=...)")


def test_a_search_refits_by_accuracy_and_reports_what_is_beyond(X):
    names = ["ndcg@5", "novelty@5", "neg_gini@5"]
    search = GridSearchCV(
        EASE(),
        {"lambda_": [0.1, 10.0]},
        scoring=RankingScorer(names, interactions=X),
        refit="ndcg@5",
        cv=StrongGeneralizationSplit(2, random_state=0),
        error_score="raise",
    ).fit(X)
    assert all(np.isfinite(search.cv_results_[f"mean_test_{name}"]).all() for name in names)


def test_the_values_do_not_depend_on_who_is_in_the_fold(X):
    # Popularity comes from the matrix the scorer holds, not from the rows it is called with.
    model = PopularityRecommender().fit(X)
    scorer = RankingScorer("novelty@5", interactions=X)
    y = split_interactions(X, 2, random_state=0)[1]
    halves = scorer(model, X[:30], y[:30]), scorer(model, X[30:], y[30:])
    assert np.mean(halves) == pytest.approx(scorer(model, X, y), rel=1e-12)
