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
    """Mixin that adds ``explain`` to models whose scores are sums over the items of a user.

    A subclass implements ``_contributions(X, item)``, which returns the contribution of each stored
    entry of X to the score of `item`, an ndarray of shape (nnz,), and ``_explains()`` if this
    depends on its parameters.
    """

    n_features_in_: int
    _check_X: Callable[..., sp.csr_array]  # noqa: N815
    _contributions: Callable[[sp.csr_array, int], np.ndarray]

    def _explains(self) -> bool:
        return True

    @available_if(lambda self: self._explains())
    def explain(self, X: MatrixLike, item: int) -> sp.csr_array:
        """Return the contribution of each interaction of a user to the score of an item.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, seen in ``fit`` or not.
        item : int
            Index of the item whose scores are explained.

        Returns
        -------
        contributions : CSR array of shape (n_users, n_items)
            Contribution of each interaction to the score of `item`, in the precision of X. Each row
            adds up to the score, minus terms that are the same for all users, such as the bias of
            the item.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            If the item does not exist, or X has another number of items than in ``fit``.

        Notes
        -----
        Users without known items are ranked by popularity, which does not depend on their
        interactions: their rows are zero.

        Examples
        --------
        >>> from scipy.sparse import csr_array
        >>> from sklrec.linear import EASE
        >>> X = csr_array([[1, 1, 0], [1, 0, 1], [1, 1, 1]])
        >>> ease = EASE(lambda_=1.0).fit(X)
        >>> reasons = ease.explain(X[:1], item=2)
        >>> bool(abs(reasons.sum() - ease.decision_function(X[:1])[0, 2]) < 1e-6)
        True
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
