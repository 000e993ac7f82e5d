"""Random splits of users."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state

from .._matrix import stored_entries
from .._typing import MatrixLike


class StrongGeneralizationSplit(BaseCrossValidator):
    """Random splits of users into training and test users.

    Strong generalization [1]_ evaluates a model on users that it has not been trained on. The rows
    of test users are not split here: :class:`sklrec.metrics.RankingScorer` hides a part of each
    row and ranks all items given the rest, the fold-in::

                     items
        users   1 . 1 1 . . 1      train: fitted on whole rows
                . 1 1 . . 1 .
                ---------------
                1 . ? 1 . ? .      test: fold-in 1, held out ?

    Parameters
    ----------
    n_splits : int, default=5
        Number of splits. Each draws its test users from all users.
    test_size : float or int, default=0.2
        If float, the proportion of the users with at least `min_interactions` to hold out, rounded
        up. If int, the number of users to hold out.
    min_interactions : int, default=2
        Users with fewer nonzero entries are training users in all splits, as a single entry cannot
        be split into a fold-in and a held-out part.
    random_state : int, RandomState instance or None, default=None
        Controls which users are drawn. Pass an int for the same splits in every call.

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
        check_count("n_splits", n_splits, least=1)
        check_share_or_count(test_size)
        check_count("min_interactions", min_interactions, least=0)
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
            Sorted row indices of the training users.
        test : ndarray of int
            Sorted row indices of the test users, which are not training users.

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
    """Draw the users to hold out from those with enough interactions.

    Parameters
    ----------
    X : csr_array of shape (n_users, n_items)
        Interactions in canonical form, see :func:`sklrec._matrix.canonical_csr`.
    size : float or int
        If float, the proportion of the users with at least `min_interactions`, rounded up. If int,
        the number of users.
    rng : RandomState or Generator
        The generator to draw with.
    min_interactions : int, default=2
        Users with fewer nonzero entries are never held out.
    name : str, default="test_size"
        Name of the parameter that `size` is the value of, for error messages.

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
    n_held_out = max(1, int(number_of(size, np.array(eligible.size))))
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


def check_count(name: str, value: Any, *, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")


def check_share_or_count(size: Any, name: str = "test_size") -> None:
    if isinstance(size, Integral):
        fits = not isinstance(size, bool) and int(size) >= 1
    else:
        fits = isinstance(size, Real) and 0 < float(size) < 1
    if not fits:
        raise ValueError(
            f"{name} must be a share between 0 and 1 or an integer of at least 1, got {size!r}."
        )


def number_of(test_size: float | int, n: np.ndarray) -> np.ndarray:
    """Return `test_size` as a number of the `n` available ones; a share is rounded up."""
    if isinstance(test_size, Integral):
        return np.full(n.shape, test_size)
    # Rounded first, as 0.28 * 25 is 7.000000000000001 instead of 7.
    return np.ceil(np.round(test_size * n, 9)).astype(np.int64)
