"""Splits of users, and of each user's interactions."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import Bunch, check_random_state

from .._matrix import canonical_csr, stored_entries, take_entries
from .._typing import MatrixLike


class StrongGeneralizationSplit(BaseCrossValidator):
    """Hold out whole users: no user of a test set has a part in training.

    Strong generalization [1]_ asks what a model does for users it has never seen. A test user's
    row stays whole here; :class:`sklrec.metrics.RankingScorer` hides a part of it and ranks it
    back from the rest, the fold-in::

                     items
        users   1 . 1 1 . . 1      train: fitted on whole rows
                . 1 1 . . 1 .
                ---------------
                1 . ? 1 . ? .      test: fold-in 1, held out ?

    Parameters
    ----------
    n_splits : int, default=5
        Number of random draws of test users, each from all users.
    test_size : float or int, default=0.2
        Share of the users with at least `min_interactions` to hold out, rounded up, or their
        number.
    min_interactions : int, default=2
        Users with fewer nonzero entries are never held out: a single one cannot be split into
        fold-in and held-out part. They stay in training.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.

    References
    ----------
    .. [1] B. Marlin, "Collaborative Filtering: A Machine Learning Perspective", 2004.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.tri(6)
    >>> for train, test in StrongGeneralizationSplit(2, test_size=2, random_state=0).split(X):
    ...     print(train, test)
    [0 2 4 5] [1 3]
    [0 2 4 5] [1 3]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        test_size: float | int = 0.2,
        min_interactions: int = 2,
        random_state: int | RandomState | None = None,
    ) -> None:
        _check_count("n_splits", n_splits, least=1)
        _check_share_or_count(test_size)
        _check_count("min_interactions", min_interactions, least=0)
        self.n_splits: int = n_splits
        self.test_size: float | int = test_size
        self.min_interactions: int = min_interactions
        self.random_state: int | RandomState | None = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits; the arguments are ignored."""
        return self.n_splits

    def split(
        self, X: MatrixLike, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the indices of training and test users.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions.
        y, groups : object
            Ignored.

        Yields
        ------
        train : ndarray of int
            Row indices of training users, in order.
        test : ndarray of int
            Row indices of test users, in order; none of them is in train.

        Raises
        ------
        ValueError
            If there are too few users to hold out, or none left to train on.
        """
        rng = check_random_state(self.random_state)
        X = stored_entries(X)
        for _ in range(self.n_splits):
            is_test = hold_out_users(X, self.test_size, rng, min_interactions=self.min_interactions)
            yield np.flatnonzero(~is_test), np.flatnonzero(is_test)


def hold_out_users(
    X: sp.csr_array,
    size: float | int,
    rng: RandomState | np.random.Generator,
    *,
    min_interactions: int = 2,
    name: str = "test_size",
) -> np.ndarray:
    """Draw users to hold out, at random from those with enough interactions.

    Parameters
    ----------
    X : csr_array of shape (n_users, n_items)
        Interactions in canonical form, see :func:`sklrec._matrix.canonical_csr`.
    size : float or int
        Share of the users with at least `min_interactions`, rounded up, or number of users.
    rng : RandomState or Generator
        The generator to draw with.
    min_interactions : int, default=2
        Users with fewer nonzero entries are never held out.
    name : str, default="test_size"
        The parameter that `size` comes from, for errors.

    Returns
    -------
    is_held_out : ndarray of shape (n_users,), dtype bool
        Whether each user is held out.

    Raises
    ------
    ValueError
        If there are too few users to hold out, or none is left to train on.
    """
    n_users, n_items = X.shape
    eligible = np.flatnonzero(np.diff(X.indptr) >= min_interactions)
    n_held_out = max(1, int(_number_of(size, np.array(eligible.size))))
    if n_held_out >= n_users:
        raise ValueError(
            f"{name}={size} asks for {n_held_out} of {n_users} users, which leaves none to train "
            f"on: X has n_samples={n_users}, n_features={n_items}."
        )
    if n_held_out > eligible.size:
        raise ValueError(
            f"{name}={size} asks for {n_held_out} held-out users, but only {eligible.size} users "
            f"have at least {min_interactions} interactions: X has n_samples={n_users}, "
            f"n_features={n_items}."
        )
    is_held_out = np.zeros(n_users, dtype=bool)
    is_held_out[rng.choice(eligible, n_held_out, replace=False)] = True
    return is_held_out


