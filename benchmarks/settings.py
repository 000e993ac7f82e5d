"""The table of the accuracy benchmark: data sets, models, the settings to choose from, ablations.

A row of MODELS is an estimator with the parameters that no search changes, its paper, and

- ``search``: the range to search, a grid or a list of grids for ``ParameterGrid``; the point with
  the best NDCG@100 on validation users is the model's "tuned" variant. ``search_on`` replaces it
  on a data set; a single point on ml-1m was found by hand, on the validation users too. Values
  are within the range that ``sklrec.model_selection.suggested_distributions`` gives.
- ``adapted``: parameters for the size of a data set, which are not searched.
- ``published``: parameters that a paper states for a data set, the "published" variant.
- ``skip``: data sets that the model is too large for. ``ratings=True``: it learns from ratings.

A row of ABLATIONS has a ``group`` of rows that are compared, and no search. Neural models keep
the weights of the best epoch on validation users, everywhere.
"""

from __future__ import annotations

import _data
from _runs import Dataset, Model
from _schedules import FallingRate
from sklearn.feature_extraction.text import TfidfTransformer

from sklrec.dummy import PopularityRecommender, RandomRecommender
from sklrec.ensemble import HadamardEnsemble
from sklrec.factorization import BPR, LFM, WMF
from sklrec.linear import EASE, SLIM, SparseEASE
from sklrec.neighbors import ItemKNN, RP3beta, UserKNN
from sklrec.neural import (
    CDAE,
    ELSA,
    FLVAE,
    VASP,
    HVampVAE,
    MultDAE,
    MultVAE,
    NeuMF,
    NeuralEASE,
    RecVAE,
)
from sklrec.pipeline import Pipeline

CANONICAL = {"canonical": 98765}
FIVE = {str(seed): seed for seed in range(1, 6)}
LARGE = {"variants": ("published", "fixed")}  # nobody searches there on a desktop

RATED = {"has_ratings": True, "variants": ("tuned", "fixed")}
REDUCED = ("ml-1m-500-users", "ml-1m-fifth")
CITEULIKE = ("citeulike-a", "citeulike-t")

