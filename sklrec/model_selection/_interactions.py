"""Splits of each user's interactions."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from sklearn.utils import check_random_state

from .._matrix import stored_entries, take_entries
from .._times import as_cutoff, as_times
from .._typing import MatrixLike
from ._split import check_share_or_count, number_of


def split_interactions(
    X: MatrixLike,
    test_size: float | int = 0.2,
    *,
    threshold: float = 0.0,
    time: Any = None,
    cutoff: Any = None,
    time_unit: str = "ns",
    random_state: int | RandomState | None = None,
) -> tuple[sp.csr_array, sp.csr_array]:
    """Split each user's interactions into a fold-in and a held-out part.

    By default a share of each user's interactions is held out: random ones or, with `time`, the
    latest ones. At least one relevant entry of each user stays in the fold-in, so that nothing is
    held out of a user with a single one:

    ========== ======================= =====================
    row of X   fold_in                 held_out
    ========== ======================= =====================
    5 1 4 0 5  5 1 0 0 5               0 0 4 0 0
    0 4 0 0 0  0 4 0 0 0               0 0 0 0 0
    ========== ======================= =====================

    With `cutoff` all interactions are split at one date. Users with interactions on one side only
    have an empty row on the other side. With ``cutoff=6``:

    ========== =========== ======================= =====================
    row of X   time        fold_in                 held_out
    ========== =========== ======================= =====================
    5 1 4 0 5  1 2 3 . 6   5 1 4 0 0               0 0 0 0 5
    0 4 0 0 0  . 8 . . .   0 0 0 0 0               0 4 0 0 0
    ========== =========== ======================= =====================

    Parameters
    ----------
    X : {array-like, sparse array} of shape (n_users, n_items)
        Interactions, non-negative.
    test_size : float or int, default=0.2
        If float, the proportion of each user's relevant entries to hold out, rounded up. If int,
        the number of entries to hold out. Ignored if `cutoff` is given.
    threshold : float, default=0.0
        Entries above the threshold are relevant, and only these are held out. If `cutoff` is
        given, later entries that are not relevant are in neither part.
    time : sparse array of shape (n_users, n_items) or None, default=None
        The time of each interaction. If given, each user's latest entries are held out; of equal
        times, the entry with the higher item index counts as later. If None, random entries are
        held out.
    cutoff : int, float, str, datetime or None, default=None
        Entries before this date are in the fold-in, entries at this date or later are held out.
        A number is compared with `time` directly. A date is a datetime, a Timestamp of pandas or
        a string such as ``"2020-12-31"``, in UTC if it has no time zone.
    time_unit : {"s", "ms", "us", "ns"}, default="ns"
        The unit of `time`, which counts from 1970, if `cutoff` is a date.
        :class:`~sklrec.preprocessing.InteractionEncoder` encodes datetimes in nanoseconds,
        :func:`~sklrec.datasets.fetch_movielens` returns seconds.
    random_state : int, RandomState instance or None, default=None
        Controls which entries are drawn. Ignored if `time` is given.

    Returns
    -------
    fold_in, held_out : CSR arrays of shape (n_users, n_items)
        Their sum is X, except for later entries that are not relevant if `cutoff` is given.

    Raises
    ------
    ValueError
        If `test_size` is neither a proportion nor a count, if `time` lacks entries of X, or if
        there are no interactions before or after `cutoff`.

    See Also
    --------
    TimeSplit : Search with what came before a date to train on, and what came after it to test.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from sklrec.model_selection import split_interactions
    >>> X = np.array([[5, 1, 4, 0, 5]])
    >>> fold_in, held_out = split_interactions(X, 1, threshold=3.5, random_state=0)
    >>> fold_in.toarray(), held_out.toarray()
    (array([[0, 1, 4, 0, 5]]), array([[5, 0, 0, 0, 0]]))
    >>> time = csr_array([[10, 20, 30, 0, 40]])
    >>> before, after = split_interactions(X, time=time, cutoff=30)
    >>> before.toarray(), after.toarray()
    (array([[5, 1, 0, 0, 0]]), array([[0, 0, 4, 0, 5]]))
    """
    check_share_or_count(test_size)
    if not isinstance(threshold, Real) or np.isnan(threshold):
        raise ValueError(f"threshold must be a number, got {threshold!r}.")
    X = stored_entries(X)
    if cutoff is not None:
        return _split_at(X, time, cutoff, time_unit, threshold)
    row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    relevant = np.flatnonzero(X.data > threshold)
    key = (
        check_random_state(random_state).random_sample(relevant.size)
        if time is None
        else _latest_first(times_of(X, time))[relevant]
    )
    n_relevant = np.bincount(row[relevant], minlength=X.shape[0])
    n_held_out = np.minimum(number_of(test_size, n_relevant), np.maximum(n_relevant - 1, 0))

    # The first n_held_out entries of each user in the order of the keys are held out. The arrays
    # are reversed so that the stable sort puts the higher item index first if keys are equal.
    order = relevant.size - 1 - np.lexsort((key[::-1], row[relevant][::-1]))
    first = np.concatenate([[0], np.cumsum(n_relevant)[:-1]])
    rank = np.arange(relevant.size) - first[row[relevant][order]]
    held = np.zeros(X.nnz, dtype=bool)
    held[relevant[order]] = rank < n_held_out[row[relevant][order]]
    return take_entries(X, ~held), take_entries(X, held)


def _split_at(
    X: sp.csr_array, time: Any, cutoff: Any, time_unit: str, threshold: float
) -> tuple[sp.csr_array, sp.csr_array]:
    """Split all interactions at one date."""
    if time is None:
        raise ValueError(f"cutoff={cutoff!r} needs the time of each interaction, got time=None.")
    times = times_of(X, time)
    limit = as_cutoff(cutoff, time_unit)
    is_later = times >= limit
    if is_later.all() or not is_later.any():
        raise ValueError(
            f"cutoff={cutoff!r} must have interactions before it and after it, but in `time` it is "
            f"{limit}, with time_unit={time_unit!r}, and the times are from {times.min()} to "
            f"{times.max()}."
        )
    return take_entries(X, ~is_later), take_entries(X, is_later & (X.data > threshold))


def times_of(X: sp.csr_array, time: Any) -> np.ndarray:
    """Return the time of each stored entry of X."""
    if not sp.issparse(time) or time.shape != X.shape:
        raise ValueError(
            f"time must be a sparse array of shape {X.shape}, like X, got "
            f"{getattr(time, 'shape', time)!r}."
        )
    if time.dtype.kind == "M":  # scipy can store datetimes in CSR and CSC arrays, but no more
        numbers = as_times(time.data)
        time = type(time)((numbers, time.indices, time.indptr), shape=time.shape)
    n_stored = time.nnz
    time = sp.csr_array(time)
    if not time.has_canonical_format:
        time = time.copy()
        time.sum_duplicates()
    if time.nnz < n_stored:
        raise ValueError(
            "time must have one entry for each of X, "
            f"but {n_stored - time.nnz} of its {n_stored} are duplicates."
        )
    if not np.isfinite(time.data).all():
        raise ValueError("time must be finite, but it has NaN or infinite entries.")
    # Positions are compared instead of values, as a time may be zero.
    n_items = X.shape[1]
    key_x, key_time = (
        np.repeat(np.arange(M.shape[0], dtype=np.int64), np.diff(M.indptr)) * n_items + M.indices
        for M in (X, time)
    )
    position = np.searchsorted(key_time, key_x)
    missing = position >= key_time.size
    missing[~missing] = key_time[position[~missing]] != key_x[~missing]
    if missing.any():
        raise ValueError(
            f"time must have an entry for each of the {X.nnz} of X, "
            f"but {np.count_nonzero(missing)} are missing."
        )
    return time.data[position]


def _latest_first(times: np.ndarray) -> np.ndarray:
    """Return keys whose order is reversed; integers are not converted, as float64 rounds them."""
    return -times if times.dtype.kind == "f" else ~times  # -1 - t cannot overflow
