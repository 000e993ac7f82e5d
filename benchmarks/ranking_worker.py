"""Time one way of ranking or measuring and another, turn by turn, in a process of its own.

Prints one line of JSON: seconds of both, of each turn, and how far their results are apart. The
time of one user is CPU time, any other that of the wall clock. One user is ranked in as many turns
without the other way besides, as the two take the caches from each other.
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
from scipy.special import expit

import sklrec
from sklrec._pairs import uniform_by_row
from sklrec._ranking import Excluded, row_batches, top_k
from sklrec.factorization import BPR, WMF
from sklrec.linear import EASE, SLIM, SparseEASE
from sklrec.metrics import ndcg_at_k
from sklrec.metrics._names import measure_curve
from sklrec.neighbors import ItemKNN, RP3beta, UserKNN
from sklrec.neural import CDAE, ELSA, MultVAE, NeuMF

Result = Any
# What was there before, or the bare work; ours; and how far the results of the two are apart.
Ways = tuple[Callable[[int], Result], Callable[[int], Result], Callable[[Result, Result], float]]


def interactions(n_users: int, n_items: int, per_user: int) -> sp.csr_array:
    rng = np.random.default_rng(0)
    X = sp.random_array((n_users, n_items), density=per_user / n_items, format="csr", rng=rng)
    return sp.csr_array((np.ones(X.nnz, dtype=np.float32), X.indices, X.indptr), shape=X.shape)


def largest_difference(before: np.ndarray, ours: np.ndarray) -> float:
    return float(np.abs(np.nan_to_num(before) - np.nan_to_num(ours)).max())


def ranking_of_batches(n_users: int, n_items: int) -> Ways:
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

    return before, ours, largest_difference


def curve(n_users: int, n_items: int) -> Ways:
    """NDCG@k of k = 1 to 100: by a call for each k, and from hits that are looked up once."""
    held_out = interactions(n_users, n_items, per_user=14)
    rng = np.random.default_rng(1)
    rows = [rng.choice(n_items, 100, replace=False) for _ in range(200)]
    ranking = np.array(rows)[rng.integers(200, size=n_users)]
    ks = np.arange(1, 101)
    return (
        lambda turn: np.array([ndcg_at_k(held_out, ranking, k=k, average=None) for k in ks]),
        lambda turn: measure_curve("ndcg", held_out, ranking, ks),
        largest_difference,
    )


def one_user(model: Any, score: Callable[[sp.csr_array], np.ndarray], X: sp.csr_array) -> Ways:
    """Rank 10 items of one user: by the given scores of a row, and by predict_ranking.

    Each turn has another user, up to a hundred.
    """
    rows = [X[[user]] for user in range(min(100, X.shape[0]))]

    def bare(turn: int) -> np.ndarray:
        row = rows[turn % len(rows)]
        scores = score(row)
        scores[row.indices] = -np.inf
        best = np.argpartition(scores, -10)[-10:]
        return best[np.argsort(-scores[best])]

    def ours(turn: int) -> np.ndarray:
        return model.predict_ranking(rows[turn % len(rows)], k=10)

    def difference(best: np.ndarray, ranking: np.ndarray) -> float:
        """Return how far the scores are apart, as rounding may swap items."""
        scores = model.decision_function(rows[0])[0]
        return float(np.abs(scores[best] - scores[ranking[0]]).max() / np.abs(scores).max())

    return bare, ours, difference


def ease(n_users: int, n_items: int) -> Ways:
    """EASE with any numbers as weights, which are as fast as fitted ones.

    If there is one user alone, the weights of the user's items stay in the caches.
    """
    X = interactions(n_users, n_items, per_user=70)
    model = EASE().fit(np.eye(50, dtype=np.float32))
    B = np.random.default_rng(0).standard_normal((n_items, n_items), dtype=np.float32)
    model.n_features_in_, model._coef = n_items, B
    model._popularity = np.ones(n_items)
    return one_user(model, lambda row: (row @ B)[0], X)


def sparse_weights(n_users: int, n_items: int, model: Any) -> Ways:
    """Score by the product of two sparse matrices."""
    X = interactions(n_users, n_items, per_user=70)
    coef = model.fit(X).coef_
    return one_user(model, lambda row: (row @ coef).toarray()[0], X)


def user_knn(n_users: int, n_items: int) -> Ways:
    """Score by cosines, a partition and a product."""
    X = interactions(n_users, n_items, per_user=70)
    model = UserKNN(100).fit(X)
    by_item, norm = X.T.tocsr(), np.sqrt((X * X).sum(axis=1))

    def score(row: sp.csr_array) -> np.ndarray:
        near = row @ by_item
        cosine = near.data / (np.sqrt((row.data * row.data).sum()) * norm[near.indices])
        order = np.lexsort((near.indices, -cosine))[:100]
        users = np.sort(near.indices[order])
        weights = np.zeros(n_users, dtype=X.dtype)
        weights[near.indices[order]] = cosine[order]
        return (weights[None, users] @ X[users])[0]

    return one_user(model, score, X)


def wmf(n_users: int, n_items: int) -> Ways:
    """Score by a ridge regression with the Gram matrix of all items."""
    X = interactions(n_users, n_items, per_user=70)
    model = WMF(64, max_iter=1, random_state=0).fit(X)
    H, alpha = model.item_factors_, model.unobserved_weight
    gram = alpha * H.T @ H

    def score(row: sp.csr_array) -> np.ndarray:
        S = H[row.indices]
        weight = row.nnz + alpha * n_items
        penalty = model.lambda_ * weight**model.frequency_exponent
        A = (S.T * row.data) @ S + gram
        A.ravel()[:: len(A) + 1] += penalty
        return H @ np.linalg.solve(A, row.data @ S)

    return one_user(model, score, X)


def bpr(n_users: int, n_items: int) -> Ways:
    """Score by factors after some steps of gradient descent."""
    X = interactions(n_users, n_items, per_user=70)
    model = BPR(64, max_epochs=1, random_state=0).fit(X)
    return one_user(model, bare_bpr(model), X)


def bare_bpr(model: BPR) -> Callable[[sp.csr_array], np.ndarray]:
    """Return a function that scores a row as a fitted BPR does."""
    H, b, n_steps = model.item_factors_, model.item_bias_, model.n_fold_in_steps

    def score(row: sp.csr_array) -> np.ndarray:
        own, n = row.indices, row.nnz
        numbers = (uniform_by_row(row, n_steps, 0).T * (len(H) - n)).astype(np.int64)
        negatives = numbers + np.searchsorted(own - np.arange(n), numbers, side="right")
        mine, bias = H[own], b[own]
        u = mine.mean(axis=0)
        for others in negatives:
            difference = mine - H[others]
            weight = expit(-(difference @ u + bias - b[others]))
            u = (u + weight @ difference / n) / (1 + model.lambda_)
        return H @ u + b

    return score


def neural(model: Any, n_users: int, n_items: int) -> tuple[sp.csr_array, dict[str, np.ndarray]]:
    """Train an epoch; return the interactions and the weights as numpy arrays."""
    X = interactions(n_users, n_items, per_user=70)
    weights = model.fit(X).net_.module_.state_dict()
    return X, {name: weight.numpy() for name, weight in weights.items()}


def elsa(n_users: int, n_items: int) -> Ways:
    """Score by two products with the item vectors."""
    model = ELSA(256, max_epochs=1, random_state=0)
    X, _ = neural(model, n_users, n_items)
    A = model.item_embeddings_.copy()

    def score(row: sp.csr_array) -> np.ndarray:
        scores = A @ (row.data @ A[row.indices])
        scores[row.indices] -= row.data
        return scores

    return one_user(model, score, X)


def mult_vae(n_users: int, n_items: int) -> Ways:
    """Score by four layers, of which the first reads the user's items alone."""
    model = MultVAE(200, hidden_layer_sizes=(600,), max_epochs=1, random_state=0)
    X, w = neural(model, n_users, n_items)

    def score(row: sp.csr_array) -> np.ndarray:
        x = row.data / np.sqrt(row.data @ row.data)
        h = np.tanh(x @ w["encoder.first.weight"][row.indices] + w["encoder.first.bias"])
        mu = (w["encoder.hidden.1.weight"] @ h + w["encoder.hidden.1.bias"])[:200]
        h = np.tanh(w["decoder.0.weight"] @ mu + w["decoder.0.bias"])
        return w["item_layer.weight"] @ h + w["item_layer.bias"]

    return one_user(model, score, X)


