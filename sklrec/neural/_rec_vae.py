"""Variational autoencoder with a composite prior and alternating training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from numbers import Integral, Real
from typing import cast

import numpy as np
import torch
from numpy.random import RandomState
from scipy.stats import loguniform, randint
from torch import nn

from .._sklearn import Interval, StrOptions
from ._base import BaseTorchRecommender
from ._criteria import Output, log_normal
from ._embedding import EmbeddingMixin
from ._losses import Likelihood, likelihood_named
from ._modules import DenselyConnectedEncoder, ItemLayer, sample
from ._training._data import SparseBatch
from ._training._docs import with_training_docs
from ._training._net import Pass, TorchNet

# Log-variance of the widest component of the prior.
WIDE_LOGVAR = 10.0


@with_training_docs
class RecVAE(EmbeddingMixin, BaseTorchRecommender):
    r"""Variational autoencoder with a composite prior and alternating training, RecVAE.

    It differs from :class:`MultVAE` in four respects (section 3 of [1]_): a deep, densely connected
    encoder with a linear decoder; a prior that keeps the posterior close to that of the epoch
    before,

    .. math:: p(z_u|x_u) = w_1 \mathcal{N}(0, 1) + w_2 q_{old}(z_u|x_u) + w_3 \mathcal{N}(0, e^{10})

    in each latent dimension; a weight :math:`\gamma \sum_i x_{ui}` of the KL term, which grows with
    the number of a user's interactions; and epochs that first train the encoder, with dropout, and
    then the decoder, without dropout and KL term. Scores are the logits at the latent mean.

    Parameters
    ----------
    n_components : int, default=200
        Dimension of the latent vector. Typical range: 50 to 400.
    hidden_size : int, default=600
        Size of each layer of the encoder.
    n_encoder_layers : int, default=5
        Number of hidden layers of the encoder.
    dropout : float, default=0.5
        Probability with which an interaction is left out of the encoder's input when the encoder
        is trained.
    likelihood : {"multinomial", "gaussian", "logistic"}, default="multinomial"
        Likelihood of the interactions given the latent vector, as in :class:`MultVAE`; [1]_ uses
        "multinomial".
    confidence : float, default=10.0
        Weight of a stored entry in the Gaussian likelihood; all other entries have weight 1.
    gamma : float, default=0.005
        Weight of a user's KL term, which is multiplied by the sum of the user's interactions.
        Typical range: 0.002 to 0.02.
    beta : float or None, default=None
        If not None, the same weight of the KL term for all users, instead of `gamma`.
    prior_weights : sequence of 3 floats, default=(0.15, 0.75, 0.1)
        Weights of the standard normal, the old posterior and the wide normal in the prior;
        (1, 0, 0) is the prior of :class:`MultVAE`.
    alternating : bool, default=True
        Whether an epoch trains first the encoder and then the decoder. Otherwise both are trained
        in one pass over the users, with dropout.
    n_encoder_epochs : int, default=3
        Number of passes over the users in each epoch that train the encoder.
    n_decoder_epochs : int, default=1
        Number of passes over the users in each epoch that train the decoder.
    max_epochs : int, default=50
        Number of epochs, each of ``n_encoder_epochs + n_decoder_epochs`` passes over the users.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_components)
        Weights of the decoder.
    loss_curve_ : list of float
        Mean loss over all passes of each epoch.

    See Also
    --------
    MultVAE : With a standard normal prior, and encoder and decoder trained together.

    Notes
    -----
    The wide normal in the prior and the weights are those of the authors' code. As there, the KL
    term is :math:`\log q - \log p` at the sampled latent vector, and the prior is a mixture in each
    dimension: a product of mixtures, not a mixture of products. The old posterior is that of the
    encoder after its last pass in the epoch before, for the input without dropout; in the first
    epoch it is that of the untrained encoder. With ``prior_weights[1] == 0``, no memory is needed
    for a second encoder.

    The epsilon of layer normalization is 1e-5, as in the code of the paper; later code of the
    authors has 0.1. With ``alternating=False`` the old posterior is updated after each epoch, while
    the authors' code never updates it.

    The defaults are those of the authors of [1]_ for MovieLens-20M and were not tuned on other
    data.

    References
    ----------
    .. [1] I. Shenbin et al., "RecVAE: A New Variational Autoencoder for Top-N Recommendations
       with Implicit Feedback", WSDM 2020.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.neural import RecVAE
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> vae = RecVAE(16, hidden_size=32, max_epochs=2, random_state=0).fit(X)
    >>> vae.predict_ranking(X[:2], k=3).shape
    (2, 3)
    >>> vae.transform(X).shape
    (200, 16)
    """

    _suggested_distributions: dict = {
        "n_components": randint(50, 401),
        "gamma": loguniform(0.002, 0.02),
    }

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "n_encoder_layers": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "likelihood": [StrOptions({"multinomial", "gaussian", "logistic"})],
        "confidence": [Interval(Real, 0, None, closed="neither")],
        "gamma": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left"), None],
        "prior_weights": ["array-like"],
        "alternating": ["boolean"],
        "n_encoder_epochs": [Interval(Integral, 1, None, closed="left")],
        "n_decoder_epochs": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 200,
        *,
        hidden_size: int = 600,
        n_encoder_layers: int = 5,
        dropout: float = 0.5,
        likelihood: str = "multinomial",
        confidence: float = 10.0,
        gamma: float = 0.005,
        beta: float | None = None,
        prior_weights: Sequence[float] = (0.15, 0.75, 0.1),
        alternating: bool = True,
        n_encoder_epochs: int = 3,
        n_decoder_epochs: int = 1,
        max_epochs: int = 50,
        batch_size: int = 500,
        learning_rate: float = 5e-4,
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
        self.hidden_size = hidden_size
        self.n_encoder_layers = n_encoder_layers
        self.dropout = dropout
        self.likelihood = likelihood
        self.confidence = confidence
        self.gamma = gamma
        self.beta = beta
        self.prior_weights = prior_weights
        self.alternating = alternating
        self.n_encoder_epochs = n_encoder_epochs
        self.n_decoder_epochs = n_decoder_epochs
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

    def _make_net(self, n_items: int) -> TorchNet:
        # The prior is renewed after the last pass of the encoder.
        passes = [Pass(before=renew_prior, options={"dropout": self.dropout})]
        if self.alternating:
            passes = [
                Pass("encoder", n_times=self.n_encoder_epochs, options={"dropout": self.dropout}),
                Pass(
                    "item_layer",
                    n_times=self.n_decoder_epochs,
                    options={"with_kl": False},
                    before=renew_prior,
                ),
            ]
        return TorchNet(
            RecVAEModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            module__hidden_size=self.hidden_size,
            module__n_encoder_layers=self.n_encoder_layers,
            module__prior_weights=self._checked_prior_weights(),
            criterion=UserWeightedELBO,
            criterion__likelihood=likelihood_named(self.likelihood, self.confidence),
            criterion__gamma=self.gamma,
            criterion__beta=self.beta,
            passes=passes,
            **self._net_params(),
        )

    def _checked_prior_weights(self) -> tuple[float, ...]:
        weights = np.asarray(self.prior_weights, dtype=float)
        if weights.shape != (3,) or not (weights >= 0).all() or not np.isclose(weights.sum(), 1):
            raise ValueError(
                "prior_weights must be three non-negative numbers with the sum 1, got "
                f"{self.prior_weights!r}."
            )
        return tuple(weights.tolist())


class RecVAEModule(nn.Module):
    """Encoder to a latent Gaussian, its prior, and a linear decoder."""

    def __init__(
        self,
        n_items: int,
        n_components: int,
        hidden_size: int,
        n_encoder_layers: int,
        prior_weights: Sequence[float],
    ) -> None:
        super().__init__()
        self.encoder = RecVAEEncoder(n_items, n_components, hidden_size, n_encoder_layers)
        self.prior = CompositePrior(self.encoder, prior_weights)
        self.item_layer = ItemLayer(n_components, n_items)

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return the latent mean, of shape (n_rows, n_components)."""
        return self.encoder(batch)[0]

    def forward(self, batch: SparseBatch, dropout: float = 0.0, with_kl: bool = True) -> Output:
        """Return the scores and, in training, the KL term of each row.

        Scores are those at a sample of the latent vector in training, otherwise at its mean.
        """
        if not self.training:
            return Output(self.item_layer(self.encode(batch)))
        mu, logvar = self.encoder(batch, dropout)
        z = sample(mu, logvar, batch)  # (n_rows, n_components)
        scores = self.item_layer(z)
        if not with_kl:
            return Output(scores)
        return Output(scores, (log_normal(z, mu, logvar) - self.prior(z, batch)).sum(dim=1))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Set the old posterior to that of the untrained encoder."""
        self.prior.renew(self.encoder)


class RecVAEEncoder(DenselyConnectedEncoder):
    """Densely connected encoder of rows that are divided by their norm, with dropout."""

    def forward(self, batch: SparseBatch, dropout: float = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return two tensors of shape (n_rows, n_components)."""
        return super().forward(batch.normalized().dropout(dropout, training=True))


