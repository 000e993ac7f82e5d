"""Training in several processes, each of which computes a part of every batch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

import in_processes  # noqa: E402

from sklrec.neural._training import _processes  # noqa: E402
from sklrec.neural._training._data import HalvedBatches, SparseBatches, SparseRows  # noqa: E402
from sklrec.neural._training._generators import Generators  # noqa: E402
from sklrec.persistence import load  # noqa: E402

if not torch.distributed.is_available():
    pytest.skip("torch has no process groups", allow_module_level=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return what each of two processes finds."""
    return in_processes.in_processes(tmp_path_factory.mktemp("processes"), "cpu")


@pytest.mark.parametrize("name", in_processes.MODELS)
def test_two_processes_train_the_model_of_one(name, found):
    alone = in_processes.fitted(name, "cpu")
    for together in found:
        scale = np.abs(alone["scores"]).max()
        assert_allclose(together[name]["scores"], alone["scores"], rtol=0, atol=1e-5 * scale)
        assert_allclose(together[name]["loss"], alone["loss"], rtol=1e-5)
        assert_allclose(together[name]["validation"], alone["validation"], rtol=1e-6)
        assert together[name]["best epoch"] == alone["best epoch"]


@pytest.mark.parametrize("name", in_processes.MODELS)
def test_all_processes_have_the_same_model(name, found):
    first, second = (one[name] for one in found)
    assert_array_equal(first["scores"], second["scores"])
    assert first["loss"] == second["loss"]
    assert first["validation"] == second["validation"]


def test_a_seed_that_is_drawn_is_that_of_all_processes(found):
    assert found[0]["any seed"] == found[1]["any seed"]


def test_models_whose_rows_depend_on_each_other_are_refused(found):
    for one in found:
        for message in one["refused"]:
            assert "cannot be trained in several processes" in message


def test_processes_with_other_parameters_or_data_are_told_apart(found):
    for one in found:
        assert "lambda_ is '1' in process 0 and '2' in process 1" in one["other lambda_"]
        assert "X is" in one["other X"]


@pytest.fixture
def parts(monkeypatch):
    """Return a function that calls another one as each of some processes."""

    def call_as_each(n_processes, function):
        results = []
        for rank in range(n_processes):
            for module in ("_processes", "_data"):
                path = f"sklrec.neural._training.{module}.n_processes"
                monkeypatch.setattr(path, lambda: n_processes)
            monkeypatch.setattr(_processes, "rank", lambda rank=rank: rank)
            results.append(function())
        return results

    return call_as_each


@pytest.mark.parametrize("n_rows", [1, 2, 7, 9])
def test_parts_of_a_batch_are_the_whole(n_rows, parts):
    found = parts(3, lambda: _processes.own_part(n_rows))
    counted = [np.arange(n_rows)[rows] for rows, weight in found if weight]
    assert_array_equal(np.concatenate(counted), np.arange(n_rows))
    assert sum(weight for _, weight in found) == pytest.approx(1)
    for rows, weight in found:
        assert len(np.arange(n_rows)[rows]) >= 1  # all take part
        assert weight in (0, len(np.arange(n_rows)[rows]) / n_rows)


def batches_of(kind, X):
    generators = Generators(torch.device("cpu"))
    generators.seed(0)
    for given, _ in kind(SparseRows(X), 7, generators=generators):
        noisy = given.dropout(0.4, training=True)
        noise = noisy.standard_normal(torch.empty(len(given), 2))
        yield given, torch.cat([noisy.to_dense(), noise], dim=1).numpy()


@pytest.mark.parametrize("kind", [SparseBatches, HalvedBatches])
def test_parts_have_the_random_numbers_of_the_whole(kind, parts):
    X = sp.csr_array(np.random.default_rng(0).poisson(1.0, (20, 9)).astype(np.float32))
    whole = list(batches_of(kind, X))
    shared = parts(3, lambda: list(batches_of(kind, X)))
    for k, (given, expected) in enumerate(whole):
        together = [part[k] for part in shared]
        assert {batch.n_whole for batch, _ in together} == {given.n_whole} == {len(given)}
        assert sum(batch.weight for batch, _ in together) == pytest.approx(1)
        assert_array_equal(np.concatenate([noisy for _, noisy in together]), expected)


def test_a_part_without_rows_of_its_own_has_those_of_another(parts):
    X = sp.csr_array(np.ones((2, 4), dtype=np.float32))
    shared = parts(3, lambda: list(batches_of(SparseBatches, X)))
    weights = [part[0][0].weight for part in shared]
    assert sorted(weights) == [0, 0.5, 0.5]


def test_script_of_the_guide_trains_in_two_processes(tmp_path):
    sp.save_npz(tmp_path / "X.npz", sp.csr_matrix(in_processes.X))
    script = Path(__file__).parents[1] / "docs" / "train_on_gpus.py"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    out = subprocess.run(
        [*torchrun, "--nproc-per-node=2", script, tmp_path / "X.npz", tmp_path / "model"],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stderr
    model = load(tmp_path / "model")
    assert model.n_iter_ == len(model.validation_scores_)
    assert out.stdout.count("train_loss") == 1  # one process prints
