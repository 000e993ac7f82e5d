"""Metrics of rankings against the items that were held out."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.exceptions import UndefinedMetricWarning

from .._matrix import check_matrix

# Denominator of recall and average precision, for k ranks and n held-out items.
Denominator = Literal["min(k, n)", "n"]

Parts = tuple[np.ndarray, np.ndarray]


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

    where :math:`i_r` is the item at rank r and H is the set of held-out items (equations 7 and 8 of
    [1]_).

    Parameters
    ----------
    held_out : {array-like, sparse array} of shape (n_users, n_items)
        Nonzero at the held-out items of each user.
    ranking : array-like of int of shape (n_users, n_ranks)
        Item indices, best first; -1 means no item.
    k : int or None, default=None
        Number of ranks to consider; None means all.
    average : {"mean"} or None, default="mean"
        "mean" is the mean over the users with held-out items. None returns the value of each user,
        which is NaN for users without held-out items.

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
    return per_user(*ndcg(*found(held_out, ranking, k)), average)


def recall_at_k(
    held_out: Any,
    ranking: ArrayLike,
    *,
    k: int | None = None,
    average: Literal["mean"] | None = "mean",
    denominator: Denominator = "min(k, n)",
) -> float | np.ndarray:
    """Return the share of the held-out items that are in the first k ranks.

    Parameters
    ----------
    held_out, ranking, k, average
        As in :func:`ndcg_at_k`.
    denominator : {"min(k, n)", "n"}, default="min(k, n)"
        Denominator, where n is the number of held-out items: the maximum number of hits in k ranks,
        as in [1]_, so that the best value is 1; or n, as in textbooks.

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
    parts = recall(*found(held_out, ranking, k), denominator=denominator)
    return per_user(*parts, average)


def precision_at_k(
    held_out: Any,
    ranking: ArrayLike,
    *,
    k: int | None = None,
    average: Literal["mean"] | None = "mean",
) -> float | np.ndarray:
    """Return the share of the first k ranks that have a held-out item.

    The denominator is k, even if fewer than k items are held out or ranked.

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
    return per_user(*precision(*found(held_out, ranking, k)), average)


def average_precision_at_k(
    held_out: Any,
    ranking: ArrayLike,
    *,
    k: int | None = None,
    average: Literal["mean"] | None = "mean",
    denominator: Denominator = "min(k, n)",
) -> float | np.ndarray:
    """Return the mean precision at the ranks of held-out items; its mean over users is MAP.

    Parameters
    ----------
    held_out, ranking, k, average
        As in :func:`ndcg_at_k`.
    denominator : {"min(k, n)", "n"}, default="min(k, n)"
        Denominator, where n is the number of held-out items: the maximum number of hits in k ranks,
        so that the best value is 1, or n.

    Returns
    -------
    value : float or ndarray of shape (n_users,)
        Between 0 and 1.

    Examples
    --------
    >>> average_precision_at_k([[0, 1, 0, 1]], [[1, 0, 3]])
    0.833...
    """
    parts = average_precision(*found(held_out, ranking, k), denominator=denominator)
    return per_user(*parts, average)


def reciprocal_rank_at_k(
    held_out: Any,
    ranking: ArrayLike,
    *,
    k: int | None = None,
    average: Literal["mean"] | None = "mean",
) -> float | np.ndarray:
    """Return one over the rank of the first held-out item, or 0; its mean over users is MRR.

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
    return per_user(*reciprocal_rank(*found(held_out, ranking, k)), average)


