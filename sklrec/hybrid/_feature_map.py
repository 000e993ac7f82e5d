"""The features of items, sparse or dense, in the training of a network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from ..neural._modules import at_least_float32, sparse_product
from ..neural._training._data import SparseBatch, SparseRows
from ..neural._training._net import TorchNet


class FeatureMap(nn.Module):
    """Product ``F @ weight`` of features and weights; sparse features stay sparse."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_features, n_outputs))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights."""
        nn.init.xavier_uniform_(self.weight, generator=generator)

    def forward(self, features: SparseBatch | torch.Tensor) -> torch.Tensor:
        """Return a tensor of shape (n_items, n_outputs)."""
        return feature_product(features, self.weight)


@dataclass(frozen=True)
class Content:
    """The content of the items in training.

    Parameters
    ----------
    features : SparseBatch or Tensor of shape (n_items, n_features)
        Features.
    has_users : Tensor of shape (n_items, 1), float32
        1 for items with interactions, 0 for others, which have no weights of their own.
    """

    features: SparseBatch | torch.Tensor
    has_users: torch.Tensor

    @property
    def squares(self) -> SparseBatch | torch.Tensor:
        """The features squared."""
        if isinstance(self.features, SparseBatch):
            return replace(self.features, values=self.features.values.square())
        return self.features.square()

    @classmethod
    def of(cls, F: Any, has_users: np.ndarray, device: torch.device) -> Content:
        """Return features, a CSR array or an ndarray, in float32 on a device."""
        if sp.issparse(F):
            features = SparseRows(F)[torch.arange(F.shape[0])].to(device)
        else:
            features = torch.from_numpy(np.array(F, dtype=np.float32)).to(device)
        column = torch.from_numpy(has_users.astype(np.float32))[:, None]
        return cls(features, column.to(device))


def feature_product(features: SparseBatch | torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the product of features and weights, in float32 or more."""
    if isinstance(features, SparseBatch):
        return at_least_float32(sparse_product(features, weight))
    return at_least_float32(features @ weight)


def read_content(net: TorchNet) -> None:
    """Give the module of a net the content of the items, before a pass."""
    module: Any = net.plain_module
    module.content = net.datasets["content"]
