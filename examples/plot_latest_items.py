"""
===============================
Hiding each user's latest items
===============================

By default, :class:`~sklrec.metrics.RankingScorer` hides a random share of the items that a test
user liked. In practice a recommender has to find the next items, which is harder. To evaluate this
in a search, pass a matrix of the entries to hide as ``y``.
"""

# %%
# Ratings and their times
# -----------------------
# ``timestamps`` has the entries of ``data``, in seconds. Films with fewer than 20 ratings are left
# out to keep the example fast.
import os

import numpy as np

from sklrec.datasets import fetch_movielens, make_interactions
from sklrec.preprocessing import filter_interactions

try:
    ratings = fetch_movielens("latest-small", data_home=os.environ.get("SKLREC_DATA"), n_retries=0)
    X, times = ratings.data, ratings.timestamps
except OSError as error:
    print(f"No MovieLens: {error}")
    print("Using SYNTHETIC ratings at random times: latest and random ones will not differ.")
    X = make_interactions(
        600, 1000, n_interactions=60_000, popularity_exponent=0.6, ratings=True, random_state=0
    ).data
    times = X.copy()
    times.data = np.random.default_rng(0).integers(1, 10**9, times.nnz)

X, users, films = filter_interactions(X, min_per_item=20)
times = times[users][:, films]

# %%
# What to hide
# ------------
# With times, :func:`~sklrec.model_selection.split_interactions` holds out the latest fifth of the
# films that each user liked. This is the ``y`` of the search, which passes the rows of the test
# users to the scorer. The models are fitted on the complete rows of the other users, so this
# evaluates the next items of a new user, not the items after a date.
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import Binarizer

from sklrec.dummy import PopularityRecommender
from sklrec.linear import EASE
from sklrec.metrics import RankingScorer
from sklrec.model_selection import StrongGeneralizationSplit, split_interactions
from sklrec.pipeline import Pipeline

_, latest = split_interactions(X, test_size=0.2, threshold=3.5, time=times)
_, random = split_interactions(X, test_size=0.2, threshold=3.5, random_state=0)

search = GridSearchCV(
    Pipeline([("positives", Binarizer(threshold=3.5)), ("model", EASE())]),
    [
        {"model": [PopularityRecommender()]},
        {"model": [EASE()], "model__lambda_": [50, 200, 800]},
    ],
    scoring=RankingScorer("ndcg@100", threshold=3.5),
    cv=StrongGeneralizationSplit(3, test_size=0.2, random_state=0),
    error_score="raise",
)
scores = {}
for hidden, y in [("random", random), ("latest", latest)]:
    scores[hidden] = search.fit(X, y).cv_results_["mean_test_score"]

# %%
# Results
# -------
# The figure shows means over the test users of three splits. On MovieLens the latest films are
# harder to find for all models. The best ``lambda_`` may change too, so a search should hide the
# entries that the recommender has to find in practice.
import matplotlib.pyplot as plt

candidates = [
    f"EASE, lambda_={params['model__lambda_']}" if "model__lambda_" in params else "popularity"
    for params in search.cv_results_["params"]
]
fig, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
for hidden, marker in [("random", "o"), ("latest", "s")]:
    ax.plot(scores[hidden], candidates, marker, label=f"{hidden} fifth hidden")
    for score, candidate in zip(scores[hidden], candidates, strict=True):
        ax.annotate(
            f"{score:.3f}", (score, candidate), (0, 6), textcoords="offset points", ha="center"
        )
ax.set(xlabel="NDCG@100, mean over test users", ylim=(len(candidates) - 0.6, -0.6))
ax.margins(x=0.1)
ax.grid(axis="x", alpha=0.3)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))

if plt.get_backend().lower() != "agg":  # show the figure in a window
    plt.show()