DATASETS = [
    Dataset("ml-small", _data.ml_small, 0.2, FIVE, has_ratings=True, published_by="Peng et al."),
    Dataset("ml-1m", _data.ml_1m, 1000, CANONICAL | FIVE, has_ratings=True),
    # What few users, and what few interactions of each, do to the order of the models.
    Dataset("ml-1m-500-users", _data.ml_1m, 1000, CANONICAL, n_train=500, **RATED),
    Dataset("ml-1m-fifth", _data.ml_1m, 1000, CANONICAL, share=0.2, **RATED),
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
# Found on citeulike-a, and carried over to citeulike-t.
# Few interactions a user: fast at first, then ever slower, in few epochs.
SPARSE = {"learning_rate": 3e-3, "max_epochs": 25, "callbacks": [FallingRate(25)]}
# As many steps, for the larger number of users.
GOWALLA = {
    "learning_rate": 3e-3,
    "max_epochs": 10,
    "batch_size": 250,
    "callbacks": [FallingRate(10)],
}
MULT = {"hidden_layer_sizes": (), "n_annealing_steps": 10_000, **PATIENT}
# Found on MovieLens-1M. Each step encodes all pseudo-inputs beside the batch: with a thousand, as
# the authors have, that is most of the work.
HVAMP = {
    "n_components": 100,
    "hidden_layer_sizes": (300,),
    "decoder_hidden_layer_sizes": (),
    "n_pseudo_inputs": 100,
    "n_annealing_steps": 4_000,
    "batch_size": 500,
    "learning_rate": 2e-3,
    "max_epochs": 100,
    "early_stopping": True,
    "n_iter_no_change": 12,
}
# Those of the authors.
HVAMP_SIZES = {
    "hidden_layer_sizes": (600, 600),
    "decoder_hidden_layer_sizes": None,
    "n_pseudo_inputs": 1000,
    "learning_rate": 5e-4,
    "max_epochs": 400,
    "n_iter_no_change": 50,
}
NEASE = {
    "lambda_": 0.1,
    "batch_size": 100,
    "learning_rate": 4,
    "max_epochs": 16,
    "callbacks": [FallingRate(16)],
}
# Fewer steps, and as far.
NEASE_SPARSE = {
    "batch_size": 250,
    "learning_rate": 16,
    "max_epochs": 10,
    "callbacks": [FallingRate(10)],
}
FLVAE_30 = {"gamma": 1, "beta": 0.02, "max_epochs": 30, "callbacks": [FallingRate(30)]}
FLVAE_SPARSE = {"learning_rate": 4e-3, "max_epochs": 20, "callbacks": [FallingRate(20)]}
VASP_SPARSE = {
    "batch_size": 250,
    "learning_rate": 4e-3,
    "max_epochs": 14,
    "callbacks": [FallingRate(14)],
}
VASP_12 = {"beta": 0.01, "max_epochs": 12, "callbacks": [FallingRate(12)]}
REC = {"learning_rate": 1e-3, "max_epochs": 30}
REC_SPARSE = {
    "learning_rate": 2e-3,
    "max_epochs": 15,
    "batch_size": 250,
    "callbacks": [FallingRate(15)],
}
# Interactions as they are, and by TF-IDF with users as documents.
WEIGHTINGS = ["passthrough", TfidfTransformer()]
# Those of the authors, but for Adam with one learning rate in place of Nadam with three.
VASP_SIZES = {
    "n_components": 2048,
    "hidden_size": 4096,
    "n_encoder_layers": 7,
    "n_decoder_layers": 5,
    "beta": 1 / 2048,
    "batch_size": 1024,
    "learning_rate": 5e-5,
    "max_epochs": 80,
    "gamma": 2,
    "callbacks": None,
}

MODELS = [
    Model("Random", RandomRecommender()),
    Model("Popularity", PopularityRecommender()),
    Model(
        "LFM",
        LFM(),
        paper="Koren et al. 2009",
        search={"lambda_": [1, 5.4, 20, 100]},
        published={"ml-small": {"lambda_": 5.4}},
        skip=REDUCED,
        ratings=True,
    ),
    Model(
        "BPR",
        BPR(128),
        paper="Rendle et al. 2009",
        search={"lambda_": [0.005, 0.01, 0.02]},
        search_on={
            **{key: {"lambda_": [0.001, 0.003], "n_components": [256]} for key in CITEULIKE},
            "ml-1m-500-users": {"lambda_": [0.01, 0.02, 0.05]},
            "ml-1m-fifth": {"lambda_": [0.02, 0.05, 0.1]},
            "gowalla": {"lambda_": [0.003]},
        },
        adapted={key: {"max_epochs": 60} for key in CITEULIKE},
    ),
    Model(
        "EASE",
        EASE(),
        paper="Steck 2019",
        search={"lambda_": [20, 50, 100, 200, 500, 1000, 2000]},
        search_on={
            "citeulike-a": {"lambda_": [10, 20, 50, 100, 200, 500]},
            # The best with the 8,000 most popular items.
            "citeulike-t": {"lambda_": [50]},
            "gowalla": {"lambda_": [100]},
            "ml-1m-500-users": {"lambda_": [20, 50, 100, 200, 500]},
            "ml-1m-fifth": {"lambda_": [200, 500, 1000, 2000, 5000, 10_000]},
        },
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
        search_on={
            "citeulike-a": {"lambda_": [10, 20, 50, 100], "dropout": [0.33]},
            "citeulike-t": {"lambda_": [50], "dropout": [0.33]},
            "gowalla": {"lambda_": [100], "dropout": [0.33]},
            "ml-1m-500-users": {"lambda_": [50, 100, 200, 500], "dropout": [0.33]},
            "ml-1m-fifth": {"lambda_": [500, 1000, 2000, 5000, 10_000], "dropout": [0.33]},
        },
        published={
            "ml-20m": {"lambda_": 300, "dropout": 0.33},
            "netflix": {"lambda_": 500, "dropout": 0.33},
            "msd": {"lambda_": 70, "dropout": 0.25},
        },
    ),
    Model(
        "SparseEASE",
        SparseEASE(),
        paper="Steck 2019b",
        search={"lambda_": [30, 100, 300], "n_neighbors": [100, 200], "dropout": [0.33, 0.5]},
        search_on={
            "ml-1m": {"lambda_": [100, 300], "n_neighbors": [400], "dropout": [0.33]},
            "ml-1m-fifth": {"lambda_": [300, 1000], "n_neighbors": [400], "dropout": [0.33]},
            "citeulike-a": {"lambda_": [20, 50], "n_neighbors": [300], "dropout": [0.33, 0.5]},
            "citeulike-t": {"lambda_": [50], "n_neighbors": [300], "dropout": [0.33]},
            "gowalla": {"lambda_": [30], "n_neighbors": [200], "dropout": [0.5]},
        },
    ),
    Model(
        "SLIM",
        SLIM(positive=False, solver="admm", tol=3e-3),
        paper="Ning & Karypis 2011",
        search={"alpha": [0.03, 0.1, 0.3], "l1_ratio": [0.001, 0.003, 0.01]},
        search_on={
            "ml-1m": {"alpha": [0.1], "l1_ratio": [0.003]},
            "ml-small": {"alpha": [0.1, 0.3, 1], "l1_ratio": [0.003]},
            **{key: {"alpha": [0.1, 0.3, 1], "l1_ratio": [0.001, 0.003]} for key in REDUCED},
            **{key: {"alpha": [0.011], "l1_ratio": [0.01]} for key in CITEULIKE},
            "gowalla": {"alpha": [0.002], "l1_ratio": [0.01]},
        },
        # Items with few interactions.
        adapted={key: {"solver": "cd", "tol": 1e-3} for key in (*CITEULIKE, "gowalla")},
        # Ferrari Dacrema et al. 2021; their weights are positive, the largest 718 of an item.
        published={"ml-20m": {"alpha": 1e-3, "l1_ratio": 0.0067, "positive": True, "solver": "cd"}},
    ),
    Model(
        "ItemKNN",
        Pipeline([("weighting", "passthrough"), ("knn", ItemKNN(metric="asymmetric-cosine"))]),
        paper="Aiolli 2013",
        search={
            "weighting": WEIGHTINGS,
            "knn__n_neighbors": [50, 100, 200, 400],
            "knn__alpha": [0.5, 0.6, 0.7, 0.8],
        },
        search_on={
            key: {
                "weighting": WEIGHTINGS,
                "knn__n_neighbors": [400, 1000],
                "knn__alpha": [0.7, 0.8, 0.9],
            }
            for key in CITEULIKE
        }
        | {
            "ml-1m-fifth": {
                "weighting": WEIGHTINGS,
                "knn__n_neighbors": [400, 1000],
                "knn__alpha": [0.5, 0.6, 0.7, 0.8],
            },
            "gowalla": {
                "weighting": WEIGHTINGS[1:],
                "knn__n_neighbors": [400, 1000],
                "knn__alpha": [0.7, 0.8, 0.9],
            },
        },
    ),
    Model(
        "UserKNN",
        Pipeline([("weighting", "passthrough"), ("knn", UserKNN())]),
        paper="Herlocker et al. 1999",
        search={"weighting": WEIGHTINGS, "knn__n_neighbors": [20, 50, 100, 200]},
        search_on={
            "ml-1m-fifth": {"weighting": WEIGHTINGS, "knn__n_neighbors": [100, 200, 400, 800]},
            "citeulike-t": {"weighting": WEIGHTINGS, "knn__n_neighbors": [50, 100, 200, 400]},
            "gowalla": {"weighting": WEIGHTINGS[1:], "knn__n_neighbors": [50, 100, 200]},
        },
    ),
    Model(
        "RP3beta",
        RP3beta(),
        paper="Paudel et al. 2017",
        search={"n_neighbors": [200, 400, 800], "beta": [0.1, 0.2, 0.3, 0.4, 0.5]},
        search_on={
            # With little to learn from: many neighbors, and popular items as they come.
            key: {"n_neighbors": [400, 1000], "beta": [0, 0.1, 0.2]}
            for key in ("ml-small", "ml-1m-fifth", "gowalla", *CITEULIKE)
        },
    ),
    Model(
        "WMF",
        WMF(256),
        paper="Rendle et al. 2022",
        search={"lambda_": [0.005, 0.01, 0.02], "unobserved_weight": [0.1, 0.15, 0.2]},
        search_on={
            **{key: {"lambda_": [1e-4], "unobserved_weight": [0.1]} for key in CITEULIKE},
            "ml-1m-fifth": {"lambda_": [0.01, 0.02, 0.05], "unobserved_weight": [0.05, 0.1, 0.15]},
            "gowalla": {"lambda_": [1e-4], "unobserved_weight": [0.05]},
        },
        adapted={key: {"n_components": 1024} for key in (*CITEULIKE, "gowalla")},
        published={
            "ml-20m": {"n_components": 2048, "lambda_": 0.003, "unobserved_weight": 0.1},
            "msd": {"n_components": 8192, "lambda_": 0.002, "unobserved_weight": 0.02},
        },
    ),
    Model(
        "CDAE",
        # The loss of Liang et al. 2018.
        CDAE(n_negatives=None, max_epochs=40, early_stopping=True, n_iter_no_change=8),
        paper="Wu et al. 2016",
        search={"unobserved_weight": [0.1, 0.3, 1], "lambda_": [1e-4, 1e-3]},
        search_on={
            "ml-1m": {"unobserved_weight": [0.3], "lambda_": [1e-3]},
            "ml-1m-fifth": {"unobserved_weight": [0.05, 0.1, 0.3], "lambda_": [1e-3]},
            **{
                key: {"unobserved_weight": [0.1], "lambda_": [1e-3]}
                for key in (*CITEULIKE, "gowalla")
            },
        },
        adapted={
            **{key: {"batch_size": 20} for key in ("ml-small", "ml-1m-500-users")},
            **{
                key: {"learning_rate": 3e-3, "max_epochs": 14, "callbacks": [FallingRate(14)]}
                for key in (*CITEULIKE, "gowalla")
            },
        },
    ),
    Model(
        "NeuMF",
        NeuMF(batch_size=4096, learning_rate=4e-3),
        paper="He et al. 2017",
        search={"n_components": [32, 64], "n_negatives": [4]},
        search_on={key: {"n_components": [64]} for key in ("ml-1m", "citeulike-t", "gowalla")},
        adapted={
            key: {"batch_size": 1024, "max_epochs": 20} for key in ("ml-small", "ml-1m-500-users")
        },
    ),
    Model(
        "Mult-DAE",
        MultDAE(hidden_layer_sizes=(), **PATIENT),
        paper="Liang et al. 2018",
        search={"lambda_": [0, 2e-5], "hidden_layer_sizes": [(), (600,)]},
        search_on={
            **{key: {"lambda_": [0]} for key in ("ml-1m", "citeulike-t", "gowalla")},
            **{key: {"lambda_": [0, 2e-5]} for key in ("ml-small", "citeulike-a", *REDUCED)},
        },
        adapted={
            "ml-small": SMALL
            | {"learning_rate": 5e-3, "max_epochs": 30, "callbacks": [FallingRate(30)]},
            "ml-1m-500-users": SMALL,
            **dict.fromkeys(CITEULIKE, SPARSE | {"batch_size": 100}),
            "gowalla": GOWALLA,
        },
        published={
            "ml-20m": {"lambda_": 2e-5},
            **{key: {"lambda_": 2e-5, "max_epochs": 100} for key in ("netflix", "msd")},
        },
    ),
    Model(
        "Mult-VAE",
        MultVAE(n_annealing_steps=10_000, **PATIENT),
        paper="Liang et al. 2018",
        search={"beta": [0.1, 0.2, 0.4], "hidden_layer_sizes": [(), (600,)]},
        search_on={
            "ml-small": {"beta": [0.1, 0.2], "hidden_layer_sizes": [()]},
            **{key: {"beta": [0.2], "hidden_layer_sizes": [()]} for key in ("ml-1m", "gowalla")},
            **{key: {"beta": [0.2, 0.4], "hidden_layer_sizes": [()]} for key in REDUCED},
            "citeulike-a": {"n_annealing_steps": [2_000, 10_000], "hidden_layer_sizes": [()]},
            "citeulike-t": {"n_annealing_steps": [2_000], "hidden_layer_sizes": [()]},
        },
        adapted={
            "ml-small": {**SMALL, "n_annealing_steps": 2_500},
            "ml-1m-500-users": {**SMALL, "n_annealing_steps": 2_500},
            **dict.fromkeys(CITEULIKE, SPARSE | {"batch_size": 100}),
            "gowalla": GOWALLA,
        },
        published={
            "ml-small": SMALL
            | {
                "hidden_layer_sizes": (600,),
                "beta": 0.3,
                "n_annealing_steps": 2_500,
                "learning_rate": 5e-4,
            },
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
    Model(
        "RecVAE",
        RecVAE(**REC),
        paper="Shenbin et al. 2020",
        search={"gamma": [0.0025, 0.005, 0.01]},
        search_on={
            **{key: {"gamma": [0.005]} for key in ("ml-1m", "citeulike-t", "gowalla")},
            "ml-1m-fifth": {"gamma": [0.005, 0.02]},
            "citeulike-a": {"gamma": [0.0025, 0.005]},
        },
        adapted={
            "ml-small": SMALL,
            "ml-1m-500-users": SMALL,
            **dict.fromkeys(CITEULIKE, REC_SPARSE),
            "gowalla": REC_SPARSE
            | {"batch_size": 500, "max_epochs": 8, "callbacks": [FallingRate(8)]},
        },
        published={
            "ml-small": SMALL | {"learning_rate": 5e-4, "max_epochs": 50},
            # The authors state gamma for MovieLens-20M only.
            **{
                key: {"gamma": 0.005, "learning_rate": 5e-4, "max_epochs": 50}
                for key in ("ml-20m", "netflix", "msd")
            },
        },
    ),
    Model(
        "HVampVAE",
        HVampVAE(batch_size=200, n_annealing_steps=6_000, **PATIENT),
        paper="Kim & Suh 2019",
        search={"beta": [0.1, 0.3, 0.6]},
        search_on={
            "ml-small": {"beta": [0.1, 0.3], "hidden_layer_sizes": [(), (150,)]},
            **{key: {"beta": [0.3]} for key in ("ml-1m", "citeulike-t", "gowalla", *REDUCED)},
            "citeulike-a": {"beta": [0.1, 0.3]},
        },
        adapted={
            # One small layer, as Peng et al. have it for small data.
            "ml-small": HVAMP
            | SMALL
            | {
                "hidden_layer_sizes": (150,),
                "n_components": 200,
                "n_annealing_steps": 400,
                "learning_rate": 8e-3,
                "max_epochs": 30,
                "callbacks": [FallingRate(30)],
            },
            "ml-1m": HVAMP,
            "ml-1m-500-users": {**HVAMP, **SMALL, "n_annealing_steps": 2_500},
            "ml-1m-fifth": HVAMP,
            **dict.fromkeys(CITEULIKE, HVAMP | SPARSE | {"learning_rate": 8e-3, "batch_size": 250}),
            "gowalla": HVAMP | GOWALLA | {"learning_rate": 8e-3},
        },
        published={
            "ml-small": SMALL
            | {
                "hidden_layer_sizes": (150,),
                "decoder_hidden_layer_sizes": None,
                "n_components": 50,
                "beta": 0.3,
                "n_pseudo_inputs": 1000,
                "n_annealing_steps": 2_500,
                "learning_rate": 5e-4,
                "max_epochs": 200,
            },
            "ml-20m": HVAMP_SIZES | {"n_annealing_steps": 195_000},
            "netflix": HVAMP_SIZES | {"likelihood": "logistic", "n_annealing_steps": 639_000},
        },
    ),
    Model(
        "NeuralEASE",
        NeuralEASE(**NEASE, dropout=0.33),
        paper="Vančura & Kordík 2021",
        search={"lambda_": [0.05, 0.1, 0.5], "dropout": [0.33, 0.5]},
        search_on={
            "ml-1m": {"lambda_": [0.1]},
            "ml-small": {"lambda_": [0.1, 0.5], "dropout": [0.33, 0.5]},
            **{key: {"lambda_": [0.1, 0.5]} for key in REDUCED},
            "citeulike-a": {"lambda_": [0.1, 0.2, 0.5]},
            "citeulike-t": {"lambda_": [0.2]},
        },
        adapted=dict.fromkeys(CITEULIKE, NEASE_SPARSE),
        # The authors' batches and epochs; their rate is one of Adam, and ours is not.
        published={
            key: {
                "lambda_": 0,
                "dropout": 0,
                "batch_size": 1024,
                "learning_rate": 1,
                "max_epochs": 80,
                "callbacks": None,
            }
            for key in ("ml-20m", "netflix")
        },
        skip=("gowalla",),  # four matrices of items by items are 27 GB there
    ),
    Model(
        "FLVAE",
        FLVAE(**FLVAE_30),
        paper="Vančura & Kordík 2021",
        search={"beta": [0.005, 0.02, 0.05]},
        search_on={
            **{key: {"beta": [0.02]} for key in ("ml-1m", "gowalla")},
            "citeulike-t": {"beta": [0.005]},
            **{key: {"beta": [0.02, 0.05]} for key in ("ml-small", *REDUCED)},
            "citeulike-a": {"beta": [0.005, 0.02]},
        },
        adapted={
            "ml-small": SMALL,
            "ml-1m-500-users": SMALL,
            **dict.fromkeys(CITEULIKE, FLVAE_SPARSE),
            "gowalla": GOWALLA | {"learning_rate": 4e-3},
        },
        published={"ml-20m": VASP_SIZES, "netflix": VASP_SIZES},
    ),
    Model(
        "VASP",
        VASP(max_epochs=20, callbacks=[FallingRate(20)]),
        paper="Vančura & Kordík 2021",
        search={"lambda_": [5, 16, 50], "beta": [0.005, 0.02]},
        search_on={
            "ml-1m": {"lambda_": [16], "beta": [0.005]},
            **{
                key: {"lambda_": [5, 16, 50], "beta": [0.02]}
                for key in ("ml-small", "ml-1m-500-users")
            },
            "ml-1m-fifth": {"lambda_": [16], "beta": [0.02, 0.05]},
            "citeulike-a": {"lambda_": [5, 16], "beta": [0.005]},
            **{key: {"lambda_": [5], "beta": [0.005]} for key in ("citeulike-t", "gowalla")},
        },
        adapted={
            **{key: {"max_epochs": 40, "callbacks": None} for key in ("ml-small", *REDUCED)},
            **dict.fromkeys(CITEULIKE, VASP_SPARSE),
            # All items times all items do not fit into 24 GB.
            "gowalla": GOWALLA | {"batch_size": 500, "learning_rate": 4e-3, "item_share": 0.5},
        },
        published=dict.fromkeys(("ml-20m", "netflix"), VASP_SIZES | {"lambda_": 0}),
    ),
    Model(
        "ELSA",
        ELSA(max_epochs=40, early_stopping=True),
        paper="Vančura et al. 2022",
        search={"n_components": [256, 512], "batch_size": [64, 256]},
        search_on={
            "ml-1m": {"n_components": [256]},
            **{key: {"n_components": [512]} for key in ("citeulike-t", "gowalla")},
            **{key: {"n_components": [64, 256]} for key in REDUCED},
            "citeulike-a": {"n_components": [256, 512]},
        },
        adapted={"ml-1m-500-users": SMALL, **{key: {"batch_size": 250} for key in CITEULIKE}},
        published={
            "ml-20m": {"n_components": 800, "batch_size": 32, "max_epochs": 10},
        },
    ),
    # As VASP, of a linear and a deep model. Members have the settings of their own rows, where
    # several splits differ those of the first.
    Model(
        "Hadamard ensemble",
        HadamardEnsemble([("edlae", EASE(300, dropout=0.33)), ("flvae", FLVAE(**FLVAE_30))]),
        paper="Vančura & Kordík 2021",
        adapted={
            "ml-small": {"edlae__lambda_": 50, "flvae__batch_size": 50, "flvae__beta": 0.02},
            "ml-1m": {"flvae__beta": 0.02},
            "ml-1m-500-users": {
                "edlae__lambda_": 200,
                "flvae__batch_size": 50,
                "flvae__beta": 0.02,
            },
            "ml-1m-fifth": {"edlae__lambda_": 5000, "flvae__beta": 0.02},
            **{
                key: {"edlae__lambda_": lambda_, "flvae__beta": 0.005}
                | {f"flvae__{name}": value for name, value in FLVAE_SPARSE.items()}
                for key, lambda_ in (("citeulike-a", 20), ("citeulike-t", 50))
            },
            "gowalla": {"edlae__lambda_": 100, "flvae__beta": 0.02, "flvae__learning_rate": 4e-3}
            | {
                f"flvae__{name}": GOWALLA[name]
                for name in ("max_epochs", "batch_size", "callbacks")
            },
        },
        skip=("ml-20m", "netflix", "msd"),
    ),
]

SEEDED_ON = ("ml-1m", "canonical")
SEEDS = (0, 1, 2)

ABLATED_ON = ("ml-1m", ["1", "2", "3", "4", "5"])
ABLATIONS = [
    Model("Mult-VAE", MultVAE(**MULT), group="Mult-VAE"),
    Model("Mult-VAE, gaussian", MultVAE(likelihood="gaussian", **MULT), group="Mult-VAE"),
    Model("Mult-VAE, logistic", MultVAE(likelihood="logistic", **MULT), group="Mult-VAE"),
    *(
        Model(
            f"HVampVAE, {prior} prior, {'gated' if gated else 'not gated'}",
            HVampVAE(prior=prior, gated=gated, **HVAMP),
            group="HVampVAE",
        )
        for prior in ("standard", "vamp", "hierarchical-vamp")
        for gated in (False, True)
    ),
    Model("RecVAE", RecVAE(**REC), group="RecVAE"),
    Model("RecVAE, standard prior", RecVAE(prior_weights=(1, 0, 0), **REC), group="RecVAE"),
    # Gamma times the mean number of items of a user.
    Model("RecVAE, fixed beta", RecVAE(beta=0.5, **REC), group="RecVAE"),
    # As many passes over the users: an epoch of the others has four.
    Model(
        "RecVAE, not alternating",
        RecVAE(alternating=False, learning_rate=1e-3, max_epochs=120),
        group="RecVAE",
    ),
    Model("FLVAE", FLVAE(**FLVAE_30), group="VASP"),
    Model("FLVAE, no augmentation", FLVAE(**FLVAE_30, augmentation=False), group="VASP"),
    *(
        Model(f"VASP, {training} training", VASP(training=training, **VASP_12), group="VASP")
        for training in ("joint", "alternating", "pretrained")
    ),
    Model("VASP, no augmentation", VASP(**VASP_12, augmentation=False), group="VASP"),
    Model(
        "Hadamard ensemble of NeuralEASE and FLVAE",
        HadamardEnsemble(
            [("nease", NeuralEASE(**NEASE, dropout=0.33)), ("flvae", FLVAE(**FLVAE_30))]
        ),
        group="VASP",
    ),
    Model("EASE, lambda 500", EASE(lambda_=500), group="NeuralEASE"),
    Model("EASE, lambda 300, dropout .33", EASE(300, dropout=0.33), group="NeuralEASE"),
    *(
        Model(
            f"NeuralEASE, {loss}{f', dropout {dropout}' if dropout else ''}",
            NeuralEASE(loss, dropout=dropout, **{**NEASE, **setting}),
            group="NeuralEASE",
        )
        for loss, dropout, setting in (
            ("mse", 0.0, {"lambda_": 500, "learning_rate": 1}),
            ("mse", 0.33, {"lambda_": 300, "learning_rate": 1}),
            ("cosine", 0.0, {"lambda_": 0.15}),
            ("cosine", 0.33, {}),
            ("focal", 0.0, {"lambda_": 16}),
            ("focal", 0.33, {"lambda_": 16}),
        )
    ),
]
