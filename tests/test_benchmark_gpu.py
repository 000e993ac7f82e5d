"""The benchmark of GPUs, as far as a CPU shows that it runs."""

import csv
import sys

import pytest

torch = pytest.importorskip("torch")

import gpu  # noqa: E402
import speed_neural  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu") / "X.npz"
    gpu.make_data(gpu.SIZES["small"], path)
    return path


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


N_ROWS = {"epochs in float32": 8, "fit": 2, "ranking": 2, "ease": 4, "wmf": 3}


@pytest.mark.parametrize("part", gpu.PARTS)
def test_every_part_measures(part, data, monkeypatch):
    precisions = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", precisions.append)
    if part != "epochs in float32":
        monkeypatch.setattr(gpu, "MODELS", ["MultVAE"])
    rows = list(gpu.work(part, gpu.SIZES["small"], "cpu", data))
    assert len(rows) == N_ROWS.get(part, 1)
    for row in rows:
        assert "FAILED" not in row["note"]
        assert row["seconds"] > 0
        assert row["card"] == "cpu"
        assert set(row) <= set(gpu.COLUMNS)
    assert precisions == (["high"] if part.endswith("tf32") else [])


@pytest.mark.parametrize(("part", "n_values"), [("ease", 2), ("wmf", 3)])
def test_values_of_ease_and_wmf_are_errors_that_are_small(part, n_values, data):
    rows = gpu.work(part, gpu.SIZES["small"], "cpu", data)
    values = [row["value"] for row in rows if "value" in row]
    assert len(values) == n_values
    assert max(values) < 1e-5


def test_what_fails_in_a_part_is_recorded_and_the_rest_goes_on():
    def fails():
        raise RuntimeError("CUDA error:\n out of luck")

    measured = [fails, lambda: {"seconds": 1.0}]
    rows = [row for measure in measured for row in gpu.recorded(measure, what="it")]
    assert rows == [
        {"what": "it", "note": "FAILED: RuntimeError: CUDA error: out of luck"},
        {"what": "it", "seconds": 1.0},
    ]


def test_a_process_that_takes_too_long_loses_nothing_that_it_has_printed():
    lines = []
    code = "import time; print('found', flush=True); time.sleep(60)"
    failed = gpu.run([sys.executable, "-c", code], 1, lines.append)
    assert (lines, failed) == (["found"], "FAILED: stopped after 1 seconds")


def test_a_process_that_ends_with_an_error_says_it():
    failed = gpu.run([sys.executable, "-c", "raise SystemExit('no such card')"], 30, print)
    assert failed == "FAILED: no such card"


def test_the_table_is_written_row_by_row(command_line, tmp_path, monkeypatch, capsys):
    command_line("gpu.py --device cpu --small --parts fit ease --out", tmp_path)
    times = {"fit": (0.01, gpu.fit), "ease": (300, gpu.ease)}  # the first is too short
    monkeypatch.setattr(gpu, "PARTS", gpu.PARTS | times)
    monkeypatch.setattr(gpu, "SECONDS_IN_ALL", 400)
    assert gpu.main() == 1
    rows = read(tmp_path / "gpu.csv")
    assert [row["part"] for row in rows] == ["fit", *4 * ["ease"]]
    assert rows[0]["note"].startswith("FAILED: stopped after")
    assert all(float(row["seconds"]) > 0 for row in rows[1:])
    assert "EASE: weights from it" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["large catalogue", "large catalogue, one user", "float64 rows"])
def test_rows_of_the_speed_table_are_measured(what):
    n_users, n_items, turns = speed_neural.ROWS[what][1]["tiny"]
    found = speed_neural.work(what, n_users, n_items, turns)
    assert found["before"] > 0
    assert len(speed_neural.bounds_of(what, found)) == 1
