import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from sklrec.datasets import make_interactions


@pytest.mark.parametrize("n_interactions", [50, 51, 300, 777, 999, 1000])
def test_the_number_of_interactions_is_met_exactly(n_interactions):
    X = make_interactions(50, 20, n_interactions=n_interactions, random_state=0).data
    assert X.shape == (50, 20)
    assert X.nnz == n_interactions
    assert X.has_canonical_format  # no item twice
    assert np.diff(X.indptr).min() >= 1


def test_by_default_there_are_20_interactions_a_user():
    assert make_interactions(100, 200, random_state=0).data.nnz == 2000


def test_by_default_few_items_give_a_quarter_of_all_pairs():
    assert make_interactions(100, 20, random_state=0).data.nnz == 500


def test_results_have_the_announced_types_and_shapes():
    made = make_interactions(60, 30, n_features=40, random_state=0)
    assert isinstance(made.data, sp.csr_array)
    assert isinstance(made.item_features, sp.csr_array)
    assert made.data.dtype == made.item_features.dtype == np.float32
    assert made.data.indices.dtype == made.data.indptr.dtype == np.int32
    assert made.item_features.shape == (30, 40)
    assert made.user_groups.shape == made.user_ids.shape == (60,)
    assert made.item_groups.shape == made.item_ids.shape == made.item_names.shape == (30,)
    assert made.feature_names.shape == (40,)
    assert "60 users" in made.DESCR


def test_values_are_ones():
    assert (make_interactions(60, 30, random_state=0).data.data == 1).all()


def test_ratings_leave_the_interactions_as_they_are():
    plain = make_interactions(60, 30, random_state=0).data
    rated = make_interactions(60, 30, ratings=True, random_state=0).data
    assert_array_equal(plain.indices, rated.indices)
    assert set(rated.data.tolist()) == {1, 2, 3, 4, 5}


def test_ratings_are_higher_in_the_own_group():
    made = make_interactions(300, 100, ratings=True, random_state=0)
    X = made.data.tocoo()
    own = made.user_groups[X.row] == made.item_groups[X.col]
    assert X.data[own].mean() > X.data[~own].mean() + 0.5


def test_the_same_seed_gives_the_same_result():
    first = make_interactions(60, 30, random_state=3)
    second = make_interactions(60, 30, random_state=3)
    assert_array_equal(first.data.toarray(), second.data.toarray())
    assert_array_equal(first.item_features.toarray(), second.item_features.toarray())


def test_another_seed_gives_another_result():
    first = make_interactions(60, 30, random_state=3).data.toarray()
    assert (first != make_interactions(60, 30, random_state=4).data.toarray()).any()


def test_a_random_state_instance_moves_on():
    rng = np.random.RandomState(0)
    first = make_interactions(60, 30, random_state=rng).data.toarray()
    assert (first != make_interactions(60, 30, random_state=rng).data.toarray()).any()


def test_the_global_generator_is_left_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    make_interactions(60, 30, random_state=0)
    assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_groups_have_equal_sizes():
    made = make_interactions(62, 31, n_groups=5, random_state=0)
    assert sorted(np.bincount(made.user_groups)) == [12, 12, 12, 13, 13]
    assert sorted(np.bincount(made.item_groups)) == [6, 6, 6, 6, 7]


def own_share(cohesion):
    made = make_interactions(2000, 1000, n_groups=5, cohesion=cohesion, random_state=0)
    X = made.data.tocoo()
    return (made.user_groups[X.row] == made.item_groups[X.col]).mean()


def test_without_cohesion_a_user_takes_the_own_group_no_more_often_than_another():
    assert own_share(0.0) == pytest.approx(1 / 5, abs=0.02)


def test_with_cohesion_a_user_takes_the_own_group_that_much_more_often():
    # .5 on purpose and a fifth of the rest by chance, less what was already taken.
    assert 0.5 < own_share(0.5) < 0.5 + 0.5 / 5


def popularity(exponent):
    X = make_interactions(
        5000, 500, n_groups=1, popularity_exponent=exponent, activity_sigma=0, random_state=0
    ).data
    return np.sort(np.bincount(X.indices, minlength=500))[::-1]


def test_popularity_follows_the_power_law():
    """The slope of log popularity over log rank, where items are not yet taken by everyone."""
    rank = np.arange(20, 500)
    slope = np.polyfit(np.log(rank + 1), np.log(popularity(0.8)[rank]), 1)[0]
    assert slope == pytest.approx(-0.8, abs=0.1)


def test_with_exponent_zero_all_items_are_alike():
    counts = popularity(0.0)
    assert counts.min() > 0.7 * counts.mean()


