"""Split of each user's interactions into a fold-in and a held-out part."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp

from .._matrix import canonical_csr, check_matrix, stored_entries, take_entries
from .._typing import MatrixLike
from ._interactions import split_interactions


def hide_interactions(
    X: MatrixLike,
    y: Any = None,
    *,
    test_size: float | int = 0.2,
    threshold: float = 0.0,
    random_state: int = 0,
) -> tuple[sp.csr_array, sp.csr_array]:
    """Split rows into a fold-in, which is given to a model, and held-out entries to rank.

    Parameters
    ----------
    X : {array-like, sparse array} of shape (n_users, n_items)
        Complete rows of users.
    y : {array-like, sparse array} of shape (n_users, n_items) or None, default=None
        Nonzero at the entries of X to hide. By default, a random share is hidden. If no entry of
        `y` is in X, nothing is hidden and the entries of `y` are held out.
    test_size : float or int, default=0.2
        Share of each row's relevant entries to hide, rounded up, or their number. Not used with
        `y`.
    threshold : float, default=0.0
        Entries of X above the threshold are relevant.
    random_state : int, default=0
        Seed of the hidden entries.

    Returns
    -------
    fold_in : CSR array of shape (n_users, n_items)
        Entries that are not hidden.
    held_out : CSR array of shape (n_users, n_items)
        Hidden entries that are relevant.

    Raises
    ------
    ValueError
        If `random_state` is not an int, or `y` has entries in X and others.

    Examples
    --------
    >>> from sklrec.model_selection._hide import hide_interactions
    >>> fold_in, held_out = hide_interactions([[5, 1, 4]], [[0, 1, 1]], threshold=3.5)
    >>> fold_in.toarray(), held_out.toarray()
    (array([[5, 0, 0]]), array([[0, 0, 4]]))
    """
    # bool is an int, but True as a seed is a mistake.
    if not isinstance(random_state, Integral) or isinstance(random_state, bool):
        raise ValueError(
            "random_state must be an int, so that all candidates meet the same hidden "
            f"entries, got {random_state!r}."
        )
    X = stored_entries(X)
    if y is None:
        return split_interactions(X, test_size, threshold=threshold, random_state=int(random_state))
    if np.ndim(y) == 2 and np.shape(y) != X.shape:
        raise ValueError(f"y must have the shape of X, {X.shape}, got {np.shape(y)}.")
    y = check_matrix(y, "y", shape=X.shape, dtype="numeric")
    position = sp.csr_array((np.arange(1, X.nnz + 1), X.indices, X.indptr), shape=X.shape)
    hidden = canonical_csr(position * (y != 0)).data - 1
    if y.nnz and not hidden.size:  # X holds what came before, and nothing has to be hidden
        return X, take_entries(y, y.data > threshold)
    if hidden.size < y.nnz:
        raise ValueError(
            f"y hides {y.nnz - hidden.size} interactions that are not in X, of {y.nnz}; "
            "all of them must be in X, or none."
        )
    held = np.zeros(X.nnz, dtype=bool)
    held[hidden] = True
    return take_entries(X, ~held), take_entries(X, held & (X.data > threshold))
