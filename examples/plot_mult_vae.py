"""
================================
Tuning a variational autoencoder
================================

:class:`~sklrec.neural.MultVAE` is watched while it trains, with and without annealing of the KL
term, as in figure 1 of its paper [Liang2018]_. A halving search then chooses two of its parameters
with the number of epochs as the resource, and the choice is compared with
:class:`~sklrec.linear.EASE` on users that no fit and no search has seen. (The size
of the network was chosen by hand with those users in view, if anything in favour of Mult-VAE.)

The users are few and the network is small, without hidden layers, so that the example takes
seconds. See :doc:`/user_guide/training` for other data.
"""

# %%
# Films people like
# -----------------
# Ratings above 3.5 stars are positives. A fifth of the users is put aside for the last comparison,
# and films that fewer than five of the others like are left out.
import os

from sklearn.preprocessing import Binarizer

from sklrec.datasets import fetch_movielens, make_interactions
from sklrec.model_selection import StrongGeneralizationSplit
from sklrec.preprocessing import filter_interactions

try:
    ratings = fetch_movielens("latest-small", data_home=os.environ.get("SKLREC_DATA"), n_retries=0)
except OSError as error:
    print(f"No MovieLens: {error}")
    print("Going on with MADE ratings: the figures below say nothing about real users.")
    ratings = make_interactions(
        600, 2000, n_interactions=60_000, popularity_exponent=0.6, ratings=True, random_state=0
    )
X = Binarizer(threshold=3.5).fit_transform(ratings.data)

users, test_users = next(StrongGeneralizationSplit(1, test_size=0.2, random_state=0).split(X))
_, _, films = filter_interactions(X[users], min_per_item=5)
X, X_test = X[users][:, films], X[test_users][:, films]
print(f"{X.shape[0]} users to learn from, {X_test.shape[0]} to test on, {X.shape[1]:,} films")

# %%
# Annealing
# ---------
# The loss is the log-likelihood of a user's films plus :math:`\beta` times a KL term that draws the
# latent vectors of the users together. The paper lets :math:`\beta` rise from 0 to 1 as training
# goes on, looks up where the NDCG of validation users has its peak, and trains again up to the
# :math:`\beta` of the peak. ``MultVAE(beta="peak")`` does both; here they are two fits, to be seen.
#
# Given ``X_val``, a fit ranks the validation users after each epoch. An epoch has four steps here,
# so in the annealed run :math:`\beta` reaches 1 after 100 epochs.
from sklrec.neural import MultVAE

learn, validate = next(StrongGeneralizationSplit(1, test_size=0.25, random_state=1).split(X))
vae = MultVAE(
    128,
    hidden_layer_sizes=(),
    batch_size=100,
    learning_rate=5e-3,
    max_epochs=100,
    random_state=0,
)


def fit(**params):
    """Train on the learning users, validating after each epoch."""
    model = MultVAE(**{**vae.get_params(), **params})
    return model.fit(X[learn], X_val=X[validate])


to_one = fit(beta=1.0, n_annealing_steps=400)
runs = {
    "annealed to 1": to_one,
    f"annealed to the peak, {to_one.best_beta_:.2f}": fit(
        beta=to_one.best_beta_, n_annealing_steps=400
    ),
    "1 from the start": fit(beta=1.0, n_annealing_steps=0),
    "0, no KL term": fit(beta=0.0),
}

# %%
# The weight of the KL term is in the history of the network, the NDCG in ``validation_scores_``:
import matplotlib.pyplot as plt
import numpy as np

fig, (top, bottom) = plt.subplots(
    2, sharex=True, figsize=(7, 5.5), height_ratios=(3, 1), layout="constrained"
)
styles = [("black", "--"), ("black", "-"), ("0.55", "-"), ("0.4", ":")]
for (name, model), (color, line) in zip(runs.items(), styles, strict=True):
    epochs = np.arange(1, model.n_iter_ + 1)
    top.plot(epochs, model.validation_scores_, color=color, linestyle=line, label=name)
    top.plot(model.best_epoch_, max(model.validation_scores_), "o", color=color, markersize=5)
    bottom.plot(epochs, model.net_.history[:, "beta"], color=color, linestyle=line)
best = max(max(model.validation_scores_) for model in runs.values())
top.set_ylim(0.7 * best, 1.02 * best)
top.set_ylabel(f"NDCG@100 of {validate.size} validation users")
top.legend(title=r"$\beta$ (a dot marks the best epoch)", frameon=False, loc="lower right")
bottom.set(xlabel="epoch", ylabel=r"$\beta$", xlim=(0, vae.max_epochs + 1))
for ax in (top, bottom):
    ax.spines[["top", "right"]].set_visible(False)