def hit_rate_at_k(
    held_out: Any,
    ranking: ArrayLike,
    *,
    k: int | None = None,
    average: Literal["mean"] | None = "mean",
) -> float | np.ndarray:
    """Return 1 if at least one held-out item is in the first k ranks, otherwise 0.

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
    return per_user(*hit_rate(*found(held_out, ranking, k)), average)


# Numerators and denominators of the functions above, from hits and the numbers of held-out items
# that `found` returns. They have the shape (n_users,) or, with `ks`, increasing numbers of ranks,
# (len(ks), n_users). Hits are summed once, from each number of ranks to the next.


def ndcg(hits: np.ndarray, n_held_out: np.ndarray, ks: np.ndarray | None = None) -> Parts:
    discount = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    gain = _cumulated(hits, ks, discount)
    return gain, ideal[np.minimum(_column(hits, ks), n_held_out)]


def recall(
    hits: np.ndarray,
    n_held_out: np.ndarray,
    ks: np.ndarray | None = None,
    *,
    denominator: Denominator = "min(k, n)",
) -> Parts:
    return _cumulated(hits, ks), _denominator(denominator, _column(hits, ks), n_held_out)


def precision(hits: np.ndarray, n_held_out: np.ndarray, ks: np.ndarray | None = None) -> Parts:
    return _cumulated(hits, ks), _column(hits, ks) * (n_held_out > 0)


def average_precision(
    hits: np.ndarray,
    n_held_out: np.ndarray,
    ks: np.ndarray | None = None,
    *,
    denominator: Denominator = "min(k, n)",
) -> Parts:
    at_hits = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1) * hits
    return _cumulated(at_hits, ks), _denominator(denominator, _column(hits, ks), n_held_out)


def reciprocal_rank(
    hits: np.ndarray, n_held_out: np.ndarray, ks: np.ndarray | None = None
) -> Parts:
    first = np.where(hits.any(axis=1), 1 + hits.argmax(axis=1), np.inf)
    value = np.where(first <= _column(hits, ks), 1 / first, 0.0)
    return value, np.broadcast_to(n_held_out > 0, value.shape)


def hit_rate(hits: np.ndarray, n_held_out: np.ndarray, ks: np.ndarray | None = None) -> Parts:
    value = _cumulated(hits, ks) > 0
    return value, np.broadcast_to(n_held_out > 0, value.shape)


def _cumulated(
    gain: np.ndarray, ks: np.ndarray | None, weight: np.ndarray | None = None
) -> np.ndarray:
    """Return the weighted sums over all ranks, or over the first k for each k of `ks`."""
    if ks is None:
        return gain.sum(axis=1) if weight is None else gain @ weight
    weight = np.ones(gain.shape[1]) if weight is None else weight
    sums = [
        gain[:, start:end] @ weight[start:end] for start, end in zip([0, *ks[:-1]], ks, strict=True)
    ]
    return np.cumsum(sums, axis=0)


def _column(hits: np.ndarray, ks: np.ndarray | None) -> Any:
    """Return the number of ranks, or `ks` as a column."""
    return hits.shape[1] if ks is None else np.asarray(ks)[:, None]


def found(held_out: Any, ranking: ArrayLike, k: int | None) -> Parts:
    """Return whether each of the first k ranks is a hit, and the number of held-out items.

    These are a bool ndarray of shape (n_users, k) and an ndarray of shape (n_users,).
    """
    held_out = check_matrix(held_out, "held_out", dtype="numeric")
    ranking = check_ranking(ranking, k, n_items=held_out.shape[1])
    n_users, k = ranking.shape
    if n_users != held_out.shape[0]:
        raise ValueError(f"ranking has {n_users} users, but held_out has {held_out.shape[0]}.")
    users = np.repeat(np.arange(n_users), k)
    values = held_out[users, np.maximum(ranking, 0).ravel()]
    if sp.issparse(values):
        values = values.toarray()
    hits = (np.reshape(values, ranking.shape) != 0) & (ranking >= 0)
    return hits, np.diff(held_out.indptr)


def check_ranking(ranking: ArrayLike, k: int | None, *, n_items: int) -> np.ndarray:
    """Check a ranking, and return its first `k` ranks, or all if `k` is None.

    Raises
    ------
    ValueError
        If the ranking is not 2-d with at least one user and one rank, has values other than item
        indices and -1, has an item twice in a row, or has fewer than `k` ranks.
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


def _denominator(name: str, k: Any, n_held_out: np.ndarray) -> np.ndarray:
    if name == "min(k, n)":
        return np.minimum(k, n_held_out)
    if name == "n":
        return n_held_out + 0 * k  # one for each k
    raise ValueError(f"denominator must be 'min(k, n)' or 'n', got {name!r}.")


def per_user(
    numerator: np.ndarray, denominator: np.ndarray, average: str | None
) -> float | np.ndarray:
    """Return the quotients of users, NaN for a denominator of 0, or the mean of the others.

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
    """Return the mean of the values that are not NaN, or NaN with a warning if there are none."""
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
