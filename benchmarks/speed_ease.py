"""Compare the time and memory of EASE.fit with bare LAPACK and with other libraries.

Each measurement is a fresh process, in the other library's own environment, and rounds are
interleaved: ours, theirs, ours, theirs. See README.md beside this file.
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
    peer_python,
    print_rows,
    run_worker,
    summarize,
    write_rows,
)

OURS = "sklrec"
NOT_PEERS = {OURS, "lapack", "limit"}
ALL_PEERS = ["irspack", "rectools", "recpack", "lenskit", "cornac"]

# Users, items, interactions, what is measured, and the most that our time and our memory may be
# of theirs. "tiny" only shows that all libraries run and agree.
SIZES = {
    "large": {
        "shape": (136_677, 20_108, 10_000_000),
        "names": [OURS, "lapack", "irspack", "limit"],
        "time": {"lapack": 1.3, "irspack": 0.75},
        "memory": {"irspack": 0.65},
    },
    "medium": {
        "shape": (25_000, 6_000, 2_300_000),
        "names": [OURS, "lapack", *ALL_PEERS, "limit"],
        "time": dict.fromkeys(ALL_PEERS, 1.0),
        "memory": {},
    },
    "tiny": {
        "shape": (1_000, 300, 30_000),
        "names": [OURS, "lapack", *ALL_PEERS, "limit"],
        "time": {},
        "memory": {},
    },
}

# Sums of float32 in another order differ by this much; another model differs by far more.
TOLERANCE = 1e-4


def compare(size: str, *, repetitions: int, threads: int, folder: Path) -> list[dict]:
    """Return the rows of the table for one size."""
    names = SIZES[size]["names"]
    pythons = dict.fromkeys(NOT_PEERS, sys.executable)
    pythons |= {name: peer_python(name) for name in names if name not in NOT_PEERS}
    data, coef = folder / "data.npz", folder / "coef.npy"
    run_worker(sys.executable, HERE / "make_data.py", data, *SIZES[size]["shape"], threads=threads)

    def measure(name: str, repetition: int) -> dict:
        option = "--coef" if name == OURS else "--reference"  # ours runs first
        return run_worker(
            pythons[name],
            HERE / "ease_worker.py",
            *("--library", name, "--data", data, option, coef),
            threads=threads,
        )

    return summarize(interleave(names, repetitions, measure), OURS, threads=threads)


def bounds(size: str, rows: list[dict]) -> list[tuple[str, float, float]]:
    result = []
    for row in rows:
        name = row["library"]
        for kind, column in [("time", "ratio"), ("memory", "memory_ratio")]:
            if name in SIZES[size][kind]:
                what = f"{size}: our {kind} / that of {name}"
                result.append((what, float(row[column]), SIZES[size][kind][name]))
        if row["max_abs_diff"]:
            what = f"{size}: largest difference from the weights of {name}"
            result.append((what, float(row["max_abs_diff"]), TOLERANCE))
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["medium", "large"])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "ease_speed.csv")
    options = parser.parse_args()
    holds = True
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows = compare(
                size,
                repetitions=options.repetitions,
                threads=options.threads,
                folder=Path(folder),
            )
        write_rows(rows, options.output)
        print_rows(rows)
        holds &= check(bounds(size, rows))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
