"""Splits of users, beside a slow version that follows the published recipe."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_validate

from sklrec.dummy import PopularityRecommender
from sklrec.metrics import RankingScorer
from sklrec.model_selection import (
    StrongGeneralizationSplit,
    strong_generalization_split,
)
from sklrec.model_selection._split import hold_out_users

NOT_FINITE = [np.nan, np.inf]


def power_law(n_users=120, n_items=200, seed=0):
    """Return a matrix with users of 0 to many items and items that few users have."""
    rng = np.random.default_rng(seed)
    chance = np.outer(rng.random(n_users) ** 2, 1 / np.arange(1, n_items + 1) ** 0.6)
    return sp.csr_array((rng.random((n_users, n_items)) < chance).astype(float))


# strong_generalization_split: the published recipe


def published_recipe(X, n_heldout, *, test_size=0.2, min_interactions=5, seed=98765):
    """Split with sets and loops, as the protocol of Liang et al. (2018) is told.

    Return the users of the three groups, the items, and for each group a dict from user to the
    set of items (fold-in, held-out).
    """
    dense = np.asarray(X.todense() if sp.issparse(X) else X)
    items_of = {u: [j for j in range(dense.shape[1]) if dense[u, j]] for u in range(len(dense))}
    kept = [u for u in sorted(items_of) if len(items_of[u]) >= min_interactions]
    order = np.random.RandomState(seed).permutation(len(kept))
    shuffled = [kept[position] for position in order]
    n_train = len(shuffled) - 2 * n_heldout
    groups = {
        "train": sorted(shuffled[:n_train]),
        "valid": sorted(shuffled[n_train : n_train + n_heldout]),
        "test": sorted(shuffled[n_train + n_heldout :]),
    }
    items = sorted({j for u in groups["train"] for j in items_of[u]})

    fold_in, held_out = {}, {}
    for name in ("valid", "test"):
        generator = np.random.RandomState(seed)
        for u in groups[name]:
            mine = [j for j in items_of[u] if j in items]
            drawn = []
            if len(mine) >= 5:
                size = int(test_size * len(mine))
                drawn = generator.choice(len(mine), size=size, replace=False).tolist()
            held_out[u] = {j for place, j in enumerate(mine) if place in drawn}
            fold_in[u] = set(mine) - held_out[u]
    return groups, items, fold_in, held_out


def items_by_user(part, users, items):
    """Return the entries of a part of the split as a dict from user to set of items of X."""
    return {int(u): {int(items[j]) for j in part[[row]].indices} for row, u in enumerate(users)}


@pytest.mark.parametrize(
    "options",
    [
        {"n_heldout": 10},
        {"n_heldout": 25},
        {"n_heldout": 1},
        {"n_heldout": 10, "random_state": 0},
        {"n_heldout": 10, "min_interactions": 1},
        {"n_heldout": 10, "min_interactions": 12},
        {"n_heldout": 10, "test_size": 0.5},
        {"n_heldout": 10, "test_size": 0.07},
    ],
    ids=str,
)
def test_the_split_is_the_published_recipe_entry_for_entry(options):
    X = power_law()
    split = strong_generalization_split(X, **options)
    renamed = {"random_state": "seed"}
    groups, items, fold_in, held_out = published_recipe(
        X, **{renamed.get(name, name): value for name, value in options.items()}
    )
    assert split.item_indices.tolist() == items
    assert split.train_users.tolist() == groups["train"]
    assert split.valid_users.tolist() == groups["valid"]
    assert split.test_users.tolist() == groups["test"]
    assert_array_equal(split.train.toarray(), X.toarray()[np.ix_(groups["train"], items)])
    for name in ("valid", "test"):
        users = groups[name]
        for part, expected in (("fold_in", fold_in), ("held_out", held_out)):
            found = items_by_user(split[f"{name}_{part}"], users, split.item_indices)
            assert found == {u: expected[u] for u in users}


def test_the_split_of_movielens_is_the_published_recipe_for_its_first_users(ml1m):
    X = (ml1m[:800] > 3.5).astype(np.float32)
    split = strong_generalization_split(X, n_heldout=100)
    groups, items, _, held_out = published_recipe(X, 100)
    assert split.item_indices.tolist() == items
    found = items_by_user(split.test_held_out, groups["test"], split.item_indices)
    assert found == {u: held_out[u] for u in groups["test"]}


def test_the_published_seed_is_the_default():
    X = power_law()
    first = strong_generalization_split(X, n_heldout=10)
    again = strong_generalization_split(X, n_heldout=10, random_state=98765)
    assert_array_equal(first.test_held_out.toarray(), again.test_held_out.toarray())


def test_the_three_groups_are_all_users_with_enough_interactions():
    X = power_law()
    split = strong_generalization_split(X, n_heldout=10)
    users = np.concatenate([split.train_users, split.valid_users, split.test_users])
    assert_array_equal(np.sort(users), np.flatnonzero(np.diff(X.indptr) >= 5))
    assert (np.diff(X.indptr) < 5).any()


def test_items_that_no_training_user_has_are_dropped():
    X = power_law()
    split = strong_generalization_split(X, n_heldout=10)
    has = X.toarray()[split.train_users].any(axis=0)
    assert_array_equal(split.item_indices, np.flatnonzero(has))
    assert X[split.test_users][:, ~has].nnz > 0


def test_users_left_with_fewer_than_five_items_keep_them_all():
    X = power_law()
    split = strong_generalization_split(X, n_heldout=25, min_interactions=3)
    n = np.diff(split.test_fold_in.indptr) + np.diff(split.test_held_out.indptr)
    assert (n < 5).any()
    assert_array_equal(np.diff(split.test_held_out.indptr), np.where(n < 5, 0, n // 5))


def test_the_parts_keep_the_values_and_the_type_of_X():
    X = power_law().astype(np.float32)
    X.data[:] = np.random.default_rng(0).integers(4, 6, X.nnz)
    split = strong_generalization_split(X, n_heldout=10)
    whole = split.test_fold_in + split.test_held_out
    assert whole.dtype == np.float32
    expected = X.toarray()[np.ix_(split.test_users, split.item_indices)]
    assert_array_equal(whole.toarray(), expected)


@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.toarray(),
        lambda X: X.astype(np.float32),
        lambda X: X.astype(np.int64),
        lambda X: X.astype(bool),
        sp.csr_matrix,
        sp.csc_array,
        sp.coo_array,
    ],
    ids=["dense", "float32", "int64", "bool", "csr_matrix", "csc", "coo"],
)
def test_the_type_of_X_does_not_change_the_split(convert):
    X = power_law()
    expected = strong_generalization_split(X, n_heldout=10)
    split = strong_generalization_split(convert(X), n_heldout=10)
    for name, part in expected.items():
        found = split[name]
        if sp.issparse(part):
            assert found.dtype == convert(X).dtype
            part, found = part.toarray(), found.toarray()
        assert_array_equal(found, part)


def test_index_arrays_stay_as_narrow_as_those_of_X():
    X = power_law()
    assert X.indices.dtype == X.indptr.dtype == np.int32
    for part in strong_generalization_split(X, n_heldout=10).values():
        if sp.issparse(part):
            assert part.indices.dtype == part.indptr.dtype == np.int32


def test_unsorted_duplicate_and_zero_entries_do_not_change_the_split():
    X = power_law()
    row, column = X.nonzero()
    messy = sp.csr_array(X.shape)
    order = np.random.default_rng(0).permutation(2 * X.nnz + 1)
    messy = sp.coo_array(
        (
            np.append(np.full(2 * X.nnz, 0.5), 0.0)[order],
            (
                np.concatenate([row, row, [0]])[order],
                np.concatenate([column, column, [199]])[order],
            ),
        ),
        shape=X.shape,
    )
    expected = strong_generalization_split(X, n_heldout=10)
    split = strong_generalization_split(messy, n_heldout=10)
    assert_array_equal(split.test_held_out.toarray(), expected.test_held_out.toarray())
    assert_array_equal(split.train.toarray(), expected.train.toarray())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_heldout": 60}, "n_heldout=60 asks for 120 held-out users .* but only 67"),
        ({"n_heldout": 0}, "n_heldout must be an integer of at least 1, got 0"),
        ({"n_heldout": 2.0}, "n_heldout must be an integer of at least 1, got 2.0"),
        ({"n_heldout": True}, "n_heldout must be an integer of at least 1, got True"),
        ({"n_heldout": None}, "n_heldout must be an integer of at least 1, got None"),
        ({"n_heldout": 5, "test_size": 0}, "share between 0 and 1, got 0"),
        ({"n_heldout": 5, "test_size": 1.0}, "share between 0 and 1, got 1.0"),
        ({"n_heldout": 5, "test_size": 3}, "share between 0 and 1, got 3"),
        ({"n_heldout": 5, "test_size": "a"}, "share between 0 and 1, got 'a'"),
        ({"n_heldout": 5, "test_size": np.nan}, "share between 0 and 1, got nan"),
        ({"n_heldout": 5, "random_state": None}, "random_state must be an int, .* got None"),
        ({"n_heldout": 5, "random_state": True}, "random_state must be an int, .* got True"),
        (
            {"n_heldout": 5, "random_state": np.random.RandomState(0)},
            "random_state must be an int, .* got RandomState",
        ),
        ({"n_heldout": 5, "min_interactions": None}, "min_interactions must be .* got None"),
        ({"n_heldout": 5, "min_interactions": -1}, "min_interactions must be .* got -1"),
        ({"n_heldout": 5, "min_interactions": 2.5}, "min_interactions must be .* got 2.5"),
    ],
)
def test_bad_settings_of_the_published_split_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        strong_generalization_split(power_law(), **options)


def test_the_last_training_user_must_stay():
    X = np.ones((7, 6))
    assert strong_generalization_split(X, n_heldout=3).train.shape == (1, 6)
    with pytest.raises(ValueError, match="asks for 8 held-out users and some to train on"):
        strong_generalization_split(np.ones((8, 6)), n_heldout=4)


@pytest.mark.parametrize("bad", NOT_FINITE)
def test_the_published_split_refuses_what_is_not_finite(bad):
    X = power_law()
    X.data[3] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        strong_generalization_split(X, n_heldout=5)


# StrongGeneralizationSplit


def test_training_and_test_users_are_disjoint_and_together_all(X):
    for train, test in StrongGeneralizationSplit(4, random_state=0).split(X):
        assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(60))
        assert_array_equal(train, np.sort(train))
        assert_array_equal(test, np.sort(test))


@pytest.mark.parametrize(
    ("test_size", "n_test"), [(0.2, 12), (0.21, 13), (0.1, 6), (0.55, 33), (7, 7), (np.int64(7), 7)]
)
def test_the_share_of_test_users_is_rounded_up_and_a_count_is_kept(test_size, n_test, X):
    for _, test in StrongGeneralizationSplit(2, test_size=test_size, random_state=0).split(X):
        assert test.size == n_test


def test_the_share_is_one_of_the_users_with_enough_interactions():
    """Of 100 users 80 have one item: a fifth of the 20 others is tested, 96 are trained on."""
    X = np.zeros((100, 5))
    X[:, 0] = 1
    X[::5, 1:] = 1
    for train, test in StrongGeneralizationSplit(3, test_size=0.2, random_state=0).split(X):
        assert (train.size, test.size) == (96, 4)


@pytest.mark.parametrize("rng", [np.random.RandomState(0), np.random.default_rng(0)])
def test_held_out_users_are_drawn_with_either_generator(rng, X):
    n = np.diff(X.indptr)
    drawn = [hold_out_users(X, 0.25, rng, min_interactions=4) for _ in range(50)]
    assert {chosen.sum() for chosen in drawn} == {np.ceil((n >= 4).sum() / 4)}
    assert_array_equal(np.any(drawn, axis=0), n >= 4)


def test_a_share_of_few_users_is_one_user():
    X = sp.csr_array(np.ones((3, 2)))
    assert hold_out_users(X, 0.01, np.random.RandomState(0)).sum() == 1


def test_the_error_names_the_parameter_that_asks_for_too_many():
    X = sp.csr_array(np.eye(20))
    message = (
        "validation_fraction=0.1 asks for 1 held-out users, but only 0 users have at least 2 "
        "interactions: X has n_samples=20, n_features=20"
    )
    with pytest.raises(ValueError, match=message):
        hold_out_users(X, 0.1, np.random.RandomState(0), name="validation_fraction")


def test_users_with_too_few_interactions_are_never_held_out():
    X = np.ones((30, 4))
    X[::2, 1:] = 0
    X[1::4, 2:] = 0
    n = X.sum(axis=1)
    for least in (1, 2, 3):
        drawn = set()
        splitter = StrongGeneralizationSplit(
            50, test_size=3, min_interactions=least, random_state=0
        )
        for train, test in splitter.split(X):
            drawn |= set(test)
            assert set(np.flatnonzero(n < least)) <= set(train)
        assert drawn == set(np.flatnonzero(n >= least))


def test_stored_zeros_are_no_interactions():
    X = sp.csr_array(np.ones((4, 3)))
    X.data[:2] = 0  # user 0 has one item left
    for _, test in StrongGeneralizationSplit(20, test_size=3, random_state=0).split(X):
        assert_array_equal(test, [1, 2, 3])


def test_every_eligible_user_is_drawn_as_often(X):
    splits = StrongGeneralizationSplit(2000, test_size=0.2, random_state=0).split(X)
    share = np.mean([np.isin(np.arange(60), test) for _, test in splits], axis=0)
    eligible = np.diff(X.indptr) >= 2
    # 12 of the 59 eligible users; the standard error of each share is below 0.01.
    assert np.abs(share[eligible] - 12 / eligible.sum()).max() < 0.04


def test_the_same_seed_draws_the_same_users_and_the_splits_differ(X):
    splitter = StrongGeneralizationSplit(3, random_state=5)
    first, again = list(splitter.split(X)), list(splitter.split(X))
    for (train, test), (same_train, same_test) in zip(first, again, strict=True):
        assert_array_equal(train, same_train)
        assert_array_equal(test, same_test)
    assert len({tuple(test) for _, test in first}) == 3


def test_another_seed_draws_other_users(X):
    a, b = (next(StrongGeneralizationSplit(1, random_state=s).split(X))[1] for s in (0, 1))
    assert not np.array_equal(a, b)


def test_without_a_seed_two_calls_draw_different_users(X):
    splitter = StrongGeneralizationSplit(1)
    assert len({tuple(next(splitter.split(X))[1]) for _ in range(5)}) > 1


@pytest.mark.parametrize(
    "convert", [lambda X: X.toarray(), sp.csr_matrix, sp.csc_array, lambda X: X.astype(bool)]
)
def test_the_type_of_X_does_not_change_the_users(convert, X):
    splitter = StrongGeneralizationSplit(2, random_state=0)
    for (_, test), (_, other) in zip(splitter.split(X), splitter.split(convert(X)), strict=True):
        assert_array_equal(test, other)


def test_a_data_frame_can_be_split(X):
    pd = pytest.importorskip("pandas")
    splitter = StrongGeneralizationSplit(1, random_state=0)
    frame = pd.DataFrame(X.toarray(), index=[f"user {i}" for i in range(60)])
    assert_array_equal(next(splitter.split(frame))[1], next(splitter.split(X))[1])


def test_the_number_of_splits_is_told_and_kept(X):
    splitter = StrongGeneralizationSplit(4, random_state=0)
    assert splitter.get_n_splits() == splitter.get_n_splits(X, None, None) == 4
    assert len(list(splitter.split(X))) == 4


def test_y_and_groups_do_not_change_the_users(X):
    splitter = StrongGeneralizationSplit(1, random_state=0)
    _, test = next(splitter.split(X, X, np.arange(60)))
    assert_array_equal(test, next(splitter.split(X))[1])


def test_a_splitter_can_be_read_and_cloned(X):
    splitter = StrongGeneralizationSplit(2, test_size=7, min_interactions=3, random_state=1)
    text = "".join(repr(splitter).split())
    assert text == (
        "StrongGeneralizationSplit(min_interactions=3,n_splits=2,random_state=1,test_size=7)"
    )
    copy = clone(splitter, safe=False)
    assert copy is not splitter
    assert_array_equal(next(copy.split(X))[1], next(splitter.split(X))[1])


@pytest.mark.parametrize("convert", [lambda X: X, lambda X: X.toarray(), sp.csr_matrix])
def test_it_serves_cross_validate_and_searches(convert, X):
    X = convert(X)
    cv = StrongGeneralizationSplit(3, random_state=0)
    scores = cross_validate(
        PopularityRecommender(), X, scoring=RankingScorer("ndcg@5"), cv=cv, error_score="raise"
    )["test_score"]
    search = GridSearchCV(
        PopularityRecommender(), {}, scoring=RankingScorer("ndcg@5"), cv=cv, error_score="raise"
    ).fit(X)
    assert search.n_splits_ == len(scores) == 3
    found = [search.cv_results_[f"split{s}_test_score"][0] for s in range(3)]
    assert_array_equal(found, scores)


def test_more_test_users_than_are_eligible_are_refused():
    X = np.ones((10, 3))
    X[:6, 1:] = 0
    message = "test_size=5 asks for 5 held-out users, but only 4 users have at least 2 interactions"
    with pytest.raises(ValueError, match=message):
        next(StrongGeneralizationSplit(1, test_size=5).split(X))


def test_leaving_no_user_to_train_on_is_refused():
    message = "test_size=0.99 asks for 4 of 4 users, which leaves none to train on"
    with pytest.raises(ValueError, match=message):
        next(StrongGeneralizationSplit(1, test_size=0.99).split(np.ones((4, 3))))


def test_one_user_cannot_be_split():
    with pytest.raises(ValueError, match="leaves none to train on"):
        next(StrongGeneralizationSplit(1).split(np.ones((1, 3))))


@pytest.mark.parametrize("n_splits", [0, -1, 1.5, "2", None, True])
def test_a_bad_number_of_splits_is_refused(n_splits):
    with pytest.raises(ValueError, match=f"n_splits must be an integer .* got {n_splits!r}"):
        StrongGeneralizationSplit(n_splits)


@pytest.mark.parametrize("test_size", [0, 0.0, 1.0, -3, "0.2", None, True, np.nan])
def test_a_bad_share_of_test_users_is_refused(test_size):
    with pytest.raises(ValueError, match=f"test_size must be a share .* got {test_size!r}"):
        StrongGeneralizationSplit(test_size=test_size)


@pytest.mark.parametrize("least", [-1, 1.5, None, "2", True])
def test_a_bad_least_number_of_interactions_is_refused(least):
    with pytest.raises(ValueError, match=f"min_interactions must be an integer .* got {least!r}"):
        StrongGeneralizationSplit(min_interactions=least)


def test_a_bad_random_state_is_refused(X):
    with pytest.raises(ValueError, match="'seed' cannot be used"):
        next(StrongGeneralizationSplit(random_state="seed").split(X))


@pytest.mark.parametrize("bad", [np.arange(3.0), np.empty((0, 3)), [[np.nan, 1.0]], [["a"]]])
def test_users_of_no_matrix_cannot_be_split(bad):
    with pytest.raises(ValueError, match=r"2D|minimum of 1|NaN|not compatible"):
        next(StrongGeneralizationSplit().split(bad))
