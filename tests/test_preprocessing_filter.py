"""filter_interactions: counted by hand, and against a plain loop."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from sklrec.preprocessing import filter_interactions

CHAIN = np.array(  # the last user hangs on the last item, which hangs on the user before, ...
    [
        [1, 1, 0, 0],
        [1, 1, 1, 0],
        [0, 0, 1, 1],
        [0, 0, 0, 1],
    ]
)


def core(X, min_per_user, min_per_item):
    """Remove users and items one after the other, as the definition of a core says."""
    users, items = list(range(X.shape[0])), list(range(X.shape[1]))
    while True:
        part = X[np.ix_(users, items)] > 0
        few_users = [u for u, n in zip(users, part.sum(axis=1), strict=True) if n < min_per_user]
        few_items = [i for i, n in zip(items, part.sum(axis=0), strict=True) if n < min_per_item]
        if few_users:
            users.remove(few_users[0])
        elif few_items:
            items.remove(few_items[0])
        else:
            return users, items


def test_items_go_first_and_users_count_what_is_left():
    X = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0]])
    filtered, users, items = filter_interactions(X, min_per_user=2, min_per_item=2)
    assert_array_equal(items, [0, 1])  # item 2 has one user
    assert_array_equal(users, [0, 2])  # so user 1 has one item left
    assert_array_equal(filtered.toarray(), [[1, 1], [1, 1]])


def test_once_leaves_items_that_lost_users_to_the_filter():
    filtered, users, items = filter_interactions(CHAIN, min_per_user=2, min_per_item=2)
    assert_array_equal(users, [0, 1, 2])
    assert_array_equal(items, [0, 1, 2, 3])
    assert_array_equal(filtered.toarray().sum(axis=0), [2, 2, 2, 1])


def test_iterated_leaves_the_core():
    filtered, users, items = filter_interactions(
        CHAIN, min_per_user=2, min_per_item=2, iterate=True
    )
    assert_array_equal(users, [0, 1])
    assert_array_equal(items, [0, 1])
    assert_array_equal(filtered.toarray(), [[1, 1], [1, 1]])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("min_per_user", "min_per_item"), [(2, 3), (4, 2), (0, 3), (3, 0)])
def test_the_core_is_that_of_its_definition(seed, min_per_user, min_per_item):
    X = np.random.default_rng(seed).poisson(0.25, size=(25, 15))
    filtered, users, items = filter_interactions(
        X, min_per_user=min_per_user, min_per_item=min_per_item, iterate=True
    )
    users_expected, items_expected = core(X, min_per_user, min_per_item)
    assert_array_equal(users, users_expected)
    assert_array_equal(items, items_expected)
    assert_array_equal(filtered.toarray(), X[np.ix_(users, items)])


def test_defaults_drop_empty_users_and_items():
    X = np.array([[0, 2, 0], [0, 0, 0], [3, 0, 0]])
    filtered, users, items = filter_interactions(X)
    assert_array_equal(users, [0, 2])
    assert_array_equal(items, [0, 1])
    assert_array_equal(filtered.toarray(), [[0, 2], [3, 0]])


def test_minima_of_zero_keep_everything():
    X = np.zeros((2, 3))
    assert filter_interactions(X, min_per_user=0, min_per_item=0)[0].shape == (2, 3)


def test_values_count_once_each_and_keep_their_type():
    X = np.array([[0.5, 9.0], [0.0, 0.25]], dtype=np.float32)
    filtered, users, _ = filter_interactions(X, min_per_user=2)
    assert_array_equal(users, [0])
    assert filtered.dtype == np.float32
    assert_array_equal(filtered.toarray(), [[0.5, 9.0]])


def test_stored_zeros_and_duplicate_entries_do_not_count():
    # The first row stores item 0 twice, the second stores a zero.
    X = sp.csr_array(([1.0, 2.0, 1.0, 0.0], [0, 0, 0, 1], [0, 2, 4]), shape=(2, 2))
    with pytest.raises(ValueError, match="leave nothing of 2 users and 2 items with 2 interact"):
        filter_interactions(X, min_per_user=2)


@pytest.mark.parametrize("container", [sp.csr_matrix, sp.csc_array, sp.coo_array, np.asarray])
def test_every_container_gives_a_csr_array(container):
    filtered, _, _ = filter_interactions(container(CHAIN), min_per_user=2, min_per_item=2)
    assert isinstance(filtered, sp.csr_array)
    assert filtered.has_canonical_format
    assert_array_equal(filtered.toarray(), CHAIN[:3])


def test_x_is_left_as_it_was():
    X = sp.csr_array(([1.0, 2.0, 1.0, 0.0], [1, 0, 0, 1], [0, 2, 4]), shape=(2, 2))
    before = X.data.copy(), X.indices.copy()
    filter_interactions(X)
    assert_array_equal(X.data, before[0])
    assert_array_equal(X.indices, before[1])


def test_an_empty_result_is_an_error_with_the_values():
    with pytest.raises(
        ValueError,
        match="min_per_user=3 and min_per_item=9 leave nothing of 4 users and 4 items with 8",
    ):
        filter_interactions(CHAIN, min_per_user=3, min_per_item=9)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[1, np.nan]], "NaN"),
        ([[1, np.inf]], "infinity"),
        ([[1, -1]], "Negative values"),
        ([1, 2], "Expected 2D array"),
        (np.empty((0, 3)), "0 sample"),
        ([["a", "b"]], "not compatible with arrays of bytes/strings"),
    ],
)
def test_matrices_that_are_not_allowed_are_an_error(X, message):
    with pytest.raises(ValueError, match=message):
        filter_interactions(X)


@pytest.mark.parametrize(
    "wrong", [{"min_per_user": -1}, {"min_per_item": 1.5}, {"iterate": "yes"}], ids=str
)
def test_parameters_out_of_range_are_an_error(wrong):
    with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter"):
        filter_interactions(CHAIN, **wrong)