def split_interactions(
    X: MatrixLike,
    test_size: float | int = 0.2,
    *,
    threshold: float = 0.0,
    time: Any = None,
    random_state: int | RandomState | None = None,
) -> tuple[sp.csr_array, sp.csr_array]:
    """Split each user's interactions into a fold-in and a held-out part.

    At least one relevant entry of each user stays in the fold-in; a user with fewer than two has
    nothing held out.

    ========== ======================= =====================
    row of X   fold_in                 held_out
    ========== ======================= =====================
    5 1 4 0 5  5 1 0 0 5               0 0 4 0 0
    0 4 0 0 0  0 4 0 0 0               0 0 0 0 0
    ========== ======================= =====================

    Parameters
    ----------
    X : {array-like, sparse array} of shape (n_users, n_items)
        Interactions, non-negative.
    test_size : float or int, default=0.2
        Share of each user's relevant entries to hold out, rounded up, or their number.
    threshold : float, default=0.0
        Entries above it are relevant, and only they are held out.
    time : sparse array of shape (n_users, n_items) or None, default=None
        When each interaction took place. Where it is given, each user's latest entries are held
        out, of equal times those of the higher item index; else random ones.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw; not used with `time`.

    Returns
    -------
    fold_in, held_out : CSR arrays of shape (n_users, n_items)
        They add up to X.

    Raises
    ------
    ValueError
        If `test_size` is neither a share nor a count, or `time` has not the entries of X.

    Examples
    --------
    >>> import numpy as np
    >>> fold_in, held_out = split_interactions(np.array([[5, 1, 4, 0, 5]]), 1, threshold=3.5,
    ...                                        random_state=0)
    >>> fold_in.toarray(), held_out.toarray()
    (array([[0, 1, 4, 0, 5]]), array([[5, 0, 0, 0, 0]]))
    """
    _check_share_or_count(test_size)
    if not isinstance(threshold, Real) or np.isnan(threshold):
        raise ValueError(f"threshold must be a number, got {threshold!r}.")
    X = stored_entries(X)
    row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    relevant = np.flatnonzero(X.data > threshold)
    key = (
        check_random_state(random_state).random_sample(relevant.size)
        if time is None
        else -_times_of(X, time)[relevant]
    )
    n_relevant = np.bincount(row[relevant], minlength=X.shape[0])
    n_held_out = np.minimum(_number_of(test_size, n_relevant), np.maximum(n_relevant - 1, 0))

    # Sorted by user and then by key, the first n_held_out of each user are held out. Reversed
    # before and after, so that of equal keys the higher item index comes first.
    order = relevant.size - 1 - np.lexsort((key[::-1], row[relevant][::-1]))
    first = np.concatenate([[0], np.cumsum(n_relevant)[:-1]])
    rank = np.arange(relevant.size) - first[row[relevant][order]]
    held = np.zeros(X.nnz, dtype=bool)
    held[relevant[order]] = rank < n_held_out[row[relevant][order]]
    return take_entries(X, ~held), take_entries(X, held)


