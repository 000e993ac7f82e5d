"""Compare rankings and metrics with what they were, or with the bare work, in one run.

Each row is a fresh process in which both ways take turns. See README.md beside this file.
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
    "date", "cpu", "threads", "versions", "what", "compared_with", "shape", "turns",
    "before_median_s", "ours_median_s", "ratio", "max_abs_diff",
]  # fmt: skip

# What is measured: users and items of each size, turns, threads, and what it is compared with.
# "tiny" only shows that the benchmark runs.
ROWS = {
    "top_k": ("before", 2, {"large": (10_000, 20_000, 5), "tiny": (500, 500, 2)}),
    "curve": ("a call for each k", 1, {"large": (20_000, 20_000, 3), "tiny": (200, 200, 2)}),
    "one user": ("product and top_k", 1, {"large": (500, 20_000, 400), "tiny": (20, 200, 5)}),
    **{
        f"one user, {model}": (
            "product and top_k",
            1,
            {"large": (20_000, 20_000, 400), "tiny": (200, 200, 5)},
        )
        for model in ("ItemKNN", "SparseEASE", "SLIM")
    },
    "one user, UserKNN": (
        "cosines, product and top_k",
        1,
        {"large": (20_000, 20_000, 400), "tiny": (200, 200, 5)},
    ),
}
ONE_USER = [what for what in ROWS if what.startswith("one user")]
MOST = {"top_k": 0.6, **dict.fromkeys(ONE_USER, 2.0)}  # of the time of what it is compared with
MOST_SECONDS = 1.0  # of the curve
TOLERANCE = 1e-15


def measure(size: str) -> list[dict]:
    """Return the rows of the table for one size."""
    rows = []
    for what, (compared_with, threads, sizes) in ROWS.items():
        n_users, n_items, turns = sizes[size]
        found = run_worker(
            sys.executable,
            HERE / "ranking_worker.py",
            *("--work", what, "--users", n_users, "--items", n_items, "--turns", turns),
            threads=threads,
        )
        before, ours = statistics.median(found["before"]), statistics.median(found["ours"])
        rows.append(
            {
                "date": datetime.date.today().isoformat(),
                "cpu": cpu_name(),
                "threads": threads,
                "versions": found["versions"],
                "what": what,
                "compared_with": compared_with,
                "shape": f"{n_users}x{n_items}",
                "turns": turns,
                "before_median_s": f"{before:.5f}",
                "ours_median_s": f"{ours:.5f}",
                "ratio": f"{ours / before:.3f}",
                "max_abs_diff": f"{found['max_abs_diff']:.1e}",
            }
        )
        print(f"{what}: {before:.4f} s {compared_with}, {ours:.4f} s ours", file=sys.stderr)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["large", "tiny"], default="large")
    parser.add_argument("--output", type=Path, default=RESULTS / "ranking_speed.csv")
    options = parser.parse_args()
    rows = measure(options.size)
    options.output.parent.mkdir(exist_ok=True)
    with options.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    by_name = {row["what"]: row for row in rows}
    bounds = [
        (
            f"{what}: our time / that of {by_name[what]['compared_with']}",
            float(by_name[what]["ratio"]),
            most,
        )
        for what, most in MOST.items()
    ]
    bounds.append(("curve, seconds", float(by_name["curve"]["ours_median_s"]), MOST_SECONDS))
    bounds += [
        (f"{what}: largest difference", float(by_name[what]["max_abs_diff"]), TOLERANCE)
        for what in by_name
    ]
    return 0 if check(bounds) or options.size == "tiny" else 1


if __name__ == "__main__":
    sys.exit(main())
