"""Measure what ``evaluate`` needs above a fitted EASE: ``SKLREC_DATA=FOLDER`` and this script.

FOLDER holds ``gowalla.npz``. EASE is fitted on its 40,981 items (10 GB of memory and, on two cores,
about ten minutes) and evaluated on 3,000 users it has not seen. Writes
``results/evaluate_memory.csv`` and ends with 1 where the bound does not hold. Linux alone.
"""

from __future__ import annotations

import csv
import ctypes
import datetime
import os
import platform
import sys
from pathlib import Path

import numpy as np
import scipy
from _data import data_folder, load_gowalla
from _metrics import BEYOND, TESTED
from _speed import RESULTS, check, cpu_name
from sklearn.utils import Bunch

import sklrec
from sklrec.linear import EASE
from sklrec.metrics import evaluate
from sklrec.model_selection import strong_generalization_split

N_USERS = 3_000
MOST_MEMORY = 1e9 / 2**30  # GiB above the model


def memory(line: str) -> int:
    """Return a line of this process's memory in bytes: VmRSS, held now, or VmHWM, the peak."""
    for found in Path("/proc/self/status").read_text().splitlines():
        if found.startswith(f"{line}:"):
            return int(found.split()[1]) * 1024
    raise RuntimeError(f"The kernel tells no {line}.")


def measure(model: EASE, split: Bunch, metrics: list[str]) -> dict:
    """Return the row of one evaluation."""
    # The fit's peak must not count, nor may its freed memory be used again unseen.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    found = evaluate(
        model, split.test_fold_in, split.test_held_out, metrics, interactions=split.train
    )
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "threads": os.environ.get("OMP_NUM_THREADS", os.cpu_count()),
        "versions": (
            f"python {platform.python_version()}; sklrec {sklrec.__version__}; "
            f"numpy {np.__version__}; scipy {scipy.__version__}"
        ),
        "metrics": " ".join(metrics),
        "values": " ".join(f"{found.mean[name]:.4f}" for name in metrics),
        "n_users": split.test_fold_in.shape[0],
        "n_items": split.test_fold_in.shape[1],
        "dtype": str(model.coef_.dtype),
        "model_gib": f"{model.coef_.nbytes / 2**30:.3f}",
        "peak_gib": f"{(memory('VmHWM') - before) / 2**30:.3f}",
    }


def report(model: EASE, split: Bunch) -> bool:
    """Write the table and print whether the bound holds."""
    rows = [measure(model, split, metrics) for metrics in (TESTED, [*TESTED, *BEYOND])]
    with (RESULTS / "evaluate_memory.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(f"{row['metrics']}: {row['values']}, {row['peak_gib']} GiB")
    worst = max(float(row["peak_gib"]) for row in rows)
    return check([("memory above the model, GiB", worst, MOST_MEMORY)])


def main() -> int:
    X = load_gowalla(data_folder()).data
    split = strong_generalization_split(X, n_heldout=N_USERS)
    return 0 if report(EASE(lambda_=500).fit(split.train), split) else 1


if __name__ == "__main__":
    sys.exit(main())
