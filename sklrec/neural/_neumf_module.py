"""The network of NeuMF, its scores and its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import nn

from .._linalg import blocks
from .._pairs import NegativeSampler, uniform_by_row
from ._criteria import Output
from ._losses import products_with_items
from ._modules import Dense, sparse_product
from ._pair_batches import PairBatch
from ._training._data import SparseBatch
from ._user_vectors import UserVectors

# Steps of Adam, and its learning rate, by which the vector of a new user is found, and the seed of
# the negatives.
N_STEPS = 30
RATE = 0.05
SEED = 0

# Largest number of values of a hidden layer that scoring computes at a time.
BLOCK = 2**18
BLOCK_ON_GPU = 2**26


class NCF(nn.Module):
    """GMF, MLP or both, and a last layer that makes a score of what they say of a pair."""

    def __init__(self, gmf: GMF | None, mlp: MLP | None) -> None:
        super().__init__()
        self.gmf = gmf
        self.mlp = mlp
        self.last = Dense(sum(part.n_outputs for part in parts_of(self)), 1)

    def score_vectors(
        self, users: Sequence[torch.Tensor], items: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Return the scores of pairs.

        Parameters
        ----------
        users : sequence of Tensor of shape (n_pairs, n_components)
            Vectors of users, one tensor for each of the two networks.
        items : sequence of Tensor of shape (n_pairs, n_candidates, n_components)
            Vectors of items for each of them.

        Returns
        -------
        scores : Tensor of shape (n_pairs, n_candidates)
        """
        vectors = zip(parts_of(self), users, items, strict=True)
        outputs = [part.outputs(p, q) for part, p, q in vectors]
        scores: torch.Tensor = self.last(torch.cat(outputs, dim=-1)).squeeze(-1)
        return scores


class NeuMFModule(NCF):
    """GMF, MLP or both, with vectors of items.

    Parameters
    ----------
    n_items, n_components, hidden_layer_sizes
        Sizes.
    model : {"neumf", "gmf", "mlp"}
        Which of the two.
    n_negatives : int or None
        Number of negatives for which the vectors of users are solved for outside of training. With
        None the vectors are computed from those of the items.
    """

    def __init__(
        self,
        n_items: int,
        n_components: int,
        hidden_layer_sizes: Sequence[int],
        model: str,
        n_negatives: int | None,
    ) -> None:
        sizes = (n_items, n_components, n_negatives is None)
        super().__init__(
            gmf=None if model == "mlp" else GMF(*sizes),
            mlp=None if model == "gmf" else MLP(*sizes, hidden_layer_sizes),
        )
        self.n_negatives = n_negatives

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return the vectors of users, of shape (n_rows, n_vector)."""
        if self.n_negatives is not None:
            return self._solved(batch)
        return torch.cat([part.of_rows(batch) for part in parts_of(self)], dim=1)

    def forward(self, batch: SparseBatch | PairBatch) -> Output:
        """Return the scores of all items, or in training those of pairs as a tensor."""
        if not isinstance(batch, PairBatch):
            parts = parts_of(self)
            users = self.encode(batch).chunk(len(parts), dim=1)
            items = [part.items.weight for part in parts]
            return Output(ScoresOfAllPairs(self, users, items, batch.n_entries > 0))
        if self.n_negatives is None:
            vectors = [part.without_item(batch) for part in parts_of(self)]
            return Output(self.score(torch.cat(vectors, dim=1), batch.items))
        return Output(self.score(batch.rows.own[batch.user], batch.items))

    def score(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return the scores of pairs.

        Parameters
        ----------
        users : Tensor of shape (n_pairs, n_vector)
            Vectors of users.
        items : Tensor of shape (n_pairs, n_candidates), int64
            Items for each of them; -1 gives the score of any item.

        Returns
        -------
        scores : Tensor of shape (n_pairs, n_candidates)
        """
        parts = parts_of(self)
        items = items.clamp(min=0)
        return self.score_vectors(
            users.chunk(len(parts), dim=1), [part.items(items) for part in parts]
        )

    def fuse(self, gmf: NeuMFModule, mlp: NeuMFModule, alpha: float) -> None:
        """Take over the weights of two modules, of which the last layers are weighted."""
        with torch.no_grad():
            self.gmf.load_state_dict(gmf.gmf.state_dict())  # type: ignore[union-attr]
            self.mlp.load_state_dict(mlp.mlp.state_dict())  # type: ignore[union-attr]
            weights = [alpha * gmf.last.weight, (1 - alpha) * mlp.last.weight]
            self.last.weight.copy_(torch.cat(weights, dim=1))
            self.last.bias.copy_(alpha * gmf.last.bias + (1 - alpha) * mlp.last.bias)

    def _solved(self, batch: SparseBatch) -> torch.Tensor:
        """Return users' vectors after some steps of Adam from 0, with all other weights fixed.

        The loss is that of training, with negatives that depend on the row alone. Users are solved
        for together as long as their pairs are not too many.
        """
        device = batch.items.device
        X = batch.to(torch.device("cpu")).to_scipy()
        n_pairs = np.cumsum(np.diff(X.indptr)) * (1 + cast(int, self.n_negatives))
        block = n_pairs // (BLOCK if device.type == "cpu" else BLOCK_ON_GPU)
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        solved = [
            self._solved_together(X[start:end], device)
            for start, end in pairwise([*starts, X.shape[0]])
        ]
        return torch.cat(solved)

    def _solved_together(self, X: sp.csr_array, device: torch.device) -> torch.Tensor:
        rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        uniform = uniform_by_row(X, cast(int, self.n_negatives), SEED)
        negatives = NegativeSampler(X).at(rows[:, None], uniform)
        with torch.inference_mode(False), torch.enable_grad():
            pairs = np.concatenate([X.indices[:, None], negatives], axis=1)
            items = torch.from_numpy(pairs.astype(np.int64)).to(device)
            user = torch.from_numpy(rows).to(device)
            everyone = torch.arange(X.shape[0], device=device)
            n_vector = sum(part.items.weight.shape[1] for part in parts_of(self))
            vectors = UserVectors(X.shape[0], n_vector, device)
            for _ in range(N_STEPS):
                own = vectors.of(everyone)
                loss = log_losses(self.score(own[user], items), items).sum()
                (gradient,) = torch.autograd.grad(loss, own)
                vectors.step(everyone, gradient, RATE)
        return vectors.values


