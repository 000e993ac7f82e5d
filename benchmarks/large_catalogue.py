"""Models of a million items: ``python benchmarks/large_catalogue.py``.

500,000 users and 10 million made interactions in 5,000 groups of 200 items. Each model is fitted in
a fresh process, and 1,000 users that were held out are ranked from 80% of their items.
``cpu_s`` and ``wall_s`` are those of the fit, ``peak_gib`` is the peak of the whole process at its
end, with the interactions and all code. Ends with 1 if SparseEASE needs more than four minutes of
CPU time or 3 GiB, or ranks no better than popularity. Writes ``results/large_catalogue.csv``;
about half an hour on one core, most of it for ELSA, and 4 GB of memory, under Linux.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib
import json
import resource
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from _speed import RESULTS, check, cpu_name, run_worker

SIZES = {"large": (500_000, 1_000_000, 10_000_000), "tiny": (2_000, 1_000, 40_000)}
N_TEST = {"large": 1_000, "tiny": 200}
ITEMS_OF_A_GROUP = 200
METRICS = ["ndcg@100", "recall@20"]
MODELS = {
    "Popularity": ("sklrec.dummy.PopularityRecommender", {}),
    "SparseEASE": (
        "sklrec.linear.SparseEASE",
        {"lambda_": 10.0, "n_neighbors": 50, "dropout": 0.33},
    ),
    "ELSA(64)": (
        "sklrec.neural.ELSA",
        {"n_components": 64, "batch_size": 4096, "max_epochs": 3, "random_state": 0},
    ),
}
COLUMNS = ["date", "cpu", "threads", "versions", "model", "parameters", "shape", "nnz"]
COLUMNS += ["cpu_s", "wall_s", "peak_gib", "n_test_users", *METRICS]
MOST_CPU_SECONDS, MOST_GIB = 240, 3.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="large")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "large_catalogue.csv")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        run_worker(sys.executable, Path(__file__), "make", data, options.size, threads=1)
        for model in options.models:
            found = run_worker(
                sys.executable,
                Path(__file__),
                *("fit", data, options.size, model),
                threads=options.threads,
            )
            parameters = "; ".join(f"{name}={value}" for name, value in MODELS[model][1].items())
            rows.append(
                {
                    "date": datetime.date.today().isoformat(),
                    "cpu": cpu_name(),
                    "threads": options.threads,
                    "model": model,
                    "parameters": parameters,
                    **found,
                }
            )
            print({name: rows[-1][name] for name in ("model", *COLUMNS[-6:])}, flush=True)
            write(rows, options.output)
    by_name = {row["model"]: row for row in rows}
    if options.size == "tiny" or "SparseEASE" not in by_name:
        return 0
    sparse = by_name["SparseEASE"]
    bounds = [
        ("SparseEASE, CPU seconds", float(sparse["cpu_s"]), MOST_CPU_SECONDS),
        ("SparseEASE, GiB of the process", float(sparse["peak_gib"]), MOST_GIB),
    ]
    if "Popularity" in by_name:
        popularity = float(by_name["Popularity"]["ndcg@100"])
        bounds.append(("popularity, NDCG@100", popularity, float(sparse["ndcg@100"])))
    return 0 if check(bounds) else 1


def write(rows: list[dict], path: Path) -> None:
    """Write rows to the table, in the place of those of the same models and shape."""
    kept = {}
    if path.exists():
        with path.open(newline="") as file:
            kept = {(row["model"], row["shape"]): row for row in csv.DictReader(file)}
    kept |= {(row["model"], row["shape"]): row for row in rows}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept.values())


def make(path: str, size: str) -> dict:
    import scipy.sparse as sp

    from sklrec.datasets import make_interactions

    n_users, n_items, n_interactions = SIZES[size]
    n_groups = n_items // ITEMS_OF_A_GROUP
    X = make_interactions(
        n_users,
        n_items,
        n_interactions=n_interactions,
        n_groups=n_groups,
        n_features=n_groups,
        random_state=0,
    ).data
    sp.save_npz(path, X, compressed=False)
    return {}


def fit(path: str, size: str, name: str) -> dict:
    import scipy.sparse as sp

    from sklrec.metrics import evaluate
    from sklrec.model_selection import split_interactions

    X = sp.csr_array(sp.load_npz(path))
    train, held_back = X[: -N_TEST[size]], X[-N_TEST[size] :]
    del X
    path_of_class, parameters = MODELS[name]
    module, _, kind = path_of_class.rpartition(".")
    model = getattr(importlib.import_module(module), kind)(**parameters)
    start, cpu = time.perf_counter(), time.process_time()
    model.fit(train)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fold_in, held_out = split_interactions(held_back, 0.2, random_state=0)
    found = evaluate(model, fold_in, held_out, METRICS)
    libraries = ["sklrec", "numpy", "scipy", *(["torch"] if kind == "ELSA" else [])]
    return {
        "versions": "; ".join(f"{library} {version(library)}" for library in libraries),
        "shape": f"{train.shape[0]}x{train.shape[1]}",
        "nnz": int(train.nnz),
        "cpu_s": f"{cpu_seconds:.1f}",
        "wall_s": f"{seconds:.1f}",
        "peak_gib": f"{peak / 2**20:.2f}",
        "n_test_users": N_TEST[size],
        **{metric: f"{found.mean[metric]:.4f}" for metric in METRICS},
    }


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in ("make", "fit"):
        import warnings

        warnings.simplefilter("ignore")
        work = {"make": make, "fit": fit}[sys.argv[1]]
        print(json.dumps(work(*sys.argv[2:])))
    else:
        sys.exit(main())
