"""SLIM beside irspack's: ``python benchmarks/speed_slim.py --data FOLDER``.

On the training users of the canonical splits of MovieLens-1M and citeulike-a, with the best
settings of each, and with one thread and two. Each measurement is a fresh process, in the other
library's own environment, and rounds are interleaved. ``cpu_ratio`` and ``wall_ratio`` are ours
divided by theirs; ``objective`` shows that both are solutions: the mean over items of the
objective, where 1 is that without weights. Ends with 1 if ours is slower in CPU time. Writes
``results/slim_speed.csv``; about ten minutes.
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

OURS, THEIRS = "sklrec", "irspack"

# Data set, options of both, and options of ours.
CASES = {
    "ml-1m": ("ml-1m", ["--alpha", 0.1, "--l1-ratio", 0.003], ["--solver", "admm", "--tol", 3e-3]),
    "citeulike-a": ("citeulike-a", ["--alpha", 0.011, "--l1-ratio", 0.01], []),
    "citeulike-a, positive": (
        "citeulike-a",
        ["--alpha", 0.011, "--l1-ratio", 0.01, "--positive"],
        [],
    ),
    "tiny": ("made", ["--alpha", 0.1, "--l1-ratio", 0.01], []),  # only shows that it runs
}
# Both stop within this of the smallest objective.
TOLERANCE = 1e-3
COLUMNS = ["date", "cpu", "threads", "versions", "case", "library", "settings", "shape", "nnz"]
COLUMNS += ["repetitions", "cpu_s", "wall_s", "peak_gib", "cpu_ratio", "wall_ratio"]
COLUMNS += ["weights_of_an_item", "objective"]


def compare(case: str, *, data: Path, python: str, threads: int, repetitions: int) -> list[dict]:
    """Return the rows of the table for one case and number of threads."""
    _, common, of_ours = CASES[case]

    def measure(name: str, repetition: int) -> dict:
        options = [*common, *(of_ours if name == OURS else [])]
        return run_worker(
            sys.executable if name == OURS else python,
            HERE / "slim_worker.py",
            *("--library", name, "--data", data, *options),
            threads=threads,
        )

    measured = interleave([OURS, THEIRS], repetitions, measure)
    cpu, wall = (
        {name: statistics.median(run[key] for run in runs) for name, runs in measured.items()}
        for key in ("cpu_seconds", "seconds")
    )
    rows = []
    for name, runs in measured.items():
        options = [*common, *(of_ours if name == OURS else [])]
        rows.append(
            {
                "date": datetime.date.today().isoformat(),
                "cpu": cpu_name(),
                "threads": threads,
                "versions": runs[0]["versions"],
                "case": case,
                "library": name,
                "settings": " ".join(map(str, options)),
                "shape": runs[0]["shape"],
                "nnz": runs[0]["nnz"],
                "repetitions": repetitions,
                "cpu_s": f"{cpu[name]:.2f}",
                "wall_s": f"{wall[name]:.2f}",
                "peak_gib": f"{max(run['peak_gib'] for run in runs):.2f}",
                "cpu_ratio": f"{cpu[OURS] / cpu[name]:.3f}",
                "wall_ratio": f"{wall[OURS] / wall[name]:.3f}",
                "weights_of_an_item": f"{runs[0]['weights_of_an_item']:.1f}",
                "objective": f"{runs[0]['objective']:.6f}",
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SKLREC_DATA"))
    cases = [case for case in CASES if case != "tiny"]
    parser.add_argument("--cases", nargs="+", choices=CASES, default=cases)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "slim_speed.csv")
    options = parser.parse_args()
    python = peer_python(THEIRS)
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in options.cases:
            path = Path(folder) / f"{CASES[case][0]}.npz"
            run_worker(sys.executable, Path(__file__), "make", CASES[case][0], path, threads=1)
            for threads in options.threads:
                rows += compare(
                    case,
                    data=path,
                    python=python,
                    threads=threads,
                    repetitions=options.repetitions,
                )
                write(rows, options.output)
    bounds = []
    for ours, theirs in zip(rows[::2], rows[1::2], strict=True):
        what = f"{ours['case']}, {ours['threads']} threads: our CPU time / that of {THEIRS}"
        bounds.append((what, float(theirs["cpu_ratio"]), 1.0))
        excess = float(ours["objective"]) - float(theirs["objective"])
        bounds.append((f"{ours['case']}: our objective above theirs", excess, TOLERANCE))
    return 0 if check(bounds) else 1


def write(rows: list[dict], path: Path) -> None:
    """Write rows to the table, in the place of those of the same cases and threads."""
    kept = {}
    if path.exists():
        with path.open(newline="") as file:
            kept = {_key(row): row for row in csv.DictReader(file)}
    kept |= {_key(row): row for row in rows}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept.values())


def _key(row: dict) -> tuple[str, ...]:
    return row["case"], str(row["threads"]), row["library"]


def make(name: str, path: str) -> None:
    """Write the training users of the canonical or the first split of a data set."""
    import scipy.sparse as sp
    import settings
    from _runs import load_split

    dataset = next(dataset for dataset in settings.DATASETS if dataset.name == name)
    folder = Path(os.environ.get("SKLREC_DATA", ""))
    split = load_split(dataset, next(iter(dataset.splits)), folder)
    sp.save_npz(path, sp.csr_matrix(split.train), compressed=False)
    print("{}")


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "make":
        make(*sys.argv[2:])
    else:
        sys.exit(main())
