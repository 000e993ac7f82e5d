"""Vectors of the training users, which belong to the data of a fit and not to the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch

from .._pairs import NegativeSampler
from ._training._data import SparseBatch, SparseBatches, SparseRows, hash_of
from ._training._net import TorchNet

# Those of torch.optim.Adam.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8

# Numbers in memory for each component of a vector: itself and two moments.
VALUES_OF_A_VECTOR = 3


class UserVectors:
    """One vector for each training user, trained by Adam.

    Only the vectors of the users of a batch are read and changed in a step, each with a count of
    its own steps. They begin with zeros.

    Parameters
    ----------
    n_users, n_components : int
        Shape.
    device : torch.device
        Where they are.
    """

    def __init__(self, n_users: int, n_components: int, device: torch.device) -> None:
        shape = (n_users, n_components)
        self.values, self.mean, self.square = (
            torch.zeros(shape, dtype=torch.float32, device=device) for _ in range(3)
        )
        self.n_steps = torch.zeros((n_users, 1), dtype=torch.float32, device=device)

    def of(self, users: torch.Tensor) -> torch.Tensor:
        """Return the vectors of some users, of which a gradient is to be computed."""
        return self.values[users].requires_grad_()

    def step(self, users: torch.Tensor, gradient: torch.Tensor, rate: float) -> None:
        """Take a step of Adam with the given vectors, each user being there once."""
        n_steps = self.n_steps[users] + 1
        mean = self.mean[users].lerp_(gradient, 1 - BETA_1)
        square = self.square[users].lerp_(gradient.square(), 1 - BETA_2)
        root = (square / (1 - BETA_2**n_steps)).sqrt_().add_(EPSILON)
        self.values[users] -= rate * mean / (1 - BETA_1**n_steps) / root
        self.n_steps[users], self.mean[users], self.square[users] = n_steps, mean, square

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the vectors and the state of Adam."""
        return {name: value.cpu().numpy() for name, value in vars(self).items()}

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what :meth:`to_arrays` has returned."""
        for name, value in vars(self).items():
            value.copy_(torch.from_numpy(np.array(arrays[name])))


@dataclass(frozen=True)
class UserBatch(SparseBatch):
    """Batch of training users with what is theirs alone.

    Parameters
    ----------
    own : Tensor of shape (n_rows, n_components) or None
        Their vectors.
    negatives : Tensor of shape (nnz, n_negatives), int64, or None
        Items that the user of each entry does not have; -1 if there is none.
    users : Tensor of shape (n_rows,), int64
        Their rows in the data.
    vectors : UserVectors or None
        Where their vectors are from.
    """

    own: Any = None
    negatives: Any = None
    users: Any = None
    vectors: Any = None


class UserRows(SparseRows):
    """Dataset of the rows of users, with what is theirs alone.

    Parameters
    ----------
    X : CSR array of shape (n_users, n_items)
        The rows.
    device : torch.device
        Device of training.
    vectors : UserVectors or None, default=None
        Their vectors.
    n_negatives : int, default=0
        Number of items to draw for each entry, of those that its user does not have.
    """

    def __init__(
        self,
        X: sp.csr_array,
        device: torch.device,
        vectors: UserVectors | None = None,
        n_negatives: int = 0,
    ) -> None:
        super().__init__(X, device)
        self.vectors = vectors
        self.n_negatives = n_negatives
        self.sampler = NegativeSampler(X) if n_negatives else None
        self.hash = "" if vectors is None else hash_of(X)
        self.rng = np.random.default_rng(0)  # of negatives, replaced in each epoch

    def __getitem__(self, rows: torch.Tensor) -> UserBatch:
        batch = super().__getitem__(rows)
        negatives = None
        if self.sampler is not None:
            n_entries = self.indptr[rows + 1] - self.indptr[rows]
            users = rows.repeat_interleave(n_entries).numpy()
            drawn = self.sampler.draw(users, self.rng, self.n_negatives)
            negatives = torch.from_numpy(drawn).to(batch.items.device, non_blocking=True)
        users = rows.to(batch.items.device, non_blocking=True)
        return UserBatch(**vars(batch), negatives=negatives, users=users, vectors=self.vectors)


class UserBatches(SparseBatches):
    """Iterate over batches of :class:`UserRows`, with negatives that are drawn in each epoch."""

    dataset: UserRows

    def _batches(self) -> Iterator[UserBatch]:
        batches = super()._batches()
        if self.dataset.sampler is not None and self.generators is not None:
            self.dataset.rng = self.generators.numpy()
        return (with_own(cast(UserBatch, batch)) for batch in batches)


def with_own(batch: UserBatch) -> UserBatch:
    """Return the batch with the vectors of its users as they are now."""
    if batch.vectors is None:
        return batch
    return replace(batch, own=batch.vectors.of(batch.users))


def step_of_users(net: TorchNet, batch: UserBatch, lambda_: float) -> None:
    """Take a step with the vectors of a batch's users, on their own losses and penalties.

    A user's penalty is ``lambda_`` times the square of the vector. The rate is that of the
    optimizer.
    """
    gradient = len(batch) * batch.own.grad + 2 * lambda_ * batch.own.detach()
    batch.vectors.step(batch.users, gradient, net.optimizer_.param_groups[0]["lr"])


class UserVectorsMixin:
    """Mixin for models that train a vector for each user.

    The vectors are dropped after a fit. With ``warm_start=True`` they are kept, and continue if
    the next call is on the same rows.
    """

    warm_start: bool
    _user_state: dict[str, Any]

    def _begin_fit(self, X: sp.csr_array, *args: Any) -> None:
        self._n_users = X.shape[0]
        self.__dict__.pop("_user_state", None)

    def _user_vectors(
        self, X: sp.csr_array, n_components: int, device: torch.device
    ) -> UserVectors:
        """Return the vectors of the rows of X: those that were kept, or zeros."""
        vectors = UserVectors(X.shape[0], n_components, device)
        kept = getattr(self, "_user_state", None)
        if kept is not None and kept["rows"] == hash_of(X):
            vectors.load_arrays(kept["vectors"])
        return vectors

    def _end_fit(self, data: Mapping[str, Any]) -> None:
        self.__dict__.pop("_user_state", None)
        rows: UserRows = data["users"]
        if self.warm_start and rows.vectors is not None:
            self._user_state = {"rows": rows.hash, "vectors": rows.vectors.to_arrays()}
