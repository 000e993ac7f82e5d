"""Variational autoencoder of users, given the mean features of their items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.random import RandomState
from scipy.stats import loguniform, randint

from .._device import device_named
from .._sklearn import Interval
from ..neural._base import BaseTorchRecommender
from ..neural._criteria import AnnealedELBO, Output
from ..neural._losses import multinomial_nll
from ..neural._modules import (
    ItemLayer,
    at_least_float32,
    checked_sizes,
    hidden_layers,
    sparse_product,
)
from ..neural._mult_vae import MultVAEModule
from ..neural._training._data import SparseBatch, SparseRows, row_sums
from ..neural._training._docs import with_training_docs
from ..neural._training._net import Pass, TorchNet
from ._base_torch import BaseTorchContent
from ._feature_map import FeatureMap
from ._features import check_not_empty


@with_training_docs
class CondVAE(BaseTorchContent):
    r"""Conditional variational autoencoder of users, given the features of their items, CondVAE.

    A :class:`~sklrec.neural.MultVAE` whose encoder and decoder read, beside a user's items x and
    the latent vector z, the mean c of the features of these items. Training maximises

    .. math::
        \mathbb{E}_{q(z|x,c)}[\log p(x|z,c)] - \beta \, \mathrm{KL}(q(z|x,c)\|p(z))

    Conditional autoencoders of [1]_ have attributes of users as conditions; in [2]_ these are
    replaced by mean features of items. Scores are the logits at the latent mean.

    New items cannot be added: each item has weights of its own in the last layer.

    Parameters
    ----------
    n_components : int, default=200
        Dimension of the latent vector. Typical range: 50 to 400.
    hidden_layer_sizes : sequence of int, default=(600,)
        Sizes of the encoder's hidden layers; the decoder mirrors them.
    dropout : float, default=0.5
        Probability with which an item is left out of the encoder's input, and of the mean of the
        features, in training.
    beta : float, default=0.2
        Weight of the KL term at the end of the annealing. Typical range: 0.02 to 1, on a
        logarithmic scale.
    n_annealing_steps : int, default=20_000
        Number of gradient steps over which the weight of the KL term would rise linearly from 0
        to 1; it stops at `beta`. 0 means no annealing.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_hidden)
        Weights of the last layer.
    best_beta_ : float
        Weight of the KL term in the best epoch. Only with validation users.
    n_item_features_ : int
        Number of features; 0 without `item_features`.

    See Also
    --------
    sklrec.neural.MultVAE : The model without `item_features`.
    MDCVAE : Can score new items.

    Notes
    -----
    Neither paper says where the condition enters the network. Here it is an additional input of
    the encoder. In the decoder, a linear map of it to `n_components` numbers is concatenated to the
    latent vector. The features of each item are divided by their norm before they are averaged.

    The fitted model stores the features, as sparse rows, since it reads those of the items of each
    user it scores.

    References
    ----------
    .. [1] B. Pang et al., "A Novel Top-N Recommendation Approach Based on Conditional Variational
       Auto-Encoder", PAKDD 2019.
    .. [2] Y. Zhu and Z. Chen, "Mutually-Regularized Dual Collaborative Variational Auto-encoder for
       Recommendation Systems", WWW 2022, section 4.4.

    Examples
    --------
    >>> import numpy as np
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.hybrid import CondVAE
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> F = np.random.default_rng(0).integers(0, 2, (50, 10))
    >>> vae = CondVAE(16, hidden_layer_sizes=(32,), max_epochs=5, random_state=0)
    >>> vae.fit(X, item_features=F).predict_ranking(X[:2], k=3).shape
    (2, 3)
    """

    _suggested_distributions: dict = {
        "n_components": randint(50, 401),
        "beta": loguniform(0.02, 1),
    }

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "n_annealing_steps": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 200,
        *,
        hidden_layer_sizes: Sequence[int] = (600,),
        dropout: float = 0.5,
        beta: float = 0.2,
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
        features = None
        if self.n_item_features_:
            F = sp.csr_array(self._features, shape=(n_items, self.n_item_features_))
            features = SparseRows(F, device_named(self.device))
        return TorchNet(
            CondVAEModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            module__hidden_layer_sizes=checked_sizes(self.hidden_layer_sizes, "hidden_layer_sizes"),
            module__dropout=self.dropout,
            module__features=features,
            criterion=AnnealedELBO,
            criterion__likelihood=multinomial_nll,
            criterion__beta=self.beta,
            criterion__n_annealing_steps=self.n_annealing_steps,
            passes=[Pass(before=_read_features)],
            **self._net_params(),
        )

    def _check_beside(self, X: sp.csr_array, *, reset: bool) -> None:
        super()._check_beside(X, reset=reset)
        if self._F is not None:
            check_not_empty(self._F)
            self._F = self._F.astype(np.float32, copy=False)
            self._features = self._F.data, self._F.indices, self._F.indptr

    def _known_items(self, items: Any = slice(None)) -> np.ndarray:
        return super()._known_items(items) | self._described[items]

    def _n_score_tensors(self) -> int:
        return 1


class CondVAEModule(MultVAEModule):
    """Mult-VAE with the mean of the features as another input of encoder and decoder."""

    def __init__(
        self,
        n_items: int,
        n_components: int,
        hidden_layer_sizes: Sequence[int],
        dropout: float,
        features: SparseRows | None,
    ) -> None:
        super().__init__(n_items, n_components, hidden_layer_sizes, dropout)
        self.features = features
        self.map = None
        if features is None:
            return
        if hidden_layer_sizes:
            self.decoder = hidden_layers([2 * n_components, *reversed(hidden_layer_sizes)])
        else:
            self.item_layer = ItemLayer(2 * n_components, n_items)
        self.sizes = [self.encoder.first.bias.shape[0], n_components]
        self.map = FeatureMap(features.shape[1], sum(self.sizes))

    def _encoded(
        self, batch: SparseBatch
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return latent means and log-variances, and what the decoder reads of the features."""
        x = batch.normalized().dropout(self.encoder.dropout, training=self.training)
        h = self.encoder.first(x)
        of_decoder = None
        if self.map is not None:
            given, of_decoder = self._mapped_mean(x).split(self.sizes, dim=1)
            h = h + given
        mu, logvar = at_least_float32(self.encoder.hidden(h)).chunk(2, dim=1)
        return mu, logvar, of_decoder

    @torch.compiler.disable  # sizes differ from batch to batch
    def _mapped_mean(self, x: SparseBatch) -> torch.Tensor:
        """Return a linear map of the mean features of each row's items, (n_rows, sum(sizes))."""
        assert self.features is not None
        assert self.map is not None
        kept = (x.values != 0).to(x.values.dtype)  # without those left out by dropout
        weights = kept / row_sums(kept, x.n_entries).clamp(min=1)[x.rows]
        items, place = x.items.unique(return_inverse=True)
        mapped = self.map(self.features[items.cpu()].to(x.values.device).normalized())
        mean = replace(x, values=weights, items=place, n_items=len(items))
        return sparse_product(mean, mapped)

    def posterior(self, batch: SparseBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return latent means and log-variances, of shape (n_rows, n_components) each."""
        return self._encoded(batch)[:2]

    def forward(self, batch: SparseBatch) -> Output:
        """Return the scores and the KL term."""
        mu, logvar, of_decoder = self._encoded(batch)
        return self.decode(mu, logvar, batch, of_decoder)


def _read_features(net: TorchNet) -> None:
    """Read the features of this call of ``partial_fit``, which may have changed."""
    module: Any = net.plain_module
    module.features = net.datasets.get("items")
