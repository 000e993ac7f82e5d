"""Explanations of scores by the items of a user."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ._typing import MatrixLike


class ExplainMixin:
    """Adds ``explain`` to a model whose scores are a sum over the items of a user.

    A model writes ``_contributions(X, item)``, which returns what each stored entry of X, in their
    order, adds to the score of `item`, an ndarray of shape (nnz,), and ``_explains()`` where that
    depends on its parameters.
    """

    n_features_in_: int
    _check_X: Callable[..., sp.csr_array]  # noqa: N815
    _contributions: Callable[[sp.csr_array, int], np.ndarray]

    def _explains(self) -> bool:
        return True

    @available_if(lambda self: self._explains())
    def explain(self, X: MatrixLike, item: int) -> sp.csr_array:
        """Say what each interaction of a user contributes to the score of an item.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, known from ``fit`` or not.
        item : int
            Index of the item whose scores are explained.

        Returns
        -------
        contributions : CSR array of shape (n_users, n_items)
            What each interaction adds to the score of `item`, in the precision of X; one entry for
            each interaction. Each row adds up to the score, less what the model gives the item
            for any user, such as its bias.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            If there is no such item, or X is not what ``fit`` has seen.

        Notes
        -----
        A user of whose items the model knows none is ranked by popularity, of which no interaction
        is the reason: such a row is zero.
        """
        check_is_fitted(self)
        n_items = self.n_features_in_
        if not isinstance(item, Integral) or not 0 <= item < n_items:
            raise ValueError(f"item must be an integer between 0 and {n_items - 1}, got {item!r}.")
        X = self._check_X(X, reset=False)
        values: Any = self._contributions(X, int(item))
        return sp.csr_array(
            (values.astype(X.dtype, copy=False), X.indices.copy(), X.indptr.copy()), shape=X.shape
        )
