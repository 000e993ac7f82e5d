"""The protocol with 99 negatives: what is held out and what it is ranked among."""

import csv

import numpy as np
import pytest

pytest.importorskip("torch")

import sampled
from numpy.testing import assert_array_equal

from sklrec.datasets import make_interactions
from sklrec.dummy import PopularityRecommender
from sklrec.metrics import evaluate


@pytest.fixture
def X():
    return make_interactions(
        60, 40, n_interactions=600, activity_sigma=0.3, ratings=True, random_state=0
    ).data


def test_one_interaction_of_each_user_is_held_out(X):
    train, held = sampled.leave_one_out(X, seed=0)
    assert_array_equal((train + held).toarray(), (X.toarray() > 0).astype(X.dtype))
    assert_array_equal(held.sum(axis=1), 1)
    assert train.nnz == X.nnz - X.shape[0]  # nothing is stored that is zero
    assert (sampled.leave_one_out(X, seed=1)[1] != held).nnz > 0


def test_candidates_are_the_item_held_out_and_items_that_the_user_does_not_have(X):
    train, held = sampled.leave_one_out(X, seed=0)
    among = sampled.with_negatives(train, held, 5, seed=0).toarray()
    assert_array_equal(among.sum(axis=1), 6)
    assert not (among * train.toarray()).any()
    assert_array_equal((among * held.toarray()).sum(axis=1), 1)


def test_popular_item_is_found_as_a_count_by_hand_says(X):
    """Hit rate of popularity among five others: whether at most the k - 1 best are before it."""
    train, held = sampled.leave_one_out(X, seed=0)
    among = sampled.with_negatives(train, held, 5, seed=0)
    counts = np.asarray(train.sum(axis=0)).ravel()
    ranks = []
    for user in range(X.shape[0]):
        mine = held.indices[user]
        others = np.setdiff1d(among.toarray()[user].nonzero()[0], mine)
        better = (counts[others] > counts[mine]) | (
            (counts[others] == counts[mine]) & (others < mine)
        )
        ranks.append(better.sum())
    model = PopularityRecommender().fit(train)
    found = evaluate(model, train, held, "hit_rate@3", items=among)
    assert found.mean["hit_rate@3"] == pytest.approx(np.mean(np.array(ranks) < 3))


def test_rows_that_are_there_are_not_run_again(X, tmp_path, monkeypatch, command_line):
    monkeypatch.setattr(sampled, "ml_1m", lambda folder: X)
    monkeypatch.setattr(sampled, "N_NEGATIVES", 5)
    path = tmp_path / "sampled.csv"
    command_line(f"sampled.py --data {tmp_path} --models Random --output", path)
    assert sampled.main() == 0
    first = path.read_text()
    command_line(f"sampled.py --data {tmp_path} --models Popularity Random --output", path)
    assert sampled.main() == 0
    assert first.splitlines()[1] in path.read_text().splitlines()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["Random", "Popularity"]
    assert float(rows[1]["hit_rate@10"]) == 1  # of six
    assert float(rows[1]["all_hit_rate@10"]) < 1


@pytest.mark.parametrize("name", sampled.MODELS)
def test_settings_are_those_of_a_model_of_the_table(name):
    estimator = sampled.estimator_of(name)
    estimator._validate_params()
    assert not estimator.get_params().get("early_stopping")
