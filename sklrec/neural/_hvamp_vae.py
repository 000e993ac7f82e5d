"""Variational autoencoder with a flexible prior, two latent vectors and gated layers."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

import torch
import torch.nn.functional as F
from numpy.random import RandomState
from scipy.stats import loguniform, randint
from torch import nn

from .._sklearn import Interval, StrOptions
from ._base import BaseTorchRecommender
from ._criteria import LOG_2_PI, AnnealedELBO, Output, gaussian_kl, log_mixture
from ._embedding import EmbeddingMixin
from ._losses import likelihood_named
from ._modules import (
    Dense,
    ItemLayer,
    SparseEncoder,
    at_least_float32,
    checked_sizes,
    hidden_layers,
    sample,
)
from ._training._data import SparseBatch
from ._training._docs import with_training_docs
from ._training._net import TorchNet


@with_training_docs
class HVampVAE(EmbeddingMixin, BaseTorchRecommender):
    r"""Variational autoencoder with hierarchical VampPrior and gated layers.

    This is :class:`MultVAE` with three enhancements [1]_, each of which can be switched off. The
    prior of the latent vector is a mixture of the posteriors of K pseudo-inputs, which are learnt
    (VampPrior [3]_, equation 19 of [2]_):

    .. math:: p(z) = \frac{1}{K} \sum_{k=1}^K q(z|u_k)

    There are two latent vectors instead of one (equations 20 and 21):

    .. math::
        q(z_1, z_2|x) = q(z_1|x, z_2) \, q(z_2|x), \qquad
        p(x, z_1, z_2) = p(x|z_1, z_2) \, p(z_1|z_2) \, \frac{1}{K} \sum_{k=1}^K q(z_2|u_k)

    Hidden layers are gated: a linear layer is multiplied by the sigmoid of another (equation 22).
    Scores are the logits at the means of the latent vectors.

    Parameters
    ----------
    n_components : int, default=200
        Dimension of the latent vector, or of each of the two. Typical range: 50 to 400.
    hidden_layer_sizes : sequence of int, default=(600,)
        Sizes of the hidden layers of each encoder.
    decoder_hidden_layer_sizes : sequence of int or None, default=()
        Sizes of the hidden layers of the decoder and, with two latent vectors, of the prior of the
        first given the second. ``()`` makes these networks linear; None mirrors
        `hidden_layer_sizes`, as in [1]_.
    prior : {"standard", "vamp", "hierarchical-vamp"}, default="hierarchical-vamp"
        Prior of the latent vector: a standard Gaussian, the mixture, or two latent vectors with the
        mixture as the prior of the second.
    gated : bool, default=True
        Whether hidden layers are gated; otherwise they have a tanh activation.
    n_pseudo_inputs : int, default=100
        Number K of pseudo-inputs. Each training step encodes all of them. They are dense: training
        takes 36 bytes times K times the number of items for them at the peak, 72 MB for 100
        pseudo-inputs and 20,000 items. Typical range: 50 to 1,000. Ignored if
        ``prior="standard"``.
    dropout : float, default=0.5
        Probability with which an interaction is left out of an encoder's input in training.
    likelihood : {"multinomial", "gaussian", "logistic"}, default="multinomial"
        Likelihood of the interactions given the latent vectors, as in :class:`MultVAE`. The
        authors of [1]_ use "logistic", a Bernoulli likelihood, on their largest data.
    confidence : float, default=10.0
        Weight of a stored entry in the Gaussian likelihood; all other entries have weight 1.
    beta : float, default=0.3
        Weight of the KL term at the end of the annealing. Typical range: 0.05 to 1.
    n_annealing_steps : int, default=5_000
        Number of gradient steps over which the weight of the KL term would rise linearly from 0
        to 1; it stops at `beta`. 0 means no annealing.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_hidden)
        Weights of the last layer.
    best_beta_ : float
        Weight of the KL term in the best epoch. Only with validation users.

    See Also
    --------
    MultVAE : Equivalent to ``prior="standard"``, ``gated=False`` and
        ``decoder_hidden_layer_sizes=None``.

    Notes
    -----
    ``transform`` returns the mean of the latent vector or, if there are two, the means of the first
    and of the second in ``2 * n_components`` columns, which are the input of the decoder.

    The KL term is computed in closed form for the standard prior, for the first of two latent
    vectors given the second, and for the entropy in equation 18. The density of the mixture is
    estimated with one sample.

    Details that the papers leave open follow the authors' code, with these exceptions. The encoder
    of z1 combines x and z2 in its first layer, and the decoder z1 and z2, for any number of hidden
    layers; in that code for one layer only. Pseudo-inputs are divided by their norms as users are,
    and dropout is not applied to them, so that the prior is not random. The weight of the KL term
    grows with the gradient steps, as in :class:`MultVAE`; in that code it reaches `beta` after 100
    epochs. Weights are initialized as in :class:`MultVAE`, by Glorot's method instead of He's, and
    the optimizer is Adam, as in [2]_.

    The sizes of the encoders and `beta` are those of the authors of [1]_ for Netflix. They have a
    thousand pseudo-inputs, mirrored decoders and a learning rate of 5e-4, which learn little from
    hundreds of users and take several times as long; the defaults of these, of `max_epochs` and
    of `n_annealing_steps` were chosen on validation users of MovieLens-1M, with all and with 500
    of its training users, and of ML-Small.

    References
    ----------
    .. [1] D. Kim and B. Suh, "Enhancing VAEs for Collaborative Filtering: Flexible Priors & Gating
       Mechanisms", RecSys 2019.
    .. [2] S. Peng, C. Spears, H. Qiu and T. Jiang, "CSE 258 Assignment 2", UC San Diego.
    .. [3] J. Tomczak and M. Welling, "VAE with a VampPrior", AISTATS 2018.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.neural import HVampVAE
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> vae = HVampVAE(
    ...     16, hidden_layer_sizes=(32,), n_pseudo_inputs=20, max_epochs=5, random_state=0
    ... ).fit(X)
    >>> vae.predict_ranking(X[:2], k=3).shape
    (2, 3)
    >>> vae.transform(X).shape
    (200, 32)
    """

    _suggested_distributions: dict = {
        "n_components": randint(50, 401),
        "n_pseudo_inputs": randint(50, 1001),
        "beta": loguniform(0.05, 1),
    }

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "decoder_hidden_layer_sizes": ["array-like", None],
        "prior": [StrOptions({"standard", "vamp", "hierarchical-vamp"})],
        "gated": ["boolean"],
        "n_pseudo_inputs": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "likelihood": [StrOptions({"multinomial", "gaussian", "logistic"})],
        "confidence": [Interval(Real, 0, None, closed="neither")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "n_annealing_steps": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 200,
        *,
        hidden_layer_sizes: Sequence[int] = (600,),
        decoder_hidden_layer_sizes: Sequence[int] | None = (),
        prior: str = "hierarchical-vamp",
        gated: bool = True,
        n_pseudo_inputs: int = 100,
        dropout: float = 0.5,
        likelihood: str = "multinomial",
        confidence: float = 10.0,
        beta: float = 0.3,
        n_annealing_steps: int = 5_000,
        max_epochs: int = 100,
        batch_size: int = 500,
        learning_rate: float = 2e-3,
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
        self.decoder_hidden_layer_sizes = decoder_hidden_layer_sizes
        self.prior = prior
        self.gated = gated
        self.n_pseudo_inputs = n_pseudo_inputs
        self.dropout = dropout
        self.likelihood = likelihood
        self.confidence = confidence
        self.beta = beta
        self.n_annealing_steps = n_annealing_steps
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

    def _n_step_values(self, module: nn.Module, n_gradients: int, n_rows: int) -> int:
        n_values = super()._n_step_values(module, n_gradients, n_rows)
        if self.prior == "standard":
            return n_values
        # All gradients, of which the first layer has two, for it reads users and pseudo-inputs;
        # clipped and normalized pseudo-inputs, and the gradients of both.
        n_pseudo = self.n_pseudo_inputs * self.n_features_in_
        first: torch.Tensor = module.encoder.first.weight  # type: ignore
        return max(n_values, n_gradients + first.numel() + 4 * n_pseudo)

    def _make_net(self, n_items: int) -> TorchNet:
        decoder_sizes = self.decoder_hidden_layer_sizes
        if decoder_sizes is None:
            decoder_sizes = self.hidden_layer_sizes[::-1]
        return TorchNet(
            HVampVAEModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            module__hidden_layer_sizes=checked_sizes(self.hidden_layer_sizes, "hidden_layer_sizes"),
            module__decoder_hidden_layer_sizes=checked_sizes(
                decoder_sizes, "decoder_hidden_layer_sizes"
            ),
            module__dropout=self.dropout,
            module__gated=self.gated,
            module__n_pseudo_inputs=0 if self.prior == "standard" else self.n_pseudo_inputs,
            module__hierarchical=self.prior == "hierarchical-vamp",
            criterion=AnnealedELBO,
            criterion__likelihood=likelihood_named(self.likelihood, self.confidence),
            criterion__beta=self.beta,
            criterion__n_annealing_steps=self.n_annealing_steps,
            **self._net_params(),
        )

    @property
    def _n_features_out(self) -> int:
        hierarchical = self._trained_with["prior"] == "hierarchical-vamp"
        return self._trained_with["n_components"] * (2 if hierarchical else 1)


class HVampVAEModule(nn.Module):
    """Encoders to one or two latent Gaussians, and decoder to the logits of all items.

    ``encoder`` is q(z|x) or, with two latent vectors, q(z2|x). In this case ``inner_encoder`` is
    q(z1|x, z2), where ``inner_given`` of z2 is added in the first layer, and ``inner_prior`` is
    p(z1|z2).
    """

    def __init__(
        self,
        n_items: int,
        n_components: int,
        hidden_layer_sizes: Sequence[int],
        decoder_hidden_layer_sizes: Sequence[int],
        dropout: float,
        gated: bool,
        n_pseudo_inputs: int,
        hierarchical: bool,
    ) -> None:
        super().__init__()
        n_latent = (1 + hierarchical) * n_components
        decoder_sizes = [n_latent, *decoder_hidden_layer_sizes]
        encoder_settings = n_items, hidden_layer_sizes, 2 * n_components, dropout, gated
        self.hierarchical = hierarchical
        self.encoder = SparseEncoder(*encoder_settings)
        if hierarchical:
            self.inner_encoder = SparseEncoder(*encoder_settings)
            width = self.inner_encoder.first.bias.shape[0]
            self.inner_given = Dense(n_components, width, bias=False)
            inner_sizes = [n_components, *decoder_hidden_layer_sizes]
            self.inner_prior = hidden_layers(inner_sizes, gated)
            self.inner_prior.append(Dense(inner_sizes[-1], 2 * n_components))
        self.decoder = hidden_layers(decoder_sizes, gated)
        self.item_layer = ItemLayer(decoder_sizes[-1], n_items)
        self.n_pseudo_inputs = n_pseudo_inputs
        if n_pseudo_inputs:
            self.pseudo_inputs = nn.Parameter(torch.empty(n_pseudo_inputs, n_items))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw the pseudo-inputs."""
        if self.n_pseudo_inputs:
            self.pseudo_inputs.normal_(0.05, 0.01, generator=generator)

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return the latent means, of z or of z1 and z2, of shape (n_rows, n_latent)."""
        mu = self.encoder(batch).chunk(2, dim=1)[0]
        if not self.hierarchical:
            return mu
        inner = self.inner_encoder(batch, self.inner_given(mu)).chunk(2, dim=1)[0]
        return torch.cat([inner, mu], dim=1)

    def forward(self, batch: SparseBatch) -> Output:
        """Return the scores and, in training, the KL term.

        Scores are those at samples of the latent vectors in training, otherwise at their means.
        """
        if not self.training:
            return Output(self.item_layer(self.decoder(self.encode(batch))))
        mu, logvar = gaussian(self.encoder(batch))  # (n_rows, n_components) each
        latent = z = sample(mu, logvar, batch)
        kl = self.kl(z, mu, logvar)
        if self.hierarchical:
            mu, logvar = gaussian(self.inner_encoder(batch, self.inner_given(z)))
            latent = torch.cat([sample(mu, logvar, batch), z], dim=1)
            center, logscale = gaussian(self.inner_prior(z))
            # The KL of two Gaussians, by standardizing both with the second.
            kl = kl + gaussian_kl((mu - center) * (-0.5 * logscale).exp(), logvar - logscale)
        return Output(self.item_layer(self.decoder(latent)), kl)

    def kl(self, z: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
        """Return the KL of N(mu, exp(logvar)) and the prior at a sample z, averaged over rows."""
        if not self.n_pseudo_inputs:
            return gaussian_kl(mu, logvar)
        entropy = 0.5 * (1 + LOG_2_PI + logvar).sum(dim=1)
        return -(entropy + log_mixture(z, *self.pseudo_posteriors())).mean()

    def pseudo_posteriors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return means and log-variances of pseudo-inputs, (n_pseudo_inputs, n_components) each."""
        u = F.normalize(self.pseudo_users(), dim=1)
        first = self.encoder.first
        return gaussian(self.encoder.hidden(u @ first.weight + first.bias))

    def pseudo_users(self) -> torch.Tensor:
        """Return the pseudo-inputs, between 0 and 1, of shape (n_pseudo_inputs, n_items)."""
        return F.hardtanh(self.pseudo_inputs, 0, 1)


def gaussian(output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split an output into the mean and the log-variance, which is clipped to [-12, 4]."""
    mu, logvar = at_least_float32(output).chunk(2, dim=1)
    return mu, F.hardtanh(logvar, -12, 4)
