"""Neighbours among 1,000,000 items: ``python benchmarks/speed_neighbors.py``.

Fits each model in a fresh process on 10 million interactions of 500,000 users in planted groups
and ranks the hidden items of 1,000 other users. ``peak_gib`` is the peak of the whole process over
the fit, the interactions included; ``before_gib`` is what it holds before, and ``weights_gib`` the
size of ``coef_``. Ends with 1 if a fit takes more CPU time or memory than the bounds below. Writes
``results/neighbors_speed.csv``; about ten minutes and 5 GB of memory, under Linux.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

from _speed import RESULTS, check, cpu_name, run_worker

MODELS = ["ItemKNN", "RP3beta"]
SIZES = {"large": (501_000, 1_000_000), "tiny": (1_500, 2_000)}  # users and items
PER_USER, N_NEIGHBORS, N_TEST, GROUP = 20, 50, 1_000, 200
MOST_CPU_S, MOST_GIB = 240, 3.0
LIBRARIES = ["sklrec", "numpy", "scipy"]
GIB = 2**30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="large")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "neighbors_speed.csv")
    options = parser.parse_args()
    rows = []
    for model in MODELS:
        found = run_worker(
            sys.executable, Path(__file__), model, options.size, threads=options.threads
        )
        rows.append(
            {
                "date": datetime.date.today().isoformat(),
                "cpu": cpu_name(),
                "threads": options.threads,
                "versions": "; ".join(f"{name} {version(name)}" for name in LIBRARIES),
                "model": model,
                **found,
            }
        )
        print(found, file=sys.stderr, flush=True)
        with options.output.open("w", newline="") as file:  # what there is so far
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    bounds = []
    for row in rows:
        bounds.append((f"{row['model']}, CPU seconds", float(row["cpu_s"]), MOST_CPU_S))
        bounds.append((f"{row['model']}, GiB", float(row["peak_gib"]), MOST_GIB))
    return 0 if check(bounds) or options.size == "tiny" else 1


def worker(name: str, size: str) -> dict:
    from sklrec import neighbors
    from sklrec.datasets import make_interactions
    from sklrec.dummy import PopularityRecommender
    from sklrec.metrics import evaluate
    from sklrec.model_selection import split_interactions

    n_users, n_items = SIZES[size]
    X = make_interactions(
        n_users,
        n_items,
        n_interactions=n_users * PER_USER,
        n_groups=n_items // GROUP,
        n_features=n_items // GROUP,
        random_state=0,
    ).data
    fold_in, held_out = split_interactions(X[-N_TEST:], random_state=0)
    X = X[:-N_TEST]
    model = getattr(neighbors, name)(N_NEIGHBORS)
    model.fit(X[:300, :1000])  # so that code and threads are there
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    before = _status("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    model.fit(X)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = _status("VmHWM")
    B = model.coef_
    popularity = PopularityRecommender().fit(X)
    ndcg, by_popularity = (
        evaluate(recommender, fold_in, held_out, "ndcg@100").mean["ndcg@100"]
        for recommender in (model, popularity)
    )
    return {
        "shape": f"{X.shape[0]}x{X.shape[1]}",
        "nnz": int(X.nnz),
        "n_neighbors": N_NEIGHBORS,
        "fit_s": f"{wall:.1f}",
        "cpu_s": f"{cpu:.1f}",
        "before_gib": f"{before / GIB:.2f}",
        "peak_gib": f"{peak / GIB:.2f}",
        "weights_gib": f"{(B.data.nbytes + B.indices.nbytes + B.indptr.nbytes) / GIB:.2f}",
        "ndcg@100": f"{ndcg:.4f}",
        "ndcg@100_popularity": f"{by_popularity:.4f}",
    }


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}; this needs Linux.")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in MODELS:
        print(json.dumps(worker(*sys.argv[1:])))
    else:
        sys.exit(main())
