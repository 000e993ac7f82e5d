"""Time one RankingScorer call, or one bare product, in a process of its own.

Prints one line of JSON. Timed is the work alone, not loading the model and the interactions. Peak
memory is what the work adds to a process in which both are loaded. The products take what the
scorer leaves of each row, so that all multiply the same entries. "limit" is the time to read,
for each of these entries, its item's row of weights, at the speed the machine reads memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import scipy
import scipy.sparse as sp
from sklearn.utils import gen_batches

import sklrec
from sklrec.linear import EASE
from sklrec.metrics import RankingScorer
from sklrec.model_selection import split_interactions

METRICS = ["ndcg@100", "recall@20", "recall@50"]
BATCH = 500
COMPARED_USERS = 100
READ_BYTES = 2**30


def score(model: EASE, X: sp.csr_array, fold_in: sp.csr_array) -> None:
    RankingScorer(METRICS)(model, X)


def product(model: EASE, X: sp.csr_array, fold_in: sp.csr_array) -> None:
    fold_in @ model.coef_


def product_in_batches(model: EASE, X: sp.csr_array, fold_in: sp.csr_array) -> None:
    for rows in gen_batches(fold_in.shape[0], BATCH):
        fold_in[rows] @ model.coef_


def product_on_threads(model: EASE, X: sp.csr_array, fold_in: sp.csr_array) -> None:
    def multiply(rows: slice) -> None:
        fold_in[rows] @ model.coef_

    with ThreadPoolExecutor(int(os.environ["OMP_NUM_THREADS"])) as threads:
        list(threads.map(multiply, gen_batches(fold_in.shape[0], BATCH)))


def read(model: EASE, X: sp.csr_array, fold_in: sp.csr_array) -> None:
    weights = model.coef_.ravel()[: READ_BYTES // model.coef_.itemsize]
    with ThreadPoolExecutor(int(os.environ["OMP_NUM_THREADS"])) as threads:
        list(threads.map(np.max, np.array_split(weights, 64)))


WORK = {
    "sklrec": score,
    "product": product,
    "product in batches": product_in_batches,
    "product on threads": product_on_threads,
    "limit": read,
}


def rss() -> int:
    """Return the memory held now, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", choices=WORK, required=True)
    parser.add_argument("--data", required=True, help="interactions, by scipy.sparse.save_npz")
    parser.add_argument("--model", required=True, help="fitted EASE, by joblib.dump")
    options = parser.parse_args()

    X = sp.csr_array(sp.load_npz(options.data))
    fold_in, _ = split_interactions(X, random_state=0)
    model = joblib.load(options.model)
    before = rss()
    start = time.perf_counter()
    WORK[options.library](model, X, fold_in)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = {
        "seconds": seconds,
        "peak_gib": (peak - before) / 2**30,
        "shape": "x".join(map(str, X.shape)),
        "nnz": int(X.nnz),
        "dtype": str(model.coef_.dtype),
        "versions": (
            f"python {platform.python_version()}; sklrec {sklrec.__version__}; "
            f"numpy {np.__version__}; scipy {scipy.__version__}"
        ),
    }
    if options.library == "product":
        some = fold_in[:COMPARED_USERS]
        difference = model.decision_function(some) - some @ model.coef_
        result["max_abs_diff"] = float(np.abs(difference).max())
    if options.library == "limit":
        n_bytes = fold_in.nnz * model.coef_[0].nbytes
        result["seconds"] *= n_bytes / min(READ_BYTES, model.coef_.nbytes)
        result["peak_gib"] = 0.0
    print(json.dumps(result))


if __name__ == "__main__":
    main()
