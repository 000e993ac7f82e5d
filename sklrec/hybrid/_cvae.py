"""Collaborative variational autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.random import RandomState
from scipy.stats import loguniform, randint
from torch import nn

from .._memory import check_memory
from .._sklearn import Interval, StrOptions
from ..neural._base import BaseTorchRecommender
from ..neural._criteria import gaussian_kl
from ..neural._losses import ItemScores, likelihood_named
from ..neural._modules import Dense, SparseLinear, at_least_float32, checked_sizes, sample
from ..neural._training._data import SparseBatch
from ..neural._training._docs import with_training_docs
from ..neural._training._net import Pass, TorchNet
from ._base import BaseCollaborativeRecommender
from ._bayes import Normals, solved_items, solved_users
from ._content_nets import ContentLoss, ContentOutput, draw_for_sigmoids


@with_training_docs
class CVAE(BaseCollaborativeRecommender):
    r"""Collaborative variational autoencoder, CVAE.

    Factors of items are close to the latent vectors z of a variational autoencoder of their
    content x. Training maximises (equation 1 of [1]_)

    .. math:: & - \sum_{i, j} \frac{C_{ij}}2 (R_{ij} - u_i^\top v_j)^2
        - \frac{\lambda_u}2 \sum_i \|u_i\|^2
        - \frac{\lambda_v}2 \sum_j \mathbb{E}_{q(z_j|x_j)} \|v_j - z_j\|^2 \\
        & + \lambda_r \sum_j \big(\mathbb{E}_{q(z_j|x_j)} \log p(x_j|z_j)
        - \beta \, \mathrm{KL}(q(z_j|x_j) \| \mathcal{N}(0, I))\big)
        - \frac{\lambda}2 \|W\|^2

    where R is 1 for the interactions of user i and 0 for all other items that have users, and the
    confidence C is a for an interaction of 1, ``b + (a - b) x`` for one of x, and the small number
    b for all others. Encoder q and decoder p have sigmoid layers with the same weights W.

    The autoencoder is trained alone at first. Then the item factors are set to the latent means,
    and an epoch trains the autoencoder in one pass over the items, with the item factors fixed,
    and solves exactly for the factors of all users, and of all items. A user's factors are the
    solution for their row with the item factors fixed, for new users as for those of ``fit``. Items
    without users in ``fit``, and new ones, are at their latent means (section 2.4 of [1]_).

    Parameters
    ----------
    n_components : int, default=50
        Number of factors, and dimension of the latent vector. Typical range: 50 to 200.
    inference : {"map", "bayes"}, default="map"
        "map" estimates the factors of users and items. "bayes" estimates their normal
        distributions (section 2.3 of [1]_), with a matrix of ``n_components ** 2`` numbers for each
        item; scores are products of the means.
    hidden_layer_sizes : sequence of int, default=(200, 100)
        Sizes of the encoder's hidden layers, at least one; the decoder mirrors them.
    lambda_u : float, default=0.1
        L2 penalty on the factors of users. Typical range: 0.01 to 1, on a logarithmic scale.
    lambda_v : float, default=10.0
        L2 penalty on the distance of item factors from latent vectors. Typical range: 1 to 100, on
        a logarithmic scale.
    lambda_r : float, default=1.0
        Weight of the content.
    lambda_ : float, default=0.0
        L2 penalty on the weights and biases of the network.
    beta : float, default=0.1
        Weight of the KL term; 1 in [1]_, with which latent dimensions collapse where items have a
        few words each. Typical range: 0.01 to 1, on a logarithmic scale.
    likelihood : {"logistic", "gaussian", "multinomial"}, default="logistic"
        Likelihood of the features: Bernoulli of whether a feature is not zero, normal with
        variance 1, or multinomial.
    confidence : float, default=1.0
        Confidence a of an interaction.
    unobserved_weight : float, default=0.01
        Confidence b of the pairs without an interaction. Typical range: 0.001 to 0.1, on a
        logarithmic scale.
    n_pretraining_epochs : int, default=50
        Number of passes over the items that train the autoencoder alone, in the first epoch.
    max_epochs : int, default=100
        Number of epochs.
    batch_size : int, default=128
        Number of items in a gradient step.

    Attributes
    ----------
    item_factors_ : ndarray of shape (n_items, n_components)
        Factors of each item, in the precision of X; their means for "bayes".
    components_ : ndarray of shape (n_components, n_items)
        The same array transposed, as scikit-learn's decompositions have it.
    item_covariances_ : ndarray of shape (n_items, n_components, n_components)
        Covariances of the factors of each item. Only for "bayes".
    n_item_features_ : int
        Number of features, 0 without content.
    loss_curve_ : list of float
        Mean loss of the content of an item in each epoch, with its distance from the item's
        factors, and the pretraining in the first. Without content, the objective by item.

    See Also
    --------
    CDL : With a denoising autoencoder.
    CTR : With topics instead of an autoencoder.

    Notes
    -----
    ``net_.history`` has the "active_dimensions" of each epoch, the number of latent dimensions
    whose means vary over the items by more than 0.01, and the "rating_loss": the least-squares part
    of the objective by item, for "bayes" the negative lower bound without constants.

    Two formulas of [1]_ are misprints: the update of v has :math:`C_j R_i` for :math:`C_j R_j`, and
    the gradients of section 2.3 have :math:`\Lambda_{v_j}`, where the bound gives
    :math:`\lambda_v`. The expected distance from z is computed exactly, not from a sample. The
    authors' code has no half before :math:`\lambda_v` in the loss of the network: there its network
    has twice the coupling of its least squares. It also shrinks items without users, by
    :math:`\lambda_v (b U^\top U + \lambda_v I)^{-1}`; here nothing is known of them.

    An item without features is encoded as any other. Without content, :math:`z = 0`: this is
    weighted matrix factorization with these confidences, and nothing is trained by gradients.

    References
    ----------
    .. [1] X. Li and J. She, "Collaborative Variational Autoencoder for Recommender Systems",
       KDD 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.hybrid import CVAE
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> F = np.random.default_rng(0).poisson(0.3, size=(52, 30))
    >>> cvae = CVAE(8, hidden_layer_sizes=(16,), max_epochs=2, n_pretraining_epochs=2)
    >>> cvae = cvae.fit(X, item_features=F[:50])
    >>> cvae.predict_ranking(X[:2], k=3).shape
    (2, 3)
    >>> cvae.with_items(F[50:]).item_factors_.shape
    (52, 8)
    """

    _suggested_distributions: dict = {
        "n_components": randint(50, 201),
        "lambda_u": loguniform(0.01, 1),
        "lambda_v": loguniform(1, 100),
        "beta": loguniform(0.01, 1),
        "unobserved_weight": loguniform(0.001, 0.1),
    }

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "inference": [StrOptions({"map", "bayes"})],
        "hidden_layer_sizes": ["array-like"],
        "lambda_u": [Interval(Real, 0, None, closed="neither")],
        "lambda_v": [Interval(Real, 0, None, closed="neither")],
        "lambda_r": [Interval(Real, 0, None, closed="left")],
        "lambda_": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "likelihood": [StrOptions({"logistic", "gaussian", "multinomial"})],
        "confidence": [Interval(Real, 0, None, closed="neither")],
        "unobserved_weight": [Interval(Real, 0, None, closed="left")],
        "n_pretraining_epochs": [Interval(Integral, 0, None, closed="left")],
    }

    item_covariances_: np.ndarray

    def __init__(
        self,
        n_components: int = 50,
        *,
        inference: str = "map",
        hidden_layer_sizes: Sequence[int] = (200, 100),
        lambda_u: float = 0.1,
        lambda_v: float = 10.0,
        lambda_r: float = 1.0,
        lambda_: float = 0.0,
        beta: float = 0.1,
        likelihood: str = "logistic",
        confidence: float = 1.0,
        unobserved_weight: float = 0.01,
        n_pretraining_epochs: int = 50,
        max_epochs: int = 100,
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
        self.inference = inference
        self.hidden_layer_sizes = hidden_layer_sizes
        self.lambda_u = lambda_u
        self.lambda_v = lambda_v
        self.lambda_r = lambda_r
        self.lambda_ = lambda_
        self.beta = beta
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
            CVAEModule,
            module__n_features=self.n_item_features_,
            module__n_components=self.n_components,
            module__hidden_layer_sizes=checked_sizes(self.hidden_layer_sizes, "hidden_layer_sizes"),
            criterion=ContentLoss,
            criterion__likelihood=likelihood_named(self.likelihood, 1.0),
            criterion__weight=self.lambda_r,
            criterion__lambda_v=self.lambda_v,
            criterion__beta=self.beta,
            # Adam adds weight_decay * W to the gradient, the derivative of the penalty.
            optimizer__weight_decay=self.lambda_ / n_items,
            passes=passes,
            **self._net_params(),
        )

    @property
    def _learnt(self) -> tuple[str, ...]:  # type: ignore[override]
        is_bayesian = self._params_in_use()["inference"] == "bayes"
        return ("item_factors", "item_covariances")[: 1 + is_bayesian]

    @property
    def _normals(self) -> Normals:
        return Normals(self.item_factors_, self.item_covariances_)

    def _is_bayesian(self) -> bool:
        return len(self._learnt) > 1

    def _explains(self) -> bool:
        return not self._is_bayesian()

    def _begin_fit(
        self, X: sp.csr_array, validation: tuple[sp.csr_array, sp.csr_array] | None, n_epochs: int
    ) -> TorchNet | None:
        self.__dict__.pop("item_covariances_", None)
        if self._is_bayesian():
            n_matrices = X.shape[1] * (4 if validation is None else 5)
            check_memory(
                n_matrices * self.n_components**2 * X.dtype.itemsize,
                f"CVAE with inference='bayes' for {X.shape[1]:,} items",
            )
        return super()._begin_fit(X, validation, n_epochs)

    def _start(self, module: nn.Module, V: np.ndarray) -> None:
        if not self._is_bayesian():
            super()._start(module, V)
        else:
            self._set_learnt(module, V, _prior_covariances(V, self.lambda_v))

    def _gram_of_known(self) -> np.ndarray:
        if not self._is_bayesian():
            return super()._gram_of_known()
        return self._normals[self._has_users].gram(self._problem().unobserved_weight)

    def _solve(
        self, module: nn.Module, X: sp.csr_array, Xt: sp.csr_array, theta: np.ndarray
    ) -> float:
        if not self._is_bayesian():
            return super()._solve(module, X, Xt, theta)
        items, loss = solved_items(self._problem(), X, self._normals, self._gram, theta)
        self._set_learnt(module, items.mean, items.covariance)
        return loss

    def _fold_in(self, X: sp.csr_array) -> np.ndarray:
        if not self._is_bayesian():
            return super()._fold_in(X)
        found = solved_users(self._problem(), X, self._normals, self._gram, self._has_users)
        return np.concatenate([users.mean for _, users in found])

    def _add_items(self, F: Any) -> None:
        n_before = len(self.item_factors_)
        super()._add_items(F)
        if self._is_bayesian():
            new = _prior_covariances(self.item_factors_[n_before:], self._problem().lambda_v)
            self.item_covariances_ = np.concatenate([self.item_covariances_, new])


class CVAEModule(nn.Module):
    """Variational autoencoder of features, whose decoder has the weights of its encoder.

    The first layer of the decoder and the biases of the features have weights of their own.
    """

    def __init__(
        self, n_features: int, n_components: int, hidden_layer_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        if not hidden_layer_sizes:
            raise ValueError("hidden_layer_sizes must have at least one layer, got ().")
        self.first = SparseLinear(n_features, hidden_layer_sizes[0])
        self.hidden = nn.ModuleList(Dense(*pair) for pair in pairwise(hidden_layer_sizes))
        self.to_latent = Dense(hidden_layer_sizes[-1], 2 * n_components)
        self.from_latent = Dense(n_components, hidden_layer_sizes[-1])
        self.feature_bias = nn.Parameter(torch.empty(n_features))
        self.item_factors: torch.Tensor
        self.item_covariances: torch.Tensor
        self.register_buffer("item_factors", torch.zeros(0, n_components))
        self.register_buffer("item_covariances", torch.zeros(0, n_components, n_components))

    def reset_parameters(self) -> None:
        """Set the biases of the features to zero, and the weights for sigmoids."""
        nn.init.zeros_(self.feature_bias)
        draw_for_sigmoids(self.first, *self.hidden, self.to_latent, self.from_latent)

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return the latent means, of shape (n_rows, n_components)."""
        return self._posterior(batch)[0]

    def _posterior(self, batch: SparseBatch) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.sigmoid(self.first(batch))
        for layer in self.hidden:
            h = torch.sigmoid(layer(h))
        mu, logvar = at_least_float32(self.to_latent(h)).chunk(2, dim=1)
        return mu, logvar  # (n_rows, n_components) each

    def _decode(self, z: torch.Tensor) -> ItemScores:
        h = torch.sigmoid(self.from_latent(z))
        below: list[Any] = [self.first, *self.hidden]
        for layer, before in zip(below[:0:-1], below[-2::-1], strict=True):
            h = torch.sigmoid(h @ layer.weight + before.bias)
        return ItemScores(h, self.first.weight, self.feature_bias)

    def forward(self, batch: SparseBatch, coupled: bool = True) -> ContentOutput:
        """Return the scores at a sample of the latent vector, and the terms of the loss."""
        mu, logvar = self._posterior(batch)
        z = sample(mu, logvar, batch)
        distance = None
        if coupled:
            v = self.item_factors[batch.index].to(mu)
            distance = ((v - mu).square() + logvar.exp()).sum(dim=1).mean()
        return ContentOutput(self._decode(z), distance, gaussian_kl(mu, logvar))


def _prior_covariances(V: np.ndarray, lambda_v: float) -> np.ndarray:
    """Return the covariances of items around their content, which are all the same."""
    one = np.eye(V.shape[1], dtype=V.dtype) / V.dtype.type(lambda_v)
    return np.tile(one, (len(V), 1, 1))
