"""From scores to ranked items. The only ranking code of the package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils import gen_batches

from ._memory import check_memory
from ._sklearn import _safe_indexing

# Scores of one batch of rows stay below this many bytes, so that memory does not grow with the
# number of users; smaller batches fit the caches better but call the model more often.
BATCH_BYTES = 2**26

# At most this many scores share one group when the k-th best score is bounded from below.
LARGEST_GROUP = 32


def top_k(scores: np.ndarray, k: int, *, seen: Any = None) -> np.ndarray:
    """Rank the best `k` columns of each row.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_items)
        Higher is better; minus infinity is never ranked. Left unchanged.
    k : int
        Number of ranks, at least 1.
    seen : sparse array of shape (n_rows, n_items) or None, default=None
        Entries that are stored here are never ranked.

    Returns
    -------
    ranking : ndarray of shape (n_rows, k), dtype int64
        Column indices, best first. Equal scores go to the lower index. -1 fills the ranks past
        the last column that may be ranked.

    Raises
    ------
    ValueError
        If a score is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> top_k(np.array([[0.5, 2.0, 0.5, -np.inf]]), k=4)
    array([[ 1,  0,  2, -1]])
    """
    scores = np.array(scores, dtype=np.result_type(scores, np.float32), order="C")
    n_rows, n_items = scores.shape
    if seen is not None:
        seen = sp.csr_array(seen)
        scores[np.repeat(np.arange(n_rows), np.diff(seen.indptr)), seen.indices] = -np.inf
    n_ranked = min(k, n_items)

    bound = _kth_best_bound(scores, n_ranked)
    if np.isnan(bound).any():
        row = int(np.flatnonzero(np.isnan(bound))[0])
        raise ValueError(
            f"Scores must not be NaN, but row {row} has {np.isnan(scores[row]).sum()} NaN."
        )
    candidate = scores >= bound
    crowded = np.count_nonzero(candidate, axis=1) > 4 * n_ranked
    if crowded.any():
        # Many scores equal the bound, as in a row of zeros: only the first n_ranked of them can
        # be in the ranking, and sorting all of them would cost memory.
        level = scores[crowded] == bound[crowded]
        candidate[crowded] &= ~level | (level.cumsum(axis=1, dtype=np.int32) <= n_ranked)

    flat = np.flatnonzero(candidate)  # row by row, by index in each row
    row, item = np.divmod(flat, n_items)
    value = scores.ravel()[flat]
    order = np.lexsort((-value, row))  # stable, so ties stay in the order of their index
    start = np.searchsorted(row, np.arange(n_rows))
    best = order[start[:, None] + np.arange(n_ranked)]

    ranking = np.full((n_rows, k), -1, dtype=np.int64)
    ranking[:, :n_ranked] = np.where(np.isneginf(value[best]), -1, item[best])
    return ranking


def _kth_best_bound(scores: np.ndarray, k: int) -> np.ndarray:
    """Return for each row a bound that at least `k` scores reach, as a column.

    The columns are dealt into groups; k of the groups' maxima reach the k-th largest of them, so
    at least k scores do. With several times more groups than k, hardly more than k scores do,
    and two passes over the scores at memory speed replace a partition of each row.
    """
    n_items = scores.shape[1]
    group_size = int(np.clip(n_items // (4 * k), 1, LARGEST_GROUP))
    n_groups = n_items // group_size
    maxima = scores[:, :n_groups].copy()
    for start in range(n_groups, n_items, n_groups):
        part = scores[:, start : start + n_groups]
        np.maximum(maxima[:, : part.shape[1]], part, out=maxima[:, : part.shape[1]])
    has_nan = np.isnan(maxima).any(axis=1)
    maxima.partition(n_groups - k, axis=1)
    bound = maxima[:, [n_groups - k]]
    bound[has_nan] = np.nan
    return bound


def rank_in_batches(
    decision_function: Callable[[Any], np.ndarray],
    X: Any,
    seen: sp.csr_array,
    *,
    k: int,
    exclude_seen: bool = True,
) -> np.ndarray:
    """Rank the best `k` items for each row of `X`, never holding more than a batch of scores.

    Parameters
    ----------
    decision_function : callable
        Maps rows of X to scores of shape (n_rows, n_items).
    X : array-like, sparse array or DataFrame of shape (n_users, n_items)
        What the decision function takes; handed on row by row in the type it has.
    seen : CSR array of shape (n_users, n_items)
        The stored entries of X.
    k : int
        Number of ranks.
    exclude_seen : bool, default=True
        Whether stored entries are left out.

    Returns
    -------
    ranking : ndarray of shape (n_users, k), dtype int64
        Item indices, best first, -1 past the last item that may be ranked.

    Raises
    ------
    MemoryError
        If the machine lacks the memory for so many ranks.
    """
    n_users, n_items = seen.shape
    n_ranked = min(k, n_items)
    n_bytes = 8 * n_users * k
    if n_bytes > BATCH_BYTES:  # else a batch of scores takes more
        check_memory(n_bytes, f"A ranking of k={k:,} items for {n_users:,} users")
    ranking = np.full((n_users, k), -1, dtype=np.int64)
    for rows in row_batches(*seen.shape):
        scores = np.asarray(decision_function(_safe_indexing(X, rows)))
        if scores.shape != (rows.stop - rows.start, n_items):
            raise ValueError(
                "decision_function must return a score for each item of each user, of shape "
                f"{(rows.stop - rows.start, n_items)}, got {scores.shape}."
            )
        known = seen[rows] if exclude_seen else None
        ranking[rows, :n_ranked] = top_k(scores, n_ranked, seen=known)
    return ranking


def row_batches(n_rows: int, n_items: int) -> Iterator[slice]:
    """Yield slices of rows whose scores in float64 stay within a fixed amount of memory."""
    return gen_batches(n_rows, max(1, BATCH_BYTES // (8 * n_items)))
