"""Denoising autoencoder with multinomial likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import torch
from numpy.random import RandomState
from scipy.stats import randint
from torch import nn

from .._sklearn import Interval, StrOptions
from ._base import BaseTorchRecommender
from ._criteria import NegativeLogLikelihood, Output
from ._embedding import EmbeddingMixin
from ._losses import likelihood_named
from ._modules import ItemLayer, SparseEncoder, checked_sizes, hidden_layers, of_row
from ._training._data import SparseBatch
from ._training._docs import with_training_docs
from ._training._net import TorchNet


@with_training_docs
class MultDAE(EmbeddingMixin, BaseTorchRecommender):
    r"""Denoising autoencoder of users' interactions, Mult-DAE.

    The interactions of a user are predicted from a part of them, the others being dropped at
    random [1]_. In contrast to :class:`MultVAE`, the latent vector is deterministic: there is no
    KL term, but a penalty on the weights.

    Parameters
    ----------
    n_components : int, default=200
        Dimension of the latent vector. Typical range: 50 to 400.
    hidden_layer_sizes : sequence of int, default=(600,)
        Sizes of the encoder's hidden layers; the decoder mirrors them. ``()`` is the network that
        [1]_ found best on MovieLens-20M.
    dropout : float, default=0.5
        Probability with which an interaction is left out of the input in training.
    likelihood : {"multinomial", "gaussian", "logistic"}, default="multinomial"
        Likelihood of the interactions given the latent vector: equations 2, 3 and 4 of [1]_.
    confidence : float, default=10.0
        Weight of a stored entry in the Gaussian likelihood; all other entries have weight 1.
    lambda_ : float, default=0.0
        L2 penalty on the weights, not on the biases: ``loss + lambda_ * sum(W ** 2)``, where the
        loss is averaged over users. The authors of [1]_ use 0.01 with a loss that is summed over a
        batch of 500 users, which corresponds to 2e-5 here.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_hidden)
        Weights of the last layer.
    loss_curve_ : list of float
        Mean loss in each epoch, without the penalty.

    See Also
    --------
    MultVAE : Variational autoencoder with the same likelihoods.

    Notes
    -----
    The defaults are those of [1]_ for MovieLens-20M and were not tuned on other data.

    References
    ----------
    .. [1] D. Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.neural import MultDAE
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> dae = MultDAE(16, hidden_layer_sizes=(), max_epochs=5, random_state=0).fit(X)
    >>> dae.predict_ranking(X[:2], k=3).shape
    (2, 3)
    """

    _suggested_distributions: dict = {"n_components": randint(50, 401)}

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "likelihood": [StrOptions({"multinomial", "gaussian", "logistic"})],
        "confidence": [Interval(Real, 0, None, closed="neither")],
        "lambda_": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 200,
        *,
        hidden_layer_sizes: Sequence[int] = (600,),
        dropout: float = 0.5,
        likelihood: str = "multinomial",
        confidence: float = 10.0,
        lambda_: float = 0.0,
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
        self.lambda_ = lambda_
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
            MultDAEModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            module__hidden_layer_sizes=checked_sizes(self.hidden_layer_sizes, "hidden_layer_sizes"),
            module__dropout=self.dropout,
            criterion=NegativeLogLikelihood,
            criterion__likelihood=likelihood_named(self.likelihood, self.confidence),
            # Adam adds weight_decay * W to the gradient, half the derivative of the penalty.
            optimizer__param_groups=[("*weight", {"weight_decay": 2 * self.lambda_})],
            **self._net_params(),
        )


class MultDAEModule(nn.Module):
    """Encoder to a latent vector, and decoder to the logits of all items."""

    def __init__(
        self, n_items: int, n_components: int, hidden_layer_sizes: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.encoder = SparseEncoder(n_items, hidden_layer_sizes, n_components, dropout)
        self.decoder = hidden_layers([n_components, *reversed(hidden_layer_sizes)])
        self.item_layer = ItemLayer(
            hidden_layer_sizes[0] if hidden_layer_sizes else n_components, n_items
        )

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return the latent vectors, of shape (n_rows, n_components)."""
        return torch.tanh(self.encoder(batch))

    def forward(self, batch: SparseBatch) -> Output:
        """Return the scores of all items."""
        return Output(self.item_layer(self.decoder(self.encode(batch))))

    def score_row(self, values: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the scores of all items for the entries of one row, by numpy."""
        z = np.tanh(self.encoder.of_row(values, items))
        return self.item_layer.of_row(of_row(self.decoder, z))
