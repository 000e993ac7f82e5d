"""Check and time the package on one GPU: ``python benchmarks/gpu.py --out FOLDER``.

First the GPU tests, then timings from the most to the least important, at the shape of
MovieLens 20M with made interactions. Each result is printed and written to ``FOLDER/gpu.csv`` as it
is there. A part is a process of its own with a time of its own: what fails or takes too long is
recorded, and the next part begins. Under 8 minutes on an NVIDIA H100. See README.md beside this
file; ``--device cpu --small`` shows anywhere that everything runs.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
COLUMNS = [
    "date", "card", "versions", "part", "what", "dtype", "shape", "seconds", "peak_gib", "value",
    "note",
]  # fmt: skip
SIZES = {
    "large": {
        "shape": (136_677, 20_108, 10_000_000),
        "epoch_users": 20_000,  # of whom an epoch is measured; that of all is extrapolated
        "ranked_users": 10_000,
        "validation_users": 10_000,
        "fit_epochs": 6,
    },
    "small": {
        "shape": (600, 120, 12_000),
        "epoch_users": 100,
        "ranked_users": 50,
        "validation_users": 50,
        "fit_epochs": 2,
    },
}
# From the most to the least important.
MODELS = ["MultVAE", "RecVAE", "ELSA", "NeuralEASE", "MultDAE", "HVampVAE", "FLVAE", "VASP"]
FULL_EPOCHS = 200
LAMBDA = 500.0
Row = dict[str, Any]


def epochs(X: Any, size: dict, device: str, dtype: str) -> Iterator[Row]:
    """Time an epoch of every neural model with its defaults."""
    import torch
    from neural_worker import time_epochs

    import sklrec.neural

    if dtype == "tf32":
        torch.set_float32_matmul_precision("high")
    users = X[: size["epoch_users"]]
    scale = X.shape[0] / users.shape[0]
    for name in MODELS:
        settings = {"max_epochs": 3, "random_state": 0, "device": device}
        model = getattr(sklrec.neural, name)(mixed_precision=dtype == "bfloat16", **settings)

        def measure(model: Any = model) -> Row:
            found = time_epochs(model, users)
            return {
                "seconds": scale * min(found["epochs"][1:]),
                "peak_gib": found["peak_bytes"] / 2**30,
                "value": model.loss_curve_[-1],
                "note": f"{users.shape[0]} users measured; value is their loss after 3 epochs",
            }

        yield from recorded(measure, what=f"epoch of {name}", dtype=dtype)


def fit(X: Any, size: dict, device: str) -> Iterator[Row]:
    """Time epochs of Mult-VAE on all users with validation, as neural.py does."""
    from neural_worker import model, time_epochs

    for dtype in ("float32", "bfloat16"):

        def measure(dtype: str = dtype) -> Row:
            n_epochs = size["fit_epochs"]
            vae = model(device, max_epochs=n_epochs, mixed_precision=dtype == "bfloat16")
            found = time_epochs(vae, X, X[: size["validation_users"]])
            each = found["total_s"] / n_epochs
            return {
                "seconds": FULL_EPOCHS * each,
                "peak_gib": found["peak_bytes"] / 2**30,
                "value": min(found["epochs"]),
                "note": f"extrapolated from {n_epochs} epochs; value is the shortest without "
                "validation, seconds",
            }

        what = f"{FULL_EPOCHS} epochs of MultVAE with validation"
        yield from recorded(measure, what=what, dtype=dtype)


def ranking(X: Any, size: dict, device: str) -> Iterator[Row]:
    """Rank 100 items of many users on the device and on the CPU."""
    import pickle

    import numpy as np
    import torch
    from neural_worker import model

    vae = model(device, max_epochs=1).fit(X[: size["epoch_users"]])
    users = X[: size["ranked_users"]]
    k = min(100, X.shape[1])
    found = {}
    for where in (device, "cpu"):

        def measure(where: str = where) -> Row:
            one = (
                vae if where == device else pickle.loads(pickle.dumps(vae.set_params(device=where)))
            )
            one.predict_ranking(users[:100], k=k)
            if where == "cuda":
                torch.cuda.reset_peak_memory_stats()
            times = []
            for _ in range(3 if where == device else 1):
                start = time.perf_counter()
                found[where] = one.predict_ranking(users, k=k)
                times.append(time.perf_counter() - start)
            peak = torch.cuda.max_memory_allocated() if where == "cuda" else 0
            same = float(np.mean(found[where] == found[device])) if device in found else ""
            return {
                "seconds": min(times),
                "peak_gib": peak / 2**30,
                "value": same,
                "note": f"{len(users.indptr) - 1} users, k={k}; value is the share of ranks as on "
                f"the device; {torch.get_num_threads()} threads",
            }

        yield from recorded(measure, what=f"ranking on {where}", dtype="float32")


def ease(X: Any, size: dict, device: str) -> Iterator[Row]:
    """Time EASE on the device: X'X, the weights from it, and all of a fit."""
    import torch

    from sklrec.linear import EASE
    from sklrec.linear import _ease_on_device as on_device

    kept: dict[str, Any] = {}

    def finished(function: Callable, *args: Any) -> tuple[Any, Row]:
        """Return what a function returns, its time and its memory."""
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        result = function(*args)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
        return result, {"seconds": seconds, "peak_gib": peak / 2**30}

    def measure_gram() -> Row:
        on_device.gram(X[:2_000], torch.device(device))  # what is done once
        kept["G"], found = finished(on_device.gram, X, torch.device(device))
        column = kept["G"][:, -1].cpu().numpy()  # of the upper triangle
        error = abs(column - (X.T @ X[:, [-1]]).toarray().ravel()).max()
        return {**found, "value": float(error), "note": "value is the largest error of an item"}

    def measure_solve() -> Row:
        _, found = finished(on_device.solve, kept.pop("G"), LAMBDA, 0.0)
        return {**found, "note": "with the copy to main memory"}

    def measure_torch() -> Row:
        G = on_device.gram(X, torch.device(device))
        G = G.triu() + G.triu(1).T
        G.diagonal().add_(LAMBDA)
        _, found = finished(lambda: torch.cholesky_inverse(torch.linalg.cholesky(G)))
        return {**found, "note": "torch.cholesky_inverse, which stays on the device"}

    def measure_fit() -> Row:
        model, found = finished(EASE(LAMBDA, device=device).fit, X)
        # X'X B + lambda B = X'X off the diagonal of each column.
        some = list(range(0, X.shape[1], max(1, X.shape[1] // 20)))
        B = model.coef_[:, some].astype("float64")
        gram = (X.T @ X[:, some]).toarray()
        error = X.T @ (X @ B) + LAMBDA * B - gram
        error[some, range(len(some))] = 0
        note = "value is the largest error of its equations, relative to X'X, in 20 columns"
        return {**found, "value": float(abs(error).max() / gram.max()), "note": note}

    yield from recorded(measure_gram, what="EASE: Gram matrix", dtype="float32")
    yield from recorded(measure_solve, what="EASE: weights from it", dtype="float32")
    yield from recorded(measure_fit, what="EASE: fit", dtype="float32")
    yield from recorded(measure_torch, what="EASE: inverse by torch", dtype="float32")


def wmf(X: Any, size: dict, device: str) -> Iterator[Row]:
    """Time an iteration of WMF on the device, and compare the loss with that of the CPU."""
    from sklrec.factorization import WMF

    def measure(**params: Any) -> Row:
        taken = []
        for max_iter in (1, 1, 3):  # the first does what is done once
            start = time.perf_counter()
            WMF(device=device, max_iter=max_iter, **params).fit(X)
            taken.append(time.perf_counter() - start)
        some = X[: size["ranked_users"]]
        found, expected = (
            WMF(device=where, max_iter=1, **params).fit(some).loss_curve_[0]
            for where in (device, "cpu")
        )
        return {
            "seconds": (taken[2] - taken[1]) / 2,
            "value": abs(found / expected - 1),
            "note": f"an iteration; a fit of one takes {taken[1]:.3g} s; value is the relative "
            f"difference of the loss from that on the CPU, with {some.shape[0]} users",
        }

    for n_components, solver in ((64, "cg"), (64, "cholesky"), (256, "cg")):
        params = {"n_components": n_components, "solver": solver, "random_state": 0}
        what = f"WMF({n_components}), {solver}: an iteration"
        yield from recorded(lambda params=params: measure(**params), what=what, dtype="float32")


# Name, seconds at most, work; from the most to the least important.
PARTS: dict[str, tuple[int, Callable[..., Iterator[Row]]]] = {
    "epochs in float32": (70, lambda *about: epochs(*about, "float32")),
    "fit": (50, fit),
    "epochs in bfloat16": (60, lambda *about: epochs(*about, "bfloat16")),
    "ranking": (50, ranking),
    "ease": (50, ease),
    "wmf": (50, wmf),
    "epochs in tf32": (60, lambda *about: epochs(*about, "tf32")),
}
SECONDS_OF_TESTS = 150
SECONDS_IN_ALL = 460


def recorded(measure: Callable[[], Row], **about: Any) -> Iterator[Row]:
    """Yield the row of a measurement, or one that says how it failed."""
    try:
        yield about | measure()
    except Exception as error:
        yield about | {"note": failure(f"{type(error).__name__}: {error}")}


def failure(what: str) -> str:
    return "FAILED: " + " ".join(what.split())[:500]


def about_device(device: str) -> Row:
    from importlib.metadata import version

    import torch

    from sklrec import __version__

    card = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    python = ".".join(map(str, sys.version_info[:3]))
    versions = f"python {python}; sklrec {__version__}; torch {torch.__version__}"
    return {"card": card, "versions": f"{versions}; skorch {version('skorch')}"}


def work(part: str, size: dict, device: str, data: Path) -> Iterator[Row]:
    """Measure one part, in a process of its own."""
    import scipy.sparse as sp

    X = sp.csr_array(sp.load_npz(data))
    about = about_device(device) | {"shape": "x".join(map(str, X.shape))}
    for row in PARTS[part][1](X, size, device):
        yield about | row


def make_data(size: dict, path: Path) -> None:
    import scipy.sparse as sp

    from sklrec.datasets import make_interactions

    n_users, n_items, n_interactions = size["shape"]
    made = make_interactions(n_users, n_items, n_interactions=n_interactions, random_state=0)
    sp.save_npz(path, sp.csr_matrix(made.data), compressed=False)


class Table:
    """The rows found so far, each printed and written at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failed = False
        with path.open("w", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writeheader()

    def add(self, **row: Any) -> None:
        """Print a row and write it."""
        self.failed |= str(row.get("note", "")).startswith("FAILED")
        row = {"date": datetime.date.today().isoformat()} | row
        for name in ("seconds", "peak_gib", "value"):
            if isinstance(row.get(name), float):
                row[name] = f"{row[name]:.4g}"
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n").writerow(row)
        shown = [
            row.get(name, "") for name in ("part", "what", "dtype", "seconds", "value", "note")
        ]
        print(*(str(cell) for cell in shown if cell != ""), sep=" | ", flush=True)


def run(command: list[str], seconds: float, each_line: Callable[[str], None]) -> str:
    """Run a process for at most so many seconds; return how it failed, "" if it did not."""
    environment = dict(os.environ)
    paths = [str(ROOT), str(HERE), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        start = time.perf_counter()
        clock = threading.Timer(seconds, process.kill)
        clock.start()
        for line in process.stdout or ():
            each_line(line.rstrip())
        code = process.wait()
        clock.cancel()
        if code == 0:
            return ""
        if time.perf_counter() - start >= seconds:
            return failure(f"stopped after {seconds:g} seconds")
        errors.seek(0)
        return failure(errors.read()[-400:] or f"ended with {code}")


def run_tests(table: Table, out: Path, seconds: float) -> None:
    """Run the GPU tests; warnings of another version of torch are no failures here."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-W", "default", "--durations=5"]
    command += ["-p", "no:cacheprovider", "--tb=short"]
    if importlib.util.find_spec("xdist"):
        command += ["--numprocesses=4"]
    start = time.perf_counter()
    lines: list[str] = []
    with (out / "tests.txt").open("w") as file:

        def each_line(line: str) -> None:
            lines.append(line)
            print(line, file=file, flush=True)
            if line.startswith(("FAILED", "ERROR")):
                print(line, flush=True)

        failed = run([*command, "tests/test_gpu.py"], seconds, each_line)
    counts = [line for line in lines[-3:] if re.search(r"\d+ (passed|failed|skipped|error)", line)]
    note = counts[-1].strip("= ") if counts else "no tests"
    table.add(
        part="tests",
        what="pytest -m gpu",
        seconds=time.perf_counter() - start,
        note=f"FAILED: {note}; see tests.txt" if failed else note,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of gpu.csv and tests.txt")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="show in a minute that it runs")
    parser.add_argument("--parts", nargs="+", choices=["tests", *PARTS], default=["tests", *PARTS])
    parser.add_argument("--work", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = SIZES["small" if options.small else "large"]
    if options.work:
        for row in work(options.work, size, options.device, options.data):
            print(json.dumps(row), flush=True)
        return 0

    end = time.perf_counter() + SECONDS_IN_ALL
    options.out.mkdir(parents=True, exist_ok=True)
    table = Table(options.out / "gpu.csv")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "X.npz"
        # Made beside the tests, which leave most cores idle.
        maker = threading.Thread(target=make_data, args=(size, data))
        maker.start()
        if "tests" in options.parts:
            run_tests(table, options.out, SECONDS_OF_TESTS)
        maker.join()
        command = [sys.executable, str(Path(__file__).resolve()), "--out", str(options.out)]
        command += ["--device", options.device, "--data", str(data)]
        command += ["--small"] if options.small else []
        for part in [part for part in PARTS if part in options.parts]:

            def each_line(line: str, part: str = part) -> None:
                table.add(part=part, **json.loads(line))

            seconds = min(PARTS[part][0], max(1.0, end - time.perf_counter()))
            failed = run([*command, "--work", part], seconds, each_line)
            if failed:
                table.add(part=part, note=failed)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
