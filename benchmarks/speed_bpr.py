"""Time of BPR: ``python benchmarks/speed_bpr.py``.

Writes ``results/bpr_speed.csv``, in seconds of CPU time on one thread:

- ``epoch``: an epoch of `BPR` beside one of implicit, with as many factors and one negative for
  each interaction: the difference of fits with 5 epochs and with 1, divided by 4. Each measurement
  is a fresh process, libraries are interleaved, and the fastest counts. An epoch of ours goes
  further: implicit takes steps of plain gradient descent and needs about 100 epochs, ours takes
  steps of Adagrad and needs about 30.
- ``one user``: `predict_ranking` of one row beside numpy functions that do the same arithmetic.

Data are those of MovieLens-1M where SKLREC_DATA names a folder that holds them, else made ones of
the same shape.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from _speed import RESULTS, check, cpu_name, peer_python, run_worker

SIZES = {"tiny": (300, 200, 6_000), "ml-1m": (6_040, 3_706, 575_281)}
LAMBDA = 0.01
BOUND = 2.0  # of one user


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="ml-1m")
    parser.add_argument("--n-components", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS / "bpr_speed.csv")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "X.npz"
        run_worker(sys.executable, Path(__file__), "make", options.size, file, threads=1)
        for n_components in options.n_components:
            rows += compare("epoch", file, n_components, options.repetitions)
            rows += compare("one user", file, n_components, options.repetitions)
    with options.output.open("w", newline="") as table:
        writer = csv.DictWriter(table, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    of_one_user = [float(row["ratio"]) for row in rows if row["library"] == "numpy"]
    return 0 if check([("one user, times bare numpy", max(of_one_user), BOUND)]) else 1


def compare(what: str, file: Path, n_components: int, repetitions: int) -> list[dict]:
    """Return a row for ours, and one for the other with ours divided by it as the ratio."""
    measured: dict[str, dict] = {}
    other = {"epoch": "implicit", "one user": "numpy"}[what]
    for _ in range(repetitions):
        if what == "one user":  # turn by turn in one process
            done = run_worker(sys.executable, Path(__file__), what, file, n_components, threads=1)
            found = [(name, done | {"cpu_s": done[name]}) for name in ("sklrec", other)]
        else:
            pythons = {"sklrec": sys.executable, other: peer_python(other)}
            found = [
                (name, run_worker(python, Path(__file__), name, file, n_components, threads=1))
                for name, python in pythons.items()
            ]
        for name, new in found:
            if name not in measured or new["cpu_s"] < measured[name]["cpu_s"]:
                measured[name] = new
            print(what, n_components, name, new["cpu_s"], file=sys.stderr, flush=True)
    return [
        {
            "date": datetime.date.today().isoformat(),
            "cpu": cpu_name(),
            "threads": 1,
            "versions": best["versions"],
            "what": what,
            "library": name,
            "shape": best["shape"],
            "nnz": best["nnz"],
            "n_components": n_components,
            "repetitions": repetitions,
            "cpu_s": f"{best['cpu_s']:.6f}",
            "ratio": ""
            if name == "sklrec"
            else f"{measured['sklrec']['cpu_s'] / best['cpu_s']:.3f}",
        }
        for name, best in measured.items()
    ]


def make(size: str, file: str) -> dict:
    """Write interactions to a file."""
    import scipy.sparse as sp
    from _data import ml_1m

    from sklrec.datasets import make_interactions

    n_users, n_items, n_interactions = SIZES[size]
    if size == "ml-1m" and "SKLREC_DATA" in os.environ:
        X = ml_1m(Path(os.environ["SKLREC_DATA"]))
        X.data = (X.data > 3.5).astype(X.dtype)
        X.eliminate_zeros()
    else:
        X = make_interactions(n_users, n_items, n_interactions=n_interactions, random_state=0).data
    sp.save_npz(file, sp.csr_matrix(X), compressed=False)
    return {}


def epoch(library: str, X: object, n_components: int) -> float:
    """Return the CPU seconds of an epoch in this process."""

    def seconds(n_epochs: int) -> float:
        if library == "implicit":
            from implicit.cpu.bpr import BayesianPersonalizedRanking

            model = BayesianPersonalizedRanking(
                n_components,
                learning_rate=0.05,
                regularization=LAMBDA,
                iterations=n_epochs,
                num_threads=1,
                random_state=0,
            )
            start = time.process_time()
            model.fit(X, show_progress=False)
        else:
            from sklrec.factorization import BPR

            ours = BPR(n_components, lambda_=LAMBDA, max_epochs=n_epochs, random_state=0)
            start = time.process_time()
            ours.fit(X)
        return time.process_time() - start

    first = seconds(1)
    return (seconds(5) - first) / 4


def one_user(X: object, n_components: int) -> dict:
    """Return the median CPU seconds of `predict_ranking` and of bare numpy, turn by turn."""
    import numpy as np
    import scipy.sparse as sp
    from ranking_worker import bare_bpr

    from sklrec.factorization import BPR

    X = sp.csr_array(X)
    X.sort_indices()
    model = BPR(n_components, lambda_=LAMBDA, max_epochs=3, random_state=0).fit(X)
    score = bare_bpr(model)

    def bare(row: sp.csr_array) -> np.ndarray:
        scores = score(row)
        scores[row.indices] = -np.inf
        best = np.argpartition(-scores, 10)[:10]
        return best[np.argsort(-scores[best])]

    times: dict[str, list[float]] = {"sklrec": [], "numpy": []}
    some = np.flatnonzero((np.diff(X.indptr) > 0) & (np.diff(X.indptr) < X.shape[1]))[:300]
    for user in some:
        row = X[[user]]
        start = time.process_time()
        ours = model.predict_ranking(row)
        middle = time.process_time()
        theirs = bare(row)
        times["numpy"].append(time.process_time() - middle)
        times["sklrec"].append(middle - start)
        if len(set(ours[0]) & set(theirs)) < 9:  # rounding may swap the last two
            raise RuntimeError(f"Rankings of user {user} differ: {ours[0]} and {theirs}.")
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def worker(what: str, file: str, n_components: int) -> dict:
    import warnings
    from importlib.metadata import version

    import scipy.sparse as sp

    warnings.simplefilter("ignore")
    X = sp.csr_matrix(sp.load_npz(file))
    names = ["implicit" if what == "implicit" else "sklrec", "numpy", "scipy"]
    return {
        "shape": "x".join(map(str, X.shape)),
        "nnz": int(X.nnz),
        "versions": "; ".join(f"{name} {version(name)}" for name in names),
        **(
            one_user(X, n_components)
            if what == "one user"
            else {"cpu_s": epoch(what, X, n_components)}
        ),
    }


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["make"]:
        print(json.dumps(make(*arguments[1:])))
    elif arguments[:1] and arguments[0] in ("sklrec", "implicit", "one user"):
        print(json.dumps(worker(*arguments[:2], int(arguments[2]))))
    else:
        sys.exit(main())
