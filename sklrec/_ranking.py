"""Rankings of items by their scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from ._linalg import blocks, in_threads
from ._matrix import canonical_csr, check_matrix, take_entries
from ._memory import check_memory
from ._sklearn import _safe_indexing, n_threads

# Scores of one batch of rows stay below this many bytes, so that memory does not grow with the
# number of users; smaller batches fit the caches better but call the model more often.
BATCH_BYTES = 2**26

# With fewer rows, the time of a product with a model's weights is that of reading the weights, and
# does not depend on the number of rows. Batches of large catalogues have this many rows, if their
# scores are within LARGEST_BATCH_BYTES.
FEW_ROWS = 64
LARGEST_BATCH_BYTES = 2**29

# Size of the scores that each thread ranks at a time, which fit into the cache.
CACHED_BYTES = 2**22

# Maximum size of a group of scores, for the lower bound of the k-th best score.
LARGEST_GROUP = 32


@dataclass(frozen=True, eq=False)
class Excluded:
    """Items that must not be ranked, by any of three parameters.

    Parameters
    ----------
    entries : CSR array of shape (n_rows, n_items) or None, default=None
        Stored entries are not ranked, such as the seen items of each row.
    items : ndarray of bool of shape (n_items,) or None, default=None
        True for items that are not ranked in any row.
    all_but : CSR array of shape (n_rows, n_items) or None, default=None
        Only stored entries are ranked: the candidates of each row.
    """

    entries: sp.csr_array | None = None
    items: np.ndarray | None = None
    all_but: sp.csr_array | None = None

    def __getitem__(self, rows: slice) -> Excluded:
        """Return the excluded items of some rows."""
        return Excluded(
            None if self.entries is None else self.entries[rows],
            self.items,
            None if self.all_but is None else self.all_but[rows],
        )

    def mask(self, scores: np.ndarray, first_row: int = 0) -> None:
        """Set scores of excluded items to minus infinity, in place, for rows from `first_row`."""
        if self.all_but is not None:
            candidates = _positions(self.all_but, first_row, len(scores))
            kept = scores[candidates]
            scores.fill(-np.inf)
            scores[candidates] = kept
        if self.items is not None:
            scores[:, self.items] = -np.inf
        if self.entries is not None:
            scores[_positions(self.entries, first_row, len(scores))] = -np.inf

    def among_candidates(self, M: sp.csr_array) -> sp.csr_array:
        """Return a CSR array with the entries of M that `items` and `all_but` do not exclude."""
        if self.all_but is not None:
            M = canonical_csr(M.multiply(self.all_but != 0))
        return M if self.items is None else take_entries(M, ~self.items[M.indices])


def _positions(X: sp.csr_array, first_row: int, n_rows: int) -> tuple[Any, np.ndarray]:
    """Return the row and the column of each entry of some rows, faster than with slices."""
    if X.shape[0] == 1:
        return 0, X.indices
    indptr = X.indptr[first_row : first_row + n_rows + 1]
    return np.repeat(np.arange(n_rows), np.diff(indptr)), X.indices[indptr[0] : indptr[-1]]


def top_k(
    scores: np.ndarray, k: int, *, excluded: Excluded | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rank the best `k` columns of each row.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_items)
        Scores; higher is better, and minus infinity is not ranked. They are not changed.
    k : int
        Number of ranks, at least 1.
    excluded : Excluded or None, default=None
        Items that must not be ranked.

    Returns
    -------
    ranking : ndarray of shape (n_rows, k), dtype int64
        Column indices, best first. Columns with equal scores are ordered by index. -1 means that
        there are fewer than `k` columns to rank.
    best : ndarray of shape (n_rows, k)
        Scores of these columns; minus infinity for -1.

    Raises
    ------
    ValueError
        If a score is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> top_k(np.array([[0.5, 2.0, 0.5, -np.inf]]), k=4)
    (array([[ 1,  0,  2, -1]]), array([[ 2. ,  0.5,  0.5, -inf]]))
    """
    dtype = np.result_type(scores, np.float32)
    n_rows, n_items = scores.shape
    if n_rows == 1 and k <= n_items:
        return _top_k_of_row(scores.astype(dtype), k, excluded)
    n_ranked = min(k, n_items)
    ranking = np.full((n_rows, k), -1, dtype=np.int64)
    best = np.full((n_rows, k), -np.inf, dtype=dtype)

    # Several passes over few rows stay in the cache; passes over all rows would not.
    n_together = min(max(1, CACHED_BYTES // (dtype.itemsize * n_items)), max(1, n_rows))

    def rank(share: slice) -> None:
        buffer = np.empty((n_together, n_items), dtype=dtype)
        for rows in blocks(share.stop - share.start, n_together):
            first, last = share.start + rows.start, share.start + rows.stop
            part = buffer[: last - first]
            part[:] = scores[first:last]
            if excluded is not None:
                excluded.mask(part, first)
            item, value = _rank_in_cache(part, n_ranked, first_row=first)
            best[first:last, :n_ranked] = value
            ranking[first:last, :n_ranked] = np.where(value == -np.inf, -1, item)

    in_threads(rank, blocks(n_rows, max(1, -(-n_rows // n_threads()))), work=scores.size)
    return ranking, best


def _rank_in_cache(scores: np.ndarray, k: int, *, first_row: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of the best `k` scores of each row, best first, and these scores."""
    n_rows, n_items = scores.shape
    bound = _kth_best_bound(scores, k)
    if np.isnan(bound).any():
        row = int(np.flatnonzero(np.isnan(bound))[0])
        raise _nan_in_row(scores[row], first_row + row)
    candidate = scores >= bound
    flat = np.flatnonzero(candidate)  # row by row, by index in each row
    start = np.searchsorted(flat, np.arange(n_rows + 1) * n_items)
    crowded = np.diff(start) > 4 * k
    if crowded.any():
        # Many scores equal the bound, as in a row of zeros. Only the first k of them can be in the
        # ranking, so the others need not be sorted.
        level = scores[crowded] == bound[crowded]
        candidate[crowded] &= ~level | (level.cumsum(axis=1, dtype=np.int32) <= k)
        flat = np.flatnonzero(candidate)
        start = np.searchsorted(flat, np.arange(n_rows + 1) * n_items)

    # The candidates of each row, padded with minus infinity.
    n_candidates = np.diff(start)
    row = np.repeat(np.arange(n_rows), n_candidates)
    place = np.arange(flat.size) - start[row]
    item = np.zeros((n_rows, n_candidates.max()), dtype=np.int64)
    value = np.full(item.shape, -np.inf, dtype=scores.dtype)
    item[row, place] = flat - row * n_items
    value[row, place] = scores.ravel()[flat]
    order = np.argsort(-value, axis=1, kind="stable")[:, :k]  # ties stay in the order of index
    return np.take_along_axis(item, order, axis=1), np.take_along_axis(value, order, axis=1)


def _top_k_of_row(
    scores: np.ndarray, k: int, excluded: Excluded | None
) -> tuple[np.ndarray, np.ndarray]:
    """Do as :func:`top_k` for one row, whose scores are changed, in a third of the time."""
    if excluded is not None:
        excluded.mask(scores)
    row = scores[0]
    # The maxima of groups of scores and the remaining scores: a lower bound, as for many rows.
    group_size = _group_size(row.size, k)
    n_dealt = row.size - row.size % group_size
    maxima = row[:n_dealt].reshape(group_size, -1).max(axis=0)
    if n_dealt < row.size:
        maxima = np.concatenate([maxima, row[n_dealt:]])
    place = maxima.size - k
    maxima.partition([place, maxima.size - 1])  # NaN is last
    if np.isnan(maxima[-1]):
        raise _nan_in_row(row, 0)
    bound = maxima[place]
    item = np.flatnonzero(row >= bound)
    value = row[item]
    if item.size > 4 * k:  # many equal the bound
        level = value == bound
        kept = ~level | (level.cumsum() <= k)
        item, value = item[kept], value[kept]
    order = np.argsort(-value, kind="stable")[:k]
    item, value = item[order], value[order]
    if value[-1] == -np.inf:
        item[value == -np.inf] = -1
    return item[None], value[None]


def _nan_in_row(scores: np.ndarray, row: int) -> ValueError:
    return ValueError(f"Scores must not be NaN, but row {row} has {np.isnan(scores).sum()} NaN.")


def _group_size(n_items: int, k: int) -> int:
    return min(max(1, n_items // (4 * k)), LARGEST_GROUP)


def _kth_best_bound(scores: np.ndarray, k: int) -> np.ndarray:
    """Return a lower bound of the k-th best score of each row, as a column.

    Columns are divided into groups. The bound is the k-th largest of the maxima of the groups,
    which at least k scores reach. With several times more groups than k, not many more scores do,
    and two passes over the scores replace a partition of each row.
    """
    n_items = scores.shape[1]
    group_size = _group_size(n_items, k)
    n_groups = n_items // group_size
    n_dealt = group_size * n_groups
    maxima = scores[:, :n_dealt].reshape(-1, group_size, n_groups).max(axis=1)
    for start in range(n_dealt, n_items, n_groups):
        rest = scores[:, start : start + n_groups]
        np.maximum(maxima[:, : rest.shape[1]], rest, out=maxima[:, : rest.shape[1]])
    has_nan = np.isnan(maxima).any(axis=1)
    maxima.partition(n_groups - k, axis=1)
    bound = maxima[:, [n_groups - k]]
    bound[has_nan] = np.nan
    return bound


def exclusions(
    shape: tuple[int, int], *, seen: sp.csr_array | None, items: Any = None, exclude: Any = None
) -> Excluded:
    """Return the excluded items, from the parameters of ``predict_ranking``.

    Parameters
    ----------
    shape : tuple of int
        Numbers of users and items.
    seen : CSR array of shape (n_users, n_items) or None
        Entries that are not ranked.
    items, exclude : array-like of int, sparse array of shape (n_users, n_items) or None
        The only candidates, and items that are not ranked, for all users or for each user.

    Raises
    ------
    ValueError
        If `items` or `exclude` are neither item indices nor of the shape of X, or there is no
        candidate.
    """
    never = all_but = None
    if sp.issparse(items):
        all_but = check_matrix(items, "items", shape=shape, dtype="numeric")
    elif items is not None:
        candidates = item_indices(items, "items", shape[1])
        if not candidates.size:
            raise ValueError("items must have at least one item, got none.")
        never = np.ones(shape[1], dtype=bool)
        never[candidates] = False
    entries = seen
    if sp.issparse(exclude):
        entries = check_matrix(exclude, "exclude", shape=shape, dtype="numeric")
        if seen is not None:
            entries = canonical_csr((seen != 0) + (entries != 0))
    elif exclude is not None:
        never = np.zeros(shape[1], dtype=bool) if never is None else never
        never[item_indices(exclude, "exclude", shape[1])] = True
    return Excluded(entries, never, all_but)


def only_targets(held_out: sp.csr_array, targets: Any) -> sp.csr_array:
    """Return the entries of a CSR array that are in the columns `targets`; None means all."""
    if targets is None:
        return held_out
    counts = np.zeros(held_out.shape[1], dtype=bool)
    counts[item_indices(targets, "targets", counts.size)] = True
    return take_entries(held_out, counts[held_out.indices])


def item_indices(items: Any, name: str, n_items: int) -> np.ndarray:
    indices = np.asarray(items)
    if indices.ndim != 1 or not (indices.dtype.kind in "iu" or not indices.size):
        raise ValueError(
            f"{name} must be a list of item indices or a sparse array with a row for each user, "
            f"got {items!r}."
        )
    outside = indices[(indices < 0) | (indices >= n_items)]
    if outside.size:
        raise ValueError(f"{name} must be between 0 and {n_items - 1}, got {outside[0]}.")
    return indices.astype(np.int64)


def rank_rows(estimator: Any, X: Any, k: int, excluded: Excluded) -> tuple[np.ndarray, np.ndarray]:
    """Rank the best `k` items for one batch of rows by the scores of ``decision_function``.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator with ``decision_function``.
    X : {array-like, sparse array or DataFrame} of shape (n_rows, n_items)
        Input of the estimator.
    k : int
        Number of ranks.
    excluded : Excluded
        Items that must not be ranked.

    Returns
    -------
    ranking, scores : ndarrays of shape (n_rows, k)
        Result of :func:`top_k`.

    Raises
    ------
    ValueError
        If the scores have another shape than X, or one of them is NaN.
    """
    scores = np.asarray(estimator.decision_function(X))
    if scores.shape != X.shape:
        raise ValueError(
            "decision_function must return a score for each item of each user, of shape "
            f"{X.shape}, got {scores.shape}."
        )
    return top_k(scores, k, excluded=excluded)


def rank_batch(estimator: Any, X: Any, k: int, excluded: Excluded) -> tuple[np.ndarray, np.ndarray]:
    """Rank one batch of rows by the estimator's ``_rank_rows`` or by :func:`rank_rows`."""
    own = getattr(estimator, "_rank_rows", None)
    return own(X, k, excluded) if own else rank_rows(estimator, X, k, excluded)


def rows_at_once(estimator: Any) -> int | None:
    """Return for how many rows a model on a GPU has the memory, None for any other."""
    return getattr(estimator, "_rows_at_once", lambda: None)()


def rank_in_batches(
    estimator: Any, X: Any, *, k: int, excluded: Excluded, return_scores: bool = False
) -> Any:
    """Rank the best `k` items for each row of `X`, in batches.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator with ``_rank_rows`` or ``decision_function``.
    X : {ndarray, sparse array or DataFrame} of shape (n_users, n_items)
        Input of the estimator. Batches have the same type.
    k : int
        Number of ranks.
    excluded : Excluded
        Items that must not be ranked.
    return_scores : bool, default=False
        Whether to return the scores too.

    Returns
    -------
    ranking : ndarray of shape (n_users, k), dtype int64
        Item indices, best first; -1 if there are fewer than `k` items to rank.
    scores : ndarray of shape (n_users, k)
        Scores of these items; minus infinity for -1. Only with `return_scores`.

    Raises
    ------
    MemoryError
        If the memory of the machine is too small for the ranking.
    """
    n_users, n_items = X.shape
    if n_users == 1 and k <= n_items:
        found, best = rank_batch(estimator, X, k, excluded)
        return (found, best) if return_scores else found
    n_bytes = (16 if return_scores else 8) * n_users * k
    if n_bytes > BATCH_BYTES:  # otherwise a batch of scores takes more
        check_memory(n_bytes, f"A ranking of k={k:,} items for {n_users:,} users")
    ranking = np.full((n_users, k), -1, dtype=np.int64)
    scores = None
    n_rows = rows_at_once(estimator)
    batches = blocks(n_users, n_rows) if n_rows else row_batches(n_users, n_items)
    for rows in batches:
        if rows == slice(0, n_users):  # without a copy, for fast rankings of one user
            batch, left_out = X, excluded
        else:
            batch, left_out = _safe_indexing(X, rows), excluded[rows]
        found, best = rank_batch(estimator, batch, min(k, n_items), left_out)
        ranking[rows, : found.shape[1]] = found
        if return_scores:
            if scores is None:
                scores = np.full(ranking.shape, -np.inf, dtype=best.dtype)
            scores[rows, : found.shape[1]] = best
    return (ranking, scores) if return_scores else ranking


def rank_like(
    estimator: Any, fold_in: sp.csr_array, *, k: int, like: Any, excluded: Excluded
) -> np.ndarray:
    """Rank k items for rows of `fold_in` with any estimator that has ``decision_function``.

    If `like` is a DataFrame, batches of `fold_in` are converted to DataFrames with its columns, as
    estimators that were fitted with names check them.
    """
    if not hasattr(estimator, "decision_function"):
        raise TypeError(
            f"A ranking needs an estimator with decision_function, got {type(estimator).__name__}."
        )
    if hasattr(like, "columns"):  # of pandas or polars
        estimator = _OfFrames(estimator, like)
    return rank_in_batches(estimator, fold_in, k=k, excluded=excluded)


def rank_unseen(estimator: Any, fold_in: sp.csr_array, *, k: int, like: Any) -> np.ndarray:
    """Rank k items that are not in `fold_in`, as :func:`rank_like` does."""
    return rank_like(estimator, fold_in, k=k, like=like, excluded=Excluded(entries=fold_in))


class _OfFrames:
    """Estimator that converts sparse rows to DataFrames with given columns."""

    def __init__(self, estimator: Any, like: Any) -> None:
        self.estimator = estimator
        self.like = like

    def _rows_at_once(self) -> int | None:
        return rows_at_once(self.estimator)

    def _rank_rows(
        self, X: sp.csr_array, k: int, excluded: Excluded
    ) -> tuple[np.ndarray, np.ndarray]:
        names = "columns" if hasattr(self.like, "iloc") else "schema"  # of pandas, of polars
        frame = type(self.like)(X.toarray(), **{names: list(self.like.columns)})
        return rank_batch(self.estimator, frame, k, excluded)


def row_batches(n_rows: int, n_items: int) -> Iterator[slice]:
    """Yield slices of rows whose scores in float64 stay within a fixed amount of memory."""
    row_bytes = 8 * n_items
    few = min(FEW_ROWS, LARGEST_BATCH_BYTES // row_bytes)
    return blocks(n_rows, max(1, BATCH_BYTES // row_bytes, few))