def strong_generalization_split(
    X: MatrixLike,
    *,
    n_heldout: int,
    test_size: float = 0.2,
    min_interactions: int = 5,
    random_state: int = 98765,
) -> Bunch:
    """Split a data set as published results on implicit feedback do.

    The split of [1]_, entry for entry: users with fewer than `min_interactions` are dropped, the
    last `n_heldout` of a random permutation are test users, those before them validation users.
    Items without training users are dropped. Of each held-out user ``int(test_size * n)`` of n
    entries are held out, none where n < 5. The generator is seeded anew for the validation users
    and for the test users.

    Use it to compare with published numbers; :class:`StrongGeneralizationSplit` for a search.

    Parameters
    ----------
    X : {array-like, sparse array} of shape (n_users, n_items)
        Positive interactions: binarize ratings first.
    n_heldout : int
        Number of validation users, and of test users.
    test_size : float, default=0.2
        Share of a held-out user's entries that are held out, rounded down.
    min_interactions : int, default=5
        Users with fewer nonzero entries are dropped.
    random_state : int, default=98765
        Seed; the default is the one of [1]_.

    Returns
    -------
    split : Bunch
        ``train``, ``valid_fold_in``, ``valid_held_out``, ``test_fold_in``, ``test_held_out``: CSR
        arrays with the values of X. ``item_indices``: columns of X that are their columns.
        ``train_users``, ``valid_users``, ``test_users``: rows of X that are their rows.

    Raises
    ------
    ValueError
        If there are too few users for `n_heldout`, or an argument is out of range.

    References
    ----------
    .. [1] D. Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018.

    Examples
    --------
    >>> import numpy as np
    >>> split = strong_generalization_split(np.ones((10, 6)), n_heldout=2)
    >>> split.train.shape, split.test_users, split.test_held_out.sum(axis=1)
    ((6, 6), array([3, 5]), array([1., 1.]))
    """
    if not isinstance(random_state, Integral) or isinstance(random_state, bool):
        raise ValueError(
            f"random_state must be an int, as two generators start from it, got {random_state!r}."
        )
    _check_count("n_heldout", n_heldout, least=1)
    _check_count("min_interactions", min_interactions, least=0)
    if not isinstance(test_size, Real) or not 0 < test_size < 1:
        raise ValueError(f"test_size must be a share between 0 and 1, got {test_size!r}.")
    X = stored_entries(X)
    users = np.flatnonzero(np.diff(X.indptr) >= min_interactions)
    if 2 * n_heldout >= users.size:
        raise ValueError(
            f"n_heldout={n_heldout} asks for {2 * n_heldout} held-out users and some to train on, "
            f"but only {users.size} users have at least {min_interactions} interactions."
        )
    users = users[RandomState(random_state).permutation(users.size)]
    train, valid, test = np.split(users, [users.size - 2 * n_heldout, users.size - n_heldout])
    train, valid, test = np.sort(train), np.sort(valid), np.sort(test)
    items = np.flatnonzero(np.bincount(X[train].indices, minlength=X.shape[1]))

    valid_fold_in, valid_held_out = _hide(X[valid][:, items], test_size, random_state)
    test_fold_in, test_held_out = _hide(X[test][:, items], test_size, random_state)
    return Bunch(
        train=X[train][:, items],
        valid_fold_in=valid_fold_in,
        valid_held_out=valid_held_out,
        test_fold_in=test_fold_in,
        test_held_out=test_held_out,
        item_indices=items,
        train_users=train,
        valid_users=valid,
        test_users=test,
    )


def _hide(X: sp.csr_array, test_size: float, seed: int) -> tuple[sp.csr_array, sp.csr_array]:
    """Draw each user's held-out entries as the published split does, user by user."""
    X = canonical_csr(X)
    rng = RandomState(seed)
    held = np.zeros(X.nnz, dtype=bool)
    for start, end in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        n = end - start
        if n >= 5:
            held[start + rng.choice(n, size=int(test_size * n), replace=False)] = True
    return take_entries(X, ~held), take_entries(X, held)


def _times_of(X: sp.csr_array, time: Any) -> np.ndarray:
    """Return the time of each stored entry of X."""
    if not sp.issparse(time) or time.shape != X.shape:
        raise ValueError(
            f"time must be a sparse array of shape {X.shape}, like X, got "
            f"{getattr(time, 'shape', time)!r}."
        )
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
    # A time of zero is a time: positions are compared, not values. X may have lost stored zeros.
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
    return time.data[position].astype(np.float64)


def _check_count(name: str, value: Any, *, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")


def _check_share_or_count(test_size: Any) -> None:
    if isinstance(test_size, Integral):
        fits = not isinstance(test_size, bool) and int(test_size) >= 1
    else:
        fits = isinstance(test_size, Real) and 0 < float(test_size) < 1
    if not fits:
        raise ValueError(
            "test_size must be a share between 0 and 1 or an integer of at least 1, "
            f"got {test_size!r}."
        )


def _number_of(test_size: float | int, n: np.ndarray) -> np.ndarray:
    """Return how many of `n` the size means; a share is rounded up."""
    if isinstance(test_size, Integral):
        return np.full(n.shape, test_size)
    # Rounded first: 0.28 * 25 is 7.000000000000001, which is meant to be 7.
    return np.ceil(np.round(test_size * n, 9)).astype(np.int64)
