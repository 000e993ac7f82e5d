"""Neural matrix factorization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.random import RandomState
from scipy.stats import randint
from sklearn.base import clone
from torch import nn

from .._pairs import NegativeSampler, pair_batches, uniform_by_row
from .._sklearn import Interval, StrOptions
from ._base import BaseTorchRecommender
from ._criteria import Output
from ._embedding import EmbeddingMixin
from ._modules import Dense, checked_sizes, sparse_product
from ._training._data import Generators, SparseBatch
from ._training._docs import with_training_docs
from ._training._net import Pass, TorchNet
from ._user_vectors import UserRows, UserVectors, UserVectorsMixin

# Steps and rate of Adam by which the vector of a new user is found.
N_STEPS = 30
RATE = 0.05

# Most values of a hidden layer of pairs that are computed at a time.
BLOCK = 2**20
BLOCK_ON_GPU = 2**26


@with_training_docs
class NeuMF(UserVectorsMixin, EmbeddingMixin, BaseTorchRecommender):
    """Doc

    Parameters
    ----------
    model : x
        d

    Attributes
    ----------
    x : int
        d

    References
    ----------
    .. [1]
    """

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "model": [StrOptions({"neumf", "gmf", "mlp"})],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "n_negatives": [Interval(Integral, 1, None, closed="left")],
        "user_vector": [StrOptions({"items", "solve"})],
        "pretrain": ["boolean"],
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "lambda_": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        model: str = "neumf",
        *,
        n_components: int = 64,
        hidden_layer_sizes: Sequence[int] = (64, 32, 16),
        n_negatives: int = 4,
        user_vector: str = "items",
        pretrain: bool = False,
        alpha: float = 0.5,
        lambda_: float = 0.0,
        max_epochs: int = 20,
        batch_size: int = 1024,
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
        self.model = model
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_negatives = n_negatives
        self.user_vector = user_vector
        self.pretrain = pretrain
        self.alpha = alpha
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

    def _make_net(self, n_items: int) -> TorchNet:
        own = self.user_vector == "solve"
        return TorchNet(
            NeuMFModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            module__hidden_layer_sizes=checked_sizes(self.hidden_layer_sizes, "hidden_layer_sizes"),
            module__model=self.model,
            module__from_items=not own,
            module__n_negatives=self.n_negatives,
            criterion=LogLossOfPairs,
            optimizer__param_groups=[("*weight", {"weight_decay": 2 * self.lambda_})],
            passes=[Pass(data="pairs", batches=PairBatches, after_step=step_of_users if own else None)],
            **self._net_params(),
        )

    def _training_data(self, X: sp.csr_array, device: torch.device) -> Mapping[str, Any]:
        vectors = None
        if self.user_vector == "solve":
            n = self.n_components * (2 if self.model == "neumf" else 1)
            vectors = self._user_vectors(X, n, device)
        return {"pairs": PairData(X, device, vectors, self.n_negatives)}

    def _end_fit(self, data):
        pass

class PairData:
    def __init__(self, X, device, vectors, n_negatives):
        self.X = X
        self.rows = UserRows(X, device, vectors)
        self.sampler = NegativeSampler(X)
        self.n_negatives = n_negatives


@dataclass(frozen=True)
class PairBatch:
    rows: SparseBatch
    own: torch.Tensor | None
    user: torch.Tensor
    items: torch.Tensor  # (P, 1 + n)
    values: torch.Tensor
    vectors: Any

    def __len__(self):
        return self.user.shape[0]


class PairBatches:
    def __init__(self, dataset, batch_size, *, generators, device):
        self.dataset, self.batch_size, self.generators, self.device = dataset, batch_size, generators, torch.device(device)

    def __iter__(self):
        data = self.dataset
        rng = self.generators.numpy()
        for users, items, negatives in pair_batches(data.X, data.sampler, self.batch_size, rng, data.n_negatives):
            unique, user = np.unique(users, return_inverse=True)
            rows = data.rows[torch.from_numpy(unique)].to(self.device)
            own = None if rows.vectors is None else rows.vectors.of(rows.users)
            cand = np.concatenate([items[:, None], negatives], axis=1)
            batch = PairBatch(rows, own, torch.from_numpy(user).to(self.device), torch.from_numpy(cand).to(self.device), None, rows.vectors)
            yield batch, batch


def step_of_users(net, batch):
    batch.vectors.step(batch.rows.users, len(batch) * batch.own.grad, net.optimizer_.param_groups[0]["lr"])


class LogLossOfPairs(nn.Module):
    def forward(self, output, batch):
        s = output.scores
        return (F.softplus(-s[:, 0]).sum() + F.softplus(s[:, 1:]).sum()) / len(batch)


class ItemVectors(nn.Module):
    def __init__(self, n, k):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n, k))
    def reset_parameters(self, generator=None):
        nn.init.normal_(self.weight, std=0.01, generator=generator)


class NeuMFModule(nn.Module):
    def __init__(self, n_items, n_components, hidden_layer_sizes, model, from_items, n_negatives):
        super().__init__()
        K = n_components
        self.model = model
        self.n_negatives = n_negatives
        self.gm, self.ml = model != "mlp", model != "gmf"
        n = K * (self.gm + self.ml)
        self.K = K
        self.items = ItemVectors(n_items, n)
        self.members = ItemVectors(n_items, n) if from_items else None
        if self.ml:
            self.user_layer = Dense(K, hidden_layer_sizes[0])
            self.item_part = Dense(K, hidden_layer_sizes[0], bias=False)
            self.hidden = nn.ModuleList(Dense(a, b) for a, b in zip(hidden_layer_sizes, hidden_layer_sizes[1:]))
        self.last = Dense(K * self.gm + (hidden_layer_sizes[-1] if self.ml else 0), 1)

    def encode(self, batch):
        if self.members is not None:
            return sparse_product(batch.normalized(), self.members.weight)
        return self._solved(batch)

    def _solved(self, batch):
        csr = batch.to("cpu").to_scipy()
        neg = NegativeSampler(csr).at(np.repeat(np.arange(csr.shape[0]), np.diff(csr.indptr))[:, None], uniform_by_row(csr, self.n_negatives, 0))
        user = batch.rows
        items = torch.cat([batch.items[:, None], torch.from_numpy(neg).to(batch.items.device)], 1)
        with torch.inference_mode(False), torch.enable_grad():
            items=items.clone(); user=user.clone()
            vectors = UserVectors(len(batch), self.items.weight.shape[1], items.device)
            everyone = torch.arange(len(batch))
            for _ in range(N_STEPS):
                own = vectors.of(everyone)
                s = self.score_pairs(own[user], items)
                loss = F.softplus(-s[:, 0]).sum() + F.softplus(s[:, 1:]).sum()
                (g,) = torch.autograd.grad(loss, own)
                vectors.step(everyone, g, RATE)
            return vectors.values

    def forward(self, batch):
        if isinstance(batch, PairBatch):
            if self.members is None:
                p = batch.own[batch.user]
            else:
                rows = batch.rows
                S = sparse_product(rows, self.members.weight)
                n = rows.n_entries[batch.user]
                rest = (n - 1).clamp(min=1).rsqrt()[:, None]
                p = (S[batch.user] - F.embedding(batch.items[:, 0], self.members.weight)) * rest
            return Output(self.score_pairs(p, batch.items))
        return Output(AllPairs(self, self.encode(batch)))

    def score_pairs(self, p, items):
        q = F.embedding(items, self.items.weight)  # (P, C, n)
        K = self.K
        parts = []
        if self.gm:
            parts.append(p[:, None, :K] * q[..., :K])
        if self.ml:
            h = torch.relu(self.user_layer(p[:, -K:])[:, None] + self.item_part(q[..., -K:]))
            for layer in self.hidden:
                h = torch.relu(layer(h))
            parts.append(h)
        return self.last(torch.cat(parts, -1)).squeeze(-1)


@dataclass(frozen=True)
class AllPairs:
    module: Any
    users: torch.Tensor

    def dense(self):
        m, p = self.module, self.users
        K = m.K
        q = m.items.weight
        w = m.last.weight[0]
        s = p.new_full((p.shape[0], q.shape[0]), 0.0) + m.last.bias
        if m.gm:
            s += (p[:, :K] * w[:K]) @ q[:, :K].T
        if m.ml:
            u = m.user_layer(p[:, -K:])
            a = m.item_part(q[:, -K:])
            n_pairs = BLOCK // a.shape[1]
            ib = min(a.shape[0], n_pairs); ub = max(1, n_pairs // ib)
            wl = w[K * m.gm:]
            for us in range(0, p.shape[0], ub):
                for it in range(0, a.shape[0], ib):
                    h = torch.relu_(u[us:us+ub, None] + a[it:it+ib])
                    for layer in m.hidden:
                        h = torch.relu_(layer(h))
                    s[us:us+ub, it:it+ib] += h @ wl
        return s
