"""Evaluation of items that no training user has."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV

from sklrec.base import BaseRecommender
from sklrec.datasets import make_interactions
from sklrec.linear import EASE
from sklrec.metrics import RankingScorer, evaluate, evaluate_new_items
from sklrec.model_selection import StrongGeneralizationSplit, cold_start_split
from sklrec.pipeline import make_pipeline
from sklrec.preprocessing import HideItems


@pytest.fixture(scope="module")
def X():
    return make_interactions(300, 60, random_state=0).data


class Fixed(BaseRecommender):
    """Gives each item the same score for all users."""

    def __init__(self, scores=()):
        self.scores = scores

    def fit(self, X, y=None):
        self._learn_popularity(self._check_X(X, reset=True))
        return self

    def decision_function(self, X):
        return np.tile(np.asarray(self.scores, dtype=float), (X.shape[0], 1))


class RemembersItems(EASE):
    """Stores which items it met."""

    met = []

    def fit(self, X, y=None):
        self.met.append(np.unique(X.indices))
        return super().fit(X)

    def decision_function(self, X):
        self.met.append(np.unique(sp.csr_array(X).indices))
        return super().decision_function(X)


def test_no_part_meets_what_it_must_not(X):
    split = cold_start_split(X, n_heldout=40, item_size=0.2, random_state=0)
    new, old = split.new_items, split.old_items
    n_items_with_users = np.count_nonzero(X.sum(axis=0))
    assert new.size == np.ceil(0.2 * n_items_with_users)
    assert_array_equal(np.sort(np.concatenate([new, old])), np.arange(60))
    assert split.train[:, new].nnz == 0
    assert split.valid_fold_in[:, new].nnz == split.test_fold_in[:, new].nnz == 0
    assert (split.test_fold_in != 0).multiply(split.test_held_out != 0).nnz == 0
    users = [split.train_users, split.valid_users, split.test_users]
    assert [part.size for part in users[1:]] == [40, 40]
    together = np.concatenate(users)
    assert_array_equal(np.sort(together), np.flatnonzero(np.diff(X.indptr) >= 5))


def test_parts_together_are_the_rows_of_X_without_the_training_users_new_items(X):
    split = cold_start_split(X, n_heldout=40, random_state=0)
    for name in ("valid", "test"):
        rows = split[f"{name}_fold_in"] + split[f"{name}_held_out"]
        assert_array_equal(rows.toarray(), X[split[f"{name}_users"]].toarray())
    train = X[split.train_users].toarray()
    train[:, split.new_items] = 0
    assert_array_equal(split.train.toarray(), train)


def test_a_share_of_old_items_is_held_out_and_all_new_ones():
    X = np.ones((10, 20))
    split = cold_start_split(X, n_heldout=2, item_size=10, test_size=0.3, random_state=0)
    assert_array_equal(split.test_held_out[:, split.new_items].toarray(), np.ones((2, 10)))
    assert_array_equal(split.test_held_out[:, split.old_items].sum(axis=1), [3, 3])
    assert_array_equal(split.test_fold_in.sum(axis=1), [7, 7])


@pytest.mark.parametrize("kind", ["of items", "of interactions", "datetimes"])
def test_the_latest_items_are_new(kind, X):
    dates = np.random.default_rng(0).permutation(60)
    if kind == "of interactions":  # the first one counts
        time = X.copy()
        late = np.random.default_rng(1).integers(0, 1000, X.nnz)
        first = np.zeros(X.nnz, dtype=bool)
        first[[np.flatnonzero(X.indices == j)[-1] for j in np.unique(X.indices)]] = True
        time.data = np.where(first, dates[X.indices], 60 + late)
    elif kind == "datetimes":
        time = np.datetime64("2020-01-01") + dates
    else:
        time = dates
    split = cold_start_split(X, n_heldout=40, item_size=6, time=time, random_state=0)
    with_users = np.unique(X.indices)
    expected = with_users[np.argsort(dates[with_users])[-6:]]
    assert_array_equal(split.new_items, np.sort(expected))


def test_seed_determines_the_split(X):
    first, again, other = (
        cold_start_split(X, n_heldout=40, random_state=seed) for seed in (0, 0, 1)
    )
    assert_array_equal(first.test_held_out.toarray(), again.test_held_out.toarray())
    assert not np.array_equal(first.new_items, other.new_items)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_heldout": 200}, "n_heldout=200 asks for 400 held-out users and some to train on"),
        ({"n_heldout": 0}, "n_heldout must be an integer of at least 1, got 0"),
        ({"item_size": 1.0}, "item_size must be a share between 0 and 1 or an integer"),
        ({"item_size": 60}, "item_size=60 asks for 60 new items and some old ones"),
        ({"test_size": 0}, "test_size must be a share"),
        ({"time": np.arange(59)}, r"a date for each of the 60 items.*got shape \(59,\)"),
        ({"time": np.full(60, np.nan)}, "times must be finite"),
        ({"time": sp.csr_array((300, 60))}, "time must have an entry for each"),
    ],
)
def test_bad_parameters_of_the_split_are_an_error(parameters, message, X):
    with pytest.raises(ValueError, match=message):
        cold_start_split(X, **{"n_heldout": 40, **parameters})


def test_four_evaluations_of_a_case_by_hand():
    # Items 0 to 3 are old, 4 and 5 new; all users get the ranking 0 1 4 2 5 3.
    model = Fixed([6, 5, 3, 1, 4, 2]).fit(np.ones((2, 6)))
    fold_in = [[1, 0, 0, 0, 0, 0]]
    held_out = [[0, 0, 1, 0, 0, 1]]
    found = evaluate_new_items(model, fold_in, held_out, "reciprocal_rank@9", new_items=[4, 5])
    assert {name: one.mean["reciprocal_rank@9"] for name, one in found.items()} == {
        "new among new": 1 / 2,  # 4 [5]
        "old among old": 1 / 2,  # 1 [2] 3
        "all among all": 1 / 3,  # 1 4 [2] 5 3
        "new among all": 1 / 4,
    }


@pytest.mark.parametrize(("new", "n"), [([], 0), (range(6), 6)])
def test_all_items_new_or_none_is_an_error(new, n):
    model = Fixed(range(6)).fit(np.ones((2, 6)))
    with pytest.raises(ValueError, match=f"must be new and some old, got {n}"):
        evaluate_new_items(model, np.eye(6), np.eye(6)[::-1], new_items=list(new))


def test_an_item_that_does_not_exist_is_an_error():
    model = Fixed(range(6)).fit(np.ones((2, 6)))
    for evaluated in (
        lambda: evaluate_new_items(model, np.eye(6), np.eye(6)[::-1], new_items=[6]),
        lambda: evaluate(model, np.eye(6), np.eye(6)[::-1], targets=[6]),
        lambda: RankingScorer(targets=[6])(model, np.ones((3, 6))),
    ):
        with pytest.raises(ValueError, match="between 0 and 5, got 6"):
            evaluated()


def test_nothing_held_out_among_the_targets_is_an_error():
    model = Fixed(range(6)).fit(np.ones((2, 6)))
    with pytest.raises(ValueError, match="No user has an item held out among the targets"):
        evaluate(model, np.eye(6), np.eye(6)[::-1] - np.eye(6)[::-1], targets=[3])


def test_the_scorer_counts_targets_as_evaluate_does(X):
    model = EASE(lambda_=10).fit(X[:200])
    scorer = RankingScorer("ndcg@10", targets=range(20))
    fold_in, held_out = scorer.hide(X[200:])
    held_out = held_out.multiply(np.arange(60) < 20)
    expected = evaluate(model, fold_in, held_out, "ndcg@10").mean["ndcg@10"]
    assert scorer(model, X[200:]) == expected != RankingScorer("ndcg@10")(model, X[200:])
    assert "targets=..." in repr(scorer)


def test_a_search_with_hidden_items_never_meets_them(X):
    new = np.arange(0, 60, 6)
    RemembersItems.met.clear()
    search = GridSearchCV(
        make_pipeline(HideItems(new), RemembersItems()),
        {"remembersitems__lambda_": [1.0, 100.0]},
        scoring=RankingScorer("ndcg@10", items=new),
        cv=StrongGeneralizationSplit(2, random_state=0),
        error_score="raise",
    )
    in_new = np.zeros(60, dtype=bool)
    in_new[new] = True
    y = X.copy()  # all interactions with new items are to be found
    y.data *= in_new[y.indices]
    y.eliminate_zeros()
    search.fit(X, y)
    met = np.unique(np.concatenate(RemembersItems.met))
    assert met.size
    assert not in_new[met].any()
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array, sp.coo_array, sp.csc_matrix])
def test_hidden_columns_are_empty_and_the_others_unchanged(kind):
    X = kind(np.array([[5, 0, 1], [0, 2, 0]]))
    found = HideItems([2, 0]).fit_transform(X)
    assert_array_equal(found.toarray(), [[0, 0, 0], [0, 2, 0]])
    assert found.dtype == X.dtype


def test_what_is_hidden_is_determined_in_fit():
    hide = HideItems([0]).fit(np.ones((2, 2)))
    hide.set_params(items=[1])
    assert_array_equal(hide.transform(np.ones((1, 2))).toarray(), [[0, 1]])


@pytest.mark.parametrize(
    ("items", "message"),
    [([2], "between 0 and 1, got 2"), ([-1], "between 0"), ([0.5], "list of item indices"),
     ([[0]], "list of item indices"), ("ab", "items")],
)  # fmt: skip
def test_bad_items_to_hide_are_an_error(items, message):
    with pytest.raises(ValueError, match=message):
        HideItems(items).fit(np.ones((2, 2)))
