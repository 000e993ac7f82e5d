"""Autoencoders of items, which read and decode both the users and the features of an item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from ..neural._base import BaseTorchRecommender
from ..neural._losses import ItemScores
from ..neural._modules import ItemLayer, hidden_layers
from ..neural._training._data import SparseBatch, SparseBatches, SparseRows
from ..neural._training._net import TorchNet
from ..neural._training._prediction import predicting
from ._base_torch import BaseTorchHybrid, TrainedOnAllUsers
from ._content_nets import adapt_to_content
from ._features import check_not_empty


@dataclass(frozen=True)
class ItemBatch(SparseBatch):
    """Batch of items, each the row of its users.

    Parameters
    ----------
    features : SparseBatch or None
        Features of the items.
    """

    features: Any = None

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> SparseBatch:
        batch = super()._map(function)
        if self.features is None:
            return batch
        return replace(batch, features=self.features._map(function))  # type: ignore[call-arg]


class ItemRows(SparseRows):
    """Dataset of items.

    Parameters
    ----------
    Xt : CSR array of shape (n_items, n_users)
        The users of each item.
    F : CSR array of shape (n_items, n_features) or None
        Features of the items.
    device : torch.device or str, default="cpu"
        Device of training.
    """

    def __init__(
        self, Xt: sp.csr_array, F: sp.csr_array | None, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(Xt, device)
        self.features = None if F is None else SparseRows(F, device)

    def __getitem__(self, rows: torch.Tensor) -> ItemBatch:
        batch = super().__getitem__(rows)
        features = None
        if self.features is not None:
            features = self.features[rows].to(batch.values.device)
        return ItemBatch(**vars(batch), features=features)


class CoDecoder(nn.Module):
    """Decoder of latent vectors of items, to logits of the users and of the features."""

    def __init__(
        self, n_latent: int, hidden_layer_sizes: Sequence[int], n_users: int, n_features: int
    ) -> None:
        super().__init__()
        width = hidden_layer_sizes[0] if hidden_layer_sizes else n_latent
        self.hidden = hidden_layers([n_latent, *reversed(hidden_layer_sizes)])
        self.users = ItemLayer(width, n_users)
        self.features = ItemLayer(width, n_features) if n_features else None

    def forward(self, z: torch.Tensor) -> tuple[ItemScores, ItemScores | None]:
        """Return the scores of the users and those of the features."""
        h = self.hidden(z)
        return self.users(h), None if self.features is None else self.features(h)


class BaseItemAutoencoder(TrainedOnAllUsers, BaseTorchHybrid):
    """Base class of models with an autoencoder of items.

    Only items with interactions are trained on: nothing is known of who likes the others. The
    network has weights for each training user, which are dropped after a fit unless training may
    continue.

    A subclass implements ``_renew_items(net)``, which computes what is kept of the items, and its
    module ``item_layers()``, which returns the first layers of the encoder for users and for
    features, and the :class:`CoDecoder`, and ``weights_of_users()``, which returns the weights
    with a row for each user.
    """

    item_likelihood: str
    _F: sp.csr_array | None
    _rows: tuple[sp.csr_array, sp.csr_array | None]

    def _check_beside(self, X: sp.csr_array, *, reset: bool) -> None:
        super()._check_beside(X, reset=reset)
        if self._F is not None:
            check_not_empty(self._F)
        if self.item_likelihood != "gaussian":
            self._refuse_negative_features("use item_likelihood='gaussian'")

    def _begin_fit(self, X: sp.csr_array, validation: Any, n_epochs: int) -> None:
        self._n_network_users = X.shape[0]
        self._rows = X.T.tocsr(), self._F

    def _begin_training(self, net: TorchNet) -> None:
        """Set the weights that depend on the data."""
        module: Any = net.plain_module
        of_users, of_features, decoder = module.item_layers()
        Xt, F = _trained_on(*self._rows)
        adapt_to_content(of_users, decoder.users.bias, Xt, "logistic")
        if F is not None:
            adapt_to_content(of_features, decoder.features.bias, F, self.item_likelihood)

    def _training_data(self, X: sp.csr_array, device: torch.device) -> Mapping[str, Any]:
        if X.shape[0] != self._n_network_users:
            raise ValueError(
                f"Training continues with weights of {self._n_network_users} users, got "
                f"{X.shape[0]} users; pass the same in each call, and warm_start=True in all."
            )
        self._rows = X.T.tocsr(), self._F
        return {
            "users": SparseRows(X, device),
            "items": ItemRows(*_trained_on(*self._rows), device),
        }

    def _forget_features(self) -> None:
        super()._forget_features()
        self.__dict__.pop("_rows", None)

    def _renew_items(self, net: TorchNet) -> None:
        raise NotImplementedError

    def _keep(self, net: TorchNet) -> BaseTorchRecommender:
        self._renew_items(net)
        if not self.warm_start:
            self._n_network_users = 0
            module: Any = net.plain_module
            for weight in module.weights_of_users():
                weight.data = weight.data[:0].clone()
        return super()._keep(net)

    def _n_step_values(self, module: nn.Module, n_gradients: int, n_rows: int) -> int:
        n_outputs = max(self._n_network_users, self.n_features_in_) + self.n_item_features_
        return 2 * self.batch_size * n_outputs + n_gradients


def _trained_on(
    Xt: sp.csr_array, F: sp.csr_array | None
) -> tuple[sp.csr_array, sp.csr_array | None]:
    """Return the items with interactions, or all if there are none."""
    trained = np.diff(Xt.indptr) > 0
    if not trained.any():
        return Xt, F
    return Xt[trained], None if F is None else F[trained]


def outputs_of_items(
    net: TorchNet,
    Xt: sp.csr_array,
    F: sp.csr_array | None,
    function: Callable[[ItemBatch], tuple[torch.Tensor, ...]],
) -> tuple[np.ndarray, ...]:
    """Apply a function to batches of items in evaluation mode, and join each of its results."""
    batches = SparseBatches(ItemRows(Xt, F), net.batch_size, device=net.device)
    with predicting(net, net.batch_size):
        outputs = [function(batch) for batch, _ in batches]  # type: ignore[arg-type]
    return tuple(torch.cat(parts).cpu().numpy() for parts in zip(*outputs, strict=True))


def without_users(n_items: int, n_users: int) -> sp.csr_array:
    """Return the rows of items that nobody has."""
    return sp.csr_array((n_items, n_users), dtype=np.float32)
