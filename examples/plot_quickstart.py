"""
===============================
From ratings to recommendations
===============================

Ratings of films are binarized, the weighting of the interactions and the parameter of a model are
selected by :class:`~sklearn.model_selection.GridSearchCV`, and the result is compared with two
simple models on users that neither the search nor any fit has seen.

The script reads ``ml-latest-small.zip`` from a folder, which is given on the command line or
by the environment variable ``SKLREC_DATA``::

    python examples/plot_quickstart.py ~/Downloads
"""

# %%
# Ratings
# -------
# The data are a matrix of users by films with the ratings; zero means no rating. Without the
# archive and without network, the example uses synthetic ratings.
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
    print("Using SYNTHETIC ratings: the results do not apply to real users.")
    ratings = make_interactions(
        600, 2000, n_interactions=60_000, popularity_exponent=0.6, ratings=True, random_state=0
    )
X, titles = ratings.data, ratings.item_names

# %%
# Test users
# ----------
# A fifth of the users is held out for the final comparison. Films with fewer than five ratings by
# the other users are left out: these are few of all ratings, and the search becomes many times
# faster, as the time of a fit grows with the cube of the number of items.
from sklrec.model_selection import StrongGeneralizationSplit
from sklrec.preprocessing import filter_interactions

users, test_users = next(StrongGeneralizationSplit(1, test_size=0.2, random_state=0).split(X))
_, _, films = filter_interactions(X[users], min_per_item=5)
X, X_test, titles = X[users][:, films], X[test_users][:, films], titles[films]
print(f"{X.shape[0]} training users, {X_test.shape[0]} test users, {X.shape[1]:,} films")

# %%
# The search
# ----------
# Ratings above 3.5 stars are positive. They are not weighted, or weighted by BM25 or tf-idf, and
# :class:`~sklrec.linear.EASE` is fitted on the result. Each weighting has its own range of
# ``lambda_``, as the penalty depends on the scale of the weights.
#
# The splitter holds out whole users, and the scorer hides a part of the films that each of them
# liked. It has the same threshold as the pipeline and gets the ratings, so that a film with
# one star is neither relevant nor recommended again.
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
# Comparison with simple models
# -----------------------------
# Popularity is the number of positive ratings of each film. :class:`~sklrec.factorization.LFM`
# predicts the ratings: it ranks films by how much their users like them, not by what people choose
# next.
#
# A fifth of the films that each test user liked is held out. The rest of the row, including low
# ratings, is the fold-in of the models.
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
# Bars are means over the test users, and lines plus and minus one standard error.
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
# Recommendations
# ---------------
# The ten best films for a test user, next to the films of the fold-in that the user liked best. A
# star marks a held-out film, which the user did like.
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

if plt.get_backend().lower() != "agg":  # show the figure in a window
    plt.show()
