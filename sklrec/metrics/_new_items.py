"""Evaluation of new items beside old ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._ranking import item_indices
from ._evaluation import RankingEvaluation, evaluate


def evaluate_new_items(
    estimator: Any,
    fold_in: Any,
    held_out: Any,
    metrics: str | Sequence[str] = ("ndcg@100", "recall@20"),
    *,
    new_items: Any,
) -> dict[str, RankingEvaluation]:
    """Evaluate a fitted estimator on new items, on old ones and on all.

    A model may order the new items well and still never rank one of them before an old item, or
    rank them well at the expense of the old ones, so that one number does not tell the whole:

    =================== ================ ==============
    name                candidates       items to find
    =================== ================ ==============
    "new among new"     new items        new items
    "old among old"     old items        old items
    "all among all"     all items        all items
    "new among all"     all items        new items
    =================== ================ ==============

    Parameters
    ----------
    estimator : estimator
        Fitted estimator with ``decision_function``, whose items are the columns of `fold_in`.
    fold_in, held_out : {array-like, sparse array} of shape (n_users, n_items)
        Interactions that are given to the model, and those to find, as for :func:`evaluate`.
    metrics : str or list of str, default=("ndcg@100", "recall@20")
        Metrics of accuracy as in :class:`RankingScorer`.
    new_items : array-like of int
        Columns of the new items.

    Returns
    -------
    evaluations : dict of RankingEvaluation
        With the names of the table as keys.

    Raises
    ------
    ValueError
        If an item does not exist, all items are new or none, or no user has an item to find.

    See Also
    --------
    sklrec.model_selection.cold_start_split : The split of users and items.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.dummy import RandomRecommender
    >>> from sklrec.metrics import evaluate_new_items
    >>> from sklrec.model_selection import cold_start_split
    >>> X = make_interactions(500, 80, random_state=0).data
    >>> split = cold_start_split(X, n_heldout=100, random_state=0)
    >>> found = evaluate_new_items(RandomRecommender(random_state=0).fit(split.train),
    ...                            split.test_fold_in, split.test_held_out, "recall@5",
    ...                            new_items=split.new_items)
    >>> found["new among new"]
    recall@5: 0.62... ± 0.03...
    >>> found["new among all"]
    recall@5: 0.11... ± 0.02...
    """
    n_items = np.shape(fold_in)[1]
    new = np.unique(item_indices(new_items, "new_items", n_items))
    old = np.setdiff1d(np.arange(n_items), new)
    if not new.size or not old.size:
        raise ValueError(f"Some of the {n_items} items must be new and some old, got {new.size}.")
    asked: dict[str, dict] = {
        "new among new": {"items": new},
        "old among old": {"items": old},
        "all among all": {},
        "new among all": {"targets": new},
    }
    return {
        name: evaluate(estimator, fold_in, held_out, metrics, **which)
        for name, which in asked.items()
    }
