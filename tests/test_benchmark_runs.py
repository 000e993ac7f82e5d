"""The runs of the benchmark of accuracy: its choices, its resumption, its rows."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import _data
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from threadpoolctl import threadpool_info

pytest.importorskip("torch")

import _rows
import accuracy
import fits
import settings
from _metrics import BEYOND
from _runs import Dataset, Model, load_split, short_repr, shortened
from skorch.callbacks import Callback

from sklrec.base import BaseRecommender
from sklrec.datasets import make_interactions
from sklrec.dummy import PopularityRecommender
from sklrec.factorization import LFM
from sklrec.linear import EASE
from sklrec.metrics import evaluate
from sklrec.neural import MultVAE

VARIANTS = ["published", "tuned", "fixed"]


def load(folder):
    return sp.csr_array(sp.load_npz(folder / "X.npz"))


SMALL = Dataset("small", load, 20, {"1": 1, "2": 2}, has_ratings=True)


MODELS = [
    Model("Popularity", PopularityRecommender()),
    Model(
        "EASE", EASE(), search={"lambda_": [10, 100, 10_000]}, published={"small": {"lambda_": 5}}
    ),
    Model("LFM", LFM(), search={"lambda_": [1, 10]}, ratings=True),
]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    made = make_interactions(
        150, 40, n_interactions=2400, activity_sigma=0.3, ratings=True, random_state=0
    )
    sp.save_npz(path / "X.npz", made.data)
    return path


def run(folder, runs, models=MODELS, dataset=SMALL, **options):
    """Return the rows of all units, without what differs from run to run."""
    benchmark = accuracy.Benchmark(models, data=folder, runs=runs, **options)
    benchmark.run(dataset, list(dataset.splits), VARIANTS)
    rows, candidates = benchmark.collect(dataset, list(dataset.splits))
    plain = [
        {k: v for k, v in row.items() if k not in ("fit_s", "versions", "per_user")} for row in rows
    ]
    return plain, [(c["split"], c["settings"], c["valid"], c["chosen"]) for c in candidates]


class Recorder(BaseRecommender):
    """Popularity that notes what it is fitted with, and may be interrupted."""

    calls = []
    interrupt_at = None

    def __init__(self, c=1):
        self.c = c

    def fit(self, X, y=None, *, X_val=None, y_val=None):
        if len(self.calls) == self.interrupt_at:
            raise KeyboardInterrupt
        threads = [pool["num_threads"] for pool in threadpool_info()]
        self.calls.append({"X": X, "X_val": X_val, "y_val": y_val, "threads": threads})
        self._check_X(X, reset=True)
        self.score_ = np.asarray(X.sum(axis=0)) ** self.c
        return self

    def decision_function(self, X):
        return np.tile(self.score_, (X.shape[0], 1))


@pytest.fixture
def calls():
    Recorder.calls.clear()
    Recorder.interrupt_at = None
    return Recorder.calls


def poisoned(source, target, splits):
    """Give the test users of all splits the items that they do not have."""
    X = load(source).toarray()
    for name in splits:
        for user in load_split(SMALL, name, source).test_users:
            X[user] = X[user, ::-1]
    target.mkdir()
    sp.save_npz(target / "X.npz", sp.csr_array(X))
    return target


def test_poisoned_test_users_change_no_choice_but_their_own_figures(folder, tmp_path):
    split = Dataset("small", load, 20, {"1": 1}, has_ratings=True)
    other = poisoned(folder, tmp_path / "poisoned", ["1"])
    rows, candidates = run(folder, tmp_path / "runs", dataset=split)
    new_rows, new_candidates = run(other, tmp_path / "others", dataset=split)
    assert candidates == new_candidates
    assert [row["settings"] for row in rows] == [row["settings"] for row in new_rows]
    assert all(a["ndcg@100"] != b["ndcg@100"] for a, b in zip(rows, new_rows, strict=True))


def test_poisoned_test_users_are_in_no_unit_that_chooses(folder, tmp_path):
    split = Dataset("small", load, 20, {"1": 1}, has_ratings=True)
    names = []
    for place in (folder, poisoned(folder, tmp_path / "poisoned", ["1"])):
        benchmark = accuracy.Benchmark(MODELS, data=place, runs=tmp_path)
        units = benchmark.candidates(split, MODELS[1], "tuned", "1")
        names.append([unit.path(tmp_path).name for unit in units])
    assert names[0] == names[1]


def test_model_is_given_training_users_and_validation_users_only(folder, tmp_path, calls):
    run(folder, tmp_path / "runs", [Model("Recorder", Recorder())])
    for name, call in zip(SMALL.splits, calls, strict=True):
        split = load_split(SMALL, name, folder)
        whole = split.valid_fold_in + split.valid_held_out
        assert (call["X"] != split.train).nnz == 0
        assert (call["X_val"] != whole).nnz == 0
        assert (call["y_val"] != split.valid_held_out).nnz == 0


def test_chosen_is_the_candidate_with_the_best_validation_score(folder, tmp_path):
    rows, candidates = run(folder, tmp_path / "runs", MODELS[1:2])
    for split in SMALL.splits:
        best = max((c for c in candidates if c[0] == split), key=lambda c: c[2])
        (row,) = [r for r in rows if (r["split"], r["variant"]) == (split, "tuned")]
        assert best[3]
        assert row["settings"] == best[1]


def test_interrupted_run_ends_as_one_that_is_not(folder, tmp_path, calls):
    models = [*MODELS, Model("Recorder", Recorder(), search={"c": [1, -1]})]
    whole = run(folder, tmp_path / "whole", models)
    n_fits = len(calls)
    calls.clear()
    Recorder.interrupt_at = 3
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "runs", models)
    Recorder.interrupt_at = None
    assert run(folder, tmp_path / "runs", models) == whole
    assert len(calls) == n_fits  # nothing was fitted twice


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are read from /proc")
def test_measured_fits_are_kept_as_those_of_the_run(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "MODELS", MODELS[:2])
    (made,) = (dataset for dataset in settings.DATASETS if dataset.name == "made")
    monkeypatch.setattr(settings, "DATASETS", [replace(made, load=load)])
    place = ["--data", str(folder), "--runs", str(tmp_path / "runs"), "--splits", "1"]
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "--datasets", "made", "--candidates", *place])
    assert accuracy.main() == 0
    kept = sorted((tmp_path / "runs").rglob("*.json"))
    assert len(kept) == 3
    assert all("candidate" in path.name for path in kept)

    measured = fits.worker("made", str(folder), str(tmp_path / "runs"), "1", "EASE")
    (final,) = set((tmp_path / "runs").rglob("*.json")) - set(kept)
    benchmark = accuracy.Benchmark(MODELS[1:2], data=folder, runs=tmp_path / "runs")
    (found,), _ = benchmark.collect(settings.DATASETS[0], ["1"])
    assert found["settings"] == measured["settings"]
    assert found["fit_s"] == f"{float(measured['wall_s']):.1f}"
    whole = accuracy.Benchmark(MODELS[1:2], data=folder, runs=tmp_path / "whole")
    whole.run(settings.DATASETS[0], ["1"], VARIANTS)
    (expected,), _ = whole.collect(settings.DATASETS[0], ["1"])
    assert_array_equal(found["per_user"]["ndcg@100"], expected["per_user"]["ndcg@100"])

    before = final.read_bytes()
    fits.worker("made", str(folder), str(tmp_path / "runs"), "1", "EASE")
    assert final.read_bytes() == before


class Interruption(Callback):
    def on_batch_end(self, net, **kwargs):
        raise KeyboardInterrupt


def test_half_trained_model_of_an_interrupted_run_is_not_kept(folder, tmp_path):
    vae = MultVAE(2, hidden_layer_sizes=(), callbacks=[("interruption", Interruption())])
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "runs", [Model("VAE", vae)])
    assert not list(tmp_path.rglob("*.json"))


def test_failing_fit_is_named_and_the_others_go_on(folder, tmp_path):
    models = [Model("EASE", EASE(lambda_=-1)), *MODELS[:1]]
    benchmark = accuracy.Benchmark(models, data=folder, runs=tmp_path / "runs")
    benchmark.run(SMALL, ["1"], VARIANTS)
    (failure,) = benchmark.failures
    assert failure.startswith("small 1 EASE: EASE(lambda_=-1): InvalidParameterError:")
    assert [row["model"] for row in benchmark.collect(SMALL, ["1"])[0]] == ["Popularity"]


def test_run_with_a_failing_fit_ends_with_an_error(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(settings, "MODELS", [Model("EASE", EASE(lambda_=-1)), *MODELS[:1]])
    command = f"accuracy.py --datasets made --runs {tmp_path}/runs --output {tmp_path}"
    monkeypatch.setattr(sys, "argv", [*command.split(), "--data", str(folder)])
    assert accuracy.main() == 1
    assert "FAILED made 1 EASE" in capsys.readouterr().err.splitlines()[-2]


def test_rows_whose_units_are_gone_are_not_lost(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "MODELS", MODELS[:2])
    command = f"accuracy.py --datasets made --output {tmp_path} --data {folder}".split()
    monkeypatch.setattr(sys, "argv", [*command, "--runs", str(tmp_path / "runs")])
    accuracy.main()
    table = (tmp_path / "accuracy.csv").read_text()
    elsewhere = [*command, "--runs", str(tmp_path / "others"), "--models", "Popularity"]
    monkeypatch.setattr(sys, "argv", elsewhere)
    with pytest.raises(SystemExit, match=r"made 1 EASE \(tuned\).*--replace"):
        accuracy.main()
    assert (tmp_path / "accuracy.csv").read_text() == table
    monkeypatch.setattr(sys, "argv", [*elsewhere, "--replace"])
    assert accuracy.main() == 0
    assert len((tmp_path / "accuracy.csv").read_text().splitlines()) == 1 + 3


def test_result_tells_of_the_lists_too(folder, tmp_path):
    rows, _ = run(folder, tmp_path / "runs", MODELS[:1])
    model = PopularityRecommender().fit(load_split(SMALL, "1", folder).train)
    split = load_split(SMALL, "1", folder)
    found = evaluate(
        model, split.test_fold_in, split.test_held_out, BEYOND, interactions=split.train
    )
    assert [rows[0][name] for name in BEYOND] == [f"{found.mean[name]:.4g}" for name in BEYOND]
    both = [float(row["novelty@10"]) for row in rows]
    assert_allclose(both[2], np.mean(both[:2]), rtol=1e-3)


def test_units_are_those_of_their_settings_and_their_data(folder, tmp_path, calls):
    run(folder, tmp_path / "runs", [Model("Recorder", Recorder())])
    run(folder, tmp_path / "runs", [Model("Recorder", Recorder(c=2))])
    sp.save_npz(tmp_path / "X.npz", 2 * load(folder))
    run(tmp_path, tmp_path / "runs", [Model("Recorder", Recorder())])
    assert len(calls) == 6


def test_fit_uses_the_threads_it_is_given(folder, tmp_path, calls):
    run(folder, tmp_path / "runs", [Model("Recorder", Recorder())], threads=1)
    assert {n for call in calls for n in call["threads"]} == {1}


def test_seed_is_the_number_of_the_split(folder, tmp_path):
    model = Model("VAE", MultVAE(2, hidden_layer_sizes=(), max_epochs=1))
    run(folder, tmp_path / "runs", [model])
    found = [json.loads(path.read_text()) for path in sorted((tmp_path / "runs").rglob("*.json"))]
    assert [f"random_state={i}" in unit["all_settings"] for i, unit in enumerate(found)] == [
        True
    ] * 2
    assert all(unit["best_epoch"] == 1 for unit in found)


# Neither the data set nor the model is of this file or of torch, so that workers start fast.
MADE = Dataset("made", _data.made, 50, {"1": 1}, has_ratings=True)


def test_two_processes_find_what_one_does(tmp_path):
    found = run(tmp_path, tmp_path / "two", MODELS[:2], MADE, n_jobs=2)
    assert found == run(tmp_path, tmp_path / "one", MODELS[:2], MADE)


def test_dask_cluster_finds_what_one_process_does(tmp_path):
    pytest.importorskip("distributed")
    with accuracy.workers("local", 1):
        found = run(tmp_path, tmp_path / "dask", MODELS[:2], MADE, n_jobs=2)
    assert found == run(tmp_path, tmp_path / "one", MODELS[:2], MADE)


def test_errors_over_all_splits_are_of_distinct_users(folder, tmp_path):
    rows, _ = run(folder, tmp_path / "runs", MODELS[:1])
    first, second = (load_split(SMALL, name, folder) for name in SMALL.splits)
    assert [row["split"] for row in rows] == ["1", "2", "1 to 2"]
    tested = np.setdiff1d(np.union1d(first.test_users, second.test_users), first.valid_users)
    assert rows[2]["n_users"] == tested.size


def test_users_that_the_ranges_were_found_on_are_in_no_result(folder, tmp_path):
    first, second = (load_split(SMALL, name, folder) for name in SMALL.splits)
    benchmark = accuracy.Benchmark(MODELS[:1], data=folder, runs=tmp_path / "runs")
    benchmark.run(SMALL, ["1", "2"], VARIANTS)
    of_first, of_second, _ = (
        row["per_user"]["users"] for row in benchmark.collect(SMALL, ["1", "2"])[0]
    )
    assert np.isin(second.test_users, first.valid_users).any()
    assert_array_equal(of_first, first.test_users)
    assert_array_equal(of_second, np.setdiff1d(second.test_users, first.valid_users))


def test_rows_are_compared_with_the_best_of_their_split(folder, tmp_path):
    rows, _ = run(folder, tmp_path / "runs")
    for split in ("1", "2", "1 to 2"):
        family = [row for row in rows if row["split"] == split]
        best = max(family, key=lambda row: float(row["ndcg@100"]))
        assert best["ndcg@100_p"] == ""
        assert all(float(row["ndcg@100_p"]) <= 1 for row in family if row is not best)


def test_data_sets_at_hand_are_those_whose_files_are_there(folder, monkeypatch, capsys):
    elsewhere = Dataset("netflix", _data.netflix, 5, {"1": 1})
    monkeypatch.setattr(settings, "DATASETS", [elsewhere, SMALL, MADE])
    assert list(accuracy.at_hand(None, folder)) == [SMALL]
    assert "netflix is left out: Neither combined_data" in capsys.readouterr().err


def test_data_sets_that_are_named_are_taken(folder):
    assert [dataset.name for dataset in accuracy.at_hand(["made"], folder)] == ["made"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--datasets ml-1m", "--data must name the folder"),
        ("", "--data must name the folder"),
        ("--datasets ml-1m --data nowhere", "--data nowhere: there is no such folder"),
        ("--models ease", r"--models ease: settings\.py has Random, .*EASE"),
        ("--datasets made --max-epochs 0", "--max-epochs: '0' is not a positive integer"),
        ("--datasets made --threads 0", "--threads: '0' is not a positive integer"),
        ("--datasets made --n-jobs 0", "--n-jobs: '0' is not a positive integer"),
        ("--datasets made --n-jobs -2", "--n-jobs: '-2' is not a positive integer"),
        ("--datasets made --threads two", "--threads: 'two' is not a positive integer"),
    ],
)
def test_options_that_cannot_be_are_refused_in_a_line(line, message, command_line, capsys):
    command_line(f"accuracy.py {line}")
    with pytest.raises(SystemExit) as error:
        accuracy.parse()
    assert error.value.code == 2
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])


def test_made_data_need_no_folder_and_jobs_may_be_all_cores(command_line):
    command_line("accuracy.py --datasets made --n-jobs -1")
    options = accuracy.parse()
    assert options.data == Path()
    assert options.n_jobs == -1


@pytest.mark.parametrize(
    "line",
    [
        "--datasets made --models EASE --splits canonical",
        "--datasets made --models Popularity --variants published",
        "--data {}",
    ],
)
def test_run_of_nothing_is_an_error_and_writes_nothing(line, tmp_path, command_line):
    command_line(f"accuracy.py {line.format(tmp_path)} --output", tmp_path)
    with pytest.raises(SystemExit, match="There is nothing to run"):
        accuracy.main()
    assert not list(tmp_path.iterdir())


def test_table_keeps_what_it_says_of_other_data_sets_and_splits(tmp_path):
    path = tmp_path / "table.csv"
    columns = ["dataset", "split", "model", "variant"]
    rows = [
        {"dataset": name, "split": "1", "model": "A", "variant": "tuned"}
        for name in ("ml-1m", "ml-small")
    ]
    _rows.merge(path, [*rows, rows[0] | {"split": "2"}], columns)
    new = [{"dataset": "ml-1m", "split": "1", "model": "B", "variant": "tuned"}]
    assert _rows.merge(path, new, columns, replace=False) == ["ml-1m 1 A (tuned)"]
    assert path.read_text().splitlines()[1:] == [
        *("ml-small,1,A,tuned", "ml-1m,1,A,tuned", "ml-1m,2,A,tuned")
    ]
    _rows.merge(path, new, columns)
    assert path.read_text().splitlines()[1:] == [
        *("ml-small,1,A,tuned", "ml-1m,2,A,tuned", "ml-1m,1,B,tuned")
    ]


@pytest.mark.parametrize("model", [*settings.MODELS, *settings.ABLATIONS], ids=lambda m: m.name)
def test_row_of_the_settings_runs(model, tmp_path):
    """One epoch of one candidate, on made data."""
    candidates = [e for found in model.candidates("made").values() for e in found]
    estimator = shortened(candidates[0], 1)
    rows, _ = run(tmp_path, tmp_path, [Model(model.name, estimator, ratings=model.ratings)], MADE)
    assert float(rows[0]["ndcg@100"]) > 0


def test_split_of_ratings_binarizes_and_keeps_all_ratings_for_training(folder):
    split = load_split(SMALL, "1", folder)
    ratings = load(folder)[split.train_users][:, split.item_indices]
    assert (split.ratings != ratings).nnz == 0
    assert_array_equal(split.train.toarray(), ratings.toarray() > 3.5)


def test_short_repr_leaves_out_seeds():
    assert short_repr(MultVAE(5, random_state=3)) == "MultVAE(n_components=5)"
