"""Variational autoencoder with multinomial likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
import torch
from numpy.random import RandomState
from scipy.stats import randint
from sklearn.base import clone
from torch import nn

from .._sklearn import Interval, StrOptions
from .._typing import MatrixLike
from ._base import BaseTorchRecommender
from ._criteria import AnnealedELBO, Output, gaussian_kl
from ._embedding import EmbeddingMixin
from ._losses import likelihood_named
from ._modules import (
    ItemLayer,
    SparseEncoder,
    at_least_float32,
    checked_sizes,
    hidden_layers,
    of_row,
    sample,
)
from ._training._data import SparseBatch
from ._training._docs import with_training_docs
from ._training._net import TorchNet


@with_training_docs
class MultVAE(EmbeddingMixin, BaseTorchRecommender):
    r"""Variational autoencoder of users' interactions, Mult-VAE.

    A user's interactions are drawn from a multinomial distribution over the items, whose logits
    are the output of a neural network for a latent Gaussian vector [1]_. Training maximises
    (equation 6 of [1]_)

    .. math:: \mathbb{E}_{q(z_u|x_u)}[\log p(x_u|z_u)] - \beta \, \mathrm{KL}(q(z_u|x_u)\|p(z_u))

    where dropout is applied to the input of the encoder q, which is divided by its Euclidean norm,
    and :math:`\beta` is annealed from 0. Scores are the logits at the latent mean.

    Parameters
    ----------
    n_components : int, default=200
        Dimension of the latent vector. Typical range: 50 to 400.
    hidden_layer_sizes : sequence of int, default=(600,)
        Sizes of the encoder's hidden layers; the decoder mirrors them.
    dropout : float, default=0.5
        Probability with which an interaction is left out of the encoder's input in training.
    likelihood : {"multinomial", "gaussian", "logistic"}, default="multinomial"
        Likelihood of the interactions given the latent vector: equations 2, 3 and 4 of [1]_.
    confidence : float, default=10.0
        Weight of a stored entry in the Gaussian likelihood; all other entries have weight 1.
    beta : float or "peak", default=0.2
        Weight of the KL term at the end of the annealing. With "peak", as recommended by [1]_, the
        network is trained twice: first with the weight annealed to 1, then annealed to the weight
        of the epoch with the best validation score. This needs ``early_stopping=True`` or `X_val`;
        ``partial_fit``, which has no validation users, anneals to 1.
    n_annealing_steps : int, default=20_000
        Number of gradient steps over which the weight of the KL term would rise linearly from 0
        to 1; it stops at `beta`. 0 means no annealing. The default is close to that of figure 1 in
        [1]_; the authors' code has 200,000 for MovieLens-20M.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_hidden)
        Weights of the last layer.
    beta_ : float
        Weight of the KL term at the end of the annealing: `beta`, or the one found by "peak".
    best_beta_ : float
        Weight of the KL term in the best epoch. Only with validation users.

    See Also
    --------
    MultDAE : Without latent noise and KL term.

    Notes
    -----
    The defaults are those of [1]_ for MovieLens-20M, with fewer annealing steps, and were not tuned
    on other data. With hundreds of users, ``hidden_layer_sizes=()`` and smaller batches are often
    better.

    References
    ----------
    .. [1] D. Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.neural import MultVAE
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> vae = MultVAE(16, hidden_layer_sizes=(32,), max_epochs=5, random_state=0).fit(X)
    >>> vae.predict_ranking(X[:2], k=3).shape
    (2, 3)
    >>> vae.transform(X).shape
    (200, 16)
    """

    _suggested_distributions: dict = {"n_components": randint(50, 401)}

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "likelihood": [StrOptions({"multinomial", "gaussian", "logistic"})],
        "confidence": [Interval(Real, 0, None, closed="neither")],
        "beta": [Interval(Real, 0, None, closed="left"), StrOptions({"peak"})],
        "n_annealing_steps": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 200,
        *,
        hidden_layer_sizes: Sequence[int] = (600,),
        dropout: float = 0.5,
        likelihood: str = "multinomial",
        confidence: float = 10.0,
        beta: float | str = 0.2,
        n_annealing_steps: int = 20_000,
        max_epochs: int = 200,
        batch_size: int = 500,
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

    def _make_net(self, n_items: int) -> TorchNet:
        return TorchNet(
            MultVAEModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            module__hidden_layer_sizes=checked_sizes(self.hidden_layer_sizes, "hidden_layer_sizes"),
            module__dropout=self.dropout,
            criterion=AnnealedELBO,
            criterion__likelihood=likelihood_named(self.likelihood, self.confidence),
            criterion__beta=self.beta_,
            criterion__n_annealing_steps=self.n_annealing_steps,
            **self._net_params(),
        )

    def _validation_users(
        self, X_val: MatrixLike, y_val: MatrixLike
    ) -> tuple[sp.csr_array, sp.csr_array] | None:
        if self.beta == "peak" and X_val is None and not self.early_stopping:
            raise ValueError(
                "beta='peak' needs validation users to find the peak: use early_stopping=True or "
                "X_val."
            )
        return super()._validation_users(X_val, y_val)

    def _begin_fit(
        self, X: sp.csr_array, validation: tuple[sp.csr_array, sp.csr_array] | None, n_epochs: int
    ) -> TorchNet | None:
        if self.beta != "peak":
            self.beta_ = float(self.beta)
        elif validation is None:
            self.beta_ = 1.0
        else:
            fold_in, held_out = validation
            annealing = clone(self).set_params(
                beta=1.0, max_epochs=n_epochs, warm_start=False, random_state=self._seed
            )
            annealing.fit(X, X_val=fold_in + held_out, y_val=held_out)
            self.beta_ = annealing.best_beta_
            if annealing.net_.interrupted_:  # this net is the model then
                for name in ("loss_curve_", "validation_scores_", "best_epoch_", "best_beta_"):
                    setattr(self, name, getattr(annealing, name))
                return annealing.net_
        return None


class MultVAEModule(nn.Module):
    """Encoder to a latent Gaussian, and decoder to the logits of all items."""

    def __init__(
        self,
        n_items: int,
        n_components: int,
        hidden_layer_sizes: Sequence[int],
        dropout: float,
        nonlinearity: type[nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__()
        self.encoder = SparseEncoder(
            n_items, hidden_layer_sizes, 2 * n_components, dropout, nonlinearity=nonlinearity
        )
        self.decoder = hidden_layers(
            [n_components, *reversed(hidden_layer_sizes)], nonlinearity=nonlinearity
        )
        self.item_layer = ItemLayer(
            hidden_layer_sizes[0] if hidden_layer_sizes else n_components, n_items
        )

    def posterior(self, batch: SparseBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return latent means and log-variances, of shape (n_rows, n_components) each."""
        mu, logvar = at_least_float32(self.encoder(batch)).chunk(2, dim=1)
        return mu, logvar

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return the latent mean, of shape (n_rows, n_components)."""
        return self.posterior(batch)[0]

    def decode(
        self,
        mu: torch.Tensor,
        logvar: torch.Tensor,
        batch: SparseBatch,
        given: torch.Tensor | None = None,
    ) -> Output:
        """Return the scores at a sample of the latent vector in training, otherwise at its mean.

        `given` is concatenated to the latent vector.
        """
        z = sample(mu, logvar, batch) if self.training else mu
        h = z if given is None else torch.cat([z, given], dim=1)
        return Output(self.item_layer(self.decoder(h)), gaussian_kl(mu, logvar))

    def forward(self, batch: SparseBatch) -> Output:
        """Return the scores and the KL term."""
        return self.decode(*self.posterior(batch), batch)

    def score_row(self, values: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the scores of all items for the entries of one row, by numpy."""
        mu, _ = np.split(self.encoder.of_row(values, items), 2)
        return self.item_layer.of_row(of_row(self.decoder, mu))
