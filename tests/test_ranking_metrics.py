"""Metrics of rankings: each beside a slow loop over users and ranks that follows its definition."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import UndefinedMetricWarning

from sklrec import metrics
from sklrec.metrics import (
    average_precision_at_k,
    hit_rate_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
)
from sklrec.metrics._names import METRICS, measure_curve


def slow_ndcg(relevant, ranked, k):
    gain = sum(1 / math.log2(r + 2) for r in range(k) if ranked[r] in relevant)
    return gain / sum(1 / math.log2(r + 2) for r in range(min(k, len(relevant))))


def slow_recall(relevant, ranked, k, denominator="min(k, n)"):
    found = sum(item in relevant for item in ranked[:k])
    return found / (len(relevant) if denominator == "n" else min(k, len(relevant)))


def slow_precision(relevant, ranked, k):
    return sum(item in relevant for item in ranked[:k]) / k


def slow_average_precision(relevant, ranked, k, denominator="min(k, n)"):
    total = 0
    for r in range(k):
        if ranked[r] in relevant:
            total += sum(item in relevant for item in ranked[: r + 1]) / (r + 1)
    return total / (len(relevant) if denominator == "n" else min(k, len(relevant)))


def slow_reciprocal_rank(relevant, ranked, k):
    for r in range(k):
        if ranked[r] in relevant:
            return 1 / (r + 1)
    return 0.0


def slow_hit_rate(relevant, ranked, k):
    return float(any(item in relevant for item in ranked[:k]))


PAIRS = {
    "ndcg": (ndcg_at_k, slow_ndcg),
    "recall": (recall_at_k, slow_recall),
    "recall/n": (partial(recall_at_k, denominator="n"), partial(slow_recall, denominator="n")),
    "precision": (precision_at_k, slow_precision),
    "average precision": (average_precision_at_k, slow_average_precision),
    "average precision/n": (
        partial(average_precision_at_k, denominator="n"),
        partial(slow_average_precision, denominator="n"),
    ),
    "reciprocal rank": (reciprocal_rank_at_k, slow_reciprocal_rank),
    "hit rate": (hit_rate_at_k, slow_hit_rate),
}
PUBLIC = {
    "ndcg": ndcg_at_k,
    "recall": recall_at_k,
    "precision": precision_at_k,
    "average_precision": average_precision_at_k,
    "reciprocal_rank": reciprocal_rank_at_k,
    "hit_rate": hit_rate_at_k,
}
every_metric = pytest.mark.parametrize("metric", [m for m, _ in PAIRS.values()], ids=list(PAIRS))


@pytest.fixture(scope="module")
def random_rankings():
    """Return held-out items and rankings of 80 users: some find nothing, some end with -1."""
    rng = np.random.default_rng(0)
    held_out = (rng.random((80, 15)) < rng.choice([0.0, 0.05, 0.3, 0.9], 80)[:, None]).astype(float)
    held_out[held_out > 0] = rng.integers(1, 6, int(held_out.sum()))
    ranking = np.array([rng.permutation(15)[:12] for _ in range(80)])
    ranking[np.arange(12) >= rng.integers(0, 13, 80)[:, None]] = -1
    assert (held_out.any(axis=1) & (ranking[:, 0] < 0)).any()
    assert not held_out.any(axis=1).all()
    return sp.csr_array(held_out), ranking


@pytest.mark.parametrize("k", [1, 2, 7, 12, None])
@pytest.mark.parametrize("name", PAIRS)
def test_each_user_gets_what_the_definition_says(name, k, random_rankings):
    metric, slow = PAIRS[name]
    held_out, ranking = random_rankings
    expected = [
        slow(set(np.flatnonzero(row)), list(ranked), k or 12) if row.any() else np.nan
        for row, ranked in zip(held_out.toarray(), ranking, strict=True)
    ]
    value = metric(held_out, ranking, k=k, average=None)
    assert_allclose(value, expected, rtol=1e-12)
    assert_allclose(metric(held_out, ranking, k=k), np.nanmean(expected), rtol=1e-12)
    assert np.nanmin(value) >= 0
    assert np.nanmax(value) <= 1


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        # Held out 1, 4, 6; ranked 4, 0, 6, 2: hits at ranks 1 and 3.
        (ndcg_at_k, (1 + 1 / 2) / (1 + 1 / math.log2(3) + 1 / 2)),
        (recall_at_k, 2 / 3),
        (precision_at_k, 2 / 4),
        (average_precision_at_k, (1 / 1 + 2 / 3) / 3),
        (reciprocal_rank_at_k, 1),
        (hit_rate_at_k, 1),
    ],
)
def test_values_by_hand(metric, value):
    held_out = np.array([[0, 1, 0, 0, 1, 0, 1]])
    assert metric(held_out, [[4, 0, 6, 2]]) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("metric", [recall_at_k, average_precision_at_k])
def test_only_the_denominator_min_k_n_can_always_reach_one(metric):
    held_out = np.ones((1, 10))
    assert metric(held_out, [[3, 1]], denominator="min(k, n)") == 1
    assert metric(held_out, [[3, 1]], denominator="n") == pytest.approx(0.2)


@every_metric
def test_a_perfect_ranking_of_all_that_was_held_out_is_worth_one(metric):
    held_out = np.array([[1, 0, 1, 0, 1]])
    assert metric(held_out, [[4, 0, 2]]) == 1


@every_metric
def test_users_with_nothing_to_find_do_not_count(metric, random_rankings):
    held_out, ranking = random_rankings
    counts = np.diff(held_out.indptr) > 0
    value = metric(held_out, ranking, average=None)
    assert_array_equal(np.isnan(value), ~counts)
    assert metric(held_out, ranking) == metric(held_out[counts], ranking[counts])


@every_metric
def test_without_anything_to_find_a_metric_is_nan_and_warns(metric):
    with pytest.warns(UndefinedMetricWarning, match="No user of 2 has an item held out"):
        value = metric(np.zeros((2, 3)), [[0, 1], [1, 2]])
    assert math.isnan(value)


@every_metric
def test_without_anything_to_find_the_users_are_nan_without_a_warning(metric):
    assert np.isnan(metric(np.zeros((2, 3)), [[0, 1], [1, 2]], average=None)).all()


@every_metric
def test_a_ranking_of_minus_ones_is_worth_zero_also_where_the_last_item_is_held_out(metric):
    assert metric(np.array([[0, 0, 1]]), [[-1, -1]]) == 0


@every_metric
def test_the_order_of_the_items_does_not_matter_to_a_metric(metric, random_rankings):
    held_out, ranking = random_rankings
    renamed = np.random.default_rng(1).permutation(15)  # item j becomes renamed[j]
    moved = held_out[:, np.argsort(renamed)]
    other = np.where(ranking >= 0, renamed[ranking], -1)
    assert_allclose(metric(moved, other, average=None), metric(held_out, ranking, average=None))


@every_metric
@pytest.mark.parametrize(
    "convert",
    [
        lambda H: H.toarray(),
        lambda H: H.astype(bool),
        lambda H: H.astype(np.int64),
        sp.csr_matrix,
        sp.csc_array,
        sp.coo_array,
        lambda H: H.toarray().tolist(),
    ],
    ids=["dense", "bool", "int", "csr_matrix", "csc", "coo", "lists"],
)
def test_held_out_may_be_of_any_type(metric, convert, random_rankings):
    held_out, ranking = random_rankings
    assert metric(convert(held_out), ranking) == metric(held_out, ranking)


@every_metric
def test_stored_zeros_are_not_held_out(metric):
    held_out = sp.csr_array(([0.0, 1.0], [0, 2], [0, 2]), shape=(1, 3))
    assert metric(held_out, [[2, 0]]) == metric(np.array([[0, 0, 1]]), [[2, 0]])


@every_metric
def test_the_value_stored_where_an_item_was_held_out_does_not_matter(metric, random_rankings):
    held_out, ranking = random_rankings
    assert metric(held_out, ranking) == metric(held_out != 0, ranking)


def test_rankings_may_be_lists_or_any_integers():
    held_out = sp.csr_array(np.eye(4))
    ranking = np.array([[0, 1], [0, 1], [0, 2], [3, 0]])
    expected = ndcg_at_k(held_out, ranking)
    assert ndcg_at_k(held_out, ranking.tolist()) == expected
    assert ndcg_at_k(held_out, ranking.astype(np.uint8)) == expected
    assert ndcg_at_k(held_out, ranking.astype(np.int32)) == expected


@every_metric
@pytest.mark.parametrize(
    ("ranking", "message"),
    [
        ([0, 1], r"2-d array of integers .* got an array of shape \(2,\)"),
        ([[[0]], [[1]]], r"2-d array of integers .* got an array of shape \(2, 1, 1\)"),
        ([[0.0, 1.0], [1.0, 2.0]], "integers .* type float64"),
        ([[True, False], [True, False]], "integers .* type bool"),
        ([["0"], ["1"]], "integers .* type <U1"),
        (np.empty((2, 0), dtype=int), r"at least one rank, got an array of shape \(2, 0\)"),
        ([[0, 1]], "ranking has 1 users, but held_out has 2"),
        ([[0, 3], [0, 1]], "item indices from 0 to 2, or -1 .* got values from 0 to 3"),
        ([[0, -2], [0, 1]], "item indices from 0 to 2, or -1 .* got values from -2 to 1"),
        ([[0, 1], [2, 2]], "same item twice in row 1"),
    ],
)
def test_a_bad_ranking_is_refused(metric, ranking, message):
    with pytest.raises(ValueError, match=message):
        metric(np.eye(2, 3), ranking)


@every_metric
@pytest.mark.parametrize("k", [0, -1, 3, 1.0, "2"])
def test_a_bad_k_is_refused(metric, k):
    with pytest.raises(ValueError, match=f"k must be an integer between 1 and the 2 .* got {k!r}"):
        metric(np.eye(2), [[0, 1], [1, 0]], k=k)


@every_metric
@pytest.mark.parametrize("average", ["median", "macro", True])
def test_a_bad_average_is_refused(metric, average):
    with pytest.raises(ValueError, match=f"average must be 'mean' or None, got {average!r}"):
        metric(np.eye(2), [[0, 1], [1, 0]], average=average)


@pytest.mark.parametrize("metric", [recall_at_k, average_precision_at_k])
@pytest.mark.parametrize("denominator", ["k", None, "min"])
def test_a_bad_denominator_is_refused(metric, denominator):
    with pytest.raises(ValueError, match=r"denominator must be 'min.k, n.' or 'n', got"):
        metric(np.eye(2), [[0, 1], [1, 0]], denominator=denominator)


@every_metric
@pytest.mark.parametrize(
    "held_out",
    [np.array([1, 0]), np.empty((0, 3)), np.array([[np.nan, 1.0]]), np.array([[np.inf, 1.0]])],
    ids=["1-d", "no users", "NaN", "infinite"],
)
def test_bad_held_out_items_are_refused(metric, held_out):
    with pytest.raises(ValueError, match=r"2D|minimum of 1|NaN|infinity"):
        metric(held_out, np.zeros((held_out.shape[0], 1), dtype=int))


def test_the_same_item_may_come_twice_past_k():
    assert hit_rate_at_k(np.array([[1, 0]]), [[0, 1, 1]], k=2) == 1


def test_every_public_name_is_there():
    assert all(hasattr(metrics, name) for name in metrics.__all__)


@pytest.mark.parametrize("name", [name for name in METRICS if METRICS[name].needs == "held_out"])
@pytest.mark.parametrize("ks", [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [3], [2, 7, 12]], ids=str)
def test_all_numbers_of_ranks_at_once_give_what_each_gives_alone(name, ks, random_rankings):
    held_out, ranking = random_rankings
    together = measure_curve(name, held_out, ranking, np.array(ks))
    base, _, of_n = name.partition("/")
    function = partial(PUBLIC[base], denominator="n") if of_n else PUBLIC[base]
    for k, values in zip(ks, together, strict=True):
        alone = function(held_out, ranking, k=k, average=None)
        assert_allclose(values, alone, rtol=0, atol=1e-15)
