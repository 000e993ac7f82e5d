"""Linear map of the features of items, sparse or dense, in a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from ..neural._modules import sparse_product
from ..neural._training._data import SparseBatch, SparseRows


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
        if isinstance(features, SparseBatch):
            return sparse_product(features, self.weight)
        return features @ self.weight


def features_on(device: torch.device, F: Any) -> SparseBatch | torch.Tensor:
    """Return features, a CSR array or an ndarray, in float32 on a device."""
    if sp.issparse(F):
        return SparseRows(F)[torch.arange(F.shape[0])].to(device)
    return torch.from_numpy(np.array(F, dtype=np.float32)).to(device)
