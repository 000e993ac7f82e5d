"""Collaborative deep learning."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real

import torch
from numpy.random import RandomState
from scipy.stats import loguniform, randint
from torch import nn

from .._sklearn import Interval, StrOptions
from ..neural._base import BaseTorchRecommender
from ..neural._losses import likelihood_named
from ..neural._modules import Dense, ItemLayer, SparseLinear, checked_sizes
from ..neural._training._data import SparseBatch
from ..neural._training._docs import with_training_docs
from ..neural._training._net import Pass, TorchNet
from ._base import BaseCollaborativeRecommender
from ._content_nets import ContentLoss, ContentOutput, draw_for_sigmoids


@with_training_docs
class CDL(BaseCollaborativeRecommender):
    r"""Collaborative deep learning, CDL.

    Factors of items are close to the bottleneck h(x) of a stacked denoising autoencoder of their
    content x. Training minimises [1]_

    .. math:: & \sum_{i, j} \frac{C_{ij}}2 (R_{ij} - u_i^\top v_j)^2
        + \frac{\lambda_u}2 \sum_i \|u_i\|^2 + \frac{\lambda_v}2 \sum_j \|v_j - h(x_j)\|^2 \\
        & + \frac{\lambda_n}2 \sum_j \|x_j - f(\tilde x_j)\|^2 + \frac{\lambda}2 \|W\|^2

    where R is 1 for the interactions of user i and 0 for all other items that have users. The
    confidence C is a for an interaction of 1, ``b + (a - b) x`` for one of x, and the small number
    b for all others. The autoencoder f reads :math:`\tilde x`, the content of which some features
    are left out.

    The autoencoder is trained alone at first. Then the item factors are set to h(x), and an epoch
    trains the autoencoder in one pass over the items, with the item factors fixed, and solves
    exactly for the factors of all users, and of all items. A user's factors are the solution for
    their row with the item factors fixed, for new users as for those of ``fit``. Items without
    users in ``fit``, and new ones, are at h(x).

    Parameters
    ----------
    n_components : int, default=50
        Number of factors, and size of the bottleneck. Typical range: 50 to 200.
    hidden_layer_sizes : sequence of int, default=(200,)
        Sizes of the encoder's layers before the bottleneck; the decoder mirrors them. All layers
        are sigmoid layers, the bottleneck too.
    dropout : float, default=0.3
        Probability with which a feature is left out of the input.
    lambda_u : float, default=1.0
        L2 penalty on the factors of users. Typical range: 0.01 to 10, on a logarithmic scale.
    lambda_v : float, default=10.0
        L2 penalty on the distance of item factors from the bottleneck. Typical range: 1 to 100, on
        a logarithmic scale.
    lambda_n : float, default=1000.0
        Weight of the content. Typical range: 10 to 10,000, on a logarithmic scale.
    lambda_ : float, default=1e-4
        L2 penalty on the weights and biases of the network.
    likelihood : {"gaussian", "logistic", "multinomial"}, default="gaussian"
        Likelihood of the features: normal, as in the formula above, Bernoulli of whether a feature
        is not zero, or multinomial.
    confidence : float, default=1.0
        Confidence a of an interaction.
    unobserved_weight : float, default=0.01
        Confidence b of the pairs without an interaction. Typical range: 0.001 to 0.1, on a
        logarithmic scale.
    n_pretraining_epochs : int, default=50
        Number of passes over the items that train the autoencoder alone, in the first epoch.
    max_epochs : int, default=200
        Number of epochs.
    batch_size : int, default=128
        Number of items in a gradient step.

    Attributes
    ----------
    item_factors_ : ndarray of shape (n_items, n_components)
        Factors of each item, in the precision of X.
    components_ : ndarray of shape (n_components, n_items)
        The same array transposed, as scikit-learn's decompositions have it.
    n_item_features_ : int
        Number of features, 0 without content.
    loss_curve_ : list of float
        Mean loss of the content of an item in each epoch, with its distance from the item's
        factors, and the pretraining in the first. Without content, the objective by item.

    See Also
    --------
    CVAE : With a variational autoencoder.
    CTR : With topics instead of an autoencoder.

    Notes
    -----
    The defaults are those that [2]_ found for CDL. ``net_.history`` has the "active_dimensions" of
    each epoch, the number of factors of h(x) that vary over the items by more than 0.01, and the
    "rating_loss", the least-squares part of the objective by item.

    As in the authors' code, item factors are coupled to the bottleneck of the complete content.
    Features that are left out are made up for by the others, which are divided by 1 minus
    `dropout`. The last layer is linear and its sigmoid is part of the likelihood "logistic". The
    network is trained as a whole in pretraining, not layer by layer, and by Adam.

    An item without features is encoded as any other. Without content, h(x) is 0: this is weighted
    matrix factorization with these confidences, and nothing is trained by gradients.

    References
    ----------
    .. [1] H. Wang, N. Wang and D.-Y. Yeung, "Collaborative Deep Learning for Recommender Systems",
       KDD 2015.
    .. [2] X. Li and J. She, "Collaborative Variational Autoencoder for Recommender Systems",
       KDD 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.hybrid import CDL
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> F = np.random.default_rng(0).poisson(0.3, size=(52, 30))
    >>> cdl = CDL(8, hidden_layer_sizes=(16,), max_epochs=2, n_pretraining_epochs=2)
    >>> cdl = cdl.fit(X, item_features=F[:50])
    >>> cdl.predict_ranking(X[:2], k=3).shape
    (2, 3)
    >>> cdl.with_items(F[50:]).item_factors_.shape
    (52, 8)
    """

    _suggested_distributions: dict = {
        "n_components": randint(50, 201),
        "lambda_u": loguniform(0.01, 10),
        "lambda_v": loguniform(1, 100),
        "lambda_n": loguniform(10, 10_000),
        "unobserved_weight": loguniform(0.001, 0.1),
    }

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "lambda_u": [Interval(Real, 0, None, closed="neither")],
        "lambda_v": [Interval(Real, 0, None, closed="neither")],
        "lambda_n": [Interval(Real, 0, None, closed="left")],
        "lambda_": [Interval(Real, 0, None, closed="left")],
        "likelihood": [StrOptions({"gaussian", "logistic", "multinomial"})],
        "confidence": [Interval(Real, 0, None, closed="neither")],
        "unobserved_weight": [Interval(Real, 0, None, closed="left")],
        "n_pretraining_epochs": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 50,
        *,
        hidden_layer_sizes: Sequence[int] = (200,),
        dropout: float = 0.3,
        lambda_u: float = 1.0,
        lambda_v: float = 10.0,
        lambda_n: float = 1000.0,
        lambda_: float = 1e-4,
        likelihood: str = "gaussian",
        confidence: float = 1.0,
        unobserved_weight: float = 0.01,
        n_pretraining_epochs: int = 50,
        max_epochs: int = 200,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        callbacks: list | None = None,
        device: str = "auto",
        mixed_precision: bool = False,
        compile: bool = False,
        random_state: int | RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.dropout = dropout
        self.lambda_u = lambda_u
        self.lambda_v = lambda_v
        self.lambda_n = lambda_n
        self.lambda_ = lambda_
        self.likelihood = likelihood
        self.confidence = confidence
        self.unobserved_weight = unobserved_weight
        self.n_pretraining_epochs = n_pretraining_epochs
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.device = device
        self.mixed_precision = mixed_precision
        self.compile = compile
        self.random_state = random_state
        self.verbose = verbose

    def _make_content_net(self, n_items: int, passes: list[Pass]) -> TorchNet:
        return TorchNet(
            CDLModule,
            module__n_features=self.n_item_features_,
            module__n_components=self.n_components,
            module__hidden_layer_sizes=checked_sizes(self.hidden_layer_sizes, "hidden_layer_sizes"),
            module__dropout=self.dropout,
            criterion=ContentLoss,
            criterion__likelihood=likelihood_named(self.likelihood, 1.0),
            criterion__weight=self.lambda_n,
            criterion__lambda_v=self.lambda_v,
            # Adam adds weight_decay * W to the gradient, the derivative of the penalty.
            optimizer__weight_decay=self.lambda_ / n_items,
            passes=passes,
            **self._net_params(),
        )


class CDLModule(nn.Module):
    """Denoising autoencoder of features, with sigmoid layers."""

    def __init__(
        self, n_features: int, n_components: int, hidden_layer_sizes: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        sizes = [*hidden_layer_sizes, n_components]
        self.first = SparseLinear(n_features, sizes[0])
        self.encoder = nn.ModuleList(Dense(*pair) for pair in pairwise(sizes))
        self.decoder = nn.ModuleList(Dense(*pair) for pair in pairwise(sizes[::-1]))
        self.feature_layer = ItemLayer(sizes[0], n_features)
        self.item_factors: torch.Tensor
        self.register_buffer("item_factors", torch.zeros(0, n_components))

    def reset_parameters(self) -> None:
        """Set the weights for sigmoids."""
        draw_for_sigmoids(self.first, *self.encoder, *self.decoder)

    @property
    def feature_bias(self) -> torch.Tensor:
        """Biases of the features, of shape (n_features,)."""
        return self.feature_layer.bias

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return the bottleneck, of shape (n_rows, n_components)."""
        h = torch.sigmoid(self.first(batch))
        for layer in self.encoder:
            h = torch.sigmoid(layer(h))
        return h

    def forward(self, batch: SparseBatch, coupled: bool = True) -> ContentOutput:
        """Return the scores of the features left out and kept, and the terms of the loss."""
        h = self.encode(batch.dropout(self.dropout, training=self.training))
        for layer in self.decoder:
            h = torch.sigmoid(layer(h))
        distance = None
        if coupled:
            v = self.item_factors[batch.index].to(h)
            distance = (v - self.encode(batch)).square().sum(dim=1).mean()
        return ContentOutput(self.feature_layer(h), distance)
