"""Models of item content beside cornac's CVAE and EASE: ``python benchmarks/speed_content.py``.

On all users of citeulike-a with the words of titles: an epoch of CVAE and of MD-CVAE compared with
one of cornac's CVAE, and the fit of CollectiveEASE compared with that of EASE. Each measurement is
a fresh process, and rounds are interleaved. Ends with 1 if one of our bounds does not hold. Writes
``results/content_speed.csv``; with one thread, a round takes about five minutes.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import statistics
import sys
import tempfile
from pathlib import Path

from _speed import HERE, RESULTS, check, cpu_name, interleave, peer_python, run_worker

THEIRS = "cornac CVAE"
# What a task is compared with, and the most that it may take of its time.
BOUNDS = {
    "CVAE": (THEIRS, 1.0),
    "MD-CVAE": (THEIRS, 1.0),
    "CollectiveEASE": ("EASE", 1.6),
}
TASKS = ["CVAE", "MD-CVAE", THEIRS, "EASE", "CollectiveEASE"]
COLUMNS = ["date", "cpu", "threads", "versions", "shape", "nnz", "task", "repetitions"]
COLUMNS += ["cpu_s", "peak_gib", "compared_with", "ratio"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SKLREC_DATA"))
    parser.add_argument("--size", choices=["citeulike-a", "tiny"], default="citeulike-a")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "content_speed.csv")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make = ("make", options.size, folder, options.data)
        run_worker(sys.executable, Path(__file__), *make, threads=1)

        def measure(task: str, repetition: int) -> dict:
            return run_worker(
                peer_python("cornac-cvae") if task == THEIRS else sys.executable,
                HERE / "content_worker.py",
                *("--task", task, "--data", folder),
                threads=options.threads,
            )

        measured = interleave(options.tasks, options.repetitions, measure)
    rows = table(measured, threads=options.threads)
    write(rows, options.output)
    bounds = [
        (f"{row['task']} / {row['compared_with']}", float(row["ratio"]), BOUNDS[row["task"]][1])
        for row in rows
        if row["ratio"]
    ]
    return 0 if check(bounds) else 1


def table(measured: dict[str, list[dict]], *, threads: int) -> list[dict]:
    """Return a row for each task, with its time as a share of that of another."""
    median = {
        task: statistics.median(r["seconds"] for r in runs) for task, runs in measured.items()
    }
    rows = []
    for task, runs in measured.items():
        other, _ = BOUNDS.get(task, ("", 0))
        known = other in median
        rows.append(
            {
                "date": datetime.date.today().isoformat(),
                "cpu": cpu_name(),
                "threads": threads,
                **{name: runs[0][name] for name in ("versions", "shape", "nnz")},
                "task": task,
                "repetitions": len(runs),
                "cpu_s": f"{median[task]:.2f}",
                "peak_gib": f"{max(run['peak_gib'] for run in runs):.2f}",
                "compared_with": other if known else "",
                "ratio": f"{median[task] / median[other]:.3f}" if known else "",
            }
        )
    return rows


def write(rows: list[dict], path: Path) -> None:
    """Write rows to the table, in the place of those of the same tasks."""
    kept = {}
    if path.exists():
        with path.open(newline="") as file:
            kept = {row["task"]: row for row in csv.DictReader(file)}
    kept |= {row["task"]: row for row in rows}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept.values())


def make(size: str, folder: str, source: str) -> None:
    """Write interactions and features."""
    import _data
    import numpy as np
    import scipy.sparse as sp

    if size == "tiny":
        X = _data.made(Path())
        F = sp.random_array((X.shape[1], 30), density=0.2, rng=0, format="csr", dtype=np.float32)
    else:
        X, F = _data.citeulike_a(Path(source)), _data.citeulike_titles(Path(source))
    F.data[:] = 1
    X.data[:] = 1
    for name, matrix in (("X", X), ("F", F)):
        sp.save_npz(f"{folder}/{name}.npz", sp.csr_matrix(matrix), compressed=False)
    print("{}")


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[1] == "make":
        make(*sys.argv[2:])
    else:
        sys.exit(main())
