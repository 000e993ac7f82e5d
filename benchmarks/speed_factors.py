"""Time of matrix factorization: ``python benchmarks/speed_factors.py``.

Writes ``results/wmf_speed.csv``: an iteration of `WMF`, which solves for all users and all items
once, beside those of implicit and irspack with conjugate gradients. Each measurement is a fresh
process with a fixed number of threads; libraries are interleaved. Figures are the fastest
iteration after the first, in seconds of wall time and of CPU time, all threads together: the
machine may do other work too. Data are those of MovieLens-1M where SKLREC_DATA names a folder that
holds them, else made ones of the same shape, and made ones of the shape of MovieLens-20M.

With ``--old REF``, writes ``results/factors_speed.csv`` instead: `LFM` beside that of an earlier
commit of this repository, whose code is unpacked into a temporary folder.

- ``fit``: three iterations of the alternating solver, beginning with the biases;
- ``decision_function``: the scores of all users;
- ``short rows``: the same for rows of which five ratings are kept, where the work is in the rows
  and not in their ratings.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from _speed import HERE, RESULTS, check, cpu_name, peer_python, run_worker

TASKS = ["fit", "decision_function", "short rows"]
N_COMPONENTS = 16  # of LFM

# Users, items, interactions; numbers of factors; iterations.
SIZES: dict[str, tuple[tuple[int, int, int], list[int], int]] = {
    "tiny": ((300, 200, 6_000), [8], 3),
    "ml-1m": ((6_040, 3_706, 575_281), [64, 128], 12),
    "ml-20m": ((136_677, 20_108, 10_000_000), [64, 128], 3),
}
# Ours with the default number of steps and with that of the others.
LIBRARIES = ["WMF", "WMF, 3 steps", "irspack", "implicit"]
UNOBSERVED_WEIGHT, LAMBDA = 0.1, 0.003


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", help="commit to compare LFM with, in place of WMF with others")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["ml-1m", "ml-20m"])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.old is not None:
        rows = compare_lfm(options.old, options.threads, options.repetitions)
        write(rows, options.output or RESULTS / "factors_speed.csv")
        return 0
    output = options.output or RESULTS / "wmf_speed.csv"
    bounds, rows = [], []
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            file = Path(folder) / f"{size}.npz"
            run_worker(sys.executable, Path(__file__), "make", size, file, threads=1)
            for n_components in SIZES[size][1]:
                for threads in options.threads:
                    new = compare_wmf(file, size, n_components, threads, options.repetitions)
                    rows += new
                    write(keep_others(rows, output), output)
                    what = f"{size}, {n_components} factors, {threads} threads"
                    for name in ("wall_ratio", "cpu_ratio"):
                        worst = max(float(row[name]) for row in new if row[name])
                        bounds.append((f"{what}, {name} to the faster of the others", worst, 1))
    return 0 if check(bounds) else 1


def compare_wmf(
    file: Path, size: str, n_components: int, threads: int, repetitions: int
) -> list[dict]:
    """Return a row for each library, with ours divided by theirs as ratios."""
    runs: dict[str, list[dict]] = {name: [] for name in LIBRARIES}
    for _ in range(repetitions):
        for name in LIBRARIES:
            python = sys.executable if name.startswith("WMF") else peer_python(name)
            work = (name, file, n_components, SIZES[size][2], threads)
            runs[name].append(run_worker(python, Path(__file__), *work, threads=threads))
            print(size, n_components, threads, name, runs[name][-1], file=sys.stderr, flush=True)
    fastest = {
        name: {clock: min(run[clock] for run in found) for clock in ("wall_s", "cpu_s")}
        for name, found in runs.items()
    }
    return [
        {
            "date": datetime.date.today().isoformat(),
            "cpu": cpu_name(),
            "versions": found[0]["versions"],
            "size": size,
            "shape": found[0]["shape"],
            "nnz": found[0]["nnz"],
            "n_components": n_components,
            "threads": threads,
            "library": name,
            "iterations": repetitions * (SIZES[size][2] - 1),
            "wall_s": f"{fastest[name]['wall_s']:.3f}",
            "cpu_s": f"{fastest[name]['cpu_s']:.3f}",
            **{
                f"{clock}_ratio": ""
                if name.startswith("WMF")
                else f"{fastest['WMF'][f'{clock}_s'] / fastest[name][f'{clock}_s']:.3f}"
                for clock in ("wall", "cpu")
            },
        }
        for name, found in runs.items()
    ]


def keep_others(rows: list[dict], path: Path) -> list[dict]:
    """Return rows of a table in the place of those of the same size, factors and threads."""
    if not path.exists():
        return rows
    place = ("size", "n_components", "threads")
    new = {tuple(str(row[name]) for name in place) for row in rows}
    with path.open(newline="") as file:
        kept = [row for row in csv.DictReader(file) if tuple(row[n] for n in place) not in new]
    return kept + rows


def write(rows: list[dict], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def make(size: str, file: str) -> dict:
    """Write interactions to a file."""
    import scipy.sparse as sp
    from _data import ml_1m

    from sklrec.datasets import make_interactions

    (n_users, n_items, n_interactions), _, _ = SIZES[size]
    if size == "ml-1m" and "SKLREC_DATA" in os.environ:
        X = ml_1m(Path(os.environ["SKLREC_DATA"]))
        X.data = (X.data > 3.5).astype(X.dtype)
        X.eliminate_zeros()
    else:
        X = make_interactions(n_users, n_items, n_interactions=n_interactions, random_state=0).data
    sp.save_npz(file, sp.csr_matrix(X), compressed=False)
    return {}


def iterations(library: str, file: str, n_components: int, n: int, threads: int) -> dict:
    """Measure the iterations of a library in this process."""
    import warnings
    from importlib.metadata import version

    import scipy.sparse as sp

    warnings.simplefilter("ignore")
    X = sp.csr_matrix(sp.load_npz(file))
    clocks = []

    def tick(*_: object) -> None:
        clocks.append((time.perf_counter(), time.process_time()))

    run = {"irspack": run_irspack, "implicit": run_implicit}.get(library, run_wmf)
    run(X, n_components, n, threads, tick, *([3] if library.endswith("3 steps") else []))
    seconds = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(clocks[1:])]
    name = "sklrec" if library.startswith("WMF") else library
    names = [name, "numpy", "scipy"]
    return {
        "wall_s": min(wall for wall, _ in seconds),
        "cpu_s": min(cpu for _, cpu in seconds),
        "shape": "x".join(map(str, X.shape)),
        "nnz": int(X.nnz),
        "versions": "; ".join(f"{name} {version(name)}" for name in names),
    }


def run_wmf(
    X: object, n_components: int, n: int, threads: int, tick: Callable, cg_steps: int = 2
) -> None:
    import numpy as np
    import scipy.sparse as sp

    from sklrec.factorization._wmf_solvers import Objective, alternate

    objective = Objective(LAMBDA, UNOBSERVED_WEIGHT, 1.0, "all")
    rng = np.random.default_rng(0)
    H = rng.normal(scale=0.1 / n_components**0.5, size=(X.shape[1], n_components))
    tick()
    for i, _ in enumerate(alternate(sp.csr_array(X), H.astype(X.dtype), objective, cg_steps), 1):
        tick()
        if i == n:
            break


def run_irspack(X: object, n_components: int, n: int, threads: int, tick: Callable) -> None:
    from irspack import IALSRecommender

    model = IALSRecommender(
        X,
        n_components=n_components,
        alpha0=UNOBSERVED_WEIGHT,
        reg=LAMBDA,
        n_threads=threads,
        solver_type="CG",
        max_cg_steps=3,
    )
    trainer = model._create_trainer()
    tick()
    for _ in range(n):
        trainer.run_epoch()
        tick()


def run_implicit(X: object, n_components: int, n: int, threads: int, tick: Callable) -> None:
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        n_components,
        regularization=LAMBDA / UNOBSERVED_WEIGHT,
        alpha=1 / UNOBSERVED_WEIGHT,
        iterations=n,
        num_threads=threads,
        random_state=0,
    )
    tick()
    model.fit(X, show_progress=False, callback=tick)


def compare_lfm(old: str, threads_of_runs: list[int], repetitions: int) -> list[dict]:
    """Return a row for each task and number of threads."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        command = ["git", "archive", old, "sklrec"]
        archive = subprocess.run(command, cwd=HERE.parent, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as file:
            file.extractall(folder, filter="data")
        for threads in threads_of_runs:
            runs: dict[str, list[dict]] = {"old": [], "new": []}
            for _ in range(repetitions):
                runs["old"].append(measure_lfm(Path(folder), threads))
                runs["new"].append(measure_lfm(HERE.parent, threads))
            for task in TASKS:
                wall, cpu = (
                    {
                        name: statistics.median(run[task][clock] for run in done)
                        for name, done in runs.items()
                    }
                    for clock in (0, 1)
                )
                rows.append(
                    {
                        "date": datetime.date.today().isoformat(),
                        "cpu": cpu_name(),
                        "old": old,
                        "threads": threads,
                        "shape": runs["new"][0]["shape"],
                        "n_components": N_COMPONENTS,
                        "task": task,
                        "old_s": f"{wall['old']:.3f}",
                        "new_s": f"{wall['new']:.3f}",
                        "ratio": f"{wall['new'] / wall['old']:.3f}",
                        "old_cpu_s": f"{cpu['old']:.3f}",
                        "new_cpu_s": f"{cpu['new']:.3f}",
                        "cpu_ratio": f"{cpu['new'] / cpu['old']:.3f}",
                    }
                )
                print(rows[-1], flush=True)
    return rows


def measure_lfm(package: Path, threads: int) -> dict:
    """Run the worker with the code in a folder."""
    environment = dict(os.environ, PYTHONPATH=str(package))
    for name in ("OMP", "OPENBLAS", "MKL"):
        environment[f"{name}_NUM_THREADS"] = str(threads)
    command = [sys.executable, str(Path(__file__)), "lfm"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def lfm() -> dict:
    import warnings

    import numpy as np
    from _data import ml_1m

    from sklrec.datasets import make_interactions
    from sklrec.factorization import LFM

    warnings.simplefilter("ignore")  # that so few iterations are not enough
    if "SKLREC_DATA" in os.environ:
        X = ml_1m(Path(os.environ["SKLREC_DATA"]))
    else:
        X = make_interactions(6040, 3706, ratings=True, random_state=0).data
    model = LFM(N_COMPONENTS, max_iter=3, tol=0, random_state=0)
    model.fit(X[:300])  # so that code and threads are there
    position = np.arange(X.nnz) - np.repeat(X.indptr[:-1], np.diff(X.indptr))
    short = X.copy()
    short.data[position >= 5] = 0
    short.eliminate_zeros()
    measured: dict = {"shape": "x".join(map(str, X.shape))}
    for task, work in [
        ("fit", lambda: model.fit(X)),
        ("decision_function", lambda: model.decision_function(X)),
        ("short rows", lambda: model.decision_function(short)),
    ]:
        start = time.perf_counter(), time.process_time()
        work()
        measured[task] = time.perf_counter() - start[0], time.process_time() - start[1]
    return measured


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments == ["lfm"]:
        print(json.dumps(lfm()))
    elif arguments[:1] == ["make"]:
        print(json.dumps(make(*arguments[1:])))
    elif arguments[:1] and arguments[0] in LIBRARIES:
        print(json.dumps(iterations(*arguments[:2], *map(int, arguments[2:]))))
    else:
        sys.exit(main())
