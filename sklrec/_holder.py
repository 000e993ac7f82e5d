"""Matrices that are passed to ``fit`` as a whole, even if a search selects rows of X."""

from __future__ import annotations

import warnings
from typing import Any

import scipy.sparse as sp

__all__ = ["ItemFeatures", "Unsliced", "whole"]


class Unsliced:
    """Container of a matrix for ``fit`` whose rows do not correspond to those of X.

    scikit-learn's searches select rows of all parameters of ``fit`` that have as many rows as X. If
    ``X_val`` has as many users as X, for example, a model would only get those with the row numbers
    of its training users. This container has neither length nor shape, so it is passed as a whole.

    Parameters
    ----------
    value : {array-like, sparse array or DataFrame}
        Matrix for the model, which is not changed.

    See Also
    --------
    ItemFeatures : The same for the content of items.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklrec.base import BaseRecommender
    >>> from sklrec.pipeline import Unsliced
    >>> class Rows(BaseRecommender):
    ...     def fit(self, X, y=None, *, X_val=None):
    ...         print(type(X_val).__name__, end=" ")
    ...         return self
    >>> X = np.eye(4)
    >>> search = GridSearchCV(Rows(), {}, scoring=lambda model, X: 0.0, cv=2, refit=False)
    >>> _ = search.fit(X, X_val=Unsliced(X))
    Unsliced Unsliced
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        shape = getattr(self.value, "shape", None)
        return f"{type(self).__name__}({type(self.value).__name__} of shape {shape})"


class ItemFeatures(Unsliced):
    """Container of item features for ``fit``, with one row for each item.

    If there are as many items as users, a search would select rows of them, see :class:`Unsliced`.

    Parameters
    ----------
    value : {array-like, sparse array or DataFrame} of shape (n_items, n_features)
        Features of the items, which are not changed.

    Examples
    --------
    >>> from sklrec.metrics import intra_list_diversity_at_k
    >>> from sklrec.pipeline import ItemFeatures
    >>> intra_list_diversity_at_k([[0, 1]], ItemFeatures([[1, 0], [0, 1]]))
    1.0
    """


def whole(value: Any, name: str, X: sp.csr_array) -> Any:
    """Return the matrix of a container, and warn of a matrix that a search may have sliced.

    Parameters
    ----------
    value : Unsliced, {array-like, sparse array or DataFrame} or None
        Value of a parameter of ``fit``.
    name : str
        Name of the parameter.
    X : sparse array of shape (n_users, n_items)
        Training data.

    Warns
    -----
    UserWarning
        If the matrix is not in :class:`Unsliced` and has as many rows as X.
    """
    if isinstance(value, Unsliced):
        return value.value
    rows = getattr(value, "shape", (None,))[:1] or (None,)
    if rows[0] == X.shape[0]:
        holder = "ItemFeatures" if name == "item_features" else "Unsliced"
        warnings.warn(
            f"{name} has as many rows as X, {rows[0]}. If a search calls this fit, it has sliced "
            f"both, and the model does not see all of it: pass sklrec.pipeline.{holder}({name}), "
            "which is handed on whole.",
            UserWarning,
            stacklevel=4,
        )
    return value