class CompositePrior(nn.Module):
    """Mixture, in each dimension, of N(0, 1), the old posterior and N(0, exp(10)).

    Parameters
    ----------
    encoder : RecVAEEncoder
        Encoder of the old posterior until it is renewed.
    weights : sequence of 3 floats
        Weights of the mixture.
    """

    def __init__(self, encoder: RecVAEEncoder, weights: Sequence[float]) -> None:
        super().__init__()
        self.weights = weights
        self.old_encoder = _without_parameters(deepcopy(encoder)) if weights[1] else None

    def renew(self, encoder: RecVAEEncoder) -> None:
        """Set the old posterior to that of `encoder`."""
        if self.old_encoder is not None:
            self.old_encoder.load_state_dict(encoder.state_dict())

    def forward(self, z: torch.Tensor, batch: SparseBatch) -> torch.Tensor:
        """Return the log-density at z in each dimension, of shape (n_rows, n_components)."""
        zero = z.new_zeros(())
        gaussians = [(zero, zero), None, (zero, zero + WIDE_LOGVAR)]
        if self.old_encoder is not None:
            gaussians[1] = self.old_encoder(batch)
        return torch.stack(
            [
                log_normal(z, *gaussian) + math.log(weight)
                for gaussian, weight in zip(gaussians, self.weights, strict=True)
                if gaussian is not None and weight
            ]
        ).logsumexp(dim=0)


class UserWeightedELBO(nn.Module):
    """Negative log-likelihood plus KL term, weighted by `beta` or `gamma` times a user's sum."""

    def __init__(self, likelihood: Likelihood, gamma: float, beta: float | None) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.gamma = gamma
        self.beta = beta

    def forward(self, output: Output, batch: SparseBatch) -> torch.Tensor:
        """Return the loss, averaged over users."""
        nll = output.scores.nll(batch, self.likelihood)
        if output.kl is None:
            return nll
        weight = self.gamma * batch.total if self.beta is None else self.beta
        return nll + (weight * output.kl).mean()


def renew_prior(net: TorchNet) -> None:
    """Set the old posterior to that of the encoder as it is now."""
    module = cast(RecVAEModule, net.plain_module)
    module.prior.renew(module.encoder)


def _without_parameters(module: nn.Module) -> nn.Module:
    """Turn parameters into buffers, which are saved and moved with the module but not trained."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    return module
