"""Sum of the weights of two EASEs, of interactions and of features."""

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


class AddEASE(ItemFeaturesMixin, BaseItemWeights):
    r"""Sum of two EASEs: one that reconstructs interactions, and one that reconstructs features.

    With the features F, one row per item, the weights are [1]_

    .. math:: B = (1 - s) \operatorname{EASE}_{\lambda}(X)
        + s \operatorname{EASE}_{\mu}(F^\top)

    where s is `content_share` and the features of :class:`~sklrec.linear.EASE` on :math:`F^\top`
    are its users. Unlike in :class:`CollectiveEASE`, items that share users do not explain away
    the similarity of their features. Without features this is EASE.

    Fitting inverts two matrices of shape (n_items, n_items), one after the other, and has both in
    memory. The fitted model has one. Sparse features are not densified.

    Parameters
    ----------
    lambda_ : float, default=100.0
        L2 penalty on the weights for interactions. Typical range: 10 to 10,000, on a logarithmic
        scale.
    content_lambda : float, default=1.0
        L2 penalty on the weights for features. It depends on their scale: with rows of norm 1, as
        by :class:`~sklearn.feature_extraction.text.TfidfTransformer`, the variance of each item
        is 1. Typical range: 0.1 to 100, on a logarithmic scale.
    content_share : float, default=0.3
        Share s of the weights for features, above 0 and below 1. Typical range: 0.1 to 0.9.

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
    CollectiveEASE : One EASE for interactions and features.
    sklrec.linear.EASE : The model without features.

    Notes
    -----
    New items have the weights of a fit on X with empty columns. ``with_items`` computes the weights
    for features again to extend them, which takes half the time of ``fit``; keeping them would
    double the memory of every model.

    References
    ----------
    .. [1] O. Jeunen, J. Van Balen and B. Goethals, "Closed-Form Models for Collaborative Filtering
       with Side-Information", RecSys 2020.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklrec.hybrid import AddEASE
    >>> X = csr_array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 1]])
    >>> genres = [[1, 0], [1, 0], [0, 1], [0, 1]]
    >>> model = AddEASE(lambda_=1.0).fit(X, item_features=genres)
    >>> today = model.with_items([[0, 1], [1, 0]])  # items 4 and 5
    >>> today.predict_ranking([[1, 1, 0, 0, 0, 0]], k=1, items=[4, 5])
    array([[5]])
    """

    _parameter_constraints: dict = {
        "lambda_": [Interval(Real, 0, None, closed="neither")],
        "content_lambda": [Interval(Real, 0, None, closed="neither")],
        "content_share": [Interval(Real, 0, 1, closed="neither")],
    }
    _suggested_distributions: dict = {
        "lambda_": loguniform(10, 10_000),
        "content_lambda": loguniform(0.1, 100),
        "content_share": uniform(0.1, 0.8),  # from 0.1, of length 0.8
    }

    def __init__(
        self, lambda_: float = 100.0, *, content_lambda: float = 1.0, content_share: float = 0.3
    ) -> None:
        self.lambda_ = lambda_
        self.content_lambda = content_lambda
        self.content_share = content_share

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None, *, item_features: Any = None) -> AddEASE:
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
        self : AddEASE
            The fitted model.

        Raises
        ------
        MemoryError
            If the machine lacks the memory; nothing is allocated then.
        """
        X = self._check_X(X, reset=True)
        F = self._check_item_features(item_features, X)
        check_gram_memory(X, n_matrices=1 if F is None else 2, model="AddEASE")
        self._learn_popularity(X)
        with fit_progress(self, X, max_subtasks=2) as step:
            G = np.zeros((X.shape[1], X.shape[1]), dtype=X.dtype)
            add_gram(X, G)
            solve_in_place(G, self.lambda_, 0.0)
            step("interactions")
            if F is not None:
                B, _ = _weights_for_features(F, self.content_lambda)
                G *= 1 - self.content_share
                B *= self.content_share
                G += B
                step("features")
        self.coef_ = G
        self._features = F
        self._fitted_with = (self.content_lambda, self.content_share)
        self.n_samples_seen_ = X.shape[0]
        return self

    def _known_items(self, items: Any = slice(None)) -> np.ndarray:
        return super()._known_items(items) | self._described[items]

    def _add_items(self, F: Any) -> None:
        lambda_, share = self._fitted_with
        n = len(self.coef_)
        F = F.astype(self.coef_.dtype, copy=False)
        B, precision = _weights_for_features(self._features, lambda_)
        C = dense_product(self._features, F, 1.0)
        D = dense_product(F, F, 1.0)
        np.fill_diagonal(D, np.diag(D) + lambda_)
        extended, _ = with_new_items(B, precision, C, D)
        B *= share
        of_interactions = np.subtract(self.coef_, B, out=B)
        extended *= share
        extended[:n, :n] += of_interactions
        self.coef_ = extended
        self._features = stacked(self._features, F)


def _weights_for_features(F: Any, lambda_: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of an EASE on F', and the diagonal of the inverse they are made of."""
    G = np.zeros((F.shape[0], F.shape[0]), dtype=F.dtype)
    add_content_gram(F, 1.0, G)
    precision = solve_in_place(G, lambda_, 0.0)
    return G, precision
