"""Metrics of rankings against the items that were held out."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.exceptions import UndefinedMetricWarning

from .._matrix import stored_entries

# What a rank's share of the hits is divided by.
Denominator = Literal["min(k, n)", "n"]


def ndcg_at_k(
    held_out: Any,
    ranking: ArrayLike,
    *,
    k: int | None = None,
    average: Literal["mean"] | None = "mean",
) -> float | np.ndarray:
    r"""Return the normalized discounted cumulative gain with binary relevance.

    .. math:: \mathrm{NDCG@}k = \frac{\sum_{r=1}^k [i_r \in H] / \log_2(r + 1)}
                                     {\sum_{r=1}^{\min(k, |H|)} 1 / \log_2(r + 1)}

    with :math:`i_r` the item at rank r and H the items held out: equations 7 and 8 of [1]_.

    Parameters
    ----------
    held_out : {array-like, sparse array} of shape (n_users, n_items)
        Nonzero where an item of the user was held out.
    ranking : array-like of int of shape (n_users, n_ranks)
        Item indices, best first, -1 where there is no item.
    k : int or None, default=None
        Number of ranks to look at; None means all.
    average : {"mean"} or None, default="mean"
        The mean over the users with something held out, or None for the value of each user, NaN
        where nothing was held out.

    Returns
    -------
    value : float or ndarray of shape (n_users,)
        Between 0 and 1.

    References
    ----------
    .. [1] D. Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018.

    Examples
    --------
    >>> ndcg_at_k([[0, 1, 0, 1]], [[1, 0, 2]])
    0.613...
    """
    hits, n_held_out = _hits(held_out, ranking, k)
    discount = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    return per_user(hits @ discount, ideal[np.minimum(n_held_out, discount.size)], average)


def recall_at_k(
    held_out: Any,
    ranking: ArrayLike,
    *,
    k: int | None = None,
    average: Literal["mean"] | None = "mean",
    denominator: Denominator = "min(k, n)",
) -> float | np.ndarray:
    """Return the share of the held-out items that are found in the first k ranks.

    Parameters
    ----------
    held_out, ranking, k, average
        As in :func:`ndcg_at_k`.
    denominator : {"min(k, n)", "n"}, default="min(k, n)"
        With n items held out: the number that k ranks can find at most, as in [1]_, so that 1 can
        always be reached; or n itself, the textbook's recall.

    Returns
    -------
    value : float or ndarray of shape (n_users,)
        Between 0 and 1.

    References
    ----------
    .. [1] D. Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018.

    Examples
    --------
    >>> recall_at_k([[0, 1, 0, 1]], [[1, 0, 2]], k=1)
    1.0
    >>> recall_at_k([[0, 1, 0, 1]], [[1, 0, 2]], k=1, denominator="n")
    0.5
    """
    hits, n_held_out = _hits(held_out, ranking, k)
    return per_user(hits.sum(axis=1), _denominator(denominator, hits.shape[1], n_held_out), average)


def precision_at_k(
    held_out: Any,
    ranking: ArrayLike,
    *,
    k: int | None = None,
    average: Literal["mean"] | None = "mean",
) -> float | np.ndarray:
    """Return the share of the first k ranks that hold a held-out item.

    The denominator is k, also where fewer than k items were held out or ranked.

    Parameters
    ----------
    held_out, ranking, k, average
        As in :func:`ndcg_at_k`.

    Returns
    -------
    value : float or ndarray of shape (n_users,)
        Between 0 and 1.

    Examples
    --------
    >>> precision_at_k([[0, 1, 0, 1]], [[1, 0, 2, -1]])
    0.25
    """
    hits, n_held_out = _hits(held_out, ranking, k)
    return per_user(hits.sum(axis=1), np.where(n_held_out > 0, hits.shape[1], 0), average)


def average_precision_at_k(
    held_out: Any,
    ranking: ArrayLike,
    *,
    k: int | None = None,
    average: Literal["mean"] | None = "mean",
    denominator: Denominator = "min(k, n)",
) -> float | np.ndarray:
    """Return the mean precision at the ranks that hold a held-out item; MAP when averaged.

    Parameters
    ----------
    held_out, ranking, k, average
        As in :func:`ndcg_at_k`.
    denominator : {"min(k, n)", "n"}, default="min(k, n)"
        With n items held out: the number that k ranks can find at most, so that 1 can always be
        reached, or n itself.

    Returns
    -------
    value : float or ndarray of shape (n_users,)
        Between 0 and 1.

    Examples
    --------
    >>> average_precision_at_k([[0, 1, 0, 1]], [[1, 0, 3]])
    0.833...
    """
    hits, n_held_out = _hits(held_out, ranking, k)
    ranks = np.arange(1, hits.shape[1] + 1)
    precision = hits.cumsum(axis=1) / ranks
    return per_user(
        (precision * hits).sum(axis=1), _denominator(denominator, ranks.size, n_held_out), average
    )


def reciprocal_rank_at_k(
    held_out: Any,
    ranking: ArrayLike,
    *,
    k: int | None = None,
    average: Literal["mean"] | None = "mean",
) -> float | np.ndarray:
    """Return one over the rank of the first held-out item, or 0; MRR when averaged.

    Parameters
    ----------
    held_out, ranking, k, average
        As in :func:`ndcg_at_k`.

    Returns
    -------
    value : float or ndarray of shape (n_users,)
        Between 0 and 1.

    Examples
    --------
    >>> reciprocal_rank_at_k([[0, 1, 0, 1]], [[0, 1, 3]])
    0.5
    """
    hits, n_held_out = _hits(held_out, ranking, k)
    first = np.where(hits.any(axis=1), 1 / (1 + hits.argmax(axis=1)), 0.0)
    return per_user(first, n_held_out > 0, average)


def hit_rate_at_k(
    held_out: Any,
    ranking: ArrayLike,
    *,
    k: int | None = None,
    average: Literal["mean"] | None = "mean",
) -> float | np.ndarray:
    """Return 1 where at least one held-out item is found in the first k ranks, else 0.

    Parameters
    ----------
    held_out, ranking, k, average
        As in :func:`ndcg_at_k`.

    Returns
    -------
    value : float or ndarray of shape (n_users,)
        Between 0 and 1.

    Examples
    --------
    >>> hit_rate_at_k([[0, 1, 0, 1], [1, 0, 0, 0]], [[0, 1, 3], [1, 2, 3]])
    0.5
    """
    hits, n_held_out = _hits(held_out, ranking, k)
    return per_user(hits.max(axis=1), n_held_out > 0, average)


def _hits(held_out: Any, ranking: ArrayLike, k: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each of the first k ranks holds a held-out item, and how many were held out.

    Two ndarrays of shape (n_users, k), bool, and (n_users,).
    """
    held_out = stored_entries(held_out)
    ranking = check_ranking(ranking, k, n_items=held_out.shape[1])
    n_users, k = ranking.shape
    if n_users != held_out.shape[0]:
        raise ValueError(f"ranking has {n_users} users, but held_out has {held_out.shape[0]}.")
    users = np.repeat(np.arange(n_users), k)
    found = held_out[users, np.maximum(ranking, 0).ravel()]
    if sp.issparse(found):
        found = found.toarray()
    hits = (np.reshape(found, ranking.shape) != 0) & (ranking >= 0)
    return hits, np.diff(held_out.indptr)


