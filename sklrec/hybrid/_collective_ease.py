"""EASE whose weights also reconstruct the features of items."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from scipy.stats import loguniform, uniform

from .._linalg import add_gram
from .._sklearn import Interval, _fit_context, fit_progress
from .._typing import MatrixLike
from ..base import ItemFeaturesMixin
from ..linear._base import BaseItemWeights
from ..linear._ease import check_gram_memory, solve_in_place
from ._closed_form import add_content_gram, dense_product, stacked, with_new_items


class CollectiveEASE(ItemFeaturesMixin, BaseItemWeights):
    r"""EASE whose weights reconstruct the features of items as well as interactions.

    Each feature is treated as an additional user, who has the items with this feature [1]_. With
    the features F, one row per item, the weights minimise

    .. math:: \|X - XB\|_F^2 + \alpha \|F^\top - F^\top B\|_F^2 + \lambda \|B\|_F^2
        \quad \text{s.t.} \quad \mathrm{diag}(B) = 0

    which is :class:`~sklrec.linear.EASE` on X with the rows :math:`\sqrt{\alpha} F^\top` below it.
    So there is a closed form, in which :math:`\alpha F F^\top` is added to :math:`X^\top X`. Users
    are scored by ``x @ B``, as by EASE. Without features this is EASE.

    Fitting needs as much time and memory as EASE, that of one dense matrix of shape (n_items,
    n_items), and the time of the product :math:`F F^\top`. Sparse features are not densified.

    Parameters
    ----------
    lambda_ : float, default=100.0
        L2 penalty on the item-to-item weights. Typical range: 10 to 10,000, on a logarithmic
        scale.
    content_weight : float, default=4.0
        Weight :math:`\alpha` of the features. It depends on their scale: with rows of norm 1, as
        by :class:`~sklearn.feature_extraction.text.TfidfTransformer`, a feature row of an item
        counts as much as `content_weight` of its users. Typical range: 0.1 to 100, on a
        logarithmic scale.
    dropout : float, default=0.0
        Probability, below 1, with which an entry is dropped from the input, as in EASE; also for
        entries of F. Typical range: 0.1 to 0.6, with a smaller `lambda_` than without dropout.

    Attributes
    ----------
    coef_ : ndarray of shape (n_items, n_items)
        Weight of each item (row) in the score of each item (column), in the precision of X.
    n_samples_seen_ : int
        Number of training users.
    n_item_features_ : int
        Number of features; 0 without `item_features`.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items. Only if X is a DataFrame with names.

    See Also
    --------
    AddEASE : Two EASEs, one on interactions and one on features, added.
    sklrec.linear.EASE : The model without features.

    Notes
    -----
    New items have the weights of a fit on X with empty columns. They follow from those of the
    fitted model by the inverse of a block matrix, in O(n_items^2 * n_new_items) time. The copy that
    ``with_items`` returns needs a matrix of its own, and its weights between old items differ
    slightly from those of the original, as new items take a part of the features' variance.

    References
    ----------
    .. [1] O. Jeunen, J. Van Balen and B. Goethals, "Closed-Form Models for Collaborative Filtering
       with Side-Information", RecSys 2020.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklrec.hybrid import CollectiveEASE
    >>> X = csr_array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 1]])
    >>> genres = [[1, 0], [1, 0], [0, 1], [0, 1]]
    >>> model = CollectiveEASE(lambda_=1.0).fit(X, item_features=genres)
    >>> today = model.with_items([[0, 1], [1, 0]])  # items 4 and 5
    >>> today.predict_ranking([[1, 1, 0, 0, 0, 0]], k=1, items=[4, 5])
    array([[5]])
    """

    _parameter_constraints: dict = {
        "lambda_": [Interval(Real, 0, None, closed="neither")],
        "content_weight": [Interval(Real, 0, None, closed="neither")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }
    _suggested_distributions: dict = {
        "lambda_": loguniform(10, 10_000),
        "content_weight": loguniform(0.1, 100),
        "dropout": uniform(0.1, 0.5),  # from 0.1, of length 0.5
    }

    def __init__(
        self, lambda_: float = 100.0, *, content_weight: float = 4.0, dropout: float = 0.0
    ) -> None:
        self.lambda_ = lambda_
        self.content_weight = content_weight
        self.dropout = dropout

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None, *, item_features: Any = None) -> CollectiveEASE:
        """Learn the item-to-item weights.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.
        item_features : {array-like, sparse array, DataFrame} of shape (n_items, n_features), \
ItemFeatures or None, default=None
            Features of the items.

        Returns
        -------
        self : CollectiveEASE
            The fitted model.

        Raises
        ------
        MemoryError
            If the machine lacks the memory; nothing is allocated then.
        """
        X = self._check_X(X, reset=True)
        F = self._check_item_features(item_features, X)
        check_gram_memory(X, n_matrices=1, model="CollectiveEASE")
        self._learn_popularity(X)
        with fit_progress(self, X, max_subtasks=3) as step:
            G = np.zeros((X.shape[1], X.shape[1]), dtype=X.dtype)
            add_gram(X, G)
            step("gram")
            if F is not None:
                add_content_gram(F, self.content_weight, G)
                step("content")
            self._precision = solve_in_place(G, self.lambda_, self.dropout)
            step("solve")
        self.coef_ = G
        self._features = F
        self._fitted_with = (self.lambda_, self.content_weight, self.dropout)
        self.n_samples_seen_ = X.shape[0]
        return self

    def _known_items(self, items: Any = slice(None)) -> np.ndarray:
        return super()._known_items(items) | self._described[items]

    def _add_items(self, F: Any) -> None:
        lambda_, weight, dropout = self._fitted_with
        F = F.astype(self.coef_.dtype, copy=False)
        C = dense_product(self._features, F, weight)
        D = dense_product(F, F, weight)
        np.fill_diagonal(D, np.diag(D) / (1 - dropout) + lambda_)
        self.coef_, self._precision = with_new_items(self.coef_, self._precision, C, D)
        self._features = stacked(self._features, F)
