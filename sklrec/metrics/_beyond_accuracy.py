"""Metrics of rankings beyond accuracy: coverage, concentration, novelty, popularity, diversity.

They do not depend on held-out items, so all users with a ranking are included.
"""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.preprocessing import normalize

from .._matrix import check_matrix
from .._ranking import BATCH_BYTES
from ._ranking import check_ranking, per_user

# Types of features that are kept; all others are converted to the first.
FEATURES = (np.float64, np.float32)


def catalogue_coverage_at_k(ranking: ArrayLike, n_items: int, *, k: int | None = None) -> float:
    """Return the share of all items that are in the first k ranks of at least one user.

    This is the prediction coverage of section 3.1 of [1]_. It grows with the number of users, so
    only compare it for the same users.

    Parameters
    ----------
    ranking : array-like of int of shape (n_users, n_ranks)
        Item indices, best first; -1 means no item.
    n_items : int
        Number of items in the catalogue.
    k : int or None, default=None
        Number of ranks to consider; None means all.

    Returns
    -------
    coverage : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the ranking is not one of items of the catalogue, or has fewer than `k` ranks.

    References
    ----------
    .. [1] M. Ge, C. Delgado-Battenfeld and D. Jannach, "Beyond Accuracy: Evaluating Recommender
       Systems by Coverage and Serendipity", RecSys 2010.

    Examples
    --------
    >>> catalogue_coverage_at_k([[0, 1], [0, 2]], n_items=4)
    0.75
    """
    return coverage_of(times_ranked(ranking, n_items, k))


def gini_at_k(ranking: ArrayLike, n_items: int, *, k: int | None = None) -> float:
    r"""Return the Gini coefficient of the items in the first k ranks of all users.

    .. math:: G = \frac{1}{n - 1} \sum_{j=1}^{n} (2j - n - 1) \, p(i_j)

    where :math:`p(i_j)` is the share of all ranks with item :math:`i_j`, in increasing order [1]_.
    It is 0 if all items are recommended equally often, 1 if only one item is recommended, and
    (n - k) / (n - 1) if all users have the same k items.

    Parameters
    ----------
    ranking, k
        As in :func:`catalogue_coverage_at_k`.
    n_items : int
        Number of items in the catalogue, at least 2, including those that are never recommended.

    Returns
    -------
    gini : float
        Between 0 and 1; NaN if no item is ranked.

    Raises
    ------
    ValueError
        If the ranking is not one of items of the catalogue, or has fewer than `k` ranks.

    References
    ----------
    .. [1] G. Shani and A. Gunawardana, "Evaluating Recommendation Systems", Recommender Systems
       Handbook, 2011.

    Examples
    --------
    >>> gini_at_k([[0], [0], [0]], n_items=4)
    1.0
    >>> gini_at_k([[0, 1], [2, 3]], n_items=4)
    0.0
    """
    return gini_of(times_ranked(ranking, n_items, k))


def novelty_at_k(
    ranking: ArrayLike,
    interactions: Any,
    *,
    k: int | None = None,
    average: Literal["mean"] | None = "mean",
) -> float | np.ndarray:
    r"""Return the mean self-information of the items in the first k ranks, in bits.

    .. math:: \mathrm{novelty@}k = -\frac{1}{|L|} \sum_{i \in L} \log_2 p(i)

    where L is the set of the user's items in the first k ranks and p(i) the share of users who have
    interacted with item i, which is the probability that a random user knows it [1]_. [2]_
    normalises p over the items, which adds the logarithm of the mean number of items per user to
    each value.

    Parameters
    ----------
    ranking : array-like of int of shape (n_users, n_ranks)
        Item indices, best first; -1 means no item.
    interactions : {array-like, sparse array} of shape (n_other_users, n_items)
        Nonzero for interactions, usually those that the model was fitted on. Items without users
        are treated as if they had one, so that their self-information is finite.
    k : int or None, default=None
        Number of ranks to consider; None means all.
    average : {"mean"} or None, default="mean"
        "mean" is the mean over the users with at least one item. None returns the value of each
        user, which is NaN for users without items.

    Returns
    -------
    value : float or ndarray of shape (n_users,)
        Between 0 and the logarithm of the number of rows of `interactions`; higher values mean less
        popular items.

    Raises
    ------
    ValueError
        If the ranking is not one of the items of `interactions`, or has fewer than `k` ranks.

    References
    ----------
    .. [1] T. Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems",
       PNAS 107(10), 2010.
    .. [2] S. Vargas and P. Castells, "Rank and Relevance in Novelty and Diversity Metrics for
       Recommender Systems", RecSys 2011.

    Examples
    --------
    >>> novelty_at_k([[0, 1]], interactions=[[1, 1], [1, 0], [1, 0], [1, 0]])
    1.0
    """
    information = OtherUsers.of(interactions).self_information
    return _mean_of_items(information, ranking, k, average)


