"""Time one way of ranking or measuring and another, turn by turn, in a process of its own.

Prints one line of JSON: seconds of both, of each turn, and how far their results are apart.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy
import scipy.sparse as sp
from _top_k_before import top_k_before
from joblib import Parallel, delayed

import sklrec
from sklrec._ranking import Excluded, row_batches, top_k
from sklrec.linear import EASE, SLIM, SparseEASE
from sklrec.metrics import ndcg_at_k
from sklrec.metrics._names import measure_curve
from sklrec.neighbors import ItemKNN, UserKNN

Turns = tuple[Callable[[int], Any], Callable[[int], Any]]


def interactions(n_users: int, n_items: int, per_user: int) -> sp.csr_array:
    rng = np.random.default_rng(0)
    X = sp.random_array((n_users, n_items), density=per_user / n_items, format="csr", rng=rng)
    return sp.csr_array((np.ones(X.nnz, dtype=np.float32), X.indices, X.indptr), shape=X.shape)


def ranking_of_batches(n_users: int, n_items: int) -> Turns:
    """Rank 100 items of each user, before and now, in the batches that a prediction goes in."""
    batch = next(row_batches(n_users, n_items))
    n_rows = batch.stop
    scores = np.random.default_rng(0).normal(size=(n_rows, n_items)).astype(np.float32)
    seen = interactions(n_rows, n_items, per_user=70)
    n_batches = -(-n_users // n_rows)

    def before(turn: int) -> np.ndarray:
        for _ in range(n_batches):
            ranking = top_k_before(scores, 100, seen)
        return ranking

    def ours(turn: int) -> np.ndarray:
        for _ in range(n_batches):
            ranking, _ = top_k(scores, 100, excluded=Excluded(entries=seen))
        return ranking

    return before, ours


def curve(n_users: int, n_items: int) -> Turns:
    """NDCG@k of k = 1 to 100: by a call for each k, and from hits that are looked up once."""
    held_out = interactions(n_users, n_items, per_user=14)
    rng = np.random.default_rng(1)
    rows = [rng.choice(n_items, 100, replace=False) for _ in range(200)]
    ranking = np.array(rows)[rng.integers(200, size=n_users)]
    ks = np.arange(1, 101)
    return (
        lambda turn: np.array([ndcg_at_k(held_out, ranking, k=k, average=None) for k in ks]),
        lambda turn: measure_curve("ndcg", held_out, ranking, ks),
    )


def one_user(n_users: int, n_items: int) -> Turns:
    """Rank 10 items of one user: the row product and top_k alone, and predict_ranking."""
    X = interactions(n_users, n_items, per_user=70)
    model = EASE().fit(X[:, :50])
    B = np.random.default_rng(0).standard_normal((n_items, n_items), dtype=np.float32)
    model.n_features_in_, model._coef = n_items, B  # of any numbers, as fast as of fitted ones
    model._popularity = np.ones(n_items)

    def bare(turn: int) -> np.ndarray:
        row = X[[turn % n_users]]
        return top_k(row @ B, 10, excluded=Excluded(entries=row))[0]

    return bare, lambda turn: model.predict_ranking(X[[turn % n_users]], k=10)


def one_user_by_weights(n_users: int, n_items: int, model: Any) -> Turns:
    """Rank 10 items of one user: by the product of two sparse matrices, and predict_ranking."""
    X = interactions(n_users, n_items, per_user=70)
    model.fit(X)

    def bare(turn: int) -> np.ndarray:
        row = X[[turn % n_users]]
        scores = (row @ model.coef_).toarray()
        return top_k(scores, 10, excluded=Excluded(entries=row))[0]

    return bare, lambda turn: model.predict_ranking(X[[turn % n_users]], k=10)


def one_user_by_users(n_users: int, n_items: int) -> Turns:
    """Rank 10 items of one user: by cosines, a partition and a product, and predict_ranking."""
    X = interactions(n_users, n_items, per_user=70)
    model = UserKNN(100).fit(X)
    by_item, norm = X.T.tocsr(), np.sqrt((X * X).sum(axis=1))

    def bare(turn: int) -> np.ndarray:
        row = X[[turn % n_users]]
        near = row @ by_item
        cosine = near.data / (np.sqrt((row.data * row.data).sum()) * norm[near.indices])
        order = np.lexsort((near.indices, -cosine))[:100]
        users = np.sort(near.indices[order])
        weights = np.zeros(n_users, dtype=X.dtype)
        weights[near.indices[order]] = cosine[order]
        scores = weights[None, users] @ X[users]
        return top_k(scores, 10, excluded=Excluded(entries=row))[0]

    return bare, lambda turn: model.predict_ranking(X[[turn % n_users]], k=10)


WORK = {
    "top_k": ranking_of_batches,
    "curve": curve,
    "one user": one_user,
    "one user, ItemKNN": partial(one_user_by_weights, model=ItemKNN(100)),
    "one user, SparseEASE": partial(one_user_by_weights, model=SparseEASE(n_neighbors=100)),
    "one user, SLIM": partial(one_user_by_weights, model=SLIM(0.01, l1_ratio=0.01)),
    "one user, UserKNN": one_user_by_users,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", choices=WORK, required=True)
    parser.add_argument("--users", type=int, required=True)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--turns", type=int, required=True)
    options = parser.parse_args()

    ways = WORK[options.work](options.users, options.items)
    seconds: list[list[float]] = [[], []]
    Parallel(n_jobs=2, backend="threading")(delayed(abs)(i) for i in range(2))  # starts threads
    results = [way(0) for way in ways]
    for turn in range(options.turns):
        for way, times in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            way(turn)
            times.append(time.perf_counter() - start)
    before, ours = (np.nan_to_num(result).astype(float) for result in results)
    print(
        json.dumps(
            {
                "before": seconds[0],
                "ours": seconds[1],
                "max_abs_diff": float(np.abs(before - ours).max()),
                "versions": (
                    f"python {platform.python_version()}; sklrec {sklrec.__version__}; "
                    f"numpy {np.__version__}; scipy {scipy.__version__}"
                ),
            }
        )
    )


if __name__ == "__main__":
    main()
