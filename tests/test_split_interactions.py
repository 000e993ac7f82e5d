"""Splits of each user's interactions, beside slow versions that follow their definition."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from sklrec.model_selection import (
    StrongGeneralizationSplit,
    split_interactions,
    strong_generalization_split,
)


def ratings(n_users=40, n_items=25, seed=0):
    """Return ratings from 1 to 5, users with none, one and many of them."""
    rng = np.random.default_rng(seed)
    X = rng.integers(1, 6, (n_users, n_items)) * (
        rng.random((n_users, n_items)) < np.linspace(0, 0.9, n_users)[:, None]
    )
    X[1] = 0
    X[1, 7] = 5
    return sp.csr_array(X.astype(float))


@pytest.mark.parametrize("test_size", [0.2, 0.75, 1, 3, 100])
@pytest.mark.parametrize("threshold", [0.0, 3.5])
def test_the_parts_are_disjoint_and_add_up_to_X(test_size, threshold):
    X = ratings()
    fold_in, held_out = split_interactions(X, test_size, threshold=threshold, random_state=0)
    assert_array_equal((fold_in + held_out).toarray(), X.toarray())
    assert fold_in.nnz + held_out.nnz == X.nnz
    assert fold_in.multiply(held_out).nnz == 0
    assert fold_in.dtype == held_out.dtype == X.dtype


@pytest.mark.parametrize("threshold", [0.0, 2.0, 3.5])
@pytest.mark.parametrize("test_size", [0.1, 0.2, 0.5, 0.95])
def test_a_share_of_the_relevant_entries_is_held_out_rounded_up_but_one(test_size, threshold):
    X = ratings()
    _, held_out = split_interactions(X, test_size, threshold=threshold, random_state=0)
    for row, held in zip(X.toarray(), held_out.toarray(), strict=True):
        n = (row > threshold).sum()
        # In whole hundredths, free of rounding errors.
        wanted = -(-round(100 * test_size) * n // 100)
        assert (held > 0).sum() == min(wanted, max(n - 1, 0))
        assert (held[held > 0] > threshold).all()


@pytest.mark.parametrize("threshold", [0.0, 3.5])
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_a_count_of_the_relevant_entries_is_held_out_but_one(count, threshold):
    X = ratings()
    _, held_out = split_interactions(X, count, threshold=threshold, random_state=0)
    n = (X.toarray() > threshold).sum(axis=1)
    assert_array_equal(np.diff(held_out.indptr), np.minimum(count, np.maximum(n - 1, 0)))


@pytest.mark.parametrize(
    ("test_size", "n", "n_held_out"),
    [
        (0.28, 25, 7),
        (0.55, 100, 55),
        (0.1, 30, 3),
        (0.2, 15, 3),
        (0.7, 10, 7),
        (0.2, 11, 3),
        (0.01, 2, 1),
        (1 / 3, 9, 3),
    ],
)
def test_rounding_by_hand(test_size, n, n_held_out):
    assert split_interactions(np.ones((1, n)), test_size)[1].nnz == n_held_out


def test_users_with_one_or_no_relevant_entry_have_nothing_held_out():
    X = sp.csr_array([[0, 0, 0], [0, 5.0, 0], [1.0, 5.0, 2.0]])
    fold_in, held_out = split_interactions(X, 1, threshold=3.5, random_state=0)
    assert held_out.nnz == 0
    assert_array_equal(fold_in.toarray(), X.toarray())


def test_an_entry_equal_to_the_threshold_is_not_relevant():
    held_out = split_interactions(np.array([[4, 5, 5, 4]]), 4, threshold=4)[1].toarray()
    assert held_out.sum() == 5
    assert held_out[0, [0, 3]].sum() == 0


def test_every_relevant_entry_is_held_out_as_often():
    X = sp.csr_array(np.tile([1.0, 5.0, 5.0, 2.0, 5.0, 5.0], (4000, 1)))
    share = split_interactions(X, 1, threshold=3, random_state=0)[1].toarray().mean(axis=0) / 5
    # The standard error of a share of a quarter is 0.007.
    np.testing.assert_allclose(share, [0, 0.25, 0.25, 0, 0.25, 0.25], atol=0.03)


def test_the_same_seed_holds_out_the_same_and_another_one_other_entries():
    X = ratings()
    a, b, c = (split_interactions(X, random_state=seed)[1].toarray() for seed in (0, 0, 1))
    assert_array_equal(a, b)
    assert (a != c).any()


def test_a_generator_goes_on_from_where_it_is():
    rng = np.random.RandomState(0)
    X = ratings()
    first, second = (split_interactions(X, random_state=rng)[1].toarray() for _ in range(2))
    assert (first != second).any()


def test_without_a_seed_two_calls_differ():
    X = np.ones((50, 20))
    first, second = (split_interactions(X)[1].toarray() for _ in range(2))
    assert (first != second).any()


def latest_slowly(X, time, n, threshold=0.0):
    """Return the n latest relevant entries of each row but one, ties to the higher index."""
    held = np.zeros(X.shape, dtype=bool)
    for user, row in enumerate(X):
        relevant = [j for j in range(X.shape[1]) if row[j] > threshold]
        by_time = sorted(relevant, key=lambda j, u=user: (time[u, j], j))
        for j in by_time[1:][-n:]:
            held[user, j] = True
    return np.where(held, X, 0)


def stored(values, X):
    """Return values at the entries of X, zeros among them stored."""
    X = sp.csr_array(X)
    row, column = X.nonzero()
    return sp.csr_array((np.asarray(values)[row, column], X.indices, X.indptr), shape=X.shape)


@pytest.mark.parametrize("threshold", [0.0, 3.5])
@pytest.mark.parametrize("n", [1, 3])
def test_with_time_the_latest_entries_are_held_out_of_equal_times_the_higher_index(n, threshold):
    X = ratings()
    time = np.random.default_rng(2).integers(-2, 3, X.shape)  # many ties, some zeros
    held_out = split_interactions(X, n, threshold=threshold, time=stored(time, X))[1]
    assert_array_equal(held_out.toarray(), latest_slowly(X.toarray(), time, n, threshold))


def test_the_latest_by_hand():
    X = np.array([[5, 1, 4, 0, 5], [1, 1, 1, 1, 1]])
    time = np.array([[7, 9, 8, 0, 7], [3, 3, 3, 3, 3]])
    held_out = split_interactions(X, 2, threshold=3.5, time=stored(time, X))[1]
    # User 0: item 2 is the latest with 4 or 5, then item 4 of the two at time 7.
    assert_array_equal(held_out.toarray(), [[0, 0, 4, 0, 5], [0] * 5])
    held_out = split_interactions(X, 2, time=stored(time, X))[1]
    assert_array_equal(held_out.toarray(), [[0, 1, 4, 0, 0], [0, 0, 0, 1, 1]])


def test_a_time_of_zero_is_a_time():
    X = np.ones((1, 3))
    time = np.array([[-1.0, 0.0, -2.0]])
    assert_array_equal(split_interactions(X, 1, time=stored(time, X))[1].toarray(), [[0, 1, 0]])


def test_times_may_be_unsorted_and_of_more_entries_than_X():
    X = ratings()
    time = np.random.default_rng(0).integers(1, 1000, X.shape)
    row, column = np.divmod(np.random.default_rng(1).permutation(X.shape[0] * X.shape[1]), 25)
    everywhere = sp.coo_array((time[row, column], (row, column)), shape=X.shape)
    held_out = split_interactions(X, 2, time=everywhere)[1]
    assert_array_equal(held_out.toarray(), latest_slowly(X.toarray(), time, 2))


def test_times_with_nanoseconds_keep_their_order():
    X = np.ones((1, 3))
    base = 1_700_000_000_000_000_000
    time = base + 1000 * np.array([[1, 2, 0]], dtype=np.int64)
    assert_array_equal(split_interactions(X, 1, time=stored(time, X))[1].toarray(), [[0, 1, 0]])


@pytest.mark.parametrize("kind", [np.int64, np.uint64, "datetime64[ns]"])
def test_times_one_nanosecond_apart_do_not_tie(kind):
    """Next to 1.7e18 the step of float64 is 256, so that the higher index would be held out."""
    X = np.ones((1, 3))
    time = (1_700_000_000_000_000_000 + np.array([[1, 2, 0]])).astype(kind)
    held_out = split_interactions(X, 1, time=stored(time, X))[1]
    assert_array_equal(held_out.toarray(), [[0, 1, 0]])


@pytest.mark.parametrize(
    "time", [[-(2**63), 2**63 - 1, 0], np.array([0, 2**64 - 1, 5], dtype=np.uint64)]
)
def test_the_largest_and_smallest_integers_are_times(time):
    X = np.ones((1, 3))
    held_out = split_interactions(X, 1, time=stored(np.array([time]), X))[1]
    assert_array_equal(held_out.toarray(), [[0, 1, 0]])


def test_a_missing_datetime_is_refused():
    X = np.ones((1, 2))
    time = np.array([["2020-01-01", "NaT"]], dtype="datetime64[s]")
    with pytest.raises(ValueError, match="times must be finite, got NaT"):
        split_interactions(X, 1, time=stored(time, X))


@pytest.mark.parametrize("options", [{}, {"time": "latest"}, {"time": "latest", "cutoff": 12}])
def test_index_arrays_stay_as_narrow_as_those_of_X(options):
    X = sp.csr_array(ratings())
    assert X.indices.dtype == X.indptr.dtype == np.int32
    if "time" in options:
        options = options | {"time": stored(np.arange(X.shape[1]) + 0 * X.toarray(), X)}
    for part in split_interactions(X, random_state=0, **options):
        assert part.indices.dtype == part.indptr.dtype == np.int32


def test_the_time_is_left_unchanged():
    X = ratings()
    time = stored(np.random.default_rng(0).random(X.shape), X)[:, ::-1]
    before = [part.copy() for part in (time.data, time.indices, time.indptr)]
    split_interactions(X[:, ::-1], 2, time=time)
    for part, copy in zip((time.data, time.indices, time.indptr), before, strict=True):
        assert_array_equal(part, copy)


def test_a_missing_time_is_refused():
    X = np.ones((2, 3))
    time = sp.csr_array(([1.0, 2.0, 3.0, 4.0], ([0, 0, 1, 1], [0, 1, 0, 2])), shape=(2, 3))
    with pytest.raises(ValueError, match="entry for each of the 6 of X, but 2 are missing"):
        split_interactions(X, 1, time=time)


def test_two_times_for_one_interaction_are_refused():
    X = np.ones((1, 2))
    time = sp.coo_array(([1.0, 2.0, 2.5], ([0, 0, 0], [0, 0, 1])), shape=(1, 2))
    with pytest.raises(ValueError, match="one entry for each of X, but 1 of its 3 are duplicates"):
        split_interactions(X, 1, time=time)


@pytest.mark.parametrize(
    "time", [np.ones((2, 3)), sp.csr_array((2, 4)), sp.csr_array((1, 3)), "time", [1, 2]]
)
def test_a_time_of_another_shape_or_type_is_refused(time):
    with pytest.raises(ValueError, match=r"time must be a sparse array of shape \(2, 3\)"):
        split_interactions(np.ones((2, 3)), 1, time=time)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_time_that_is_not_finite_is_refused(bad):
    X = np.ones((1, 3))
    with pytest.raises(ValueError, match="time must be finite"):
        split_interactions(X, 1, time=stored(np.array([[1.0, bad, 2.0]]), X))


@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.toarray(),
        lambda X: X.astype(np.float32),
        lambda X: X.astype(np.int64),
        sp.csr_matrix,
        sp.csc_array,
        sp.coo_array,
        sp.lil_array,
        lambda X: X.toarray().tolist(),
    ],
    ids=["dense", "float32", "int64", "csr_matrix", "csc", "coo", "lil", "lists"],
)
def test_the_type_of_X_does_not_change_what_is_held_out(convert):
    X = ratings()
    expected = split_interactions(X, threshold=2, random_state=0)[1]
    held_out = split_interactions(convert(X), threshold=2, random_state=0)[1]
    assert isinstance(held_out, sp.csr_array)
    assert_array_equal(held_out.toarray(), expected.toarray())


def test_booleans_are_split_as_ones():
    X = ratings() > 0
    fold_in, held_out = split_interactions(X, random_state=0)
    assert fold_in.dtype == held_out.dtype == bool
    expected = split_interactions(X.astype(float), random_state=0)[1]
    assert_array_equal(held_out.toarray(), expected.toarray() > 0)


def test_duplicates_are_summed_and_stored_zeros_dropped_first():
    # Item 0 is stored as 2 + 3, item 1 as 0: two relevant entries, of which one is held out.
    messy = sp.csr_array(([2.0, 0.0, 3.0, 5.0], [0, 1, 0, 2], [0, 4]), shape=(1, 3))
    fold_in, held_out = split_interactions(messy, 5, threshold=3.5, random_state=0)
    assert_array_equal((fold_in + held_out).toarray(), [[5, 0, 5]])
    assert fold_in.nnz == held_out.nnz == 1


def test_X_is_left_unchanged():
    messy = sp.csr_array(([2.0, 0.0, 3.0, 5.0], [2, 1, 2, 0], [0, 4]), shape=(1, 3))
    before = [part.copy() for part in (messy.data, messy.indices, messy.indptr)]
    fold_in, _ = split_interactions(messy, 1, random_state=0)
    fold_in.data[:] = 9
    for part, copy in zip((messy.data, messy.indices, messy.indptr), before, strict=True):
        assert_array_equal(part, copy)


def test_a_matrix_without_interactions_gives_two_of_the_same_shape():
    fold_in, held_out = split_interactions(sp.csr_array((3, 4)))
    assert fold_in.shape == held_out.shape == (3, 4)
    assert fold_in.nnz == held_out.nnz == 0


def test_one_user_is_split():
    fold_in, held_out = split_interactions(np.ones((1, 10)), random_state=0)
    assert (fold_in.nnz, held_out.nnz) == (8, 2)


def test_the_users_above_do_not_change_how_many_entries_of_a_user_are_held_out():
    X = ratings()
    alone = [split_interactions(X[[user]], 0.3)[1].nnz for user in range(40)]
    assert_array_equal(np.diff(split_interactions(X, 0.3)[1].indptr), alone)


@pytest.mark.parametrize("test_size", [0, 0.0, 1.0, 2.5, -1, -0.2, "1", None, False, math.nan])
def test_a_bad_size_of_the_held_out_part_is_refused(test_size):
    with pytest.raises(ValueError, match=f"test_size must be a share .* got {test_size!r}"):
        split_interactions(np.ones((2, 3)), test_size)


@pytest.mark.parametrize(
    "X", [np.ones(3), np.empty((0, 3)), np.empty((3, 0)), [[np.nan, 1]], [[np.inf, 1]], [["a"]]]
)
def test_interactions_of_no_matrix_cannot_be_split(X):
    with pytest.raises(ValueError, match=r"2D|minimum of 1|NaN|infinity|not compatible"):
        split_interactions(X)


@pytest.mark.parametrize("threshold", [None, "3.5", np.nan])
def test_threshold_must_be_a_number(threshold):
    with pytest.raises(ValueError, match="threshold must be a number"):
        split_interactions(np.ones((2, 3)), threshold=threshold)


@pytest.mark.parametrize(
    "split",
    [
        split_interactions,
        lambda X: strong_generalization_split(X, n_heldout=1),
        lambda X: next(StrongGeneralizationSplit().split(X)),
    ],
)
def test_negative_interactions_are_refused(split):
    with pytest.raises(ValueError, match="Negative values in data"):
        split(-np.ones((10, 6)))
