"""Metrics by the names that scorers and evaluations use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from .._matrix import check_matrix
from ._beyond_accuracy import (
    FEATURES,
    OtherUsers,
    average_popularity,
    co_occurrence_diversity,
    coverage_of,
    gini_of,
    intra_list_diversity_at_k,
    novelty,
    times_ranked,
)
from ._ranking import (
    average_precision,
    found,
    hit_rate,
    ndcg,
    per_user,
    precision,
    recall,
    reciprocal_rank,
)


class Metric(NamedTuple):
    """A metric and its requirements.

    Parameters
    ----------
    function : callable
        Called with ``ranking``, ``k`` and the input that it needs. Returns an ndarray of shape
        (n_users,). A function that needs "held_out" is called with hits and the numbers of held-out
        items instead, see :mod:`._ranking`; one that needs "all_users" with the number of users
        that each item is ranked for, and returns a float.
    needs : {"held_out", "all_users", "interactions", "item_features"}
        Input besides the ranking.
    lower_is_better : bool, default=False
        Whether lower values are better.
    smallest_k : int, default=1
        Minimum number of ranks.
    """

    function: Callable[..., Any]
    needs: str
    lower_is_better: bool = False
    smallest_k: int = 1


def _of_hits(function: Callable[..., Any], **options: Any) -> Metric:
    return Metric(partial(function, **options), "held_out")


def _negative(metric: Metric) -> Metric:
    return Metric(lambda *given, **named: -metric.function(*given, **named), metric.needs)


_GINI = Metric(gini_of, "all_users", lower_is_better=True)
_POPULARITY = Metric(average_popularity, "interactions", lower_is_better=True)

# "recall@20" has the default denominator, "recall/n@20" the other one.
METRICS: dict[str, Metric] = {
    "ndcg": _of_hits(ndcg),
    "recall": _of_hits(recall),
    "recall/n": _of_hits(recall, denominator="n"),
    "precision": _of_hits(precision),
    "average_precision": _of_hits(average_precision),
    "average_precision/n": _of_hits(average_precision, denominator="n"),
    "reciprocal_rank": _of_hits(reciprocal_rank),
    "hit_rate": _of_hits(hit_rate),
    "catalogue_coverage": Metric(coverage_of, "all_users"),
    "gini": _GINI,
    "neg_gini": _negative(_GINI),
    "novelty": Metric(novelty, "interactions"),
    "average_popularity": _POPULARITY,
    "neg_average_popularity": _negative(_POPULARITY),
    "intra_list_diversity": Metric(
        partial(intra_list_diversity_at_k, average=None), "item_features", smallest_k=2
    ),
    "intra_list_diversity/users": Metric(co_occurrence_diversity, "interactions", smallest_k=2),
}


def parse_metrics(metrics: str | Sequence[str]) -> dict[str, tuple[Metric, int]]:
    """Parse names such as "ndcg@100".

    Parameters
    ----------
    metrics : str or list of str
        Names of metrics, each followed by "@" and the number of ranks.

    Returns
    -------
    parsed : dict
        The metric and its k for each name.

    Raises
    ------
    ValueError
        If a name is invalid, has too few ranks, or if there are no names.
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
    """Raise an error if the matrix that a metric needs is missing or invalid."""
    for name, (metric, _) in parsed.items():
        if metric.needs not in ("interactions", "item_features"):
            continue
        if inputs[metric.needs] is None:
            raise ValueError(f"{name} needs {metric.needs}, got None.")
        _checked(inputs, metric.needs, n_items=None)


def _checked(inputs: Mapping[str, Any], name: str, *, n_items: int | None) -> Any:
    if name == "item_features":
        return check_matrix(inputs[name], name, shape=(n_items, None), dtype=FEATURES, signed=True)
    return check_matrix(inputs[name], name, shape=(None, n_items), dtype="numeric")


