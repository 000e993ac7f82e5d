"""
===============================
A map of films, by three models
===============================

:class:`~sklrec.neural.VASP` is the product of a linear model and a deep autoencoder. To see what
each of them has learnt, its authors put one film after the other into the models, took the answers
for distances between films, and drew maps of these with t-SNE: section IV of [Vancura2021]_.
:class:`~sklrec.inspection.ItemMapDisplay` does so with any recommender.
"""

# %%
# Films and genres
# ----------------
# The 600 films that most people like, and the four genres of the paper. A film of several genres
# gets the first of them in the order of the list.
import os
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from sklearn.preprocessing import Binarizer

from sklrec.datasets import fetch_movielens, make_interactions

GENRES = ["Film-Noir", "Western", "Horror", "Children"]


def fetch(folder):
    """Return ratings and genres of MovieLens 1M, else of the smaller archive, else made ones."""
    packed = Path(folder or ".") / "ml-1m.npz"  # which the benchmarks read too
    if packed.exists():
        with np.load(packed) as table:
            pairs = table["user"], table["item"]
            return csr_array((table["rating"].astype(float), pairs)), table["item_genres"]
    for variant in ("1m", "latest-small"):
        try:
            ratings = fetch_movielens(variant, data_home=folder, n_retries=0)
        except OSError as error:
            print(f"No MovieLens {variant}: {error}")
        else:
            return ratings.data, ratings.item_genres
    print("Going on with MADE ratings, whose genres are their planted groups.")
    made = make_interactions(
        3000, 1000, n_interactions=200_000, popularity_exponent=0.6, ratings=True, random_state=0
    )
    names = np.array([*GENRES, *[""] * 6])
    return made.data, names[made.item_groups]


stars, genres = fetch(os.environ.get("SKLREC_DATA"))
X = Binarizer(threshold=3.5).fit_transform(stars)
films = np.sort(np.argsort(-(X != 0).sum(axis=0), kind="stable")[:600])
X, genres = X[:, films], genres[films]
labels = np.select([np.char.find(genres, genre) >= 0 for genre in GENRES], GENRES, "")
print(f"{X.shape[0]:,} users, {X.shape[1]} films")

# %%
# The model and its parts
# -----------------------
# The network is a small one, trained until the NDCG of validation users no longer grows.
# ``decision_function_parts`` returns the logarithms of what the linear and the deep part say; the
# scores of VASP are their sum. Anything that has ``decision_function`` can be drawn, so each part
# becomes a recommender of three lines.
from sklrec.neural import VASP


class Part:
    """The linear or the deep part of a VASP."""

    def __init__(self, vasp, name):
        self.vasp = vasp
        self.name = name

    def decision_function(self, X):
        """Score all items for each user."""
        return self.vasp.decision_function_parts(X)[self.name]


vasp = VASP(
    100,
    hidden_size=200,
    n_encoder_layers=2,
    batch_size=100,
    learning_rate=2e-3,
    max_epochs=30,
    early_stopping=True,
    n_iter_no_change=3,
    random_state=0,
).fit(X)
models = {
    "VASP": vasp,
    "linear part": Part(vasp, "ease"),
    "deep part": Part(vasp, "flvae"),
}

# %%
# Three maps
# ----------
# Each model is told of one film alone, and its scores of the others become distances. What is near
# on a map is near to the model. Turns, far distances and the size of clusters mean nothing.
import matplotlib.pyplot as plt

from sklrec.inspection import ItemMapDisplay

fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.7), layout="constrained")
maps = {
    name: ItemMapDisplay.from_estimator(
        model,
        X,
        labels=labels,
        groups=GENRES,
        n_items=400,
        random_state=0,
        name=name,
        legend=False,
        ax=ax,
    )
    for (name, model), ax in zip(models.items(), axes, strict=True)
}
_ = fig.legend(
    handles=list(maps["VASP"].scatters_.values()),
    loc="outside lower center",
    ncols=5,
    frameon=False,
)

# %%
# What the maps tell, in numbers
# ------------------------------
# A map is a sketch. What it was drawn from is in ``distances``: of the ten films nearest to one of
# a genre, so many are of the same genre, beside the share of the genre in all films of the map.
nearest = {
    name: np.argsort(found.distances + np.eye(found.items.size), axis=1, kind="stable")[:, :10]
    for name, found in maps.items()
}
shown = maps["VASP"].labels
print(f"{'of the ten nearest':<22}" + "".join(f"{genre:>12}" for genre in GENRES))
for name, near in nearest.items():
    same = [(shown[near[shown == genre]] == genre).mean() for genre in GENRES]
    print(f"{name:<22}" + "".join(f"{share:>12.0%}" for share in same))
print(f"{'of all films':<22}" + "".join(f"{(shown == genre).mean():>12.0%}" for genre in GENRES))

# %%
# And so many of the ten films nearest to a film are the same for two models:
for first, second in (("VASP", "linear part"), ("VASP", "deep part"), ("linear part", "deep part")):
    common = [
        np.intersect1d(*pair).size for pair in zip(nearest[first], nearest[second], strict=True)
    ]
    print(f"{np.mean(common):.1f}  {first} and {second}")

# %%
# On MovieLens 1M the ten nearest films of all three hold a genre at least five times as often as
# chance would have it. The two parts share a quarter to a third of their neighbours; VASP has nine
# of ten in common with the deep part and three with the linear one, since logarithms of the deep
# part differ more from film to film. So the parts do know different things, as the authors say.
# That these are the plain and the hidden ones cannot be seen from here. The few users of the
# smaller archive teach the deep part little of genres.
if plt.get_backend().lower() != "agg":  # a window to show the figure in
    plt.show()
