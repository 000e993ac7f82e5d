"""The split of users into those before and those after a date."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import BaseCrossValidator

from .._matrix import stored_entries
from .._typing import MatrixLike

_USERS = ("all", "known", "new")


class TimeSplit(BaseCrossValidator):
    """Train on interactions before a date and test on interactions after it.

    A model that is tested on a date must not be trained on later interactions, of any user.
    :func:`split_interactions` splits a matrix at a date. Pass the interactions before it to a
    search as X and those after it as y, so that no fit, including the final one, uses later
    interactions::

                 X: before     y: after
        users    1 . 1 . .     . . . 1 .     known: training and test user
                 . 1 . . 1     . . . . .     training user
                 . . . . .     1 . 1 . .     new: test user

    :class:`sklrec.metrics.RankingScorer` ranks all items given a test user's row of X and looks
    for the items of the row of y. Nothing is known of new users at the date, so that all models
    recommend the most popular items to them.

    Parameters
    ----------
    users : {"all", "known", "new"}, default="all"
        The test users: all users with interactions after the date, those of them with interactions
        before it, or those without.

    See Also
    --------
    split_interactions : Split a matrix at a date with the parameter `cutoff`.
    StrongGeneralizationSplit : Random splits of users.

    Notes
    -----
    There is one split. To evaluate a model at several dates, loop over them with
    :func:`split_interactions` and :func:`sklrec.metrics.evaluate`. For a model of all
    interactions, fit a clone of ``best_estimator_`` on ``X + y``.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklrec.linear import EASE
    >>> from sklrec.metrics import RankingScorer
    >>> from sklrec.model_selection import TimeSplit, split_interactions
    >>> X = csr_array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 1], [1, 0, 1, 0, 0]])
    >>> time = csr_array([[1, 0, 2, 5, 0], [0, 1, 0, 0, 3], [6, 0, 7, 0, 0]])
    >>> before, after = split_interactions(X, time=time, cutoff=5)
    >>> list(TimeSplit().split(before, after))
    [(array([0, 1]), array([0, 2]))]
    >>> search = GridSearchCV(EASE(), {"lambda_": [1, 10]}, cv=TimeSplit("known"),
    ...                       scoring=RankingScorer("ndcg@2")).fit(before, after)
    """

    def __init__(self, users: str = "all") -> None:
        if users not in _USERS:
            raise ValueError(f"users must be one of {list(_USERS)}, got {users!r}.")
        self.users: str = users

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits, which is 1; the arguments are ignored."""
        return 1

    def split(
        self, X: MatrixLike, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the indices of training and test users.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions before the date.
        y : {array-like, sparse array} of shape (n_users, n_items)
            Interactions after the date, none of which is in X.
        groups : object
            Ignored.

        Yields
        ------
        train : ndarray of int
            Sorted row indices of the users with interactions in X.
        test : ndarray of int
            Sorted row indices of the test users. Known users are also in `train`.

        Raises
        ------
        ValueError
            If y is None, has another shape than X or has common entries with X, or if there are no
            training or test users.
        """
        if y is None:
            raise ValueError(
                "TimeSplit needs y, the interactions after the date: "
                "before, after = split_interactions(X, time=time, cutoff=date)."
            )
        X, y = stored_entries(X), stored_entries(y)
        if X.shape != y.shape:
            raise ValueError(f"y must have the shape of X, {X.shape}, got {y.shape}.")
        n_common = ((X != 0) * (y != 0)).nnz
        if n_common:
            raise ValueError(
                f"X must hold interactions before the date and y those after it, but {n_common} "
                "interactions are in both, so that models would be trained on test data."
            )
        is_known = np.diff(X.indptr) > 0
        is_tested = np.diff(y.indptr) > 0
        if self.users != "all":
            is_tested &= is_known == (self.users == "known")
        for name, chosen in (("X", is_known), ("y", is_tested)):
            if not chosen.any():
                raise ValueError(
                    f"{name} has no interactions of users to split, users={self.users!r}."
                )
        yield np.flatnonzero(is_known), np.flatnonzero(is_tested)
