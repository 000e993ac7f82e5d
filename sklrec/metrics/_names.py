"""The names of metrics in a scorer, and what each of them reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.utils import check_array

from .._matrix import stored_entries
from ._beyond_accuracy import (
    average_popularity_at_k,
    catalogue_coverage_at_k,
    gini_at_k,
    intra_list_diversity_at_k,
    novelty_at_k,
)
from ._ranking import (
    average_precision_at_k,
    hit_rate_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
)


class Metric(NamedTuple):
    """What a name stands for.

    Parameters
    ----------
    function : callable
        Called with ``ranking``, ``k`` and what it needs. Returns the value of each user, an
        ndarray of shape (n_users,), or a float where it looks at all users together.
    needs : {"held_out", "n_items", "interactions", "item_features"}
        What it reads besides the ranking.
    lower_is_better : bool, default=False
        Whether a search that maximises it would choose the worst.
    smallest_k : int, default=1
        Number of ranks without which it means nothing.
    """

    function: Callable[..., Any]
    needs: str
    lower_is_better: bool = False
    smallest_k: int = 1


def _each_user(function: Callable[..., Any], needs: str = "held_out", **options: Any) -> Metric:
    return Metric(partial(function, average=None, **options), needs)


def _co_occurrence_diversity(ranking: ArrayLike, interactions: Any, k: int) -> np.ndarray:
    """Compare items by their users, as by any other feature."""
    users_of_items = sp.csr_array((stored_entries(interactions) != 0).T)
    return intra_list_diversity_at_k(  # type: ignore[return-value]
        ranking, users_of_items, k=k, average=None
    )


def _negative(metric: Metric) -> Metric:
    return Metric(lambda **given: -metric.function(**given), metric.needs)


_GINI = Metric(gini_at_k, "n_items", lower_is_better=True)
_POPULARITY = _each_user(average_popularity_at_k, "interactions")._replace(lower_is_better=True)

# "recall@20" has the default denominator, "recall/n@20" the other one.
METRICS: dict[str, Metric] = {
    "ndcg": _each_user(ndcg_at_k),
    "recall": _each_user(recall_at_k),
    "recall/n": _each_user(recall_at_k, denominator="n"),
    "precision": _each_user(precision_at_k),
    "average_precision": _each_user(average_precision_at_k),
    "average_precision/n": _each_user(average_precision_at_k, denominator="n"),
    "reciprocal_rank": _each_user(reciprocal_rank_at_k),
    "hit_rate": _each_user(hit_rate_at_k),
    "catalogue_coverage": Metric(catalogue_coverage_at_k, "n_items"),
    "gini": _GINI,
    "neg_gini": _negative(_GINI),
    "novelty": _each_user(novelty_at_k, "interactions"),
    "average_popularity": _POPULARITY,
    "neg_average_popularity": _negative(_POPULARITY),
    "intra_list_diversity": _each_user(intra_list_diversity_at_k, "item_features")._replace(
        smallest_k=2
    ),
    "intra_list_diversity/users": Metric(_co_occurrence_diversity, "interactions", smallest_k=2),
}


def parse_metrics(metrics: str | Sequence[str]) -> dict[str, tuple[Metric, int]]:
    """Read names such as "ndcg@100" into metrics and their k.

    Parameters
    ----------
    metrics : str or list of str
        Names of metrics, each followed by "@" and the number of ranks.

    Returns
    -------
    parsed : dict
        From each name to the metric and its k.

    Raises
    ------
    ValueError
        If a name is not of this form or of too few ranks, or there is none.
    """
    several = isinstance(metrics, Iterable) and not isinstance(metrics, str)
    names: list[Any] = list(metrics) if several else [metrics]
    if not names:
        raise ValueError("metrics must name at least one metric, got none.")
    parsed = {}
    for name in names:
        metric, at, k = name.partition("@") if isinstance(name, str) else ("", "", "")
        if metric not in METRICS or not at or not k.isdecimal() or int(k) < 1:
            raise ValueError(
                f"A metric is one of {', '.join(METRICS)}, followed by @ and the number of ranks, "
                f"such as 'ndcg@100'; got {name!r}."
            )
        if int(k) < METRICS[metric].smallest_k:
            raise ValueError(
                f"{metric} needs at least {METRICS[metric].smallest_k} ranks, got {name!r}."
            )
        parsed[name] = (METRICS[metric], int(k))
    return parsed


def check_needs(parsed: Mapping[str, tuple[Metric, int]], inputs: Mapping[str, Any]) -> None:
    """Refuse metrics whose matrix is missing or not one of finite numbers."""
    for name, (metric, _) in parsed.items():
        if metric.needs not in ("interactions", "item_features"):
            continue
        if inputs[metric.needs] is None:
            raise ValueError(f"{name} needs {metric.needs}, got None.")
        check_array(
            inputs[metric.needs], accept_sparse=True, dtype="numeric", input_name=metric.needs
        )


def measure(
    parsed: Mapping[str, tuple[Metric, int]],
    ranking: np.ndarray,
    *,
    held_out: sp.csr_array,
    interactions: Any,
    item_features: Any,
) -> dict[str, np.ndarray | float]:
    """Return the value of each user for each metric, or one of all users together.

    Parameters
    ----------
    parsed : dict
        What :func:`parse_metrics` returns.
    ranking : ndarray of int of shape (n_users, n_ranks)
        Item indices, best first, -1 where there is no item.
    held_out : CSR array of shape (n_users, n_items)
        The items to find.
    interactions : {array-like, sparse array} of shape (n_other_users, n_items) or None
        What popularity and co-occurrence are counted in.
    item_features : {array-like, sparse array} of shape (n_items, n_features) or None
        Content of the items.

    Returns
    -------
    values : dict
        From each name to an ndarray of shape (n_users,) or a float.

    Raises
    ------
    ValueError
        If a metric needs what is None, or it is of another number of items.
    """
    n_items = held_out.shape[1]
    inputs = {
        "held_out": held_out,
        "n_items": n_items,
        "interactions": interactions,
        "item_features": item_features,
    }
    check_needs(parsed, inputs)
    for name, axis in (("interactions", 1), ("item_features", 0)):
        shape = np.shape(inputs[name])
        if inputs[name] is not None and (len(shape) != 2 or shape[axis] != n_items):
            raise ValueError(
                f"{name} must have a {'column' if axis else 'row'} for each of the {n_items} "
                f"items, got shape {shape}."
            )
    return {
        name: metric.function(ranking=ranking, k=k, **{metric.needs: inputs[metric.needs]})
        for name, (metric, k) in parsed.items()
    }
