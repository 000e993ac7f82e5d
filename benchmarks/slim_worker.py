"""Time one fit of one library's SLIM, in a process of its own.

Prints one line of JSON. Timed is the fit alone, in CPU time of all threads and in wall time; peak
memory is that of the whole process. ``objective`` is that of the weights, by which the precision of
the solutions can be compared: the mean over items of the objective divided by that of no weights.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import time
import warnings
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp


def sklrec(X: sp.csr_matrix, options: argparse.Namespace) -> Callable[[], sp.csr_array]:
    from sklrec.linear import SLIM

    model = SLIM(
        options.alpha,
        l1_ratio=options.l1_ratio,
        positive=options.positive,
        solver=options.solver,
        tol=options.tol,
        n_jobs=int(os.environ["OMP_NUM_THREADS"]),
    )
    data = sp.csr_array(X)
    return lambda: model.fit(data).coef_


def irspack(X: sp.csr_matrix, options: argparse.Namespace) -> Callable[[], sp.csr_array]:
    from irspack.recommenders import SLIMRecommender

    model = SLIMRecommender(
        X,
        alpha=options.alpha,
        l1_ratio=options.l1_ratio,
        positive_only=options.positive,
        n_threads=int(os.environ["OMP_NUM_THREADS"]),
    )

    def fit() -> sp.csr_array:
        model.learn()
        return sp.csr_array(model.W)

    return fit


LIBRARIES = {"sklrec": sklrec, "irspack": irspack}


def relative_objective(X: sp.csr_matrix, B: sp.csr_array, l1: float, l2: float) -> float:
    """Return the mean over items of the objective, in units of that without weights."""
    values = []
    for start in range(0, X.shape[1], 500):
        items = slice(start, start + 500)
        weights = sp.csc_array(B[:, items]).astype(np.float64)
        target = X[:, items].toarray().astype(np.float64)
        residual = target - (X @ weights).toarray()
        absolute = np.asarray(abs(weights).sum(axis=0)).ravel()
        squares = np.asarray(weights.multiply(weights).sum(axis=0)).ravel()
        objective = (residual**2).sum(axis=0) / 2 + l1 * absolute + l2 / 2 * squares
        nothing = (target**2).sum(axis=0) / 2
        values.append(objective[nothing > 0] / nothing[nothing > 0])
    return float(np.concatenate(values).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", choices=LIBRARIES, required=True)
    parser.add_argument("--data", required=True, help="interactions, by scipy.sparse.save_npz")
    parser.add_argument("--alpha", type=float, required=True)
    parser.add_argument("--l1-ratio", type=float, required=True)
    parser.add_argument("--positive", action="store_true")
    parser.add_argument("--solver", default="cd", help="of sklrec")
    parser.add_argument("--tol", type=float, default=1e-3, help="of sklrec")
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    X = sp.csr_matrix(sp.load_npz(options.data))
    fit = LIBRARIES[options.library](X, options)
    start, cpu = time.perf_counter(), time.process_time()
    B = fit()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    penalty = X.shape[0] * options.alpha
    l1, l2 = penalty * options.l1_ratio, penalty * (1 - options.l1_ratio)
    names = [options.library, "numpy", "scipy", "scikit-learn"]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "peak_gib": peak,
                "weights_of_an_item": B.nnz / X.shape[1],
                "objective": relative_objective(X, B, l1, l2),
                "shape": "x".join(map(str, X.shape)),
                "nnz": int(X.nnz),
                "versions": "; ".join([f"python {platform.python_version()}", *versions]),
            }
        )
    )


if __name__ == "__main__":
    main()
