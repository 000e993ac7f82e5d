"""Seeds and activity in the benchmark of accuracy, and the tables of the report beside accuracy."""

import _data
import numpy as np
import pytest

pytest.importorskip("torch")

import _decision
import _seeds
import _side_tables
import accuracy
import activity
import settings
from _runs import Dataset, Model, load_split, read_unit

from sklrec.dummy import PopularityRecommender, RandomRecommender
from sklrec.factorization import WMF
from sklrec.pipeline import Pipeline

MADE = Dataset("made", _data.made, 50, {"1": 1}, has_ratings=True)
MODELS = [
    Model("Popularity", PopularityRecommender()),
    Model("Random", RandomRecommender()),
    Model("WMF", Pipeline([("wmf", WMF(4))]), search={"wmf__lambda_": [0.01, 0.05]}),
]


@pytest.fixture
def benchmark(tmp_path):
    made = accuracy.Benchmark(MODELS, data=tmp_path, runs=tmp_path / "runs")
    made.run(MADE, ["1"], ["tuned", "fixed"])
    return made


def test_models_that_draw_at_random_are_fitted_with_each_seed(benchmark):
    units = list(_seeds.seed_units(benchmark, MADE, "1", [0, 1, 2]))
    assert [(unit.model.name, seed) for unit, seed in units] == [
        (name, seed) for name in ("Random", "WMF") for seed in (0, 1, 2)
    ]
    # The seed of the benchmark is that of the split, so that its unit is not run again.
    assert [unit.path(benchmark.runs).exists() for unit, _ in units] == [True, False, False] * 2
    assert _seeds.seed_rows(benchmark, MADE, "1", [0, 1, 2]) == []
    benchmark.work([unit for unit, _ in units], "seeds")
    rows = _seeds.seed_rows(benchmark, MADE, "1", [0, 1, 2])
    assert [(row["model"], row["seed"]) for row in rows] == [
        (unit.model.name, seed) for unit, seed in units
    ]
    assert len({row["ndcg@100"] for row in rows[:3]}) == 3


def test_table_of_seeds_has_their_standard_deviation():
    rows = [
        {"model": "A", "seed": seed, "ndcg@100": value, "ndcg@100_se": "0.0040", "n_users": "9"}
        for seed, value in zip("012", ("0.4000", "0.4010", "0.4020"), strict=True)
    ]
    table = _side_tables.side_tables(rows, [], [], [], [], [])["seeds"]
    assert table.rows == [["A", ".4000", ".4010", ".4020", ".0010", ".0040"]]


def test_parts_by_activity_are_those_of_the_fold_in(benchmark, monkeypatch):
    monkeypatch.setattr(activity, "MODELS", ["WMF", "Random", "SLIM"])
    rows = activity.rows_of(benchmark, MADE, "1")
    assert [(row["model"], row["part"]) for row in rows] == [
        (name, part) for name in ("WMF", "Random") for part in range(1, 6)
    ]
    split = load_split(MADE, "1", benchmark.data)
    values = read_unit(benchmark.final(MADE, MODELS[2], "tuned", "1"), benchmark.runs)["per_user"]
    counts = np.diff(split.test_fold_in.indptr)[np.isin(split.test_users, values["users"])]
    row = rows[0]
    part = (counts >= row["fewest"]) & (counts <= row["most"])
    assert row["n_users"] == part.sum()
    assert row["ndcg@100"] == f"{values['ndcg@100'][part].mean():.4f}"
    table = _side_tables.side_tables(
        [], [{k: str(v) for k, v in r.items()} for r in rows], *[[]] * 4
    )
    assert [line[0] for line in table["activity, made"].rows] == ["WMF", "Random"]


def test_activity_needs_both_models_that_are_compared(benchmark):
    assert activity.rows_of(benchmark, MADE, "1") == []


def test_table_of_fits_has_an_empty_cell_where_there_is_none():
    row = {"threads": "1", "cpu": "C", "load": "0.1"}
    rows = [
        row | {"dataset": "a", "model": "A", "wall_s": "1.26", "peak_gib": "0.123"},
        row | {"dataset": "b", "model": "A", "wall_s": "12.6", "peak_gib": "2.000"},
        row | {"dataset": "b", "model": "B", "wall_s": "100", "peak_gib": "3.000"},
    ]
    table = _side_tables.side_tables([], [], [], rows, [], [])["fits"]
    assert table.header == ["model", "a", "b"]
    assert table.rows == [["A", "1.3 s, 0.12 GiB", "13 s, 2 GiB"], ["B", "", "100 s, 3 GiB"]]


def test_front_has_what_nothing_as_fast_is_better_than():
    choices = [
        _decision.Choice(name, mean, seconds, 1)
        for name, mean, seconds in (("A", 0.1, 1), ("B", 0.3, 2), ("C", 0.2, 3), ("D", 0.3, 9))
    ]
    assert [choice.model for choice in _decision.front(choices)] == ["A", "B"]
    assert _decision.area(0.1) < _decision.area(0.5) < _decision.area(2) < _decision.area(20)


def test_figure_to_choose_by_names_each_model_and_its_memory(tmp_path):
    pytest.importorskip("matplotlib")
    choices = {"made": [_decision.Choice("EASE", 0.3, 2, 0.1), _decision.Choice("BPR", 0.3, 1, 4)]}
    path = tmp_path / "decision.svg"
    _decision.draw_choices(choices, path)
    drawn = path.read_text()
    assert all(text in drawn for text in ("EASE", "BPR", "up to .3 GiB", "made"))


def test_seeded_data_set_and_split_are_of_the_table():
    name, split = settings.SEEDED_ON
    (dataset,) = (dataset for dataset in settings.DATASETS if dataset.name == name)
    assert split in dataset.splits
