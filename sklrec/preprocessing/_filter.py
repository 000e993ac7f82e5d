"""Minimum numbers of interactions."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_array
from sklearn.utils.validation import check_non_negative

from .._matrix import canonical_csr
from .._sklearn import Interval, validate_params
from .._typing import MatrixLike


@validate_params(
    {
        "min_per_user": [Interval(Integral, 0, None, closed="left")],
        "min_per_item": [Interval(Integral, 0, None, closed="left")],
        "iterate": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def filter_interactions(
    X: MatrixLike, *, min_per_user: int = 1, min_per_item: int = 1, iterate: bool = False
) -> tuple[sp.csr_array, np.ndarray, np.ndarray]:
    """Drop users and items with few interactions.

    By default this is done once, as in most published results: first, items with fewer than
    `min_per_item` users are dropped, then users with fewer than `min_per_user` of the remaining
    items, so that items may have fewer than `min_per_item` users left. With ``iterate=True`` both
    steps are repeated until all users and items have their minimum. The result is the largest
    such part of X, its k-core.

    Parameters
    ----------
    X : {array-like, sparse array or DataFrame} of shape (n_users, n_items)
        Interactions, non-negative. Stored zeros are not interactions.
    min_per_user : int, default=1
        Users with fewer interactions are dropped.
    min_per_item : int, default=1
        Items with fewer interactions are dropped.
    iterate : bool, default=False
        Whether to repeat until nothing changes.

    Returns
    -------
    filtered : csr_array of shape (n_kept_users, n_kept_items)
        The remaining interactions, with the values and the dtype of X.
    users : ndarray of shape (n_kept_users,)
        The rows of X that are kept, in order.
    items : ndarray of shape (n_kept_items,)
        The columns of X that are kept, in order.

    Raises
    ------
    ValueError
        If no user or no item is left, or a parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from sklrec.preprocessing import filter_interactions
    >>> X = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
    >>> filtered, users, items = filter_interactions(X, min_per_user=2, min_per_item=2)
    >>> filtered.toarray(), users, items
    (array([[1, 1],
           [1, 1]]), array([0, 2]), array([0, 1]))
    """
    X = check_array(X, accept_sparse="csr")
    check_non_negative(X, "filter_interactions")
    X = canonical_csr(X)
    n_users, n_items = X.shape
    row = np.repeat(np.arange(n_users), np.diff(X.indptr))
    col = X.indices
    while True:
        keep_item = np.bincount(col, minlength=n_items) >= min_per_item
        kept = keep_item[col]
        row, col = row[kept], col[kept]
        keep_user = np.bincount(row, minlength=n_users) >= min_per_user
        kept = keep_user[row]
        # If no user was dropped, no item has lost a user: both have their minimum.
        if not iterate or kept.all():
            break
        row, col = row[kept], col[kept]
    users, items = np.flatnonzero(keep_user), np.flatnonzero(keep_item)
    if not users.size or not items.size:
        raise ValueError(
            f"min_per_user={min_per_user} and min_per_item={min_per_item} leave nothing of "
            f"{n_users} users and {n_items} items with {X.nnz} interactions."
        )
    return X[users][:, items], users, items
