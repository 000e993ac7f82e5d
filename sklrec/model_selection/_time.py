"""Searches that train on what came before a date and test on what came after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import BaseCrossValidator

from .._matrix import stored_entries
from .._typing import MatrixLike

_USERS = ("all", "known", "new")


class TimeSplit(BaseCrossValidator):
    """Train on what came before a date and test on what came after it.

    A model that is tested by interactions of one year must not have seen those of the next, of
    any user. The date is given to :func:`split_interactions`, which cuts the matrix in two. What
    came before it is the X of a search, and what came after it the y, so that neither training
    nor the final fit on all of X meets anything later::

                 X: before     y: after
        users    1 . 1 . .     . . . 1 .     known: in training, and tested
                 . 1 . . 1     . . . . .     in training only: nothing came after
                 . . . . .     1 . 1 . .     new: tested only

    :class:`sklrec.metrics.RankingScorer` ranks from a user's row of X and looks for that of y. Of
    new users nothing is known at the date: every model recommends the most popular items to them.

    Parameters
    ----------
    users : {"all", "known", "new"}, default="all"
        Which users are tested: all who have interactions after the date, those of them who have
        some before it, or those who have not.

    See Also
    --------
    split_interactions : With a `cutoff`, splits a matrix at a date.
    StrongGeneralizationSplit : Holds out users whatever the time.

    Notes
    -----
    There is one split. To see how a model does at several dates, loop over them with
    :func:`split_interactions` and :func:`sklrec.metrics.evaluate`. For the final model, with all
    that is known today, fit ``best_estimator_`` on the sum of both parts.

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
            Row indices of users with interactions in X, in order.
        test : ndarray of int
            Row indices of users with interactions in y, in order. Known users are in train too.

        Raises
        ------
        ValueError
            If y is missing, is not of the shape of X or has entries of X, or if there are no
            users to train on or to test.
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
                f"y must hold what came after the date and X what came before it, but {n_common} "
                "interactions are in both: a model would be trained on what it is tested by."
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
