"""Ranking of scores against a stable sort."""

from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from sklrec._ranking import BATCH_BYTES, Excluded, rank_in_batches, row_batches, top_k
from sklrec.dummy import PopularityRecommender


class Scores:
    """An estimator that scores as it is told."""

    def __init__(self, decision_function):
        self.decision_function = decision_function


def ranks(scores, k, seen=None):
    return top_k(scores, k, excluded=None if seen is None else Excluded(entries=seen))[0]


def ranked(decision_function, X, k):
    return rank_in_batches(Scores(decision_function), X, k=k, excluded=Excluded(entries=X))


def by_stable_sort(scores, k, seen=None):
    """Rank by sorting whole rows: slow and obvious."""
    scores = np.array(scores, dtype=float)
    if seen is not None:
        scores[seen.toarray() > 0] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    order[np.isneginf(np.take_along_axis(scores, order, axis=1))] = -1
    ranking = np.full((scores.shape[0], k), -1)
    ranking[:, : scores.shape[1]] = order[:, :k]
    return ranking


@pytest.mark.parametrize("k", [1, 3, 10, 99, 100, 1000, 1001, 1500])
@pytest.mark.parametrize("n_values", [1, 2, 5, 50, 10**6])
def test_equals_a_stable_sort_with_few_and_many_ties(k, n_values):
    rng = np.random.default_rng(k)
    scores = rng.integers(n_values, size=(7, 1001)).astype(np.float32)
    seen = sp.random_array((7, 1001), density=0.1, format="csr", rng=rng)
    assert_array_equal(ranks(scores, k, seen=seen), by_stable_sort(scores, k, seen))


@pytest.mark.parametrize("n_items", [1, 2, 63, 64, 65, 159, 4099])
def test_equals_a_stable_sort_for_any_number_of_items(n_items):
    scores = np.random.default_rng(n_items).normal(size=(20, n_items))
    for k in (1, 5):
        assert_array_equal(ranks(scores, k), by_stable_sort(scores, k))


@pytest.mark.parametrize("k", [1, 10, 63])
@pytest.mark.parametrize("n_values", [1, 3, 10**6])
@pytest.mark.parametrize("n_items", [63, 64, 1000, 4099])
def test_one_row_equals_a_stable_sort(n_items, n_values, k):
    rng = np.random.default_rng(n_items + n_values)
    scores = rng.integers(n_values, size=(1, n_items)).astype(np.float64)
    scores[0, rng.random(n_items) < 0.1] = -np.inf
    seen = sp.random_array((1, n_items), density=0.1, format="csr", rng=rng)
    given = scores.copy()
    assert_array_equal(ranks(scores, k, seen), by_stable_sort(scores, k, seen))
    assert_array_equal(scores, given)


@pytest.mark.parametrize("column", [0, 700, 998])
def test_nan_of_one_row_is_an_error(column):
    scores = np.zeros((1, 999))
    scores[0, column] = np.nan
    with pytest.raises(ValueError, match="must not be NaN, but row 0 has 1 NaN"):
        top_k(scores, 10)


def test_catalogue_sorted_by_score_is_ranked_exactly():
    """The best items all lie side by side: the worst case for bounds by groups."""
    scores = np.arange(5000, 0, -1)[None, :]
    assert_array_equal(ranks(scores, 50), np.arange(50)[None, :])


def test_a_row_without_any_score_is_all_minus_one():
    scores = np.array([[-np.inf, -np.inf], [-np.inf, 1]])
    assert_array_equal(ranks(scores, 2), [[-1, -1], [1, -1]])


def test_infinite_score_comes_first():
    assert_array_equal(ranks(np.array([[0, np.inf, 5]]), 2), [[1, 2]])


def test_integer_scores_are_ranked_and_unchanged():
    scores = np.array([[3, 1, 2]])
    assert_array_equal(ranks(scores, 2, seen=sp.csr_array([[1, 0, 0]])), [[2, 1]])
    assert_array_equal(scores, [[3, 1, 2]])


