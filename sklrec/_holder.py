"""Matrices that go with X as a whole, whatever a search does with the rows of X."""

from __future__ import annotations

import warnings
from typing import Any

import scipy.sparse as sp

__all__ = ["ItemFeatures", "Unsliced", "whole"]


class Unsliced:
    """Hold a matrix for ``fit`` that has no row for each row of X.

    scikit-learn's searches slice every parameter of ``fit`` that has as many rows as X, whatever
    they are: with as many validation users as users, ``X_val`` would reach the model as those
    that stand where the training users of a split do. What is held here has neither length nor
    shape, so it is handed on whole.

    Parameters
    ----------
    value : {array-like, sparse array or DataFrame}
        What the model gets; kept as it is.

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
    """Hold the content of the items for ``fit``, one row for each item.

    With as many items as users, a search would take its rows for those of users, see
    :class:`Unsliced`.

    Parameters
    ----------
    value : {array-like, sparse array or DataFrame} of shape (n_items, n_features)
        The features; kept as they are.

    Examples
    --------
    >>> from sklrec.metrics import intra_list_diversity_at_k
    >>> from sklrec.pipeline import ItemFeatures
    >>> intra_list_diversity_at_k([[0, 1]], ItemFeatures([[1, 0], [0, 1]]))
    1.0
    """


def whole(value: Any, name: str, X: sp.csr_array) -> Any:
    """Return what is held, and warn of a matrix that a search may have cut.

    Parameters
    ----------
    value : Unsliced, {array-like, sparse array or DataFrame} or None
        What ``fit`` was given beside X.
    name : str
        Of the parameter.
    X : sparse array of shape (n_users, n_items)
        What is fitted.

    Warns
    -----
    UserWarning
        If it is not held by :class:`Unsliced` and has exactly as many rows as X.
    """
    if isinstance(value, Unsliced):
        return value.value
    rows = getattr(value, "shape", (None,))[:1] or (None,)
    if rows[0] == X.shape[0]:
        warnings.warn(
            f"{name} has as many rows as X, {rows[0]}: a search slices it as it does X, so that "
            f"the model may not see all of it. Pass sklrec.pipeline.Unsliced({name}) to have it "
            "handed on whole.",
            UserWarning,
            stacklevel=3,
        )
    return value
