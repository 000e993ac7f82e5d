"""
===============================
Six displays of data and models
===============================

Six displays of :mod:`sklrec.inspection`, in the order in which questions come up: what do the
ratings say, was the network trained well, which model is better, for how many ranks, for whom, and
does it find more than what is popular anyway? All are used as those of scikit-learn.
"""

# %%
# The ratings
# -----------
# Most ratings are good ones, because people watch what they expect to like. A threshold of 3.5
# stars takes the upper part for positives. The means of the users lie apart, though: what some give
# to an average film is the best that others give.
import os

import matplotlib.pyplot as plt

from sklrec.datasets import fetch_movielens, make_interactions
from sklrec.inspection import RatingHistogramDisplay, UserMeanHistogramDisplay

try:
    ratings = fetch_movielens("latest-small", data_home=os.environ.get("SKLREC_DATA"), n_retries=0)
except OSError as error:
    print(f"No MovieLens: {error}")
    print("Going on with MADE ratings: the figures below say nothing about real users.")
    ratings = make_interactions(
        600, 2000, n_interactions=60_000, popularity_exponent=0.6, ratings=True, random_state=0
    )

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
RatingHistogramDisplay.from_interactions(ratings.data, ax=left)
_ = UserMeanHistogramDisplay.from_interactions(ratings.data, ax=right)

# %%
# Three models
# ------------
# A third of the users is put aside for testing, and some of the others for the validation of
# :class:`~sklrec.neural.MultVAE`. Its settings, and that of :class:`~sklrec.linear.EASE`, are those
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
# The loss falls on and on. The NDCG of users that the network does not learn from tells when to
# stop, and the model has kept the weights of the epoch with the star.
from sklrec.inspection import TrainingCurveDisplay

_ = TrainingCurveDisplay.from_estimator(vae)

# %%
# How far down the ranking?
# -------------------------
# With ``ax`` all models go to one plot. A band is one standard error to both sides.
#
# NDCG falls before it rises: with each rank the ideal ranking gains another film, until it holds
# all that a user has held out; beyond that only the model can gain. So models are compared at one
# k, and two k of one model tell nothing.
from sklrec.inspection import RankingCurveDisplay

ax = None
for name, model in models.items():
    display = RankingCurveDisplay.from_estimator(model, X_test, name=name, ax=ax)
    ax = display.ax_

# %%
# For whom?
# ---------
# The test users in four groups of about equal size, by the number of films that the models are
# told. The error bars hold the differences between users and say little about those between models.
# These are for the stars: a paired test, user by user, of each model with the first.
from sklrec.inspection import ActivityDisplay

_ = ActivityDisplay.from_estimator(models, X_test, n_bins=4)

# %%
# Only what is popular?
# ---------------------
# The ten films recommended to each test user, against all that the other users like. A curve above
# the black one makes popular films more popular still. That of the popularity baseline shows how
# far this can go: hardly any film beyond the most popular is ever recommended.
from sklrec.inspection import PopularityDisplay

ax = None
for name, model in models.items():
    display = PopularityDisplay.from_estimator(model, X_test, consumed=X, name=name, ax=ax)
    ax = display.ax_

if plt.get_backend().lower() != "agg":  # a window to show the figures in
    plt.show()