def cdae(n_users: int, n_items: int) -> Ways:
    """Score by two layers, of which the first reads the user's items alone."""
    model = CDAE(max_epochs=1, random_state=0)
    X, w = neural(model, n_users, n_items)

    def score(row: sp.csr_array) -> np.ndarray:
        x = row.data / np.sqrt(row.data @ row.data)
        h = np.tanh(x @ w["first.weight"][row.indices] + w["first.bias"])
        return w["item_layer.weight"] @ h + w["item_layer.bias"]

    return one_user(model, score, X)


def neumf(n_users: int, n_items: int) -> Ways:
    """Score by GMF and by MLP, whose first layer of the items is computed for each user."""
    model = NeuMF(max_epochs=1, random_state=0)
    X, w = neural(model, n_users, n_items)

    def score(row: sp.csr_array) -> np.ndarray:
        gmf, mlp = (
            w[f"{part}.members.weight"][row.indices].sum(axis=0) / np.sqrt(np.float32(row.nnz))
            for part in ("gmf", "mlp")
        )
        of_gmf, of_mlp = np.split(w["last.weight"][0], [len(gmf)])
        h = w["mlp.items.weight"] @ w["mlp.of_item.weight"].T
        h += w["mlp.of_user.weight"] @ mlp + w["mlp.of_user.bias"]
        np.maximum(h, 0, out=h)
        for layer in range(len(model.hidden_layer_sizes) - 1):
            h = h @ w[f"mlp.hidden.{layer}.weight"].T
            h += w[f"mlp.hidden.{layer}.bias"]
            np.maximum(h, 0, out=h)
        return w["gmf.items.weight"] @ (gmf * of_gmf) + h @ of_mlp + w["last.bias"]

    return one_user(model, score, X)