def average_popularity_at_k(
    ranking: ArrayLike,
    interactions: Any,
    *,
    k: int | None = None,
    average: Literal["mean"] | None = "mean",
) -> float | np.ndarray:
    """Return the mean popularity of the items in the first k ranks.

    The popularity of an item is the share of users who have interacted with it. Multiplied by the
    number of users, this is the average recommendation popularity of [1]_. A lower value means less
    popularity bias.

    Parameters
    ----------
    ranking, interactions, k, average
        As in :func:`novelty_at_k`; an item without users has popularity 0.

    Returns
    -------
    value : float or ndarray of shape (n_users,)
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the ranking is not one of the items of `interactions`, or has fewer than `k` ranks.

    References
    ----------
    .. [1] H. Abdollahpouri, R. Burke and B. Mobasher, "Managing Popularity Bias in Recommender
       Systems with Personalized Re-ranking", FLAIRS 2019.

    Examples
    --------
    >>> average_popularity_at_k([[0, 1]], interactions=[[1, 1], [1, 0], [1, 0], [1, 0]])
    0.625
    """
    return _mean_of_items(OtherUsers.of(interactions).popularity, ranking, k, average)


def intra_list_diversity_at_k(
    ranking: ArrayLike,
    item_features: Any,
    *,
    k: int | None = None,
    average: Literal["mean"] | None = "mean",
) -> float | np.ndarray:
    r"""Return the mean dissimilarity of all pairs of items in the first k ranks.

    .. math:: \mathrm{ILD@}k = \frac{2}{|L| (|L| - 1)} \sum_{i < j \in L} (1 - \cos(f_i, f_j))

    where L is the set of the user's items in the first k ranks and :math:`f_i` are the features of
    item i. [1]_ uses the sum of the similarities; one minus their mean does not depend on the
    length of the list. Use content as features for the diversity of topics, and the transposed
    training matrix for diversity by co-occurrence.

    Parameters
    ----------
    ranking : array-like of int of shape (n_users, n_ranks)
        Item indices, best first; -1 means no item.
    item_features : {array-like, sparse array} of shape (n_items, n_features)
        Features of each item, of any scale. Items without features have the cosine 0 with all
        others.
    k : int or None, default=None
        Number of ranks to consider, at least 2; None means all.
    average : {"mean"} or None, default="mean"
        "mean" is the mean over the users with at least two items. None returns the value of each
        user, which is NaN for users with fewer items.

    Returns
    -------
    value : float or ndarray of shape (n_users,)
        Between 0 and 1, or up to 2 if there are negative features.

    Raises
    ------
    ValueError
        If the ranking has items that are not in `item_features`, has fewer than `k` ranks, or if
        there is only one rank.

    Notes
    -----
    The sum of the cosines of all pairs is the squared norm of the sum of the unit vectors of L,
    minus the squared norm of each, so that time is linear in the number of ranks.

    References
    ----------
    .. [1] C.-N. Ziegler, S. M. McNee, J. A. Konstan and G. Lausen, "Improving Recommendation Lists
       Through Topic Diversification", WWW 2005.

    Examples
    --------
    >>> topics = [[1, 0], [2, 0], [0, 1]]
    >>> intra_list_diversity_at_k([[0, 1], [0, 2]], topics, average=None)
    array([0., 1.])
    """
    features = check_matrix(item_features, "item_features", dtype=FEATURES, signed=True)
    L, items = _lists(ranking, k, features.shape[0])
    if not items.size:  # scikit-learn does not normalize empty matrices
        return _diversity(L, np.zeros(L.shape[0]), average)
    U = normalize(features[items], copy=False)
    if sp.issparse(U):
        U = sp.csr_array(U)
    return _diversity(L, _squared_sums(L, U) - L @ _squared_length(U), average)


class OtherUsers(NamedTuple):
    """What the metrics of a ranking need to know of the interactions of other users.

    Parameters
    ----------
    n_users : int
        Number of users.
    users_of_item : ndarray of shape (n_items,)
        Number of users of each item.
    parts : iterable of CSR arrays of shape (n_users_of_part, n_items)
        The interactions, nonzero where there is one. They are read for the co-occurrence only.
    """

    n_users: int
    users_of_item: np.ndarray
    parts: Iterable[sp.csr_array]

    @classmethod
    def of(cls, interactions: Any) -> OtherUsers:
        """Check a matrix of shape (n_users, n_items)."""
        X = check_matrix(interactions, "interactions", dtype="numeric")
        return cls(X.shape[0], np.bincount(X.indices, minlength=X.shape[1]), [X])

    @property
    def popularity(self) -> np.ndarray:
        """Share of users of each item."""
        return self.users_of_item / self.n_users

    @property
    def self_information(self) -> np.ndarray:
        """Bits of each item; an item without users is treated as if it had one."""
        return -np.log2(np.maximum(self.users_of_item, 1) / self.n_users)


def novelty(ranking: ArrayLike, interactions: OtherUsers, k: int) -> np.ndarray:
    """Return :func:`novelty_at_k` of each user."""
    return _mean_of_items(interactions.self_information, ranking, k, None)  # type: ignore[return-value]