print("best NDCG@100 and its epoch; mean of the last ten epochs")
for name, model in runs.items():
    peak, last = max(model.validation_scores_), np.mean(model.validation_scores_[-10:])
    print(f"{peak:.3f} ({model.best_epoch_:3d}); {last:.3f}   {name}")

# %%
# On MovieLens :math:`\beta = 1` from the start learns more slowly, training without KL term falls
# furthest after its peak, and annealing rises as fast as the latter and falls less.
# Other seeds show the same, as does the paper. But the peaks are no further apart than those of two
# seeds, and all lines fall in the end: a few hundred users are soon learnt by heart. In the paper,
# with a hundred thousand and more, training without annealing stays far behind. Keeping the weights
# of the best epoch, as every fit with validation users does, seems to matter as much here.
#
# The search
# ----------
# :class:`~sklearn.model_selection.HalvingGridSearchCV` trains all candidates for 27 epochs and the
# best third for 81. Two things to know:
#
# - Candidates that differ in ``beta`` are one and the same model until annealing has reached the
#   smaller one. It must be over early in the first round: 40 steps are ten epochs here.
# - The first round rewards learning fast. What learns fast is also the first to overfit, so the
#   first round must not be much shorter than what a good model needs.
#
# The candidates are scored on users held out by the splitter, so no ``X_val`` is needed.
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV

from sklrec.linear import EASE
from sklrec.metrics import RankingScorer

setting = {
    "scoring": RankingScorer("ndcg@100"),
    "cv": StrongGeneralizationSplit(2, test_size=0.25, random_state=0),
    "n_jobs": 2,
    "error_score": "raise",
}
search = HalvingGridSearchCV(
    vae.set_params(n_annealing_steps=40),
    {"beta": [0.1, 0.3, 1.0], "n_components": [32, 64, 128]},
    resource="max_epochs",
    min_resources=27,
    max_resources=81,
    random_state=0,
    **setting,
).fit(X)

results = search.cv_results_
print("NDCG@100 after so many epochs")
print("beta  n_components" + "".join(f"{n:>8}" for n in search.n_resources_))
scores = {}
for params, score in zip(results["params"], results["mean_test_score"], strict=True):
    scores.setdefault((params["beta"], params["n_components"]), []).append(score)
for (beta, n_components), row in sorted(
    scores.items(), key=lambda entry: (len(entry[1]), entry[1][-1])
):
    print(f"{beta:<5} {n_components:>12}" + "".join(f"{score:>8.3f}" for score in row))
print("chosen:", search.best_params_)

# %%
# Is it better than EASE?
# -----------------------
# EASE has one parameter, chosen on the same users. Of each test user a fifth of the films is held
# out, and all models rank from the rest.
from sklrec.dummy import PopularityRecommender
from sklrec.metrics import evaluate
from sklrec.model_selection import split_interactions

ease = GridSearchCV(EASE(), {"lambda_": [20, 50, 100, 200, 500]}, **setting).fit(X)
models = {
    "popularity": PopularityRecommender().fit(X),
    "MultVAE": search.best_estimator_,
    "EASE": ease.best_estimator_,
}
fold_in, held_out = split_interactions(X_test, test_size=0.2, random_state=0)
evaluations = {name: evaluate(model, fold_in, held_out) for name, model in models.items()}

metrics = ["ndcg@100", "recall@20", "recall@50"]
print(f"{'mean ± standard error':<22}" + "".join(f"{metric:>16}" for metric in metrics))
for name, found in evaluations.items():
    mean, error = found.mean, found.standard_error
    values = (f"{mean[metric]:.3f} ± {error[metric]:.3f}" for metric in metrics)
    print(f"{name:<22}" + "".join(f"{value:>16}" for value in values))

result = evaluations["EASE"].compare(evaluations["MultVAE"])["ndcg@100"]
print(
    f"\nEASE minus MultVAE, user by user: {result.difference:.3f} ± {result.standard_error:.3f} "
    f"NDCG@100, p = {result.pvalue:.2g} ({result.n_users} users, paired t-test)"
)
better = "EASE" if result.difference > 0 else "MultVAE"
sure = "and that is unlikely to be chance" if result.pvalue < 0.05 else "but it may be chance"
print(f"{better} is ahead on these users, {sure}.")

# %%
# With so few users EASE is hard to beat, and it has neither a seed nor a learning rate. The test
# takes the two models as they are: another seed moves the autoencoder by about as much as the
# standard error of the difference. What it gives beyond a ranking is a short vector for each user,
# from ``transform``, and a size that does not grow with the square of the number of items.
if plt.get_backend().lower() != "agg":  # a window to show the figure in
    plt.show()