@pytest.mark.parametrize("column", [0, 700, 999])
def test_nan_is_an_error_that_names_the_row(column):
    scores = np.zeros((3, 1000))
    scores[1, column] = np.nan
    with pytest.raises(ValueError, match="row 1 has 1 NaN"):
        ranks(scores, 5)


def test_no_rows_give_no_rankings():
    assert ranks(np.empty((0, 4)), 2).shape == (0, 2)


@pytest.mark.parametrize("n_items", [1, 1000, 10**9])
def test_batches_cover_all_rows_within_the_memory(n_items):
    batches = list(row_batches(10_000, n_items))
    assert_array_equal(np.concatenate([np.arange(10_000)[b] for b in batches]), np.arange(10_000))
    longest = max(b.stop - b.start for b in batches)
    assert longest == 1 or longest * n_items * 8 <= BATCH_BYTES


def test_batches_of_a_large_catalogue_do_not_walk_through_the_weights_for_a_few_rows():
    assert [b.stop - b.start for b in row_batches(100, 10**6)] == [64, 36]


def test_batches_rank_as_one(monkeypatch):
    monkeypatch.setattr("sklrec._ranking.BATCH_BYTES", 8 * 50 * 7)
    monkeypatch.setattr("sklrec._ranking.FEW_ROWS", 1)
    X = sp.random_array((30, 50), density=0.2, format="csr", rng=np.random.default_rng(0))
    scores = X.toarray() + np.linspace(1, 0, 50)
    calls = []

    def decision_function(rows):
        calls.append(rows.shape[0])
        return rows.toarray() + np.linspace(1, 0, 50)

    ranking = ranked(decision_function, X, k=6)
    assert_array_equal(ranking, by_stable_sort(scores, 6, X))
    assert calls == [7, 7, 7, 7, 2]


def test_more_ranks_than_the_memory_holds_are_refused_before_the_work():
    X = sp.csr_array(np.eye(3, 5))
    with pytest.raises(MemoryError, match=r"k=10,000,000,000,000 items .* needs 223,517\."):
        ranked(lambda rows: 1 / 0, X, k=10**13)


def test_more_ranks_than_items_end_with_minus_one():
    X = sp.csr_array(np.eye(3, 5))
    ranking = ranked(lambda rows: rows.toarray(), X, k=9)
    assert_array_equal(ranking, by_stable_sort(X.toarray(), 9, X))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 5)])
def test_scores_of_another_shape_are_an_error_that_names_both(shape):
    X = sp.csr_array(np.eye(3, 5))
    with pytest.raises(ValueError, match=r"of shape \(3, 5\), got"):
        ranked(lambda rows: np.zeros(shape), X, k=2)


# Candidates, exclusions and scores


@pytest.fixture
def popular(X):
    return PopularityRecommender().fit(X)


def test_candidates_by_hand():
    X = sp.csr_array([[1, 1, 0, 1, 0], [0, 1, 0, 1, 0], [0, 0, 0, 1, 1]])
    model = PopularityRecommender().fit(X)  # popularity 1, 2, 0, 3, 1
    rank = partial(model.predict_ranking, X, k=3)
    assert_array_equal(rank(items=[0, 2, 4]), [[4, 2, -1], [0, 4, 2], [0, 2, -1]])
    assert_array_equal(rank(exclude=[4]), [[2, -1, -1], [0, 2, -1], [1, 0, 2]])
    one_each = sp.csr_array([[0, 0, 1, 0, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 0]])
    assert_array_equal(rank(items=one_each), [[4, 2, -1], [0, -1, -1], [1, -1, -1]])
    assert_array_equal(rank(exclude=one_each), [[-1, -1, -1], [4, 2, -1], [0, 2, -1]])
    assert_array_equal(rank(items=[1, 3], exclude_seen=False), [[3, 1, -1]] * 3)
    ranking, scores = rank(items=[0, 2, 4], exclude=one_each, return_scores=True)
    assert_array_equal(ranking, [[-1, -1, -1], [4, 2, -1], [0, 2, -1]])
    assert_array_equal(scores, [[-np.inf] * 3, [1, 0, -np.inf], [1, 0, -np.inf]])