def average_popularity(ranking: ArrayLike, interactions: OtherUsers, k: int) -> np.ndarray:
    """Return :func:`average_popularity_at_k` of each user."""
    return _mean_of_items(interactions.popularity, ranking, k, None)  # type: ignore[return-value]


def co_occurrence_diversity(ranking: ArrayLike, interactions: OtherUsers, k: int) -> np.ndarray:
    """Return :func:`intra_list_diversity_at_k` of each user, the features of an item are its users.

    The squared norm of a sum of unit vectors is the sum of those of its parts.
    """
    count = interactions.users_of_item
    L, items = _lists(ranking, k, count.size)
    scale = 1 / np.sqrt(np.maximum(count[items], 1))  # of the unit vector of each item
    cosines = -(L @ np.sign(count[items]))
    for X in interactions.parts if items.size else ():
        U = sp.csr_array(X[:, items].T)
        U.data = np.repeat(scale, np.diff(U.indptr))
        cosines += _squared_sums(L, U)
    return _diversity(L, cosines, None)  # type: ignore[return-value]


def _lists(ranking: ArrayLike, k: int | None, n_items: int) -> tuple[sp.csr_array, np.ndarray]:
    """Return the items of each user's list as ones, and the item of each column."""
    ranking = check_ranking(ranking, k, n_items=n_items)
    if ranking.shape[1] < 2:
        raise ValueError("Diversity is defined for pairs of items: k must be at least 2, got 1.")
    is_item = ranking >= 0
    items, position = np.unique(ranking[is_item], return_inverse=True)
    indptr = np.concatenate([[0], np.cumsum(is_item.sum(axis=1))])
    L = sp.csr_array((np.ones(position.size), position, indptr), shape=(len(ranking), items.size))
    return L, items


def _diversity(L: sp.csr_array, cosines: np.ndarray, average: str | None) -> float | np.ndarray:
    """Return one minus the mean cosine, from the sum over all ordered pairs of each list."""
    n_listed = np.diff(L.indptr)
    n_pairs = n_listed * (n_listed - 1)
    # Rounding must not turn the diversity of equal items negative.
    return per_user(np.maximum(n_pairs - cosines, 0), n_pairs, average)


def _squared_sums(L: sp.csr_array, U: Any) -> np.ndarray:
    """Return the squared norm of the sum of the rows of U, ndarray or CSR array, in each list."""
    if sp.issparse(U):
        size = np.minimum(L @ np.diff(U.indptr), U.shape[1])
    else:
        size = np.full(L.shape[0], U.shape[1])
    in_list = L.astype(U.dtype)  # otherwise scipy would convert U in each product
    total = np.empty(L.shape[0])
    # The sums of the unit vectors of a batch take BATCH_BYTES, if indices take 8 bytes.
    limit = BATCH_BYTES // 16
    ends = np.searchsorted(np.cumsum(size), np.arange(limit, size.sum(), limit))
    for users in np.split(np.arange(L.shape[0]), np.unique(ends)):
        total[users] = _squared_length(in_list[users] @ U)
    return total


def _squared_length(A: Any) -> np.ndarray:
    """Return the sum of the squares of each row, in float64."""
    if sp.issparse(A):
        rows = np.repeat(np.arange(A.shape[0]), np.diff(A.indptr))
        return np.bincount(rows, A.data.astype(np.float64) ** 2, minlength=A.shape[0])
    return np.einsum("ij,ij->i", A, A, dtype=np.float64)


def times_ranked(ranking: ArrayLike, n_items: int, k: int | None) -> np.ndarray:
    """Return the number of users with each item in the first k ranks."""
    if not isinstance(n_items, Integral) or n_items < 1:
        raise ValueError(f"n_items must be a positive integer, got {n_items!r}.")
    ranking = check_ranking(ranking, k, n_items=int(n_items))
    return np.bincount(ranking[ranking >= 0], minlength=int(n_items))


def coverage_of(times: np.ndarray) -> float:
    """Return the catalogue coverage, from the number of users that each item is ranked for."""
    return float(np.count_nonzero(times) / times.size)


def gini_of(times: np.ndarray) -> float:
    """Return the Gini coefficient, from the number of users that each item is ranked for."""
    n_items = times.size
    if n_items < 2:
        raise ValueError(f"A Gini coefficient needs n_items of at least 2, got {n_items}.")
    if not times.any():
        return float("nan")
    weight = 2 * np.arange(1, n_items + 1) - n_items - 1
    return float(weight @ np.sort(times) / times.sum() / (n_items - 1))


def _mean_of_items(
    value: np.ndarray, ranking: ArrayLike, k: int | None, average: str | None
) -> float | np.ndarray:
    """Return the mean of the values of the items of each user's list, or its mean over users."""
    ranking = check_ranking(ranking, k, n_items=value.size)
    is_item = ranking >= 0
    total = np.where(is_item, value[np.maximum(ranking, 0)], 0).sum(axis=1)
    return per_user(total, is_item.sum(axis=1), average)
