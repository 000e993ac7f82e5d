"""Compare the time of RankingScorer with the bare product of the fold-in and EASE's weights.

Each measurement is a fresh process, and rounds are interleaved. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from _speed import (
    HERE,
    RESULTS,
    check,
    interleave,
    print_rows,
    run_worker,
    summarize,
    write_rows,
)

OURS = "sklrec"
PRODUCTS = ["product", "product in batches"]
NAMES = [OURS, *PRODUCTS, "product on threads", "limit"]
MOST_TIME = 1.5  # of the faster of the two products
MOST_MEMORY = 1e9 / 2**30  # GiB above the model
TOLERANCE = 1e-4

# Users, items, interactions: as many for each user as in MovieLens 20M. "tiny" only shows that
# the benchmark runs.
SIZES = {"large": (10_000, 20_108, 730_000), "tiny": (1_000, 1_000, 30_000)}


def compare(size: str, *, repetitions: int, threads: int, folder: Path) -> list[dict]:
    """Return the rows of the table for one size."""
    data, model = folder / "data.npz", folder / "model.joblib"
    run_worker(
        sys.executable,
        HERE / "make_data.py",
        *(data, *SIZES[size], "--model", model),
        threads=threads,
    )

    def measure(name: str, repetition: int) -> dict:
        return run_worker(
            sys.executable,
            HERE / "scorer_worker.py",
            *("--library", name, "--data", data, "--model", model),
            threads=threads,
        )

    return summarize(interleave(NAMES, repetitions, measure), OURS, threads=threads)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="large")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "scorer_speed.csv")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(
            options.size,
            repetitions=options.repetitions,
            threads=options.threads,
            folder=Path(folder),
        )
    write_rows(rows, options.output)
    print_rows(rows)
    by_name = {row["library"]: row for row in rows}
    ratio = max(float(by_name[name]["ratio"]) for name in PRODUCTS)
    bounds = [
        ("our time / that of the faster bare product", ratio, MOST_TIME),
        ("memory above the model, GiB", float(by_name[OURS]["peak_gib"]), MOST_MEMORY),
        (
            "largest difference from the product",
            float(by_name["product"]["max_abs_diff"]),
            TOLERANCE,
        ),
    ]
    return 0 if check(bounds) or options.size == "tiny" else 1


if __name__ == "__main__":
    sys.exit(main())
