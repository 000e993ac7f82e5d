"""Models of item content beside cornac's CVAE and EASE: ``python benchmarks/speed_content.py``.

On all users of citeulike-a with the words of titles: an epoch of CVAE and of MD-CVAE compared with
one of cornac's CVAE, and the fit of CollectiveEASE compared with that of EASE. Each measurement is
a fresh process, and rounds are interleaved. Ends with 1 if one of our bounds does not hold. Writes
``results/content_speed.csv``; with one thread, a round takes about five minutes.
"""

from __future__ import annotations

import argparse
import os
import statistics
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

THEIRS = "cornac CVAE"
MOST_EPOCH = 1.0  # of cornac's
MOST_COLLECTIVE = 1.6  # of EASE's


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SKLREC_DATA"))
    parser.add_argument("--size", choices=["citeulike-a", "tiny"], default="citeulike-a")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "content_speed.csv")
    options = parser.parse_args()
    python = peer_python("cornac-cvae")
    with tempfile.TemporaryDirectory() as folder:
        run_worker(sys.executable, Path(__file__), "make", options.size, folder, threads=1)

        def measure(task: str, repetition: int) -> dict:
            return run_worker(
                python if task == THEIRS else sys.executable,
                HERE / "content_worker.py",
                *("--task", task, "--data", folder),
                threads=options.threads,
            )

        tasks = ["CVAE", "MD-CVAE", THEIRS, "EASE", "CollectiveEASE"]
        measured = interleave(tasks, options.repetitions, measure)
    rows = summarize(measured, "CVAE", threads=options.threads)
    print_rows(rows)
    write_rows(rows, options.output)
    median = {task: statistics.median(run["seconds"] for run in measured[task]) for task in tasks}
    bounds = [
        ("epoch of CVAE / that of cornac", median["CVAE"] / median[THEIRS], MOST_EPOCH),
        (
            "epoch of MD-CVAE / that of cornac's CVAE",
            median["MD-CVAE"] / median[THEIRS],
            MOST_EPOCH,
        ),
        ("CollectiveEASE / EASE", median["CollectiveEASE"] / median["EASE"], MOST_COLLECTIVE),
    ]
    return 0 if check(bounds) else 1


def make(size: str, folder: str) -> None:
    """Write interactions and features."""
    import _data
    import numpy as np
    import scipy.sparse as sp

    if size == "tiny":
        X = _data.made(Path())
        F = sp.random_array((X.shape[1], 30), density=0.2, rng=0, format="csr", dtype=np.float32)
    else:
        data = Path(os.environ["SKLREC_DATA"])
        X, F = _data.citeulike_a(data), _data.citeulike_titles(data)
    F.data[:] = X.data[:] = 1
    for name, matrix in (("X", X), ("F", F)):
        sp.save_npz(f"{folder}/{name}.npz", sp.csr_matrix(matrix), compressed=False)
    print("{}")


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "make":
        make(*sys.argv[2:])
    else:
        sys.exit(main())
