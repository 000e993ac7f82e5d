"""
===============================
Six displays of data and models
===============================

Six displays of :mod:`sklrec.inspection`: of ratings, of the training of a network, and of models by
the number of ranks, by the activity of users and by the popularity of their recommendations. They
are used like those of scikit-learn.
"""

# %%
# The ratings
# -----------
# Most ratings are high, because people watch films that they expect to like. With a threshold of
# 3.5 stars, the upper part is positive. However, users' means differ: some rate an average film as
# high as others rate their best.
import os

import matplotlib.pyplot as plt

from sklrec.datasets import fetch_movielens, make_interactions
from sklrec.inspection import RatingHistogramDisplay, UserMeanHistogramDisplay

try:
    ratings = fetch_movielens("latest-small", data_home=os.environ.get("SKLREC_DATA"), n_retries=0)
except OSError as error:
    print(f"No MovieLens: {error}")
    print("Using SYNTHETIC ratings: the results do not apply to real users.")
    ratings = make_interactions(
        600, 2000, n_interactions=60_000, popularity_exponent=0.6, ratings=True, random_state=0
    )

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
RatingHistogramDisplay.from_interactions(ratings.data, ax=left)
_ = UserMeanHistogramDisplay.from_interactions(ratings.data, ax=right)

# %%
# Three models
# ------------
# A third of the users is held out for testing, and some of the others for the validation of
# :class:`~sklrec.neural.MultVAE`. Its parameters, and those of :class:`~sklrec.linear.EASE`, were
# found in the other examples.
from sklearn.preprocessing import Binarizer

from sklrec.dummy import PopularityRecommender
from sklrec.linear import EASE
from sklrec.model_selection import StrongGeneralizationSplit
from sklrec.neural import MultVAE
from sklrec.preprocessing import filter_interactions

X = Binarizer(threshold=3.5).fit_transform(ratings.data)
users, test_users = next(StrongGeneralizationSplit(1, test_size=0.33, random_state=0).split(X))
_, _, films = filter_interactions(X[users], min_per_item=5)
X, X_test = X[users][:, films], X[test_users][:, films]
learn, validate = next(StrongGeneralizationSplit(1, test_size=0.2, random_state=1).split(X))

vae = MultVAE(
    128,
    hidden_layer_sizes=(),
    batch_size=100,
    learning_rate=5e-3,
    beta=0.3,
    n_annealing_steps=200,
    max_epochs=60,
    random_state=0,
).fit(X[learn], X_val=X[validate])
models = {
    "EASE": EASE(lambda_=100).fit(X),
    "MultVAE": vae,
    "popularity": PopularityRecommender().fit(X),
}

# %%
# Training
# --------
# The loss decreases in all epochs. The NDCG of validation users shows when to stop, and the model
# has kept the weights of the epoch with the star.
from sklrec.inspection import TrainingCurveDisplay

_ = TrainingCurveDisplay.from_estimator(vae)

# %%
# How far down the ranking?
# -------------------------
# With ``ax`` all models are plotted on the same axes. A band is plus and minus one standard error.
#
# NDCG decreases first and then increases: with each rank the ideal ranking has another hit, until
# it has all held-out films of the user. Therefore compare models at the same k only.
from sklrec.inspection import RankingCurveDisplay

ax = None
for name, model in models.items():
    display = RankingCurveDisplay.from_estimator(model, X_test, name=name, ax=ax)
    ax = display.ax_

# %%
# For whom?
# ---------
# The test users are divided into four groups of about equal size, by the number of films in their
# fold-in. The error bars are for the differences between users, not for those between models.
# The latter are marked by stars, from a paired test of each model with the first.
from sklrec.inspection import ActivityDisplay

_ = ActivityDisplay.from_estimator(models, X_test, n_bins=4)

# %%
# Only what is popular?
# ---------------------
# Ten films are recommended to each test user, and compared with those that the other users like. If
# a curve is above the black one, the model recommends popular films more often than they are liked.
# The popularity baseline is the extreme case: it recommends few films besides the most popular.
from sklrec.inspection import PopularityDisplay

ax = None
for name, model in models.items():
    display = PopularityDisplay.from_estimator(model, X_test, consumed=X, name=name, ax=ax)
    ax = display.ax_

if plt.get_backend().lower() != "agg":  # show the figures in a window
    plt.show()
