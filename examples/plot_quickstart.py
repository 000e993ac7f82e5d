"""
=========================================
From ratings to a tuned, honest ranking
=========================================

Ratings of films are turned into positives, a model and a weighting of the interactions are chosen
by :class:`~sklearn.model_selection.GridSearchCV`, and the choice is compared with two simple models
on users that neither the search nor any fit has seen.

Run as a script, it takes the folder in which ``ml-latest-small.zip`` lies from the command line or
from the environment variable ``SKLREC_DATA``::

    python examples/plot_quickstart.py ~/Downloads
"""

# %%
# Ratings
# -------
# A matrix of users by films that holds the stars given, zero where there is no rating. Without the
# archive and without network the example goes on with made ratings.
import os
import sys

import numpy as np

from sklrec.datasets import fetch_movielens, make_interactions

folder = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SKLREC_DATA")
try:
    ratings = fetch_movielens("latest-small", data_home=folder, n_retries=0)
    print(f"MovieLens latest-small: {ratings.data.nnz:,} ratings")
except OSError as error:
    print(f"No MovieLens: {error}")
    print("Going on with MADE ratings: the figures below say nothing about real users.")
    ratings = make_interactions(
        600, 2000, n_interactions=60_000, popularity_exponent=0.6, ratings=True, random_state=0
    )
X, titles = ratings.data, ratings.item_names

# %%
# Users to test on
# ----------------
# A fifth of the users is put aside for the last comparison. Films with fewer than five ratings by
# the other users are left out: this takes few ratings away and makes the search many times faster,
# as the time of a fit grows with the cube of the number of items.
from sklrec.model_selection import StrongGeneralizationSplit
from sklrec.preprocessing import filter_interactions

users, test_users = next(StrongGeneralizationSplit(1, test_size=0.2, random_state=0).split(X))
_, _, films = filter_interactions(X[users], min_per_item=5)
X, X_test, titles = X[users][:, films], X[test_users][:, films], titles[films]
print(f"{X.shape[0]} users to learn from, {X_test.shape[0]} to test on, {X.shape[1]:,} films")

# %%
# The search
# ----------
# Ratings above 3.5 stars are positives. They are weighted by nothing, BM25 or tf-idf, and
# :class:`~sklrec.linear.EASE` learns from the result. Each weighting has its own range of
# ``lambda_``, because the penalty is in the units of the weights.
#
# The splitter holds out whole users, and the scorer hides a part of what each of them liked. The
# threshold of the scorer is the one of the pipeline: it sees the raw ratings, so that a film with
# one star never counts as found, and is never recommended either.
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import Binarizer

from sklrec.linear import EASE
from sklrec.metrics import RankingScorer
from sklrec.pipeline import Pipeline
from sklrec.preprocessing import BM25Transformer

search = GridSearchCV(
    Pipeline(
        [
            ("positives", Binarizer(threshold=3.5)),
            ("weights", "passthrough"),
            ("ease", EASE()),
        ]
    ),
    [
        {"weights": ["passthrough"], "ease__lambda_": [50, 100, 200, 500]},
        {"weights": [BM25Transformer()], "ease__lambda_": [1000, 3000, 10_000, 30_000]},
        {"weights": [TfidfTransformer()], "ease__lambda_": [2, 5, 10, 20]},
    ],
    scoring=RankingScorer("ndcg@100", threshold=3.5),
    cv=StrongGeneralizationSplit(3, test_size=0.2, random_state=0),
    n_jobs=2,
    error_score="raise",
)
try:
    import rich  # noqa: F401 - draws the bars
    from sklearn.callback import ProgressBar
except ImportError:
    print("Searching without progress bars, which need scikit-learn 1.9 or later and rich.")
else:
    search.set_callbacks(ProgressBar())
_ = search.fit(X)

# %%
# The candidates, best first:
results = search.cv_results_
print("\nNDCG@100 in the search")
for candidate in np.argsort(-results["mean_test_score"], kind="stable"):
    params = results["params"][candidate]
    score = results["mean_test_score"][candidate]
    print(f"{score:.3f}  lambda_={params['ease__lambda_']:<6g} weights={params['weights']}")

# %%
# Is it better than something simple?
# -----------------------------------
# Popularity counts the positives of each film. :class:`~sklrec.factorization.LFM` learns the stars
# themselves: it ranks films by how much they are liked by those who rate them, which is not what
# people choose next.
#
# Of each test user, a fifth of the films they liked is held out. The rest of the row, low ratings
# included, is what the models are told.
from sklrec.dummy import PopularityRecommender
from sklrec.factorization import LFM
from sklrec.metrics import evaluate
from sklrec.model_selection import split_interactions
from sklrec.pipeline import make_pipeline

fold_in, held_out = split_interactions(X_test, test_size=0.2, threshold=3.5, random_state=0)
models = {
    "popularity": make_pipeline(Binarizer(threshold=3.5), PopularityRecommender()).fit(X),
    "LFM": LFM().fit(X),
    "EASE": search.best_estimator_,
}
evaluations = {name: evaluate(model, fold_in, held_out) for name, model in models.items()}

metrics = ["ndcg@100", "recall@20", "recall@50"]
print(f"\n{'mean ± standard error':<22}" + "".join(f"{metric:>16}" for metric in metrics))
for name, found in evaluations.items():
    mean, error = found.mean, found.standard_error
    values = (f"{mean[metric]:.3f} ± {error[metric]:.3f}" for metric in metrics)
    print(f"{name:<22}" + "".join(f"{value:>16}" for value in values))

difference = evaluations["EASE"].compare(evaluations["popularity"])["ndcg@100"]
print(
    f"\nEASE minus popularity, user by user: {difference.difference:.3f} ± "
    f"{difference.standard_error:.3f} NDCG@100, p = {difference.pvalue:.1g} "
    f"({difference.n_users} users, paired t-test)"
)

# %%
# The bars are means over the test users, the lines one standard error to both sides.
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
width = 0.8 / len(models)
for i, (name, found) in enumerate(evaluations.items()):
    ax.bar(
        np.arange(len(metrics)) + (i - 1) * width,
        [found.mean[metric] for metric in metrics],
        width,
        yerr=[found.standard_error[metric] for metric in metrics],
        capsize=3,
        label=name,
    )
ax.set_xticks(range(len(metrics)), ["NDCG@100", "Recall@20", "Recall@50"])
ax.set_ylabel(f"mean over {difference.n_users} held-out users")
ax.spines[["top", "right"]].set_visible(False)
_ = ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))

# %%
# What it recommends
# ------------------
# The ten best films for one test user, beside the ones they liked best of those the model was
# told. A star marks a film that was held out: the user did like it.
user = int(np.argmax(np.diff(held_out.indptr) >= 5))
ranking = models["EASE"].predict_ranking(fold_in[[user]], k=10)[0]
told = fold_in[[user]].toarray()[0]
n_liked = np.count_nonzero(told > 3.5)
best_liked = np.argsort(-told, kind="stable")[: min(10, n_liked)]
hidden = set(held_out[[user]].indices.tolist())

liked = [titles[film] for film in best_liked] + [""] * (10 - best_liked.size)
recommended = [f"{'*' if film in hidden else ' '} {titles[film]}" for film in ranking]
print(f"\nUser {ratings.user_ids[test_users[user]]} liked {n_liked} films, such as")
print(f"{'':38}and is recommended")
for left, right in zip(liked, recommended, strict=True):
    print(f"{left[:36]:<36}{right[:44]}")

if plt.get_backend().lower() != "agg":  # a window to show the figure in
    plt.show()
