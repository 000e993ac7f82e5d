"""The split of users and of items that nobody has met."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from sklearn.utils import Bunch, check_random_state

from .._matrix import stored_entries, take_entries
from .._times import as_times
from .._typing import MatrixLike
from ._interactions import split_interactions, times_of
from ._split import check_count, check_share_or_count, number_of


def cold_start_split(
    X: MatrixLike,
    *,
    n_heldout: int,
    item_size: float | int = 0.1,
    test_size: float | int = 0.2,
    min_interactions: int = 5,
    time: Any = None,
    random_state: int | RandomState | None = None,
) -> Bunch:
    """Split users and items, so that models meet neither the test users nor the new items.

    A share of the items is new: the training users' interactions with them are dropped. Validation
    and test users are random users, as in strong generalization. All of a held-out user's
    interactions with new items are held out, and a share of those with old items::

                    old        new
        users    1 . 1 1 .  |  . . .     train: interactions with new items dropped
                 . 1 . 1 1  |  . . .
                 ----------------------
                 1 . ? 1 .  |  ? . ?     valid: fold-in 1, held out ?
                 . 1 1 . ?  |  . ? .     test

    Items are columns: the order of columns is that of X and of the item features. A model that
    knows the features of the new items is fitted on ``train`` with all columns. A model that meets
    them after the fit is fitted on the columns ``old_items``, and extended by ``with_items``.

    Parameters
    ----------
    X : {array-like, sparse array} of shape (n_users, n_items)
        Positive interactions; ratings have to be binarized before.
    n_heldout : int
        Number of validation users and number of test users.
    item_size : float or int, default=0.1
        If float, the proportion of new items among the items with interactions, rounded up. If
        int, their number.
    test_size : float or int, default=0.2
        If float, the proportion of a held-out user's interactions with old items that are held
        out, rounded up. If int, their number. One interaction remains in any case.
    min_interactions : int, default=5
        Users with fewer interactions are dropped.
    time : array-like of shape (n_items,), sparse array of shape (n_users, n_items) or None, \
            default=None
        If given, the latest items are new: the date of each item, or that of each interaction, of
        which the first one of an item counts. Of equal dates the higher index counts as later. If
        None, random items are new.
    random_state : int, RandomState instance or None, default=None
        Controls which users and items are drawn.

    Returns
    -------
    split : Bunch
        ``train``, ``valid_fold_in``, ``valid_held_out``, ``test_fold_in``, ``test_held_out``: CSR
        arrays with the columns of X. ``old_items``, ``new_items``: sorted indices of columns.
        ``train_users``, ``valid_users``, ``test_users``: rows of X that are their rows.

    Raises
    ------
    ValueError
        If there are too few users for `n_heldout` or too few items, `time` has another shape, or
        a parameter is out of range.

    See Also
    --------
    sklrec.metrics.evaluate_new_items : Metrics of new and old items.
    sklrec.preprocessing.HideItems : New items in a search.

    Examples
    --------
    >>> import numpy as np
    >>> from sklrec.model_selection import cold_start_split
    >>> split = cold_start_split(np.ones((10, 6)), n_heldout=2, item_size=2, random_state=0)
    >>> split.new_items
    array([1, 2])
    >>> split.train[:2].toarray()
    array([[1., 0., 0., 1., 1., 1.],
           [1., 0., 0., 1., 1., 1.]])
    >>> (split.test_fold_in + 2 * split.test_held_out).toarray()
    array([[1., 2., 2., 2., 1., 1.],
           [1., 2., 2., 2., 1., 1.]])
    """
    check_count("n_heldout", n_heldout, least=1)
    check_count("min_interactions", min_interactions, least=0)
    check_share_or_count(test_size)
    check_share_or_count(item_size, name="item_size")
    rng = check_random_state(random_state)
    X = stored_entries(X)
    users = np.flatnonzero(np.diff(X.indptr) >= min_interactions)
    if 2 * n_heldout >= users.size:
        raise ValueError(
            f"n_heldout={n_heldout} asks for {2 * n_heldout} held-out users and some to train on, "
            f"but only {users.size} users have at least {min_interactions} interactions."
        )
    users = rng.permutation(users)
    train, valid, test = (
        np.sort(part) for part in np.split(users, [users.size - 2 * n_heldout, -n_heldout])
    )
    is_new = _new_items(X, item_size, time, rng)
    split = Bunch(
        train=take_entries(X[train], ~is_new[X[train].indices]),
        old_items=np.flatnonzero(~is_new),
        new_items=np.flatnonzero(is_new),
        train_users=train,
        valid_users=valid,
        test_users=test,
    )
    for name, chosen in (("valid", valid), ("test", test)):
        rows = X[chosen]
        old, new = (take_entries(rows, is_new[rows.indices] == side) for side in (False, True))
        fold_in, held_out = split_interactions(old, test_size, random_state=rng)
        split[f"{name}_fold_in"] = fold_in
        split[f"{name}_held_out"] = sp.csr_array(held_out + new)
    return split


def _new_items(X: sp.csr_array, size: float | int, time: Any, rng: RandomState) -> np.ndarray:
    """Return whether each item is new."""
    items = np.flatnonzero(np.bincount(X.indices, minlength=X.shape[1]))
    n_new = int(number_of(size, np.array(items.size)))
    if n_new >= items.size:
        raise ValueError(
            f"item_size={size} asks for {n_new} new items and some old ones, but only {items.size} "
            "items have interactions."
        )
    if time is None:
        chosen = rng.choice(items, n_new, replace=False)
    else:
        chosen = items[np.argsort(_dates(X, time)[items], kind="stable")[items.size - n_new :]]
    is_new = np.zeros(X.shape[1], dtype=bool)
    is_new[chosen] = True
    return is_new


def _dates(X: sp.csr_array, time: Any) -> np.ndarray:
    """Return the date of each item as a number."""
    n_items = X.shape[1]
    if not sp.issparse(time):
        dates = as_times(time)
        if dates.shape != (n_items,):
            raise ValueError(
                f"time must have a date for each of the {n_items} items, or be a sparse array of "
                f"shape {X.shape}, got shape {dates.shape}."
            )
        return dates
    of_entry = times_of(X, time)
    dates = np.full(n_items, of_entry.max())
    np.minimum.at(dates, X.indices, of_entry)
    return dates
