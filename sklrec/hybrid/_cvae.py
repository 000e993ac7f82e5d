"""Collaborative variational autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from numpy.random import RandomState
from scipy.stats import loguniform, randint
from torch import nn

from .._sklearn import Interval, StrOptions
from ..neural._base import BaseTorchRecommender
from ..neural._criteria import gaussian_kl
from ..neural._losses import ItemScores, Likelihood, likelihood_named
from ..neural._modules import Dense, SparseLinear, at_least_float32, checked_sizes, sample
from ..neural._training._data import SparseBatch
from ..neural._training._docs import with_training_docs
from ..neural._training._net import Pass, TorchNet
from ._base import BaseCollaborativeRecommender


@with_training_docs
class CVAE(BaseCollaborativeRecommender):
    def __init__(
        self,
        n_components: int = 50,
        *,
        hidden_layer_sizes: Sequence[int] = (200, 100),
        lambda_u: float = 0.1,
        lambda_v: float = 10.0,
        lambda_r: float = 1.0,
        lambda_: float = 0.0,
        beta: float = 1.0,
        unobserved_weight: float = 0.01,
        likelihood: str = "logistic",
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
        self.hidden_layer_sizes = hidden_layer_sizes
        self.lambda_u = lambda_u
        self.lambda_v = lambda_v
        self.lambda_r = lambda_r
        self.lambda_ = lambda_
        self.beta = beta
        self.unobserved_weight = unobserved_weight
        self.likelihood = likelihood
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
            criterion=ContentELBO,
            criterion__likelihood=likelihood_named(self.likelihood, 1.0),
            criterion__lambda_r=self.lambda_r,
            criterion__lambda_v=self.lambda_v,
            criterion__beta=self.beta,
            # Adam adds weight_decay * W to the gradient, the derivative of the penalty.
            optimizer__weight_decay=self.lambda_ / n_items,
            passes=passes,
            **self._net_params(),
        )


class ContentOutput(NamedTuple):
    """Output of a network for the content of a batch of items.

    Parameters
    ----------
    scores : ItemScores
        Scores of all features.
    kl : Tensor
        KL term, averaged over items.
    distance : Tensor or None
        Expected squared distance from the item factors, averaged over items.
    """

    scores: ItemScores
    kl: torch.Tensor
    distance: torch.Tensor | None


class CVAEModule(nn.Module):
    """Variational autoencoder of features, whose decoder has the weights of its encoder."""

    def __init__(
        self, n_features: int, n_components: int, hidden_layer_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        sizes = [*hidden_layer_sizes, 2 * n_components]
        self.first = SparseLinear(n_features, sizes[0])
        self.rest = nn.ModuleList(Dense(*pair) for pair in pairwise(sizes))
        width = hidden_layer_sizes[-1] if hidden_layer_sizes else n_features
        self.from_latent = Dense(n_components, width)
        self.bias = nn.Parameter(torch.empty(n_features))
        self.item_factors: torch.Tensor
        self.register_buffer("item_factors", torch.zeros(0, n_components))

    def reset_parameters(self) -> None:
        """Set the biases of the features to zero."""
        nn.init.zeros_(self.bias)

    def content_bias(self, share: torch.Tensor) -> None:
        self.bias.copy_(share.logit())

    def posterior(self, batch: SparseBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the latent means and log-variances, of shape (n_rows, n_components)."""
        h = self.first(batch)
        for layer in self.rest:
            h = layer(torch.sigmoid(h))
        mu, logvar = at_least_float32(h).chunk(2, dim=1)
        return mu, logvar

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return the latent means."""
        return self.posterior(batch)[0]

    def decode(self, z: torch.Tensor) -> ItemScores:
        """Return the scores of all features."""
        h = self.from_latent(z)
        if len(self.rest) == 0:
            raise NotImplementedError
        layers = [self.first, *self.rest[:-1]]
        for layer, before in zip(self.rest[-2::-1], layers[-2::-1], strict=False):
            h = torch.sigmoid(h) @ layer.weight + before.bias
        return ItemScores(torch.sigmoid(h), self.first.weight, self.bias)

    def forward(self, batch: SparseBatch, coupled: bool = True) -> ContentOutput:
        mu, logvar = self.posterior(batch)
        z = sample(mu, logvar, batch.generator) if self.training else mu
        distance = None
        if coupled:
            v = self.item_factors[batch.index].to(mu)
            distance = ((v - mu).square() + logvar.exp()).sum(dim=1).mean()
        return ContentOutput(self.decode(z), gaussian_kl(mu, logvar), distance)


class ContentELBO(nn.Module):
    def __init__(self, likelihood: Likelihood, lambda_r: float, lambda_v: float, beta: float):
        super().__init__()
        self.likelihood = likelihood
        self.lambda_r = lambda_r
        self.lambda_v = lambda_v
        self.beta = beta

    def forward(self, output: ContentOutput, batch: SparseBatch) -> torch.Tensor:
        loss = self.lambda_r * (output.scores.nll(batch, self.likelihood) + self.beta * output.kl)
        if output.distance is not None:
            loss = loss + self.lambda_v / 2 * output.distance
        return loss
