"""The table of the benchmark of item content: data sets and models with their settings.

Rows are as in ``settings.py``, with the form of the features besides. A range for a data set and
split, such as "citeulike-a, new items", goes before the range for all. The authors' splits have no
validation users, and settings there are those of the canonical split, or one point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import _data
import settings
from _content import AUTHORS, CANONICAL, NEW_ITEMS, ContentDataset, plots_and_attributes, words
from _runs import Model, check_range
from _schedules import FallingRate
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import ParameterGrid

from sklrec.dummy import PopularityRecommender, RandomRecommender
from sklrec.factorization import WMF
from sklrec.hybrid import (
    CDL,
    CTR,
    CVAE,
    DAVE,
    DICER,
    MDCVAE,
    AddEASE,
    CollectiveEASE,
    CondVAE,
    ContentELSA,
    CoVAE,
    DeepMusic,
    FactorizationMachine,
    FactorsFromContent,
)
from sklrec.linear import EASE
from sklrec.neighbors import ItemKNN
from sklrec.neural import MultVAE

_BY_NAME = {dataset.name: dataset for dataset in settings.DATASETS}
DATASETS = [
    # Tags were given by users who have the article, test users among them: titles alone.
    ContentDataset(
        _BY_NAME["citeulike-a"],
        "titles",
        _data.citeulike_titles,
        "a",
        n_more_splits=4,
        more_shares=(0.05, 0.2, 0.4),  # as figure 7 of Zhu & Chen (2022)
    ),
    ContentDataset(_BY_NAME["citeulike-t"], "words", words, "t"),
    ContentDataset(
        # A tenth of its items is too few to choose by.
        _BY_NAME["ml-1m"],
        "plots and attributes",
        plots_and_attributes,
        n_candidate_draws=5,
    ),
]
A, T, ML = (dataset.name for dataset in DATASETS)
NEW, OLD, ALL = "new among new", "old among old", "all among all"


@dataclass(frozen=True)
class ContentModel(Model):
    """A row of the table of settings, with the form of the features.

    Parameters
    ----------
    form : str
        Form of the features, "none" for a model that reads none.
    form_on : mapping of str to str
        Another form on a data set, or on a split of it.
    chosen_for : tuple of str
        Settings for new items are chosen by the mean NDCG@100 of these.
    on_all_splits : bool
        Whether to fit it on all splits with new items, not on the first one alone.
    only : tuple of str
        The only places to fit it at, such as "citeulike-a, new items"; all unless told.
    """

    form: str = "none"
    form_on: Mapping[str, str] = field(default_factory=dict)
    chosen_for: tuple[str, ...] = (NEW,)
    on_all_splits: bool = False
    only: tuple[str, ...] = ()

    def at(self, dataset: str, split: str) -> list[Any]:
        """Return the estimators to choose from: one where there is no choice, or none."""
        place = f"{dataset}, {split}"
        if not {dataset, split, place}.isdisjoint(self.skip) or (
            self.only and place not in self.only
        ):
            return []
        grid = {} if split in AUTHORS else self.search
        for name in (dataset, split, place):
            grid = self.search_on.get(name, grid)
        base = clone(self.estimator)
        for name in (dataset, split, place):
            base.set_params(**self.adapted.get(name, {}))
        check_range(base, grid)
        return [clone(base).set_params(**point) for point in ParameterGrid(grid)]

    def form_at(self, dataset: str, split: str) -> str:
        """Return the form of the features on a data set and split."""
        of_dataset = self.form_on.get(dataset, self.form)
        return self.form_on.get(f"{dataset}, {split}", of_dataset)


LINEAR = {"form": "tf-idf", "form_on": {ML: "svd"}}
# The long texts of citeulike-t have more words than can be weighted one by one.
OF_ELSA = {"form": "tf-idf", "form_on": {ML: "svd", f"{T}, new items": "svd"}}
# Those of ``settings.py``.
LAMBDA = {A: {"lambda_": 50}, T: {"lambda_": 50}, ML: {"lambda_": 500}}
OF_WMF = {
    A: {"recommender": WMF(256, lambda_=1e-4, unobserved_weight=0.1)},
    T: {"recommender": WMF(256, lambda_=1e-4, unobserved_weight=0.1)},
    ML: {"recommender": WMF(256, lambda_=0.01, unobserved_weight=0.15)},
}

# Few epochs, which are enough with this rate.
OF_VAE = {"learning_rate": 3e-3, "max_epochs": 25, "batch_size": 250, "n_annealing_steps": 1_500}
SIZES: dict = {ML: {"hidden_layer_sizes": (100,), "n_components": 50, "max_epochs": 40}}
# Of the users of citeulike-t: with larger batches neither VAE gets as far in so many epochs, and
# MD-CVAE still gains after the 25th.
VAE_ON_T: dict = {T: {"batch_size": 100, "max_epochs": 50}}
# The weight of the KL term and lambda_v are those of the best compromise of new and other items.
OF_CVAE = {
    "lambda_v": 3,
    "learning_rate": 3e-3,
    "n_pretraining_epochs": 30,
    "max_epochs": 50,
}
# Of the autoencoders of users on citeulike-a: fast at first, then ever slower.
FAST = {
    "n_components": 200,
    "learning_rate": 1e-2,
    "batch_size": 100,
    "n_annealing_steps": 2_000,
    "callbacks": [FallingRate(25)],
}
# Item vectors that stay close to the content, and small batches, in which they grow fast.
STRONG = {
    "lambda_v": 116,
    "learning_rate": 5e-3,
    "batch_size": 200,
    "n_annealing_steps": 1_000,
    "n_item_annealing_steps": 0,
}

# Factors of items that have one user say nothing.
ALL_PREDICTED = {"min_interactions": None, "regressor__alpha": 10}

MODELS = [
    ContentModel("Random", RandomRecommender(), on_all_splits=True),
    ContentModel("Popularity", PopularityRecommender()),
    ContentModel("EASE", EASE(), paper="Steck 2019", adapted=LAMBDA),
    ContentModel(
        "Content neighbours",
        ItemKNN(1000),
        paper="Lops et al. 2011",
        **LINEAR,
        search_on={ML: {"n_neighbors": [100, 1000]}},
        on_all_splits=True,
    ),
    ContentModel(
        "CollectiveEASE",
        CollectiveEASE(content_weight=4),
        paper="Jeunen et al. 2020",
        **LINEAR,
        # The best of 1, 2, 4 and 16 on validation users for new items, and the worst for others.
        adapted=LAMBDA | {f"{T}, new items": {"content_weight": 1}},
        search_on={ML: {"content_weight": [1, 4, 16, 64]}},
        on_all_splits=True,
    ),
    ContentModel(
        "AddEASE",
        AddEASE(),
        paper="Jeunen et al. 2020",
        form="svd",
        adapted=LAMBDA,
        search_on={ML: {"content_share": [0.1, 0.3, 0.5]}},
        skip=(T,),
    ),
    ContentModel(
        "Ridge to factors of WMF",
        FactorsFromContent(regressor=Ridge(alpha=1)),
        paper="van den Oord et al. 2013",
        **LINEAR,
        adapted=OF_WMF | {f"{A}, P=1": ALL_PREDICTED, f"{T}, P=1": ALL_PREDICTED},
        search_on={f"{ML}, new items": {"regressor__alpha": [1, 4]}},
        on_all_splits=True,
    ),
    ContentModel(
        "ContentELSA",
        ContentELSA(max_epochs=12),
        paper="Vančura et al. 2024",
        **OF_ELSA,
        adapted={
            ML: {"item_dropout": 0.8},
            f"{A}, new items": {"max_epochs": 6},
            f"{T}, new items": {"max_epochs": 2},
        },
        chosen_for=(NEW, OLD),
        search_on={
            f"{ML}, new items": {"max_epochs": [5, 10, 20]},
        },
        on_all_splits=True,
    ),
    ContentModel(
        "ContentELSA, few epochs",
        ContentELSA(max_epochs=2),
        paper="Vančura et al. 2024",
        **OF_ELSA,
        on_all_splits=True,
        skip=(T, ML, CANONICAL, *AUTHORS),
    ),
    ContentModel(
        "ContentELSA, no free part",
        ContentELSA(free_part=False, max_epochs=3),
        paper="Vančura et al. 2024",
        **OF_ELSA,
        search_on={f"{place}, new items": {"max_epochs": [3, 5, 10]} for place in (T, ML)},
        adapted={CANONICAL: {"max_epochs": 12}, NEW_ITEMS: {"max_epochs": 2}},
        on_all_splits=True,
    ),
    ContentModel(
        "Factorization machine",
        FactorizationMachine(learning_rate=3e-3, max_epochs=25),
        paper="Rendle 2010",
        **LINEAR,
        adapted={NEW_ITEMS: {"max_epochs": 15}},
    ),
    ContentModel(
        "CTR",
        CTR(n_topic_iter=5),
        paper="Wang & Blei 2011",
        form="counts",
        # Topics of few words say little of new items, and more of them even less.
        adapted={CANONICAL: {"n_components": 200}},
        skip=(f"{T}, canonical", f"{T}, new items"),
    ),
    ContentModel(
        "CDL",
        CDL(
            200,
            lambda_u=0.1,
            lambda_v=1,
            unobserved_weight=0.1,
            n_pretraining_epochs=10,
            max_epochs=15,
        ),
        paper="Wang et al. 2015",
        form="binary",
        skip=(f"{T}, canonical", f"{T}, new items"),
    ),
    ContentModel(
        "CVAE",
        CVAE(beta=0.5, **OF_CVAE),
        paper="Li & She 2017",
        form="binary",
        # Few items with long texts: many small batches, in which content and factors get closer.
        adapted={
            ML: {
                "lambda_v": 30,
                "batch_size": 32,
                "n_pretraining_epochs": 60,
                "max_epochs": 100,
            },
            f"{T}, P=10": {"lambda_v": 10},
            # Three of four articles to find have nobody in training: their vectors are content
            # alone, and its weight keeps latent dimensions from collapsing.
            f"{T}, P=1": {
                "likelihood": "gaussian",
                "lambda_r": 1_000,
                "beta": 1e-3,
                "lambda_v": 10,
            },
        },
        form_on={f"{T}, P=1": "svd"},
        skip=(f"{T}, canonical", f"{T}, new items"),
        on_all_splits=True,
    ),
    ContentModel(
        "CVAE, beta 1",  # as published: latent dimensions collapse, and content counts for less
        CVAE(beta=1, **OF_CVAE),
        paper="Li & She 2017",
        form="binary",
        chosen_for=(OLD,),
        skip=(T, ML, CANONICAL, *AUTHORS),
    ),
    ContentModel(
        "DeepMusic",
        DeepMusic(lambda_=1e-3, unobserved_weight=0.1, max_epochs=15),
        paper="van den Oord et al. 2013",
        **LINEAR,
        skip=(f"{T}, canonical", f"{T}, new items"),
    ),
    ContentModel(
        "Mult-VAE",
        MultVAE(150, hidden_layer_sizes=(), **OF_VAE),
        paper="Liang et al. 2018",
        adapted=SIZES | VAE_ON_T | {f"{A}, canonical": FAST},
        skip=(NEW_ITEMS, *AUTHORS),
    ),
    ContentModel(
        "MD-CVAE",
        MDCVAE(150, **OF_VAE),
        paper="Zhu & Chen 2022",
        form="binary",
        adapted=SIZES | VAE_ON_T | {f"{A}, canonical": FAST},
        skip=(NEW_ITEMS, *AUTHORS),
    ),
    ContentModel(
        "MDsym-CVAE",
        MDCVAE(150, symmetric=True, **OF_VAE),
        paper="Zhu & Chen 2022",
        form="binary",
        adapted={
            **SIZES,
            f"{A}, canonical": FAST | {"lambda_v": 3},
            f"{ML}, canonical": STRONG | {"lambda_v": 10, "max_epochs": 80},
            NEW_ITEMS: STRONG,
            f"{ML}, new items": STRONG | SIZES[ML],
        },
        skip=(f"{T}, canonical", *AUTHORS),
        on_all_splits=True,
    ),
    ContentModel(
        "CoVAE",
        CoVAE(200, max_epochs=25, callbacks=[FallingRate(25)]),
        paper="Chen & de Rijke 2018",
        form="binary",
        skip=(T, NEW_ITEMS, *AUTHORS),
    ),
    ContentModel(
        "CondVAE",
        CondVAE(150, hidden_layer_sizes=(), **OF_VAE),
        paper="Pang et al. 2019",
        form="binary",
        adapted=SIZES | {f"{A}, canonical": FAST},
        skip=(T, NEW_ITEMS, *AUTHORS),
    ),
    ContentModel(
        "DICER",
        DICER(max_epochs=10),
        paper="Zhang et al. 2020",
        form="binary",
        adapted={CANONICAL: {"n_components": 100, "item_dropout": 0, "max_epochs": 15}},
        skip=(T, *AUTHORS),
    ),
    ContentModel(
        "DAVE",
        DAVE(max_epochs=10),
        paper="Yi et al. 2021",
        form="binary",
        adapted={CANONICAL: {"n_components": 128, "item_dropout": 0, "max_epochs": 15}},
        skip=(T, *AUTHORS),
    ),
]


def swept(name: str, parameter: str, values: list, places: tuple[str, ...]) -> list[ContentModel]:
    """Return a model with each value of a parameter, all else being the same, at some places."""
    model = next(model for model in MODELS if model.name == name)
    others = {
        place: {k: v for k, v in params.items() if k != parameter}
        for place, params in model.adapted.items()
    }
    return [
        replace(
            model,
            name=f"{name}, {parameter} {value}",
            estimator=clone(model.estimator).set_params(**{parameter: value}),
            adapted=others,
            group=f"{name}, {parameter}",
            only=places,
            on_all_splits=False,
        )
        for value in values
    ]


ON_AUTHORS = (f"{A}, P=1", f"{A}, P=10")
# As figures 6 and 7 of Li & She (2017), and figure 6 of Zhu & Chen (2022).
SWEEPS = [
    *swept("CVAE", "lambda_r", [0.1, 1, 10], ON_AUTHORS),
    *swept("CVAE", "n_components", [20, 50, 100], ON_AUTHORS),
    *swept("MDsym-CVAE", "lambda_v", [1, 4, 30, 116, 460], (f"{A}, new items",)),
]