def measure_curve(metric: str, held_out: Any, ranking: ArrayLike, ks: np.ndarray) -> np.ndarray:
    """Return a metric for several numbers of ranks; hits are determined only once.

    Parameters
    ----------
    metric : str
        Name of a metric that needs held-out items, without "@" and number.
    held_out : {array-like, sparse array} of shape (n_users, n_items)
        Nonzero at the held-out items of each user.
    ranking : array-like of int of shape (n_users, n_ranks)
        Item indices, best first; -1 means no item.
    ks : ndarray of int of shape (n_points,)
        Increasing numbers of ranks.

    Returns
    -------
    values : ndarray of shape (n_points, n_users)
        Values of the users, NaN for those without held-out items.
    """
    hits, n_held_out = found(held_out, ranking, int(ks[-1]))
    return _value_of_each(METRICS[metric], hits, n_held_out, ks)


def _value_of_each(metric: Metric, *hits: Any) -> np.ndarray:
    numerator, denominator = metric.function(*hits)
    return per_user(numerator, denominator, None)  # type: ignore[return-value]


def measure(
    parsed: Mapping[str, tuple[Metric, int]],
    ranking: np.ndarray,
    *,
    held_out: sp.csr_array,
    interactions: Any,
    item_features: Any,
) -> dict[str, np.ndarray | float]:
    """Return the value of each metric for each user, or a single one for all users.

    Parameters
    ----------
    parsed : dict
        Result of :func:`parse_metrics`.
    ranking : ndarray of int of shape (n_users, n_ranks)
        Item indices, best first; -1 means no item.
    held_out : CSR array of shape (n_users, n_items)
        The items to find.
    interactions : {array-like, sparse array} of shape (n_other_users, n_items) or None
        Interactions from which popularity and co-occurrence are computed.
    item_features : {array-like, sparse array} of shape (n_items, n_features) or None
        Content of the items.

    Returns
    -------
    values : dict
        An ndarray of shape (n_users,) or a float for each name.

    Raises
    ------
    ValueError
        If a metric needs a matrix that is None or has another number of items.
    """
    inputs = {"interactions": interactions, "item_features": item_features}
    check_needs(parsed, inputs)
    for name in inputs:
        if inputs[name] is not None:
            inputs[name] = _checked(inputs, name, n_items=held_out.shape[1])
    if interactions is not None:
        inputs["interactions"] = OtherUsers.of(inputs["interactions"])
    return of_all_users(parsed, measure_part(parsed, ranking, held_out=held_out, **inputs))


def measure_part(
    parsed: Mapping[str, tuple[Metric, int]],
    ranking: np.ndarray,
    *,
    held_out: sp.csr_array,
    interactions: OtherUsers | None,
    item_features: Any,
) -> dict[str, np.ndarray]:
    """Return what :func:`of_all_users` needs of some of the users.

    Parameters are those of :func:`measure`, checked. An array is of shape (n_users,), or, for a
    metric of all users together, has the number of users that each item is ranked for, whose sums
    over all parts are needed.
    """
    inputs = {"interactions": interactions, "item_features": item_features}
    largest = [k for metric, k in parsed.values() if metric.needs == "held_out"]
    if largest:
        hits, n_held_out = found(held_out, ranking, max(largest))
    values: dict[str, np.ndarray] = {}
    for name, (metric, k) in parsed.items():
        if metric.needs == "held_out":
            values[name] = _value_of_each(metric, hits[:, :k], n_held_out)
        elif metric.needs == "all_users":
            values[name] = times_ranked(ranking, held_out.shape[1], k)
        else:
            given = {metric.needs: inputs[metric.needs]}
            values[name] = metric.function(ranking=ranking, k=k, **given)
    return values


def of_all_users(
    parsed: Mapping[str, tuple[Metric, int]], values: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray | float]:
    """Return the value of each metric for each user, or a single one for all users."""
    return {
        name: metric.function(values[name]) if metric.needs == "all_users" else values[name]
        for name, (metric, _) in parsed.items()
    }
