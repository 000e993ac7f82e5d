"""Time of LFM beside that of an earlier version: ``python benchmarks/speed_factors.py --old REF``.

REF is a commit of this repository, whose code is unpacked into a temporary folder. Each
measurement is a fresh process with a fixed number of threads; old and new are interleaved. Seconds
are of wall time and, for machines that do other work too, of CPU time, all threads together. Data
are the ratings of MovieLens-1M where SKLREC_DATA names a folder that holds them, else made ratings
of the same shape. Writes ``results/factors_speed.csv``:

- ``fit``: three iterations of the alternating solver, beginning with the biases;
- ``decision_function``: the scores of all users;
- ``short rows``: the same for rows of which five ratings are kept, where the work is in the rows
  and not in their ratings.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from _speed import HERE, RESULTS, cpu_name

TASKS = ["fit", "decision_function", "short rows"]
N_COMPONENTS = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", required=True, help="commit to compare with")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path, default=RESULTS / "factors_speed.csv")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        command = ["git", "archive", options.old, "sklrec"]
        archive = subprocess.run(command, cwd=HERE.parent, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as file:
            file.extractall(folder, filter="data")
        for threads in options.threads:
            runs: dict[str, list[dict]] = {"old": [], "new": []}
            for _ in range(options.repetitions):
                runs["old"].append(measure(Path(folder), threads))
                runs["new"].append(measure(HERE.parent, threads))
            for task in TASKS:
                wall, cpu = (
                    {
                        name: statistics.median(run[task][clock] for run in done)
                        for name, done in runs.items()
                    }
                    for clock in (0, 1)
                )
                rows.append(
                    {
                        "date": datetime.date.today().isoformat(),
                        "cpu": cpu_name(),
                        "old": options.old,
                        "threads": threads,
                        "shape": runs["new"][0]["shape"],
                        "n_components": N_COMPONENTS,
                        "task": task,
                        "old_s": f"{wall['old']:.3f}",
                        "new_s": f"{wall['new']:.3f}",
                        "ratio": f"{wall['new'] / wall['old']:.3f}",
                        "old_cpu_s": f"{cpu['old']:.3f}",
                        "new_cpu_s": f"{cpu['new']:.3f}",
                        "cpu_ratio": f"{cpu['new'] / cpu['old']:.3f}",
                    }
                )
                print(rows[-1], flush=True)
            with options.output.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0], lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    return 0


def measure(package: Path, threads: int) -> dict:
    """Run the worker with the code in a folder."""
    environment = dict(os.environ, PYTHONPATH=str(package))
    for name in ("OMP", "OPENBLAS", "MKL"):
        environment[f"{name}_NUM_THREADS"] = str(threads)
    command = [sys.executable, str(Path(__file__)), "--worker"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def worker() -> dict:
    import warnings

    import numpy as np
    from _data import ml_1m

    from sklrec.datasets import make_interactions
    from sklrec.factorization import LFM

    warnings.simplefilter("ignore")  # that so few iterations are not enough
    if "SKLREC_DATA" in os.environ:
        X = ml_1m(Path(os.environ["SKLREC_DATA"]))
    else:
        X = make_interactions(6040, 3706, ratings=True, random_state=0).data
    model = LFM(N_COMPONENTS, max_iter=3, tol=0, random_state=0)
    model.fit(X[:300])  # so that code and threads are there
    position = np.arange(X.nnz) - np.repeat(X.indptr[:-1], np.diff(X.indptr))
    short = X.copy()
    short.data[position >= 5] = 0
    short.eliminate_zeros()
    measured: dict = {"shape": "x".join(map(str, X.shape))}
    for task, work in [
        ("fit", lambda: model.fit(X)),
        ("decision_function", lambda: model.decision_function(X)),
        ("short rows", lambda: model.decision_function(short)),
    ]:
        start = time.perf_counter(), time.process_time()
        work()
        measured[task] = time.perf_counter() - start[0], time.process_time() - start[1]
    return measured


if __name__ == "__main__":
    if sys.argv[1:] == ["--worker"]:
        print(json.dumps(worker()))
    else:
        sys.exit(main())
