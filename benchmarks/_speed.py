"""What the speed benchmarks share: peers' environments, fresh processes, tables.

Only the standard library is imported. On Linux a child starts with the peak memory of the process
that forked it, so the process that starts the workers must stay smaller than any of them.
"""

from __future__ import annotations

import csv
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Container
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).parent
RESULTS = HERE / "results"

COLUMNS = [
    "date",
    "cpu",
    "threads",
    "versions",
    "library",
    "shape",
    "nnz",
    "dtype",
    "repetitions",
    "median_s",
    "min_s",
    "max_s",
    "peak_gib",
    "ratio",
    "memory_ratio",
    "max_abs_diff",
]


def peer_python(peer: str) -> str:
    """Return the Python of a peer's own environment, made from its pins where it is not there."""
    pins = HERE / "peers" / f"{peer}.txt"
    venv = HERE / ".venvs" / peer
    python, stamp = venv / "bin" / "python", venv / "installed.txt"
    if stamp.exists() and stamp.read_text() == pins.read_text():
        return str(python)
    print(f"Making the environment of {peer} ...", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(pins)], check=True)
    shutil.copyfile(pins, stamp)
    return str(python)


def run_worker(python: str, script: Path, *arguments: object, threads: int) -> dict:
    """Run a script in a fresh process with a fixed number of threads; return the JSON it prints.

    Raises
    ------
    RuntimeError
        If the script fails, with the end of what it wrote.
    """
    environment = dict(os.environ)
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
        environment[f"{name}_NUM_THREADS"] = str(threads)
    environment["LK_NUM_THREADS"] = environment["LK_NUM_BACKEND_THREADS"] = str(threads)
    environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [python, str(script), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main_or_worker(
    main: Callable[[], int], worker: Callable[..., dict], datasets: Container[str]
) -> NoReturn:
    """Run `worker` if the script was started by :func:`run_worker` for a data set, else `main`."""
    if len(sys.argv) < 2 or sys.argv[1] not in datasets:
        sys.exit(main())
    warnings.simplefilter("ignore")
    print(json.dumps(worker(*sys.argv[1:])))
    sys.exit()


def interleave(
    names: list[str], repetitions: int, measure: Callable[[str, int], dict]
) -> dict[str, list[dict]]:
    """Measure A B C, A B C, ..., so that a slow minute of the machine does not hit one alone."""
    measured: dict[str, list[dict]] = {name: [] for name in names}
    for repetition in range(repetitions):
        for name in names:
            result = measure(name, repetition)
            measured[name].append(result)
            print(
                f"{repetition + 1}/{repetitions} {name:24s} {result['seconds']:8.2f} s "
                f"{result['peak_gib']:6.2f} GiB",
                file=sys.stderr,
            )
    return measured


def summarize(measured: dict[str, list[dict]], ours: str, *, threads: int) -> list[dict]:
    """Return one row of the table for each name, with ours divided by theirs as ratios."""
    median = {
        name: statistics.median(run["seconds"] for run in runs) for name, runs in measured.items()
    }
    peak = {name: max(run["peak_gib"] for run in runs) for name, runs in measured.items()}
    rows = []
    for name, runs in measured.items():
        differences = [run["max_abs_diff"] for run in runs if "max_abs_diff" in run]
        rows.append(
            {
                "date": datetime.date.today().isoformat(),
                "cpu": cpu_name(),
                "threads": threads,
                "versions": runs[0]["versions"],
                "library": name,
                "shape": runs[0]["shape"],
                "nnz": runs[0]["nnz"],
                "dtype": runs[0]["dtype"],
                "repetitions": len(runs),
                "median_s": f"{median[name]:.3f}",
                "min_s": f"{min(run['seconds'] for run in runs):.3f}",
                "max_s": f"{max(run['seconds'] for run in runs):.3f}",
                "peak_gib": f"{peak[name]:.3f}",
                "ratio": f"{median[ours] / median[name]:.3f}",
                "memory_ratio": f"{peak[ours] / peak[name]:.3f}" if peak[name] else "",
                "max_abs_diff": f"{max(differences):.1e}" if differences else "",
            }
        )
    return rows


def write_rows(rows: list[dict], path: Path) -> None:
    """Write rows to a table, in the place of those of the same shapes."""
    kept = []
    if path.exists():
        with path.open(newline="") as file:
            shapes = {row["shape"] for row in rows}
            kept = [row for row in csv.DictReader(file) if row["shape"] not in shapes]
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept + rows)


def print_rows(rows: list[dict]) -> None:
    columns = ["library", "shape", "median_s", "peak_gib", "ratio", "memory_ratio", "max_abs_diff"]
    table = [columns, *([str(row[column]) for column in columns] for row in rows)]
    width = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, width, strict=True)).rstrip())


def check(bounds: list[tuple[str, float, float]]) -> bool:
    """Print whether each (what, measured, bound) holds; return whether all do."""
    for what, value, bound in bounds:
        verdict = "holds " if value <= bound else "MISSED"
        print(f"{verdict}  {what}: {value:.3g}, at most {bound:.3g}")
    return all(value <= bound for _, value, bound in bounds)


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
