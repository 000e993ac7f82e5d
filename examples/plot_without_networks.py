"""
========================================
Models without networks, and their costs
========================================

Linear models, factors and neighbours need no GPU and fit in seconds. Which one to take depends on
the data and on what may be spent: this example compares the accuracy of five of them with the time
of their fits and the memory of their weights.
"""

# %%
# Data
# ----
# We use the films that users of MovieLens liked, in the split of published results: 1,000 users for
# the test, whose items the models have not met.
import os
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.preprocessing import Binarizer

from sklrec.datasets import fetch_movielens, make_interactions
from sklrec.model_selection import strong_generalization_split


def fetch(folder):
    """Return ratings of MovieLens 1M, of the smaller archive, or synthetic ones."""
    packed = Path(folder or ".") / "ml-1m.npz"  # which the benchmarks read too
    if packed.exists():
        with np.load(packed) as table:
            return csr_array((table["rating"].astype(float), (table["user"], table["item"])))
    for variant in ("1m", "latest-small"):
        try:
            return fetch_movielens(variant, data_home=folder, n_retries=0).data
        except OSError as error:
            print(f"No MovieLens {variant}: {error}")
    print("Using SYNTHETIC ratings.")
    return make_interactions(
        3000, 1000, n_interactions=200_000, popularity_exponent=0.6, ratings=True, random_state=0
    ).data


X = Binarizer(threshold=3.5).fit_transform(fetch(os.environ.get("SKLREC_DATA"))).astype(np.float32)
split = strong_generalization_split(X, n_heldout=min(1000, X.shape[0] // 6))
print(f"{split.train.shape[0]:,} users, {split.train.shape[1]:,} items, {split.train.nnz:,} ones")

# %%
# Models
# ------
# :class:`~sklrec.linear.EASE` has a weight for each pair of items, the solution of one dense
# system. :class:`~sklrec.linear.SparseEASE` regresses each item on its nearest items only, so
# that its weights grow with the number of items instead of its square.
# :class:`~sklrec.factorization.WMF`, also known as implicit ALS, has a vector for each item and
# solves for that of a user. :class:`~sklrec.neighbors.ItemKNN` and
# :class:`~sklrec.neighbors.RP3beta` count the users that two items have in common, and weight the
# counts in different ways.
from sklrec.factorization import WMF
from sklrec.linear import EASE, SparseEASE
from sklrec.neighbors import ItemKNN, RP3beta
from sklrec.pipeline import make_pipeline
from sklrec.preprocessing import BM25Transformer

models = {
    "EASE": EASE(lambda_=300, dropout=0.33),
    "SparseEASE": SparseEASE(n_neighbors=200, lambda_=300, dropout=0.33),
    "WMF": WMF(128, lambda_=0.01, unobserved_weight=0.15, random_state=0),
    "ItemKNN": make_pipeline(BM25Transformer(), ItemKNN(n_neighbors=100, shrinkage=10)),
    "RP3beta": RP3beta(n_neighbors=500, beta=0.4),
}

# %%
# Accuracy, time and memory
# -------------------------
# :func:`~sklrec.metrics.evaluate` gives a standard error beside each mean. What a model keeps are
# its weights, ``coef_``, or the factors of the items.
from time import perf_counter

from sklrec.metrics import evaluate


def megabytes(model):
    """Return the size of the weights of a model."""
    last = model[-1] if hasattr(model, "steps") else model
    weights = getattr(last, "coef_", None)
    if weights is None:
        weights = last.item_factors_
    parts = (weights.data, weights.indices) if issparse(weights) else (weights,)
    return sum(part.nbytes for part in parts) / 1e6


found = {}
print(f"{'':12}NDCG@100            seconds  MB")
for name, model in models.items():
    begin = perf_counter()
    model.fit(split.train)
    seconds = perf_counter() - begin
    evaluation = evaluate(model, split.test_fold_in, split.test_held_out, "ndcg@100")
    found[name] = (evaluation, seconds, megabytes(model))
    print(f"{name:12}{str(evaluation)[10:]:20}{seconds:6.1f}{megabytes(model):7.1f}")

# %%
# The differences between models are smaller than those between users, so that the standard errors
# of two means say little about the difference of two models on the same users. A paired test
# does:
best = max(found, key=lambda name: found[name][0].mean["ndcg@100"])
for name, (evaluation, _, _) in found.items():
    if name != best:
        difference = found[best][0].compare(evaluation)["ndcg@100"]
        print(
            f"{best} is ahead of {name} by {difference.difference:.4f} "
            f"± {difference.standard_error:.4f}"
        )

# %%
# A plot of accuracy against time. The area of a point is proportional to the memory of the weights.
import matplotlib.pyplot as plt

fig, ax = plt.subplots(layout="constrained")
for name, (evaluation, seconds, size) in found.items():
    mean, error = evaluation.mean["ndcg@100"], evaluation.standard_error["ndcg@100"]
    ax.errorbar(seconds, mean, error, color="gray", capsize=3, zorder=1)
    ax.scatter(seconds, mean, s=20 + 10 * size, alpha=0.8, zorder=2)
    ax.annotate(f"{name}, {size:.0f} MB", (seconds, mean), (8, 8), textcoords="offset points")
ax.set(xscale="log", xlabel="seconds to fit", ylabel="NDCG@100")
ax.margins(x=0.3)
plt.show()

# %%
# What grows
# ----------
# With few thousand items the dense weights of EASE are small. They grow with the square of the
# number of items, and the time of the fit with the cube: with 100,000 items they are 40 GB. The
# sparse weights and the factors grow with the number of items, and so does the time, with the
# interactions of each:
for n_items in (3_500, 20_000, 100_000, 1_000_000):
    print(
        f"{n_items:9,} items: EASE {4 * n_items**2 / 1e9:9.2f} GB, SparseEASE with 200 neighbours "
        f"{8 * 200 * n_items / 1e9:5.2f} GB, WMF with 128 factors {4 * 128 * n_items / 1e9:5.2f} GB"
    )