WORK = {
    "top_k": ranking_of_batches,
    "curve": curve,
    "one user": ease,
    "one user again": ease,
    "one user, ItemKNN": partial(sparse_weights, model=ItemKNN(100)),
    "one user, RP3beta": partial(sparse_weights, model=RP3beta(100)),
    "one user, SparseEASE": partial(sparse_weights, model=SparseEASE(n_neighbors=100)),
    "one user, SLIM": partial(sparse_weights, model=SLIM(0.01, l1_ratio=0.01)),
    "one user, UserKNN": user_knn,
    "one user, WMF": wmf,
    "one user, BPR": bpr,
    "one user, ELSA": elsa,
    "one user, MultVAE": mult_vae,
    "one user, CDAE": cdae,
    "one user, CDAE of few items": cdae,
    "one user, NeuMF": neumf,
    "one user, NeuMF of few items": neumf,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", choices=WORK, required=True)
    parser.add_argument("--users", type=int, required=True)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--turns", type=int, required=True)
    parser.add_argument("--repetitions", type=int, required=True)
    options = parser.parse_args()

    of_cpu = options.work.startswith("one user")
    clock = time.process_time if of_cpu else time.perf_counter
    before, ours, difference = WORK[options.work](options.users, options.items)
    Parallel(n_jobs=2, backend="threading")(delayed(abs)(i) for i in range(2))  # starts threads
    apart = difference(before(0), ours(0))
    seconds: dict[str, list[list[float]]] = {"before": [], "ours": [], "alone": []}

    def measure(way: Callable[[int], Result], turn: int, times: list[list[float]]) -> None:
        start = clock()
        way(turn)
        times[-1].append(clock() - start)

    for _ in range(options.repetitions):
        for times in seconds.values():
            times.append([])
        for turn in range(options.turns):
            measure(before, turn, seconds["before"])
            measure(ours, turn, seconds["ours"])
        for turn in range(options.turns if of_cpu else 0):
            measure(ours, turn, seconds["alone"])
    print(
        json.dumps(
            {
                **seconds,
                "clock": "cpu" if of_cpu else "wall",
                "max_abs_diff": apart,
                "versions": (
                    f"python {platform.python_version()}; sklrec {sklrec.__version__}; "
                    f"numpy {np.__version__}; scipy {scipy.__version__}"
                ),
            }
        )
    )


if __name__ == "__main__":
    main()
