"""Negatives and pairs against written-out distributions."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from sklrec._pairs import NegativeSampler, negative_weights, pair_batches, uniform_by_row


@pytest.fixture
def rows():
    """Users with some, one, all and none of eight items, some of which have no users."""
    dense = np.zeros((6, 8))
    dense[0, [0, 1, 5]] = 1
    dense[1, 7] = 1
    dense[2] = 1
    dense[4, [2, 3, 4, 6]] = 1
    dense[5, :7] = 1
    return sp.csr_array(dense)


def shares(sampler, user, n_items, n=20_000):
    """Return how often each item is at equidistant numbers, which leaves no chance."""
    items = sampler.at(np.full(n, user), (np.arange(n) + 0.5) / n)
    return np.bincount(items, minlength=n_items) / n


@pytest.mark.parametrize("weights", [None, np.array([3, 0, 1, 4, 0, 7, 2, 5])])
def test_an_item_is_drawn_as_often_as_its_weight_says_and_an_own_one_never(rows, weights):
    sampler = NegativeSampler(rows, weights)
    for user in [0, 1, 3, 4, 5]:
        expected = np.where(rows.toarray()[user] > 0, 0, np.ones(8) if weights is None else weights)
        assert sampler.total[user] == expected.sum()
        expected = expected / expected.sum()
        assert_allclose(shares(sampler, user, 8), expected, atol=1e-4)


def test_who_has_all_items_or_all_with_a_weight_gets_none(rows):
    assert_array_equal(NegativeSampler(rows).at(np.array([2, 5]), np.array([0.0, 0.9])), [-1, 7])
    of_first_seven = np.array([1, 1, 1, 1, 1, 1, 1, 0])
    found = NegativeSampler(rows, of_first_seven).draw(np.array([5, 2]), np.random.default_rng(0))
    assert_array_equal(found, [[-1], [-1]])


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
def test_no_draw_of_many_is_an_own_item(negatives):
    rng = np.random.default_rng(0)
    X = sp.random_array((300, 80), density=0.3, rng=rng, format="csr")
    X.sort_indices()
    sampler = NegativeSampler(X, negative_weights(X, negatives))
    users = np.sort(rng.integers(300, size=5000))
    items = sampler.draw(users, rng, 3)
    assert items.shape == (5000, 3)
    assert items.min() >= 0
    assert X.toarray()[users[:, None], items].max() == 0


def test_the_largest_number_below_one_is_no_item_beyond_the_last():
    X = sp.csr_array(np.eye(7))
    almost = np.full(7, np.nextafter(1, 0))
    assert_array_equal(NegativeSampler(X).at(np.arange(7), almost), [6, 6, 6, 6, 6, 6, 5])


def test_weights_are_the_numbers_of_users(rows):
    rows.data *= 5
    assert negative_weights(rows, "uniform") is None
    assert_array_equal(
        negative_weights(rows, "popularity"), np.count_nonzero(rows.toarray(), axis=0)
    )


def test_a_pass_meets_each_entry_once_but_those_of_who_has_all(rows):
    batches = list(pair_batches(rows, NegativeSampler(rows), 4, np.random.default_rng(0), 2))
    assert [len(users) for users, _, _ in batches] == [4, 4, 4, 3]
    assert all((np.diff(users) >= 0).all() for users, _, _ in batches)
    users, items, negatives = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    met = sp.csr_array((np.ones(users.size), (users, items)), shape=rows.shape).toarray()
    expected = rows.toarray()
    expected[2] = 0
    assert_array_equal(met, expected)
    assert rows.toarray()[users[:, None], negatives].max() == 0


def test_a_generator_decides_the_order_and_the_negatives(rows):
    def of(seed):
        batches = pair_batches(rows, NegativeSampler(rows), 4, np.random.default_rng(seed))
        return np.concatenate([np.column_stack(batch) for batch in batches])

    assert_array_equal(of(0), of(0))
    assert not np.array_equal(of(0), of(1))


def test_nobody_with_a_negative_makes_no_batch():
    X = sp.csr_array(np.ones((3, 1)))
    assert list(pair_batches(X, NegativeSampler(X), 4, np.random.default_rng(0))) == []


def test_numbers_of_a_row_depend_on_its_items_and_the_seed_alone(rows):
    rows = rows[[0, 1, 4, 5]]
    together = uniform_by_row(rows, 3, seed=5)
    alone = np.vstack([uniform_by_row(3 * rows[[row]], 3, seed=5) for row in range(4)])
    assert_array_equal(together, alone)
    assert not np.isin(together, uniform_by_row(rows, 3, seed=6)).any()
    assert np.unique(together).size == together.size


def test_numbers_of_rows_are_uniform():
    X = sp.random_array((400, 50), density=0.2, rng=np.random.default_rng(0), format="csr")
    X.sort_indices()
    numbers = uniform_by_row(X, 5, seed=0)
    assert ((numbers >= 0) & (numbers < 1)).all()
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    expected = numbers.size / 20
    assert ((counts - expected) ** 2 / expected).sum() < 43.8  # chi-squared of 19 at .001
    assert abs(np.corrcoef(numbers.T) - np.eye(5)).max() < 0.05


def test_batches_are_of_entries_from_all_over_X():
    X = sp.csr_array(np.tile([1.0, 1.0, 0.0], (500, 1)))
    users, _, _ = next(pair_batches(X, NegativeSampler(X), 100, np.random.default_rng(0)))
    assert users[0] < 100
    assert users[-1] > 400
