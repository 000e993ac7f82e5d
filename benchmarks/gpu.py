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
        "block": 2_048,
    },
    "small": {
        "shape": (600, 120, 12_000),
        "epoch_users": 100,
        "ranked_users": 50,
        "validation_users": 50,
        "fit_epochs": 2,
        "block": 32,
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
    """Time EASE's Gram matrix and its inverse on the device: a sketch, not the package's fit."""
    import torch

    def synchronized(function: Callable, *args: Any) -> tuple[Any, float]:
        start = time.perf_counter()
        result = function(*args)
        if device == "cuda":
            torch.cuda.synchronize()
        return result, time.perf_counter() - start

    kept: dict[str, Any] = {}

    def measure_gram() -> Row:
        gram(X[:2_000], device)  # what is done once
        kept["G"], seconds = synchronized(gram, X, device)
        kept["G"].diagonal().add_(LAMBDA)
        some = X[:, [0, X.shape[1] // 2]]
        expected = torch.from_numpy((X.T @ some).toarray())
        expected[0, 0] += LAMBDA
        expected[X.shape[1] // 2, 1] += LAMBDA
        error = (kept["G"][:, [0, X.shape[1] // 2]].cpu() - expected).abs().max()
        return {"seconds": seconds, "value": float(error), "note": "value is the largest error"}

    def measure_inverse() -> Row:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        sample = kept["G"][:, :50].double()
        P, seconds = synchronized(invert_in_place, kept.pop("G"), size["block"])
        kept["P"] = P
        # G P = I, seen through 50 columns of G, in float64.
        product = torch.cat([rows.double() @ sample for rows in P.split(1_024)])
        product[:50].diagonal().sub_(1)
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
        return {
            "seconds": seconds,
            "peak_gib": peak / 2**30,
            "value": float(product.abs().max()),
            "note": "block sweep; value is the largest error of P G = I in 50 columns",
        }

    def measure_torch() -> Row:
        G = gram(X, device)
        G.diagonal().add_(LAMBDA)

        def invert() -> Any:
            return torch.cholesky_inverse(torch.linalg.cholesky(G))

        P, seconds = synchronized(invert)
        difference = (P - kept["P"]).abs().max() / P.abs().max()
        return {
            "seconds": seconds,
            "value": float(difference),
            "note": "torch.cholesky_inverse; value is the relative difference of the sweep from it",
        }

    yield from recorded(measure_gram, what="EASE: Gram matrix", dtype="float16 products")
    yield from recorded(measure_inverse, what="EASE: inverse by blocks", dtype="float32")
    yield from recorded(measure_torch, what="EASE: inverse by torch", dtype="float32")


def gram(X: Any, device: str, rows: int = 8_192) -> Any:
    """Return X'X of a CSR array of ones: products in halves are exact, and sums in float32."""
    import numpy as np
    import torch

    G = torch.zeros(X.shape[1], X.shape[1], device=device)
    for start in range(0, X.shape[0], rows):
        part = X[start : start + rows]
        at = (
            torch.from_numpy(np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))).to(device),
            torch.from_numpy(part.indices.astype(np.int64)).to(device),
        )
        dtype = torch.float16 if device == "cuda" else torch.float32
        D = torch.zeros(part.shape, dtype=dtype, device=device)
        D[at] = 1
        if device == "cuda":
            G += torch.mm(D.T, D, out_dtype=torch.float32)
        else:
            G.addmm_(D.T, D)
    return G


def invert_in_place(G: Any, block: int) -> Any:
    """Invert a positive definite matrix by sweeps of blocks of rows (Goodnight, 1979).

    It needs the matrix and two panels of `block` rows; its upper triangle is read.
    """
    import torch

    cuts = [slice(start, min(start + block, len(G))) for start in range(0, len(G), block)]
    for rows in cuts:
        A = torch.triu(G[rows, rows])
        L = torch.linalg.cholesky(A + torch.triu(A, 1).T)
        A = torch.cholesky_inverse(L)
        panel = torch.cat([G[: rows.start, rows].T, G[rows, rows.start :]], 1)
        panel[:, rows] = 0  # its own rows are set below
        solved = A @ panel
        for other in cuts:
            if other is not rows:
                G[other, other.start :].addmm_(
                    panel[:, other].T, solved[:, other.start :], alpha=-1
                )
        G[: rows.start, rows] = solved[:, : rows.start].T
        G[rows, rows.stop :] = solved[:, rows.stop :]
        G[rows, rows] = -A
    G.neg_()
    for i, rows in enumerate(cuts):
        for columns in cuts[:i]:
            G[rows, columns] = G[columns, rows].T
        U = torch.triu(G[rows, rows])
        G[rows, rows] = U + torch.triu(U, 1).T
    return G


# Name, seconds at most, work; from the most to the least important.
PARTS: dict[str, tuple[int, Callable[..., Iterator[Row]]]] = {
    "epochs in float32": (70, lambda *about: epochs(*about, "float32")),
    "fit": (50, fit),
    "epochs in bfloat16": (60, lambda *about: epochs(*about, "bfloat16")),
    "ranking": (50, ranking),
    "ease": (50, ease),
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