def test_scores_of_more_ranks_than_items_end_with_minus_infinity(popular, X):
    ranking, scores = popular.predict_ranking(X, k=25, return_scores=True)
    assert_array_equal(np.isneginf(scores), ranking < 0)
    expected = np.take_along_axis(popular.decision_function(X), np.maximum(ranking, 0), axis=1)
    assert_array_equal(scores[ranking >= 0], expected[ranking >= 0])


def test_candidates_of_each_user_stay_with_the_user_in_batches(popular, X, monkeypatch):
    mask = sp.random_array(X.shape, density=0.4, format="csr", rng=np.random.default_rng(0))
    whole = popular.predict_ranking(X, k=5, items=mask, exclude=X, exclude_seen=False)
    monkeypatch.setattr("sklrec._ranking.FEW_ROWS", 1)
    monkeypatch.setattr("sklrec._ranking.BATCH_BYTES", 8 * 20 * 7)
    monkeypatch.setattr("sklrec._ranking.CACHED_BYTES", 8 * 20 * 3)
    assert_array_equal(
        popular.predict_ranking(X, k=5, items=mask, exclude=X, exclude_seen=False), whole
    )
    scores = np.where(mask.toarray() > 0, popular.decision_function(X), -np.inf)
    assert_array_equal(whole, by_stable_sort(scores, 5, X))


def test_stored_zeros_of_a_mask_are_no_candidates(popular, X):
    mask = sp.csr_array((np.zeros(60), np.zeros(60, dtype=int), np.arange(61)), shape=X.shape)
    assert (popular.predict_ranking(X, k=2, items=mask) == -1).all()


@pytest.mark.parametrize("name", ["items", "exclude"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([0, 20], "must be between 0 and 19, got 20"),
        ([-1], "must be between 0 and 19, got -1"),
        ([0.5], "must be a list of item indices or a sparse array"),
        (["a"], "must be a list of item indices or a sparse array"),
        (3, r"must be a list of item indices .* got 3"),
        (np.ones(20, dtype=bool), "must be a list of item indices or a sparse array"),
        (np.ones((60, 20)), "must be a list of item indices or a sparse array"),
        (sp.csr_array(np.ones((2, 20))), r"must have 60 rows, got shape \(2, 20\)"),
        (sp.csr_array(np.ones((60, 3))), r"must have 20 columns, got shape \(60, 3\)"),
        (sp.csr_array(np.full((60, 20), np.nan)), "contains NaN"),
    ],
)
def test_what_is_no_list_and_no_mask_is_an_error(popular, X, name, value, message):
    with pytest.raises(ValueError, match=f"{name} {message}"):
        popular.predict_ranking(X, **{name: value})


def test_no_candidates_are_an_error_and_nothing_to_exclude_is_none(popular, X):
    with pytest.raises(ValueError, match="items must have at least one item"):
        popular.predict_ranking(X, items=[])
    assert_array_equal(popular.predict_ranking(X, exclude=[]), popular.predict_ranking(X))


@pytest.mark.parametrize("n_threads", [1, 3])
def test_equals_a_stable_sort_on_threads(monkeypatch, n_threads):
    monkeypatch.setattr("sklrec._linalg.n_threads", lambda: n_threads)
    monkeypatch.setattr("sklrec._linalg._WORTH_A_THREAD", 0)
    monkeypatch.setattr("sklrec._ranking.CACHED_BYTES", 4 * 301 * 5)
    rng = np.random.default_rng(0)
    scores = rng.integers(9, size=(53, 301)).astype(np.float32)
    seen = sp.random_array((53, 301), density=0.1, format="csr", rng=rng)
    before = scores.copy()
    assert_array_equal(ranks(scores, 20, seen=seen), by_stable_sort(scores, 20, seen))
    assert_array_equal(scores, before)
    scores[40, 7] = np.nan
    with pytest.raises(ValueError, match="row 40 has 1 NaN"):
        ranks(scores, 5)