class ItemVectors(nn.Module):
    """One vector for each item."""

    def __init__(self, n_items: int, n_components: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_items, n_components))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the vectors, as the authors' code does."""
        nn.init.normal_(self.weight, std=0.01, generator=generator)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Return the vectors of some items."""
        return F.embedding(items, self.weight)


class Part(nn.Module):
    """What GMF and MLP share: vectors of items, and vectors of users made of others.

    A user's vector is the sum of the vectors of the user's items, divided by the root of their
    number. With 0 items there are no vectors, and all are from elsewhere.
    """

    n_outputs: int

    def __init__(self, n_items: int, n_components: int, has_members: bool) -> None:
        super().__init__()
        self.items = ItemVectors(n_items, n_components) if n_items else None
        self.members = ItemVectors(n_items, n_components) if has_members else None

    def of_rows(self, batch: SparseBatch) -> torch.Tensor:
        """Return the vectors of users, of shape (n_rows, n_components)."""
        n_entries = batch.n_entries.clamp(min=1)[:, None]
        return self._sums(batch) * n_entries.to(torch.float32).rsqrt()

    def without_item(self, batch: PairBatch) -> torch.Tensor:
        """Return the vector of the user of each pair, made of all items but that of the pair."""
        own = self.members(batch.items[:, 0])  # type: ignore[misc]
        n_others = (batch.rows.n_entries[batch.user] - 1).clamp(min=1)[:, None]
        others = self._sums(batch.rows)[batch.user] - own
        return others * n_others.to(torch.float32).rsqrt()

    def _sums(self, batch: SparseBatch) -> torch.Tensor:
        ones = replace(batch, values=torch.ones_like(batch.values))
        return sparse_product(ones, self.members.weight)  # type: ignore[union-attr]


class GMF(Part):
    """Generalized matrix factorization: the products of both vectors' components."""

    def __init__(self, n_items: int, n_components: int, has_members: bool) -> None:
        super().__init__(n_items, n_components, has_members)
        self.n_outputs = n_components

    def outputs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return what is known of pairs, of shape (n_pairs, n_candidates, n_outputs)."""
        return users[:, None] * items

    def scores(
        self, users: torch.Tensor, items: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        """Return the weighted outputs for all items, of shape (n_rows, n_items)."""
        return products_with_items(users * weight, items)


class MLP(Part):
    """Multilayer perceptron of both vectors.

    The first layer is the sum of a layer of the user and one of the item, so that it is computed
    once for each.
    """

    def __init__(
        self, n_items: int, n_components: int, has_members: bool, sizes: Sequence[int]
    ) -> None:
        super().__init__(n_items, n_components, has_members)
        self.n_outputs = sizes[-1]
        self.of_user = Dense(n_components, sizes[0])
        self.of_item = Dense(n_components, sizes[0], bias=False)
        self.hidden = nn.ModuleList(Dense(*pair) for pair in pairwise(sizes))

    def outputs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return what is known of pairs, of shape (n_pairs, n_candidates, n_outputs)."""
        return self._after_first(self.of_user(users)[:, None] + self.of_item(items))

    def scores(
        self, users: torch.Tensor, items: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        """Return the weighted outputs for all items, of shape (n_rows, n_items).

        They are computed in blocks of users and items.
        """
        of_user, of_item = self.of_user(users), self.of_item(items)
        widest = max(layer.out_features for layer in [self.of_user, *self.hidden])
        n_pairs = max(1, (BLOCK if users.device.type == "cpu" else BLOCK_ON_GPU) // widest)
        n_items = min(len(of_item), n_pairs)
        scores = users.new_empty(len(users), len(of_item))
        for columns in blocks(len(of_item), n_items):
            for rows in blocks(len(users), max(1, n_pairs // n_items)):
                if len(users) == 1:  # in place, which saves a fifth of the time
                    first = of_item[columns].add_(of_user)
                else:
                    first = of_user[rows, None] + of_item[columns]
                scores[rows, columns] = self._after_first(first) @ weight
        return scores

    def _after_first(self, h: torch.Tensor) -> torch.Tensor:
        h = F.relu(h, inplace=True)
        for layer in self.hidden:
            h = F.relu(layer(h), inplace=True)
        return h


@dataclass(frozen=True)
class ScoresOfAllPairs:
    """Scores of all items for users.

    Parameters
    ----------
    module : NCF
        The network.
    users : sequence of Tensor of shape (n_rows, n_components)
        Vectors of the users, one tensor for each of the two networks.
    items : sequence of Tensor of shape (n_items, n_components)
        Vectors of the items.
    has_items : Tensor of shape (n_rows,), bool
        Whether there are items of a user. The scores of all others are 0: they include the rows to
        which a batch is filled up.
    """

    module: NCF
    users: Sequence[torch.Tensor]
    items: Sequence[torch.Tensor]
    has_items: torch.Tensor

    def dense(self, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the scores, of shape (n_rows, n_items); `out` is not needed."""
        parts = parts_of(self.module)
        last = self.module.last
        weights = last.weight[0].split([part.n_outputs for part in parts])

        def of(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
            of_parts = zip(parts, vectors, self.items, weights, strict=True)
            return sum(part.scores(*found) for part, *found in of_parts) + last.bias

        if self.has_items.all():
            return of(self.users)
        scores = self.users[0].new_zeros(len(self.users[0]), len(self.items[0]))
        if self.has_items.any():
            scores[self.has_items] = of([users[self.has_items] for users in self.users])
        return scores


class LogLoss(nn.Module):
    """Log loss of interactions and their negatives, summed over both, averaged over interactions.

    This is equation 7 of the paper.
    """

    def forward(self, output: Output, batch: PairBatch) -> torch.Tensor:
        """Return the loss."""
        return log_losses(output.scores, batch.items).sum() / len(batch)


def log_losses(scores: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Return the loss of each interaction, which is in the first column, and of its negatives."""
    losses = F.softplus(torch.cat([-scores[:, :1], scores[:, 1:]], dim=1))
    return losses.masked_fill(items < 0, 0)


def parts_of(module: Any) -> list[Any]:
    """Return GMF and MLP, or the one that there is."""
    return [part for part in (module.gmf, module.mlp) if part is not None]
