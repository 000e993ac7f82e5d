"""Batches of pairs: interactions of users, each with negatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import scipy.sparse as sp
import torch

from .._pairs import NegativeSampler, pair_batches
from ._training._generators import Generators
from ._training._processes import own_part
from ._user_vectors import UserBatch, UserRows, UserVectors, with_own


class UserPairs(UserRows):
    """Dataset of users' rows, of which :class:`PairBatches` takes interactions.

    Parameters
    ----------
    X, device, vectors
        As those of :class:`UserRows`.
    n_negatives : int
        Number of items to draw for each interaction, of those that its user does not have.
    weights : ndarray of int64 of shape (n_items,) or None, default=None
        Weights of the items with which they are drawn, see :class:`NegativeSampler`.
    """

    def __init__(
        self,
        X: sp.csr_array,
        device: torch.device,
        vectors: UserVectors | None,
        n_negatives: int,
        weights: np.ndarray | None = None,
    ) -> None:
        super().__init__(X, device, vectors)
        self.X = X
        self.pair_sampler = NegativeSampler(X, weights)
        self.n_pair_negatives = n_negatives


@dataclass(frozen=True)
class PairBatch:
    """Batch of interactions.

    Parameters
    ----------
    rows : UserBatch
        Rows of the users, each once.
    user : Tensor of shape (n_pairs,), int64
        Place of the user of each interaction in `rows`.
    items : Tensor of shape (n_pairs, 1 + n_negatives), int64
        The item and the negatives; -1 if there is none to draw.
    weight : float
        Weight of the mean over these pairs in that over the pairs of all processes.
    n_whole : int
        Number of pairs of all processes.
    """

    rows: UserBatch
    user: torch.Tensor
    items: torch.Tensor
    weight: float
    n_whole: int

    def __len__(self) -> int:
        return max(1, self.user.shape[0])


class PairBatches:
    """Iterate over batches of interactions in random order, each with new negatives.

    Interactions of users who have all items are left out, unless there are no others: they are one
    batch without negatives then.

    Parameters
    ----------
    dataset : UserPairs
        The rows.
    batch_size : int
        Number of interactions in a batch.
    generators : Generators
        Generators of the order and of the negatives.
    device : torch.device or str
        Device of the batches.
    """

    def __init__(
        self,
        dataset: UserPairs,
        batch_size: int,
        *,
        generators: Generators,
        device: torch.device | str,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.generators = generators
        self.device = torch.device(device)

    def __iter__(self) -> Iterator[tuple[PairBatch, PairBatch]]:
        data = self.dataset
        rng, n_negatives = self.generators.numpy(), data.n_pair_negatives
        n_batches = 0
        for batch in pair_batches(data.X, data.pair_sampler, self.batch_size, rng, n_negatives):
            n_batches += 1
            yield (self._batch(*batch),) * 2
        if not n_batches:
            users = np.repeat(np.arange(data.X.shape[0]), np.diff(data.X.indptr))
            none = np.full((users.size, n_negatives), -1)
            yield (self._batch(users, data.X.indices, none),) * 2

    def _batch(self, users: np.ndarray, items: np.ndarray, negatives: np.ndarray) -> PairBatch:
        own, weight = own_part(len(users))
        n_whole = max(1, len(users))
        users, items, negatives = users[own], items[own], negatives[own]
        unique, user = np.unique(users, return_inverse=True)
        rows = self.dataset[torch.from_numpy(unique)].to(self.device)
        rows = replace(rows, generator=self.generators.device)
        items = np.concatenate([items[:, None].astype(np.int64), negatives], axis=1)
        return PairBatch(
            rows=with_own(cast(UserBatch, rows)),
            user=torch.from_numpy(user).to(self.device, non_blocking=True),
            items=torch.from_numpy(items).to(self.device, non_blocking=True),
            weight=weight,
            n_whole=n_whole,
        )
