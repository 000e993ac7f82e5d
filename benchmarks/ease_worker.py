"""Time one fit of one library's EASE, in a process of its own.

Prints one line of JSON. Timed is the fit alone. Loading the interactions is not, nor is turning
them into the object that the library's ``fit`` asks for; peak memory is that of the whole process,
interpreter, input and that object included.

"lapack" is not a library but the bare potrf and potri of a matrix of the same size. "limit" is
the time of their n^3 floating point operations at the speed of a matrix product, in the memory of
the one matrix.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import get_lapack_funcs

LAMBDA = 500.0
GEMM_SIZE = 4096
SAMPLED_ITEMS = 200

Fit = Callable[[], Any]  # what is timed
Coef = Callable[[], np.ndarray]  # the rows of the sampled items, in the order of X's items


def sklrec(X: sp.csr_matrix, sample: np.ndarray) -> tuple[Fit, Coef]:
    from sklrec.linear import EASE

    model = EASE(lambda_=LAMBDA)
    data = sp.csr_array(X)
    return lambda: model.fit(data), lambda: model.coef_[sample]


def irspack(X: sp.csr_matrix, sample: np.ndarray) -> tuple[Fit, Coef]:
    from irspack.recommenders import DenseSLIMRecommender

    model = DenseSLIMRecommender(X, reg=LAMBDA)
    return model.learn, lambda: np.asarray(model.W[sample])


def rectools(X: sp.csr_matrix, sample: np.ndarray) -> tuple[Fit, Coef]:
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import EASEModel

    users, items = X.nonzero()
    table = pd.DataFrame({Columns.User: users, Columns.Item: items, Columns.Weight: X.data})
    table[Columns.Datetime] = pd.Timestamp("2020-01-01")
    data = Dataset.construct(table)
    model = EASEModel(regularization=LAMBDA)

    def coef() -> np.ndarray:
        return in_order(model.weight, data.item_id_map.external_ids, sample, X.shape[1])

    return lambda: model.fit(data), coef


def recpack(X: sp.csr_matrix, sample: np.ndarray) -> tuple[Fit, Coef]:
    from recpack.algorithms import EASE

    model = EASE(l2=LAMBDA)
    return lambda: model.fit(X), lambda: model.similarity_matrix_[sample].toarray()


def lenskit(X: sp.csr_matrix, sample: np.ndarray) -> tuple[Fit, Coef]:
    import pandas as pd
    import torch
    from lenskit.data import from_interactions_df
    from lenskit.knn.ease import EASEScorer
    from lenskit.training import TrainingOptions

    users, items = X.nonzero()
    data = from_interactions_df(pd.DataFrame({"user_id": users, "item_id": items}))
    model = EASEScorer(regularization=LAMBDA)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    def coef() -> np.ndarray:
        return in_order(model.weights, model.items.ids(), sample, X.shape[1])

    return lambda: model.train(data, TrainingOptions(device="cpu")), coef


def cornac(X: sp.csr_matrix, sample: np.ndarray) -> tuple[Fit, Coef]:
    from cornac.data import Dataset
    from cornac.models import EASE

    users, items = X.nonzero()
    data = Dataset.from_uir(list(zip(users.tolist(), items.tolist(), X.data.tolist(), strict=True)))
    _ = data.matrix  # made on first use, and kept
    model = EASE(lamb=LAMBDA, posB=False, verbose=False)

    def coef() -> np.ndarray:
        return in_order(model.B, data.item_ids, sample, X.shape[1])

    return lambda: model.fit(data), coef


def lapack(X: sp.csr_matrix, sample: np.ndarray) -> tuple[Fit, None]:
    n = X.shape[1]
    # potrf and potri read one triangle, so this stands for a symmetric matrix; the diagonal
    # outweighs the rest of its row, which makes it positive definite.
    A = np.random.default_rng(0).random((n, n), dtype=X.dtype).T
    A[np.diag_indices(n)] += n
    potrf, potri = get_lapack_funcs(("potrf", "potri"), (A,))

    def invert() -> None:
        _, info = potrf(A, lower=True, clean=False, overwrite_a=True)
        assert info == 0
        _, info = potri(A, lower=True, overwrite_c=True)
        assert info == 0

    return invert, None


def limit(X: sp.csr_matrix, sample: np.ndarray) -> tuple[Fit, None]:
    A = np.ones((GEMM_SIZE, GEMM_SIZE), dtype=X.dtype)
    product = A @ A  # starts the threads
    return lambda: np.matmul(A, A, out=product), None


WORK = {
    "sklrec": sklrec,
    "irspack": irspack,
    "rectools": rectools,
    "recpack": recpack,
    "lenskit": lenskit,
    "cornac": cornac,
    "lapack": lapack,
    "limit": limit,
}


def in_order(B: np.ndarray, items: Any, sample: np.ndarray, n_items: int) -> np.ndarray:
    """Return the sampled rows of B, of which rows and columns are in the order of `items`."""
    items = np.asarray(items, dtype=np.int64)
    position = np.full(n_items, -1)
    position[items] = np.arange(len(items))
    rows = np.zeros((len(sample), n_items), dtype=B.dtype)
    known = position[sample] >= 0  # an item without interactions has weights of zero
    rows[np.ix_(known, items)] = B[position[sample[known]]]
    return rows


def versions(library: str) -> str:
    distributions = {"rectools": ["RecTools"], "lapack": [], "limit": [], "lenskit": ["lenskit"]}
    names = [*distributions.get(library, [library]), "numpy", "scipy"]
    if library == "lenskit":
        names.append("torch")
    pairs = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return "; ".join([f"python {platform.python_version()}", *pairs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", choices=WORK, required=True)
    parser.add_argument("--data", required=True, help="interactions, by scipy.sparse.save_npz")
    parser.add_argument("--coef", help="file to write the weights of some items to, by numpy.save")
    parser.add_argument("--reference", help="such a file, to compare the weights with")
    options = parser.parse_args()

    X = sp.csr_matrix(sp.load_npz(options.data))
    n_items = X.shape[1]
    # Weights are compared for some items: a file of all would be as large as the model.
    sample = np.random.default_rng(0).choice(n_items, min(SAMPLED_ITEMS, n_items), replace=False)
    fit, coef = WORK[options.library](X, sample)
    start = time.perf_counter()
    fit()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {
        "seconds": seconds,
        "peak_gib": peak / 2**20,
        "shape": "x".join(map(str, X.shape)),
        "nnz": int(X.nnz),
        "dtype": str(X.dtype),
        "versions": versions(options.library),
    }
    if options.library == "limit":
        result["seconds"] *= n_items**3 / (2 * GEMM_SIZE**3)
        result["peak_gib"] = n_items**2 * X.dtype.itemsize / 2**30
    if coef is not None:
        rows = coef()
        result["dtype"] = str(rows.dtype)
        if options.coef:
            np.save(options.coef, rows)
        if options.reference:
            reference = np.load(options.reference)
            result["max_abs_diff"] = float(np.abs(rows - reference).max())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
