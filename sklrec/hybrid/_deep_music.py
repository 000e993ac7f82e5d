"""A network from content to the factors of WMF, DeepMusic."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.random import RandomState
from scipy.stats import loguniform
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from .._sklearn import Interval
from ..factorization import WMF
from ._factors_from_content import FactorsFromContent


class DeepMusic(FactorsFromContent):
    """Network from the content of items to their factors of weighted matrix factorization.

    This is :class:`FactorsFromContent` with :class:`~sklrec.factorization.WMF` and
    :class:`~sklearn.neural_network.MLPRegressor`: matrix factorization first, then a network is
    trained to predict the item factors by squared error [1]_. It is a baseline of [2]_, which calls
    this variant loosely coupled. Both papers use convolutions, which need content in an order, such
    as audio or text. This class has fully connected layers, for words and other features without
    one; for a network of another kind, use FactorsFromContent.

    Without features this is WMF.

    Parameters
    ----------
    n_components : int, default=50
        Number of factors. Typical range: 50 to 400.
    hidden_layer_sizes : sequence of int, default=(200, 100)
        Sizes of the hidden layers; [2]_ has two. ``()`` is linear regression.
    lambda_ : float, default=0.01
        L2 penalty of WMF. Typical range: 1e-4 to 0.1, on a logarithmic scale.
    unobserved_weight : float, default=0.01
        Weight of unobserved pairs in WMF; this is b of [2]_ for a = 1. Typical range: 0.01 to 1, on
        a logarithmic scale.
    alpha : float, default=0.01
        L2 penalty on the weights of the network, divided by the number of items in a batch. With 1,
        the factors of all items were predicted alike on citeulike-a. Typical range: 1e-3 to 1, on
        a logarithmic scale.
    max_epochs : int, default=50
        Maximum number of passes over the items in the training of the network.
    learning_rate : float, default=1e-3
        Adam's learning rate.
    min_interactions : int or None, default=1
        Number of interactions from which on an item keeps the factors of WMF, as in
        :class:`FactorsFromContent`. Typical range: 1 to 10.
    random_state : int, RandomState instance or None, default=None
        Determines the initial factors and weights, and the order of the items. Pass an int for
        identical scores in each fit.

    Attributes
    ----------
    recommender_ : WMF
        The fitted factorization, with the predicted factors.
    regressor_ : MLPRegressor
        The trained network. Only with `item_features`.
    item_factors_ : ndarray of shape (n_items, n_components)
        Factors of each item.
    n_item_features_ : int
        Number of features; 0 without `item_features`.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items. Only if X is a DataFrame with names.

    See Also
    --------
    FactorsFromContent : Any recommender of factors with any regressor.

    Notes
    -----
    As [2]_ says, the network can only be as good as the factors that it learns from, which are poor
    if the interactions are few.

    References
    ----------
    .. [1] A. van den Oord, S. Dieleman and B. Schrauwen, "Deep Content-Based Music Recommendation",
       NIPS 2013.
    .. [2] X. Li and J. She, "Collaborative Variational Autoencoder for Recommender Systems", KDD
       2017.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.hybrid import DeepMusic
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> F = np.random.default_rng(0).random((55, 8))
    >>> model = DeepMusic(4, random_state=0).fit(X, item_features=F[:50])
    >>> model.with_items(F[50:]).item_factors_.shape  # items 50 to 54
    (55, 4)
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "lambda_": [Interval(Real, 0, None, closed="neither")],
        "unobserved_weight": [Interval(Real, 0, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "min_interactions": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    _suggested_distributions: dict = {
        "n_components": [50, 100, 200, 400],
        "lambda_": loguniform(1e-4, 0.1),
        "unobserved_weight": loguniform(0.01, 1),
        "alpha": loguniform(1e-3, 1),
        "min_interactions": [1, 2, 5, 10],
    }

    def __init__(
        self,
        n_components: int = 50,
        *,
        hidden_layer_sizes: Sequence[int] = (200, 100),
        lambda_: float = 0.01,
        unobserved_weight: float = 0.01,
        alpha: float = 0.01,
        max_epochs: int = 50,
        learning_rate: float = 1e-3,
        min_interactions: int | None = 1,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.lambda_ = lambda_
        self.unobserved_weight = unobserved_weight
        self.alpha = alpha
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.min_interactions = min_interactions
        self.random_state = random_state

    def _unfitted_recommender(self) -> BaseEstimator:
        return WMF(
            self.n_components,
            lambda_=self.lambda_,
            unobserved_weight=self.unobserved_weight,
            random_state=self.random_state,
        )

    def _unfitted_regressor(self) -> BaseEstimator:
        return MLPRegressor(
            hidden_layer_sizes=self.hidden_layer_sizes,
            alpha=self.alpha,
            max_iter=self.max_epochs,
            learning_rate_init=self.learning_rate,
            random_state=self.random_state,
        )

    def _fit_regressor(self, F: Any, values: np.ndarray) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # max_epochs is what was asked for
            super()._fit_regressor(F, values)
