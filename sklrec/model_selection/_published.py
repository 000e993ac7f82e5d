"""The split of users and interactions of published results."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from sklearn.utils import Bunch

from .._matrix import stored_entries, take_entries
from .._typing import MatrixLike
from ._split import check_count


def strong_generalization_split(
    X: MatrixLike,
    *,
    n_heldout: int,
    test_size: float = 0.2,
    min_interactions: int = 5,
    random_state: int = 98765,
) -> Bunch:
    """Split a data set in the same way as published results on implicit feedback.

    This is the split of [1]_, which holds out the same entries. Users with fewer than
    `min_interactions` are dropped. The last `n_heldout` users of a random permutation are test
    users, the `n_heldout` users before them validation users. Items without training users are
    dropped. ``int(test_size * n)`` of the n entries of each held-out user are held out, and none
    if n < 5. The generator is seeded again for the validation users and for the test users.

    Use it to compare with published results, and :class:`StrongGeneralizationSplit` for a search.

    Parameters
    ----------
    X : {array-like, sparse array} of shape (n_users, n_items)
        Positive interactions; ratings have to be binarized before.
    n_heldout : int
        Number of validation users and number of test users.
    test_size : float, default=0.2
        Proportion of a held-out user's entries that are held out, rounded down.
    min_interactions : int, default=5
        Users with fewer nonzero entries are dropped.
    random_state : int, default=98765
        Seed of the generator; the default is that of [1]_.

    Returns
    -------
    split : Bunch
        ``train``, ``valid_fold_in``, ``valid_held_out``, ``test_fold_in``, ``test_held_out``: CSR
        arrays with the values of X. ``item_indices``: columns of X that are their columns.
        ``train_users``, ``valid_users``, ``test_users``: rows of X that are their rows.

    Raises
    ------
    ValueError
        If there are too few users for `n_heldout`, or a parameter is out of range.

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
    check_count("n_heldout", n_heldout, least=1)
    check_count("min_interactions", min_interactions, least=0)
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
    """Draw each user's held-out entries in the same way as the published split."""
    rng = RandomState(seed)
    held = np.zeros(X.nnz, dtype=bool)
    for start, end in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        n = end - start
        if n >= 5:
            held[start + rng.choice(n, size=int(test_size * n), replace=False)] = True
    return take_entries(X, ~held), take_entries(X, held)
