"""The table of the accuracy benchmark: data sets, models, the settings to choose from, ablations.

A row of MODELS is an estimator with the parameters that no search changes, its paper, and

- ``search``: the range to search, a grid or a list of grids for ``ParameterGrid``; the point with
  the best NDCG@100 on validation users is the model's "tuned" variant. ``search_on`` replaces it
  on a data set.
- ``adapted``: parameters for the size of a data set, which are not searched.
- ``published``: parameters that a paper states for a data set, the "published" variant.
- ``skip``: data sets that the model is too large for. ``ratings=True``: it learns from ratings.

A row of ABLATIONS has a ``group`` of rows that are compared, and no search. Neural models keep
the weights of the best epoch on validation users, everywhere.
"""

from __future__ import annotations

import _data
from _runs import Dataset, Model

from sklrec.dummy import PopularityRecommender
from sklrec.factorization import LFM
from sklrec.linear import EASE
from sklrec.neural import MultDAE, MultVAE

CANONICAL = {"canonical": 98765}
FIVE = {str(seed): seed for seed in range(1, 6)}
LARGE = {"variants": ("published", "fixed")}  # nobody searches there on a desktop

DATASETS = [
    Dataset("ml-small", _data.ml_small, 0.2, FIVE, has_ratings=True),
    # Found on the canonical split, for its five other splits too.
    Dataset("ml-1m", _data.ml_1m, 1000, CANONICAL | FIVE, has_ratings=True, tune="first"),
    Dataset("citeulike-a", _data.citeulike_a, 0.1, CANONICAL),
    Dataset("citeulike-t", _data.citeulike_t, 0.1, CANONICAL),
    Dataset("gowalla", _data.gowalla, 3000, CANONICAL),
    Dataset("ml-20m", _data.ml_20m, 10_000, CANONICAL, has_ratings=True, **LARGE),
    Dataset("netflix", _data.netflix, 40_000, CANONICAL, has_ratings=True, **LARGE),
    Dataset("msd", _data.msd, 50_000, CANONICAL, min_interactions=20, **LARGE),
    Dataset("made", _data.made, 50, {"1": 1, "2": 2}, has_ratings=True),
]

# A batch is about a tenth of the training users of a small data set. Steps of annealing: the cap
# of beta is reached after a third of 200 epochs. Patience ends what does not get better.
PATIENT = {"early_stopping": True, "n_iter_no_change": 40}
SMALL = {"batch_size": 50}
SPARSE = {"batch_size": 250}

MODELS = [
    Model("Popularity", PopularityRecommender()),
    Model(
        "LFM",
        LFM(),
        paper="Koren et al. 2009",
        search={"lambda_": [1, 5.4, 20, 100]},
        published={"ml-small": {"lambda_": 5.4}},
        ratings=True,
    ),
    Model(
        "EASE",
        EASE(),
        paper="Steck 2019",
        search={"lambda_": [20, 50, 100, 200, 500, 1000, 2000]},
        search_on={"gowalla": {"lambda_": [50, 100, 200, 500]}},
        published={
            "ml-small": {"lambda_": 0.5},
            "ml-20m": {"lambda_": 500},
            "netflix": {"lambda_": 1000},
            "msd": {"lambda_": 200},
        },
    ),
    Model(
        "EDLAE",
        EASE(),
        paper="Steck 2020",
        search={"lambda_": [20, 50, 100, 300, 500], "dropout": [0.2, 0.33, 0.5]},
        search_on={"gowalla": {"lambda_": [20, 50, 100], "dropout": [0.25, 0.5]}},
        published={
            "ml-20m": {"lambda_": 300, "dropout": 0.33},
            "netflix": {"lambda_": 500, "dropout": 0.33},
            "msd": {"lambda_": 70, "dropout": 0.25},
        },
    ),
    Model(
        "Mult-DAE",
        MultDAE(hidden_layer_sizes=(), **PATIENT),
        paper="Liang et al. 2018",
        search={"lambda_": [0, 2e-5], "hidden_layer_sizes": [(), (600,)]},
        search_on={"gowalla": {"lambda_": [0, 2e-5]}},
        adapted={"ml-small": SMALL, "citeulike-a": SPARSE, "citeulike-t": SPARSE},
        published={"ml-20m": {"lambda_": 2e-5}},
    ),
    Model(
        "Mult-VAE",
        MultVAE(n_annealing_steps=10_000, **PATIENT),
        paper="Liang et al. 2018",
        search={"beta": [0.1, 0.2, 0.4], "hidden_layer_sizes": [(), (600,)]},
        search_on={"gowalla": {"beta": [0.2, 0.4], "hidden_layer_sizes": [()]}},
        adapted={
            "ml-small": {**SMALL, "n_annealing_steps": 2_500},
            "citeulike-a": SPARSE,
            "citeulike-t": SPARSE,
        },
        published={
            "ml-20m": {"n_annealing_steps": 200_000, "early_stopping": False},
            "netflix": {"n_annealing_steps": 200_000, "early_stopping": False, "max_epochs": 100},
            "msd": {
                "n_annealing_steps": 200_000,
                "early_stopping": False,
                "max_epochs": 100,
                "beta": 0.1,
            },
        },
    ),
]

ABLATED_ON = ("ml-1m", ["1", "2", "3", "4", "5"])
ABLATIONS = [
    Model("EASE", EASE(lambda_=500), group="EASE"),
    Model("EASE, dropout .2", EASE(lambda_=300, dropout=0.2), group="EASE"),
    Model("EASE, dropout .33", EASE(lambda_=300, dropout=0.33), group="EASE"),
    Model("EASE, dropout .5", EASE(lambda_=300, dropout=0.5), group="EASE"),
]
