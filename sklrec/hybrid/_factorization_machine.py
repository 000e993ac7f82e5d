"""Factorization machine of a user's items, an item and its features."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.random import RandomState
from scipy.stats import randint, uniform
from torch import nn

from .._sklearn import Interval
from ..neural._base import BaseTorchRecommender
from ..neural._criteria import NegativeLogLikelihood, Output
from ..neural._losses import ItemScores, likelihood_named
from ..neural._modules import sparse_product
from ..neural._training._data import SparseBatch, SparseRows
from ..neural._training._docs import with_training_docs
from ..neural._training._net import Pass, TorchNet
from ._base_torch import BaseTorchHybrid
from ._feature_map import Content, FeatureMap, feature_product, read_content


@with_training_docs
class FactorizationMachine(BaseTorchHybrid):
    r"""Factorization machine of a user's items, an item and its features.

    The input of the machine [1]_ for a user x and an item j are the user's items, divided by the
    norm of x, the item itself, and its features :math:`f_j`. A user is a set of items and not an
    id, so that new users can be ranked for. With a factor for each input, the sum over all pairs of
    inputs is, except for a constant of each user,

    .. math:: \hat y_j = b_j + f_j^\top w + u^\top (q_j + t_j) + q_j^\top t_j
        + \frac{1}{2} \Big(\|t_j\|^2 - \sum_l f_{jl}^2 \|e_l\|^2\Big)

    with the user's factors :math:`u = \sum_i x_i p_i / \|x\|`, the item's :math:`q_j`, and those of
    its features, :math:`t_j = \sum_l f_{jl} e_l`. It takes as much time as matrix factorization.

    The scores are the logits of a multinomial distribution over all items, from which the
    interactions of a user are drawn, as in :class:`~sklrec.neural.MultDAE`: they are predicted from
    a random part of them. New items have :math:`q_j = 0`, and the mean of the other items' biases
    :math:`b_j`. Without features this is matrix factorization with users that are sums of their
    items' factors.

    Parameters
    ----------
    n_components : int, default=100
        Number of factors. Typical range: 50 to 400.
    dropout : float, default=0.5
        Probability with which an interaction is left out of a user's input in training. Typical
        range: 0.2 to 0.8.
    lambda_ : float, default=0.0
        L2 penalty on factors and weights of features, not on the items' biases: ``loss + lambda_ *
        sum(W ** 2)``, where the loss is averaged over users.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_components)
        Factors of each item and its features, :math:`q_j + t_j`.
    loss_curve_ : list of float
        Mean loss in each epoch, without the penalty.
    n_item_features_ : int
        Number of features; 0 without `item_features`.

    See Also
    --------
    ContentELSA : Linear autoencoder whose item vectors depend on features in the same way.
    sklrec.neural.MultDAE : Denoising autoencoder with the same likelihood.

    Notes
    -----
    Factorization machines are often trained on pairs of items, one of which is drawn at random. The
    multinomial likelihood compares each item of a user with all others in every step. Sparse
    features stay sparse. The features are not kept in the fitted model.

    References
    ----------
    .. [1] S. Rendle, "Factorization Machines", ICDM 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.hybrid import FactorizationMachine
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> F = np.random.default_rng(0).random((55, 8))
    >>> model = FactorizationMachine(16, max_epochs=5, random_state=0).fit(X, item_features=F[:50])
    >>> today = model.with_items(F[50:])  # items 50 to 54
    >>> today.item_embeddings_.shape
    (55, 16)
    """

    _suggested_distributions: dict = {
        "n_components": randint(50, 401),
        "dropout": uniform(0.2, 0.6),  # from 0.2, of length 0.6
    }

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "lambda_": [Interval(Real, 0, None, closed="left")],
    }

    _reads_dense_features = True

    def __init__(
        self,
        n_components: int = 100,
        *,
        dropout: float = 0.5,
        lambda_: float = 0.0,
        max_epochs: int = 100,
        batch_size: int = 250,
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
        self.dropout = dropout
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

    @property
    def item_embeddings_(self) -> np.ndarray:
        """Factors of each item and its features, ndarray of shape (n_items, n_components)."""
        module: Any = self.net_.plain_module
        with torch.inference_mode():
            return module.items()[0].cpu().numpy()

    def _training_data(self, X: sp.csr_array, device: torch.device) -> Mapping[str, Any]:
        data: dict[str, Any] = {"users": SparseRows(X, device), "content": None}
        if self._F is not None:
            data["content"] = Content.of(self._F, self._popularity > 0, device)
        return data

    def _make_net(self, n_items: int) -> TorchNet:
        return TorchNet(
            FactorizationMachineModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            module__n_features=self.n_item_features_,
            module__dropout=self.dropout,
            criterion=NegativeLogLikelihood,
            criterion__likelihood=likelihood_named("multinomial", 1.0),
            # Adam adds weight_decay * W to the gradient, half the derivative of the penalty.
            optimizer__param_groups=[("*weight", {"weight_decay": 2 * self.lambda_})],
            passes=[Pass(before=read_content)],
            **self._net_params(),
        )

    def _n_step_values(self, module: nn.Module, n_gradients: int, n_rows: int) -> int:
        n_products = 6 * self.n_features_in_ * self.n_components if self.n_item_features_ else 0
        return super()._n_step_values(module, n_gradients, n_rows) + n_gradients + n_products

    def _keep(self, net: TorchNet) -> BaseTorchRecommender:
        if self.n_item_features_:
            module: Any = net.plain_module
            module.forget_content()
        return super()._keep(net)

    def _weights_of_new_items(self, F: sp.csr_array) -> dict[str, np.ndarray]:
        module: Any = self.net_.plain_module
        n_new = F.shape[0]
        with torch.inference_mode():
            new = Content.of(F, np.zeros(n_new), torch.device(self.net_.device))
            t, bias = (tensor.cpu().numpy() for tensor in module.of_features(new))
        return {
            "history.weight": np.zeros_like(t),
            "own.weight": np.zeros_like(t),
            "bias": np.zeros(n_new),
            "vectors": t,
            "biases": bias + module.mean_bias.cpu().numpy(),
        }


class FactorTable(nn.Module):
    """A vector of factors for each item."""

    def __init__(self, n_items: int, n_components: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_items, n_components))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the factors."""
        nn.init.xavier_uniform_(self.weight, generator=generator)


