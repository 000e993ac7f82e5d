"""Validation of the content of items."""

from __future__ import annotations

from typing import Any

import scipy.sparse as sp

from ._matrix import check_matrix


def check_item_features(item_features: Any, X: sp.csr_array) -> Any:
    """Return the features of the items of X in its precision: a CSR array, or an ndarray if dense.

    Parameters
    ----------
    item_features : {array-like, sparse array or DataFrame} of shape (n_items, n_features)
        Features, which are not changed.
    X : CSR array of shape (n_users, n_items)
        Training data.

    Raises
    ------
    ValueError
        If there is not one row for each item, or a value is not finite.
    """
    F = check_matrix(item_features, "item_features", signed=True)
    if F.shape[0] != X.shape[1]:
        raise ValueError(
            f"item_features must have a row for each of the {X.shape[1]} items of X, got shape "
            f"{F.shape}. If a search selected rows of it, as it does if there are as many items as "
            "users, pass sklrec.pipeline.ItemFeatures(item_features)."
        )
    return F.astype(X.dtype, copy=False)