def check_ranking(ranking: ArrayLike, k: int | None, *, n_items: int) -> np.ndarray:
    """Return the first `k` ranks as an ndarray of shape (n_users, k), all of them for None.

    Raises
    ------
    ValueError
        If the ranking is not 2-d with at least one user and one rank, holds anything else than
        item indices and -1, or an item twice, or has fewer than `k` ranks.
    """
    ranking = np.asarray(ranking)
    if ranking.ndim != 2 or not ranking.size or not np.issubdtype(ranking.dtype, np.integer):
        raise ValueError(
            "ranking must be a 2-d array of integers with at least one user and at least one rank, "
            f"got an array of shape {ranking.shape} and type {ranking.dtype}."
        )
    if k is None:
        k = ranking.shape[1]
    elif not isinstance(k, Integral) or not 1 <= k <= ranking.shape[1]:
        raise ValueError(
            f"k must be an integer between 1 and the {ranking.shape[1]} ranks given, got {k!r}."
        )
    ranking = ranking[:, :k]
    if ranking.min() < -1 or ranking.max() >= n_items:
        raise ValueError(
            f"ranking must hold item indices from 0 to {n_items - 1}, or -1 for no item, "
            f"got values from {ranking.min()} to {ranking.max()}."
        )
    in_order = np.sort(ranking, axis=1)
    twice = (in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)
    if twice.any():
        raise ValueError(
            f"ranking has the same item twice in row {np.flatnonzero(twice.any(1))[0]}."
        )
    return ranking


def _denominator(name: str, k: int, n_held_out: np.ndarray) -> np.ndarray:
    if name == "min(k, n)":
        return np.minimum(k, n_held_out)
    if name == "n":
        return n_held_out
    raise ValueError(f"denominator must be 'min(k, n)' or 'n', got {name!r}.")


def per_user(
    numerator: np.ndarray, denominator: np.ndarray, average: str | None
) -> float | np.ndarray:
    """Divide user by user, NaN where the denominator is 0; return the mean of the others, or all.

    `average` is that of :func:`ndcg_at_k`.
    """
    value = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=value, where=denominator > 0)
    if average is None:
        return value
    if average != "mean":
        raise ValueError(f"average must be 'mean' or None, got {average!r}.")
    return mean_over_users(value)


def mean_over_users(value: np.ndarray) -> float:
    """Return the mean of what is not NaN, or NaN with a warning where all is."""
    counts = ~np.isnan(value)
    if counts.any():
        return float(value[counts].mean())
    warnings.warn(
        f"No user of {value.size} has an item held out, or enough items ranked, "
        "so the metric is undefined (NaN).",
        UndefinedMetricWarning,
        stacklevel=4,
    )
    return float("nan")
