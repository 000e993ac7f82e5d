"""Network and criteria of MD-CVAE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.func import functional_call

from ..neural._criteria import AnnealedELBO, Output
from ..neural._modules import (
    Dense,
    ItemLayer,
    SparseLinear,
    at_least_float32,
    hidden_layers,
    sparse_product,
)
from ..neural._mult_vae import MultVAEModule
from ..neural._training._data import SparseBatch, SparseBatches, SparseRows
from ..neural._training._net import TorchNet
from ._base import ACTIVE_VARIANCE


class MDCVAEModule(nn.Module):
    """Autoencoder of users, and one of the content of items whose latent vectors are close to it.

    ``content`` has the latent means of all items, as they were before the pass over the users.
    """

    def __init__(
        self,
        n_items: int,
        n_components: int,
        hidden_layer_sizes: Sequence[int],
        dropout: float,
        symmetric: bool,
        coupling: str,
        item_dropout: float,
        n_item_features: int,
        item_hidden_layer_sizes: Sequence[int],
    ) -> None:
        super().__init__()
        # The weights of the last submodules are drawn first: the users' are those of Mult-VAE.
        self.items = None
        if n_item_features:
            width = hidden_layer_sizes[0] if hidden_layer_sizes else n_components
            self.items = MultVAEModule(n_item_features, width, item_hidden_layer_sizes, dropout=0)
        make = SymmetricMultVAEModule if symmetric else MultVAEModule
        self.users = make(n_items, n_components, hidden_layer_sizes, dropout)
        self.coupling = "decoder" if symmetric else coupling
        self.item_dropout = item_dropout
        self.content: torch.Tensor | None = None

    @property
    def item_layer(self) -> ItemLayer:
        """Last layer of the users' decoder."""
        return self.users.item_layer

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return the latent mean of users, of shape (n_rows, n_components)."""
        return self.users.encode(batch)

    def item_vectors(self) -> torch.Tensor:
        """Return the weights that are close to the content, of shape (n_items, n_hidden)."""
        if self.coupling == "decoder":
            return self.item_layer.weight
        return self.users.encoder.first.weight[:, : self.item_layer.in_features]

    def forward(self, batch: SparseBatch, of_items: bool = False) -> CoupledOutput:
        """Return scores and KL term of users, or those of the features of items.

        In training, the distance of the item vectors to the latent vectors is returned too: its sum
        over all items with users, its mean over the batch with items.
        """
        if of_items:
            return self._of_items(batch)
        if not self.training or self.content is None:
            output, distance = self.users(batch), None
        else:
            output = self._of_users(batch, self.content)
            distance = (self.item_vectors() - self.content).square().sum()
        return CoupledOutput(output.scores, output.kl, distance)

    def _of_users(self, batch: SparseBatch, content: torch.Tensor) -> Output:
        """Return scores and KL term with some item vectors replaced by the content."""
        if not self.item_dropout:
            return self.users(batch)
        kept = torch.empty_like(content[:, :1])
        kept.bernoulli_(1 - self.item_dropout, generator=batch.generator)
        vectors = torch.where(kept > 0, self.item_layer.weight, content)
        return functional_call(self.users, {"item_layer.weight": vectors}, (batch,))

    def _of_items(self, batch: SparseBatch) -> CoupledOutput:
        assert self.items is not None
        mu, logvar = self.items.posterior(batch)  # (n_rows, n_hidden) each
        v = self.item_vectors()[batch.index].detach()
        # The expectation of (v - z)^2 over z.
        distance = ((v - mu).square() + logvar.exp()).sum(dim=1).mean()
        output = self.items.decode(mu, logvar, batch)
        return CoupledOutput(output.scores, output.kl, distance)


class SymmetricMultVAEModule(MultVAEModule):
    """Mult-VAE whose first weights are those of the last layer (equation 9).

    Without hidden layers, they are those of the latent mean; the log-variance has its own.
    """

    def __init__(
        self, n_items: int, n_components: int, hidden_layer_sizes: Sequence[int], dropout: float
    ) -> None:
        super().__init__(n_items, n_components, hidden_layer_sizes, dropout)
        self.dropout = dropout
        del self.encoder
        self.bias = nn.Parameter(torch.empty(self.item_layer.in_features))
        if hidden_layer_sizes:
            self.rest = nn.Sequential(
                nn.Tanh(),
                hidden_layers(hidden_layer_sizes),
                Dense(hidden_layer_sizes[-1], 2 * n_components),
            )
        else:
            self.logvar = SparseLinear(n_items, n_components)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Set the bias of the first layer to 0."""
        nn.init.zeros_(self.bias)

    def posterior(self, batch: SparseBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return latent means and log-variances, of shape (n_rows, n_components) each."""
        batch = batch.normalized().dropout(self.dropout, training=self.training)
        h = sparse_product(batch, self.item_layer.weight) + self.bias  # (n_rows, n_hidden)
        if hasattr(self, "logvar"):
            return at_least_float32(h), at_least_float32(self.logvar(batch))
        mu, logvar = at_least_float32(self.rest(h)).chunk(2, dim=1)
        return mu, logvar


class CoupledOutput(NamedTuple):
    """Output of an autoencoder, and the squared distance of item vectors to latent vectors.

    Parameters
    ----------
    scores, kl
        As in :class:`Output`.
    distance : Tensor or None
        The squared distance.
    """

    scores: Any
    kl: torch.Tensor | None
    distance: torch.Tensor | None


class CoupledELBO(AnnealedELBO):
    """Negative ELBO with an annealed KL term, plus `coupling` times the distance."""

    def __init__(self, *args: Any, coupling: float) -> None:
        super().__init__(*args)
        self.coupling = coupling

    def forward(self, output: CoupledOutput, batch: SparseBatch) -> torch.Tensor:  # type: ignore[override]
        """Return the loss, averaged over rows."""
        loss = super().forward(Output(output.scores, output.kl), batch)
        return loss if output.distance is None else loss + self.coupling * output.distance


class DualELBO(nn.Module):
    """Criteria of the pass over the users and of that over the items."""

    def __init__(self, users: CoupledELBO, items: CoupledELBO) -> None:
        super().__init__()
        self.users = users
        self.items = items
        self.active_dimensions: int | None = None

    def epoch_values(self) -> dict[str, float]:
        """Return the values to record in the history of each epoch."""
        values = {"beta": float(self.users.annealed_beta())}
        if self.active_dimensions is not None:
            values["item_beta"] = float(self.items.annealed_beta())
            values["active_dimensions"] = self.active_dimensions
        return values


def renew_content(net: TorchNet) -> None:
    """Set the content to the latent means of all items as they are now."""
    module = cast(MDCVAEModule, net.plain_module)
    with torch.no_grad():
        module.content = means_of_items(module, net.datasets["items"], net.batch_size, net.device)
    n_active = (module.content.var(dim=0, correction=0) > ACTIVE_VARIANCE).sum()
    cast(DualELBO, net.plain_criterion).active_dimensions = int(n_active)


def means_of_items(
    module: MDCVAEModule, items: SparseRows, batch_size: int, device: str
) -> torch.Tensor:
    """Return the latent means of items, of shape (n_items, n_hidden)."""
    assert module.items is not None
    batches = SparseBatches(items, batch_size, device=device)
    return torch.cat([module.items.encode(batch) for batch, _ in batches])