def test_activity_is_log_normal():
    X = make_interactions(
        20_000, 2000, n_interactions=2_000_000, activity_sigma=0.8, random_state=0
    ).data
    logs = np.log(np.diff(X.indptr))
    assert logs.std() == pytest.approx(0.8, abs=0.02)
    skewness = ((logs - logs.mean()) ** 3).mean() / logs.std() ** 3
    assert skewness == pytest.approx(0, abs=0.1)


def test_without_spread_all_users_are_alike():
    X = make_interactions(100, 50, n_interactions=1050, activity_sigma=0, random_state=0).data
    assert set(np.diff(X.indptr)) == {10, 11}


def test_rejection_and_exponential_times_draw_from_the_same_distribution(monkeypatch):
    """Two ways to draw without replacement: popularity must not depend on which was used."""

    def counts():
        X = make_interactions(4000, 12, n_interactions=24_000, n_groups=2, random_state=0).data
        return np.bincount(X.indices, minlength=12)

    many_rounds = counts()
    monkeypatch.setattr("sklrec.datasets._synthetic._MAX_ROUNDS", 1)
    one_round = counts()
    assert (many_rounds != one_round).any()
    np.testing.assert_allclose(many_rounds, one_round, rtol=0.05)


def test_words_tell_the_group_of_an_item():
    """Rocchio: an item is nearest to the mean of the other half's items of its group."""
    made = make_interactions(100, 400, random_state=0)
    words = made.item_features.toarray()
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    train = np.arange(400) % 2 == 0
    centres = np.array([words[train & (made.item_groups == g)].mean(axis=0) for g in range(10)])
    guess = (words[~train] @ centres.T).argmax(axis=1)
    assert (guess == made.item_groups[~train]).mean() > 0.95


def recall_at_10(scores, fold_in, held_out):
    scores = np.where(fold_in > 0, -np.inf, scores)
    top = np.argpartition(-scores, 10, axis=1)[:, :10]
    hits = np.take_along_axis(held_out, top, axis=1).sum(axis=1)
    return (hits / np.minimum(10, held_out.sum(axis=1))).mean()


@pytest.mark.parametrize("shape", [(1000, 200), (2000, 1000)])
def test_groups_beat_popularity_and_popularity_beats_chance(shape):
    """A cosine of items, popularity and noise, with a share of each test user's items hidden."""
    rng = np.random.default_rng(0)
    X = make_interactions(*shape, random_state=0).data.toarray()
    n_train = 3 * len(X) // 4
    train, test = X[:n_train], X[n_train:]
    held_out = test * (rng.random(test.shape) < 0.3)
    some = held_out.sum(axis=1) > 0
    fold_in, held_out = (test - held_out)[some], held_out[some]
    gram = train.T @ train
    np.fill_diagonal(gram, 0)
    norm = np.sqrt(train.sum(axis=0)) + 1e-9
    cosine = recall_at_10(fold_in @ (gram / norm / norm[:, None]), fold_in, held_out)
    popular = recall_at_10(np.tile(train.sum(axis=0), (len(fold_in), 1)), fold_in, held_out)
    chance = recall_at_10(rng.random(fold_in.shape), fold_in, held_out)
    assert cosine > 1.5 * popular
    assert popular > 2 * chance


def test_few_interactions_among_many_users_and_items_take_little_memory():
    """Nothing dense: the dense matrix of this shape would take 22 GB."""
    made = make_interactions(136_677, 20_108, n_interactions=200_000, n_features=50, random_state=0)
    assert made.data.nnz == 200_000


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_interactions": 49}, "n_interactions=49 must be from n_users=50"),
        ({"n_interactions": 1001}, "n_interactions=1001 must be from n_users=50, .* to 1000"),
        ({"n_groups": 21}, r"n_groups=21 is more than .* n_items=20"),
        ({"n_features": 3}, r"n_groups=10 is more than .* n_features=3"),
    ],
)
def test_numbers_that_do_not_fit_are_an_error_that_says_why(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_interactions(50, 20, **parameters)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("n_users", 0),
        ("n_items", 1),
        ("n_interactions", 10.5),
        ("n_groups", 0),
        ("n_features", 0),
        ("cohesion", 1.0),
        ("cohesion", -0.1),
        ("popularity_exponent", -1),
        ("activity_sigma", np.nan),
        ("ratings", "yes"),
        ("random_state", "seed"),
    ],
)
def test_a_wrong_parameter_is_an_error_that_names_it(parameter, value):
    with pytest.raises(ValueError, match=f"'{parameter}' parameter of make_interactions"):
        make_interactions(**{parameter: value})