class FactorizationMachineModule(nn.Module):
    """Factors of a user's items, of the item that is scored, and of its features.

    After training it has the factors and biases of items with their features, and no features.
    """

    def __init__(self, n_items: int, n_components: int, n_features: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.history = FactorTable(n_items, n_components)  # p
        self.own = FactorTable(n_items, n_components)  # q
        self.bias = nn.Parameter(torch.empty(n_items))  # b
        self.factors = FeatureMap(n_features, n_components) if n_features else None  # e
        self.linear = FeatureMap(n_features, 1) if n_features else None  # w
        n_kept = n_items if n_features else 0
        self.vectors: torch.Tensor
        self.biases: torch.Tensor
        self.mean_bias: torch.Tensor
        self.register_buffer("vectors", torch.empty(n_kept, n_components))
        self.register_buffer("biases", torch.empty(n_kept))
        self.register_buffer("mean_bias", torch.empty(()))
        self.content: Content | None = None
        self.kept: tuple[torch.Tensor, torch.Tensor] | None = None
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Set biases, and what is computed from the weights, to 0."""
        for tensor in (self.bias.data, self.vectors, self.biases, self.mean_bias):
            tensor.zero_()

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return the factors u of users, of shape (n_rows, n_components)."""
        batch = batch.normalized().dropout(self.dropout, training=self.training)
        return sparse_product(batch, self.history.weight)

    def of_features(self, content: Content) -> tuple[torch.Tensor, torch.Tensor]:
        """Return t, of shape (n_items, n_components), and the terms of features alone."""
        e: Any = self.factors
        w: Any = self.linear
        t = e(content.features)
        squares = feature_product(content.squares, e.weight.square().sum(dim=1, keepdim=True))
        pairs = (t.square().sum(dim=1) - squares.squeeze(1)) / 2
        return t, w(content.features).squeeze(1) + pairs

    def items(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``q + t`` and the terms of an item that are the same for all users."""
        if self.factors is None:
            return self.own.weight, self.bias
        if self.content is None:
            return self.vectors, self.biases
        if self.training:
            self.kept = None
            return self._items(self.content)
        if self.kept is None:  # outside of training they are computed once
            self.kept = self._items(self.content)
        return self.kept

    def _items(self, content: Content) -> tuple[torch.Tensor, torch.Tensor]:
        has_users = content.has_users
        q = self.own.weight * has_users
        t, alone = self.of_features(content)
        bias = self.bias * has_users.squeeze(1)
        if not self.training:
            bias = bias + self._mean_bias(content) * (1 - has_users.squeeze(1))
        return q + t, bias + alone + (q * t).sum(dim=1)

    def _mean_bias(self, content: Content) -> torch.Tensor:
        has_users = content.has_users.squeeze(1)
        return (self.bias * has_users).sum() / has_users.sum()

    def forward(self, batch: SparseBatch) -> Output:
        """Return the scores of all items."""
        return Output(ItemScores(self.encode(batch), *self.items()))

    def forget_content(self) -> None:
        """Keep the factors and biases of items instead of their features."""
        if self.content is None:  # interrupted before the first step
            return
        self.eval()
        self.kept = None  # of the last weights, where the best are not these
        with torch.no_grad():
            for kept, tensor in zip((self.vectors, self.biases), self.items(), strict=True):
                kept.copy_(tensor)
            self.mean_bias.copy_(self._mean_bias(self.content))
        self.content = self.kept = None
