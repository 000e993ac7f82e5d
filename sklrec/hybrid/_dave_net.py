"""Networks and criteria of DAVE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from ..neural._criteria import Output
from ..neural._losses import Likelihood
from ..neural._modules import (
    Dense,
    ItemLayer,
    SparseEncoder,
    at_least_float32,
    hidden_layers,
)
from ..neural._neumf_module import GMF, MLP, NCF, LogLoss, ScoresOfAllPairs
from ..neural._pair_batches import PairBatch
from ..neural._training._data import SparseBatch
from ..neural._training._net import TorchNet
from ._feature_map import FeatureMap
from ._item_autoencoder import CoDecoder, ItemBatch, ItemRows


class AdversarialOutput(NamedTuple):
    """Output of an autoencoder of users or items.

    Parameters
    ----------
    scores, features : ItemScores
        Scores of the columns and, of items with content, those of the features.
    divergence : Tensor
        Mean output of the fixed discriminator at the embeddings.
    discrimination : Tensor
        Log loss of the discriminator, with the embeddings fixed.
    """

    scores: Any
    features: Any
    divergence: torch.Tensor
    discrimination: torch.Tensor


class InferenceNetwork(nn.Module):
    """Encoder of rows and noise, whose output has no density in closed form.

    Parameters
    ----------
    n_columns, n_features : int
        Size of the rows, and number of features beside them.
    n_components : int
        Size of the output and of the noise.
    hidden_layer_sizes : sequence of int
        Sizes of the hidden layers, at least one.
    dropout : float
        Probability with which an entry of a row is left out in training.
    """

    def __init__(
        self,
        n_columns: int,
        n_features: int,
        n_components: int,
        hidden_layer_sizes: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        width = hidden_layer_sizes[0]
        self.encoder = SparseEncoder(n_columns, hidden_layer_sizes, n_components, dropout)
        self.content = FeatureMap(n_features, width) if n_features else None
        self.noise = Dense(n_components, width, bias=False)

    def forward(self, batch: SparseBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings, of shape (n_rows, n_components), and the first layer without noise.

        Outside of training, the noise is 0.
        """
        x = batch.normalized().dropout(self.encoder.dropout, training=self.training)
        h = self.encoder.first(x)
        if self.content is not None:
            h = h + self.content(batch.features.normalized())  # type: ignore[attr-defined]
        if not self.training:
            return at_least_float32(self.encoder.hidden(h)), h
        noise = standard_normal(batch, self.noise.in_features)
        return at_least_float32(self.encoder.hidden(h + self.noise(noise))), h


