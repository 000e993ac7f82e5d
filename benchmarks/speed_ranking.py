"""Compare rankings and metrics with what they were, or with the bare work, in one run.

Each row is a fresh process in which both ways take turns. See README.md beside this file. With
``--what`` some rows are measured again and the others stay.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import statistics
import sys
from pathlib import Path

from _speed import HERE, RESULTS, check, cpu_name, run_worker

COLUMNS = [
    "date", "cpu", "threads", "versions", "what", "compared_with", "clock", "shape", "turns",
    "before_median_s", "ours_median_s", "ratio", "alone_median_s", "max_abs_diff",
]  # fmt: skip

LARGE = {"large": (20_000, 20_000, 200), "tiny": (200, 200, 5)}
# Of networks only the number of items matters: they are trained for an epoch on a few users.
NETWORK = {"large": (500, 20_000, 200), "tiny": (200, 200, 5)}
FEW_ITEMS = {"large": (500, 3_500, 400), "tiny": (200, 200, 5)}

# What is measured: what it is compared with, threads, and the users, items and turns of each size.
# "tiny" only shows that the benchmark runs.
ROWS = {
    "top_k": ("before", 2, {"large": (10_000, 20_000, 5), "tiny": (500, 500, 2)}),
    "curve": ("a call for each k", 1, {"large": (20_000, 20_000, 3), "tiny": (200, 200, 2)}),
    "one user": ("numpy", 1, {"large": (500, 20_000, 200), "tiny": (20, 200, 5)}),
    "one user again": ("numpy", 1, {"large": (1, 20_000, 200), "tiny": (1, 200, 5)}),
    "one user, ItemKNN": ("numpy", 1, LARGE),
    "one user, RP3beta": ("numpy", 1, LARGE),
    "one user, SparseEASE": ("numpy", 1, LARGE),
    "one user, SLIM": ("numpy", 1, LARGE),
    "one user, UserKNN": ("numpy", 1, LARGE),
    "one user, WMF": ("numpy", 1, LARGE),
    "one user, BPR": ("numpy", 1, LARGE),
    "one user, ELSA": ("numpy", 1, NETWORK),
    "one user, MultVAE": ("numpy", 1, NETWORK),
    "one user, CDAE": ("numpy", 1, NETWORK),
    "one user, CDAE of few items": ("numpy", 1, FEW_ITEMS),
    "one user, NeuMF": ("numpy", 1, NETWORK),
    "one user, NeuMF of few items": ("numpy", 1, FEW_ITEMS),
}
ONE_USER = [what for what in ROWS if what.startswith("one user")]
MOST = {"top_k": 0.6, **dict.fromkeys(ONE_USER, 2.0)}  # of the time of what it is compared with
MOST_SECONDS = {  # of one user, without the other way in between
    "curve": 1.0,
    "one user again": 0.35e-3,
    "one user, ELSA": 1.6e-3,
    "one user, MultVAE": 3.5e-3,
}
# Of which the fastest counts; those of one user are short, and other machines on the same host slow
# some of them down.
REPETITIONS = {"top_k": 3, "curve": 3, **dict.fromkeys(ONE_USER, 10)}
TOLERANCE = {"top_k": 0.0, "curve": 1e-15, **dict.fromkeys(ONE_USER, 1e-5)}


def measure(size: str, works: list[str]) -> list[dict]:
    """Return the rows of the table for one size."""
    rows = []
    for what in works:
        compared_with, threads, sizes = ROWS[what]
        n_users, n_items, turns = sizes[size]
        found = run_worker(
            sys.executable,
            HERE / "ranking_worker.py",
            *("--work", what, "--users", n_users, "--items", n_items, "--turns", turns),
            *("--repetitions", REPETITIONS[what]),
            threads=threads,
        )
        before, ours, alone = (
            min((statistics.median(times) for times in found[way] if times), default=None)
            for way in ("before", "ours", "alone")
        )
        rows.append(
            {
                "date": datetime.date.today().isoformat(),
                "cpu": cpu_name(),
                "threads": threads,
                "versions": found["versions"],
                "what": what,
                "compared_with": compared_with,
                "clock": found["clock"],
                "shape": f"{n_users}x{n_items}",
                "turns": f"{REPETITIONS[what]}x{turns}",
                "before_median_s": f"{before:.6f}",
                "ours_median_s": f"{ours:.6f}",
                "ratio": f"{ours / before:.3f}",
                "alone_median_s": "" if alone is None else f"{alone:.6f}",
                "max_abs_diff": f"{found['max_abs_diff']:.1e}",
            }
        )
        print(f"{what}: {before:.6f} s {compared_with}, {ours:.6f} s ours", file=sys.stderr)
    return rows


def bounds_of(row: dict) -> list[tuple[str, float, float]]:
    """Return what is measured and its bound, for one row."""
    what = row["what"]
    bounds = [(f"{what}: largest difference", float(row["max_abs_diff"]), TOLERANCE[what])]
    if what in MOST:
        name = f"{what}: our time / that of {row['compared_with']}"
        bounds.append((name, float(row["ratio"]), MOST[what]))
    if what in MOST_SECONDS:
        name = f"{what}: seconds"
        seconds = row["alone_median_s"] or row["ours_median_s"]
        bounds.append((name, float(seconds), MOST_SECONDS[what]))
    return bounds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["large", "tiny"], default="large")
    parser.add_argument("--output", type=Path, default=RESULTS / "ranking_speed.csv")
    parser.add_argument("--what", choices=ROWS, nargs="+", default=list(ROWS))
    options = parser.parse_args()
    rows = measure(options.size, options.what)
    options.output.parent.mkdir(exist_ok=True)
    kept = {}
    if options.output.exists():
        with options.output.open(newline="") as file:
            kept = {row["what"]: row for row in csv.DictReader(file)}
    kept |= {row["what"]: row for row in rows}
    with options.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept[what] for what in ROWS if what in kept)
    bounds = [bound for row in rows for bound in bounds_of(row)]
    return 0 if check(bounds) or options.size == "tiny" else 1


if __name__ == "__main__":
    sys.exit(main())