class Discriminator(nn.Module):
    """Logit of whether an embedding is one of a row rather than drawn from the prior."""

    def __init__(self, width: int, n_components: int) -> None:
        super().__init__()
        self.of_row = Dense(width, width)
        self.of_embedding = Dense(n_components, width, bias=False)
        self.last = Dense(width, 1)

    def forward(self, h: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (n_rows, 1) for what the first layer makes of rows."""
        logits: torch.Tensor = self.last(F.relu(self.of_row(h.tanh()) + self.of_embedding(z)))
        return at_least_float32(logits)


class AdversarialAutoencoder(nn.Module):
    """Inference network, decoder, and a discriminator of embeddings and the prior."""

    def __init__(self, inference: InferenceNetwork, decoder: nn.Module) -> None:
        super().__init__()
        self.inference = inference
        self.decoder = decoder
        n_components, width = inference.noise.in_features, inference.noise.out_features
        self.discriminator = Discriminator(width, n_components)

    def forward(self, batch: SparseBatch) -> AdversarialOutput:
        """Return the reconstruction and the adversarial terms."""
        z, h = self.inference(batch)
        h = h.detach()
        prior = standard_normal(batch, z.shape[1])
        # The embeddings are trained with the discriminator fixed, and the other way round.
        fixed = {name: w.detach() for name, w in self.discriminator.named_parameters()}
        divergence = functional_call(self.discriminator, fixed, (h, z)).mean()
        of_rows = self.discriminator(h, z.detach())
        of_prior = self.discriminator(h, prior)
        discrimination = (F.softplus(-of_rows) + F.softplus(of_prior)).mean()
        scores, features = self.decoder(z)
        return AdversarialOutput(scores, features, divergence, discrimination)


class UserDecoder(nn.Module):
    """Decoder of embeddings of users to the logits of all items."""

    def __init__(self, n_components: int, hidden_layer_sizes: Sequence[int], n_items: int) -> None:
        super().__init__()
        self.hidden = hidden_layers([n_components, *reversed(hidden_layer_sizes)])
        self.items = ItemLayer(hidden_layer_sizes[0], n_items)

    def forward(self, z: torch.Tensor) -> tuple[Any, None]:
        """Return the scores of the items, and none of features."""
        return self.items(self.hidden(z)), None


class DAVEModule(nn.Module):
    """Autoencoders of users and of items, and a network of pairs of their embeddings.

    ``item_vectors`` has the embeddings of all items without noise.
    """

    def __init__(
        self,
        n_items: int,
        n_users: int,
        n_features: int,
        n_components: int,
        hidden_layer_sizes: Sequence[int],
        pair_layer_sizes: Sequence[int],
        dropout: float,
        item_dropout: float,
    ) -> None:
        super().__init__()
        shape = (n_components, hidden_layer_sizes)
        self.users = AdversarialAutoencoder(
            InferenceNetwork(n_items, 0, *shape, dropout), UserDecoder(*shape, n_items)
        )
        self.items = AdversarialAutoencoder(
            InferenceNetwork(n_users, n_features, *shape, dropout),
            CoDecoder(*shape, n_users, n_features),
        )
        self.pairs = NCF(
            GMF(0, n_components, has_members=False),
            MLP(0, n_components, has_members=False, sizes=pair_layer_sizes),
        )
        self.item_dropout = item_dropout if n_features else 0.0
        self.item_vectors: torch.Tensor
        self.register_buffer("item_vectors", torch.empty(n_items, n_components))
        self.rows_of_items: ItemRows | None = None  # in training

    def reset_parameters(self) -> None:
        """Set the embeddings of the items to 0, which are computed after an epoch."""
        self.item_vectors.zero_()

    def item_layers(self) -> tuple[Any, Any, Any]:
        """Return the first layers of the items' inference network, and the decoder."""
        inference = self.items.inference
        return inference.encoder.first, inference.content, self.items.decoder

    def weights_of_users(self) -> Iterator[nn.Parameter]:
        """Yield the weights with a row for each user."""
        first, _, decoder = self.item_layers()
        yield first.weight
        yield from decoder.users.parameters()

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return the embeddings of users, of shape (n_rows, n_components)."""
        z: torch.Tensor = self.users.inference(batch)[0]
        return z

    def encode_items(self, batch: ItemBatch) -> tuple[torch.Tensor]:
        """Return the embeddings of items, of shape (n_rows, n_components)."""
        return (self.items.inference(batch)[0],)

    def forward(
        self, batch: SparseBatch | PairBatch, autoencoder: str | None = None
    ) -> Output | AdversarialOutput:
        """Return the scores of all items, those of pairs, or the output of an autoencoder.

        Parameters
        ----------
        batch : ItemBatch, PairBatch or SparseBatch
            Items, pairs or users.
        autoencoder : {"users", "items"} or None, default=None
            Which autoencoder the batch is for.
        """
        if autoencoder == "users":
            return self.users(batch)  # type: ignore[no-any-return]
        if autoencoder == "items":
            return self.items(self._without_users(batch))  # type: ignore[no-any-return]
        if isinstance(batch, PairBatch):
            return Output(self._scores_of_pairs(batch))
        users, items = 2 * [self.encode(batch)], 2 * [self.item_vectors]
        return Output(ScoresOfAllPairs(self.pairs, users, items, batch.n_entries > 0))

    def _scores_of_pairs(self, batch: PairBatch) -> torch.Tensor:
        items, place = batch.items.clamp(min=0).unique(return_inverse=True)
        of_items: Any = self._rows_of(items, batch.rows)
        users = self.encode(batch.rows)[batch.user]
        vectors = self.encode_items(self._without_users(of_items))[0][place]
        return self.pairs.score_vectors(2 * [users], 2 * [vectors])

    @torch.compiler.disable  # sizes differ from batch to batch
    def _rows_of(self, items: torch.Tensor, like: SparseBatch) -> ItemBatch:
        assert self.rows_of_items is not None
        rows = self.rows_of_items[items.cpu()].to(like.items.device)
        return replace(rows, generator=like.generator)  # type: ignore[return-value]

    def _without_users(self, batch: Any) -> Any:
        """Leave out all users of some items, which is what is known of new ones."""
        if not (self.item_dropout and self.training):
            return batch
        kept = torch.empty(len(batch), device=batch.values.device)
        kept.bernoulli_(1 - self.item_dropout, generator=batch.generator)
        return replace(batch, values=batch.values * kept[batch.rows])


@torch.compiler.disable  # generators are not traced
def standard_normal(batch: SparseBatch, n_columns: int) -> torch.Tensor:
    """Draw standard normal numbers for each row of a batch, of shape (n_rows, n_columns)."""
    noise = torch.empty(len(batch), n_columns, device=batch.values.device)
    return noise.normal_(generator=batch.generator)


def read_items(net: TorchNet) -> None:
    """Give the module of a net the rows of all items, before the pass over pairs."""
    module: Any = net.plain_module
    module.rows_of_items = net.datasets["catalogue"]


class AdversarialLoss(nn.Module):
    """Negative log-likelihood of rows, plus the adversarial terms."""

    def __init__(
        self, likelihood: Likelihood, item_likelihood: Likelihood | None, beta: float
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.item_likelihood = item_likelihood
        self.beta = beta

    def forward(self, output: AdversarialOutput, batch: Any) -> torch.Tensor:
        """Return the loss, averaged over rows."""
        loss = output.scores.nll(batch, self.likelihood)
        if output.features is not None:
            loss = loss + output.features.nll(batch.features, self.item_likelihood)
        loss = loss + self.beta * output.divergence + output.discrimination
        return loss  # type: ignore[no-any-return]


class DAVELosses(nn.Module):
    """Criteria of the passes over users, items and pairs."""

    def __init__(self, users: AdversarialLoss, items: AdversarialLoss) -> None:
        super().__init__()
        self.users = users
        self.items = items
        self.pairs = LogLoss()
