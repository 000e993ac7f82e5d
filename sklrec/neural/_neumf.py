"""Neural matrix factorization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.random import RandomState
from scipy.stats import randint
from sklearn.base import clone
from sklearn.utils import gen_batches
from torch import nn

from .._pairs import NegativeSampler, uniform_by_row
from .._sklearn import Interval, StrOptions
from ._base import BaseTorchRecommender
from ._criteria import Output
from ._embedding import EmbeddingMixin
from ._modules import Dense, checked_sizes, sparse_product
from ._pair_batches import PairBatch, PairBatches, UserPairs
from ._training._data import SparseBatch
from ._training._docs import with_training_docs
from ._training._net import Pass, TorchNet
from ._user_vectors import (
    VALUES_OF_A_VECTOR,
    UserVectors,
    UserVectorsMixin,
    step_of_users,
)

# Steps of Adam, and its learning rate, by which the vector of a new user is found, and the seed of
# the negatives.
N_STEPS = 30
RATE = 0.05
SEED = 0

# Largest number of values of a hidden layer that scoring computes at a time.
BLOCK = 2**18
BLOCK_ON_GPU = 2**26


@with_training_docs
class NeuMF(UserVectorsMixin, EmbeddingMixin, BaseTorchRecommender):
    r"""Neural matrix factorization, and its two parts, GMF and MLP.

    A score is made of what two networks say of a pair of a user and an item [1]_, each with vectors
    p and q of its own: a generalized matrix factorization (GMF), the products of the components,
    and a multilayer perceptron (MLP) of both vectors, with rectified linear units:

    .. math:: \phi^\text{GMF} = p_u \odot q_i, \qquad
        \phi^\text{MLP} = a_L(\dots a_1(W_1 [p_u; q_i] + b_1)), \qquad
        f_{ui} = h^\top [\phi^\text{GMF}; \phi^\text{MLP}] + b

    Training goes over interactions in random order, each with negatives, items that the user does
    not have, drawn anew in each epoch. It minimises the log loss of their sigmoids.

    In [1]_ users are ids with vectors of their own, and no other user can be scored. `user_vector`
    says what the vector of a user is, new or not.

    Parameters
    ----------
    model : {"neumf", "gmf", "mlp"}, default="neumf"
        Both networks or one of them.
    n_components : int, default=64
        Size of the vectors of GMF and of those of MLP. Typical range: 8 to 128.
    hidden_layer_sizes : sequence of int, default=(64, 32, 16)
        Sizes of MLP's hidden layers, at least one.
    n_negatives : int, default=4
        Number of negatives to draw for each interaction. Typical range: 2 to 10.
    user_vector : {"items", "solve"}, default="items"
        What the vector of a user is.

        - "items": the sum of vectors of the user's items divided by the root of their number, in
          training and afterwards. These are other vectors than q. In training, the item whose score
          is learnt is left out of the sum.
        - "solve": a vector of the user's own in training, as in [1]_. For a row that is scored, 30
          steps of Adam, from 0, on the loss of the row, with all other weights fixed. The negatives
          are drawn with a seed made of the row's items.
    pretrain : bool, default=False
        Whether GMF and MLP are trained first, each for `max_epochs`, before training of the two
        together begins with their weights. Only for ``model="neumf"``. An interruption of their
        training leaves no model.
    alpha : float, default=0.5
        Weight of GMF's last layer where pretrained parts are put together; that of MLP's is
        ``1 - alpha`` (equation 13 of [1]_).
    max_epochs : int, default=12
        Number of passes over the interactions. Typical range: 5 to 30, or use
        ``early_stopping=True``.
    batch_size : int, default=1024
        Number of interactions in a gradient step.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_vector)
        Vectors q of the items; of GMF and MLP side by side.
    loss_curve_ : list of float
        Mean loss of an interaction and its negatives in each epoch.

    See Also
    --------
    CDAE : Denoising autoencoder with vectors of users.

    Notes
    -----
    On MovieLens-1M, ``ndcg@100`` on test users after 12 epochs in batches of 4,096 is .3967 for
    NeuMF and .3856 for GMF, with ``user_vector="items"``.

    Interactions count as 1, whatever their value. Those of a user who has all items are left out,
    unless there are no others.

    With ``user_vector="solve"`` the vectors of users are trained by Adam too, each in its own
    steps. They are dropped at the end of ``fit``; with ``warm_start=True`` they are kept in the
    model and its pickles, and continue if the next call is on the same rows. All other training
    that continues begins with vectors of 0, such as ``partial_fit`` on new users.

    Scoring computes MLP for all pairs, in blocks of a limited size. Its first layer is the sum of a
    part of the user and one of the item, each computed once.

    The authors of [1]_ train pretrained networks on by stochastic gradient descent. Here it is Adam
    that trains all of them.

    References
    ----------
    .. [1] X. He, L. Liao, H. Zhang, L. Nie, X. Hu and T.-S. Chua, "Neural Collaborative Filtering",
       WWW 2017.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.neural import NeuMF
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> neumf = NeuMF(n_components=8, hidden_layer_sizes=(8, 4), max_epochs=2, random_state=0)
    >>> neumf = neumf.fit(X)
    >>> neumf.predict_ranking(X[:2], k=3).shape
    (2, 3)
    >>> neumf.transform(X).shape
    (200, 16)
    """

    _suggested_distributions: dict = {
        "n_components": randint(8, 129),
        "n_negatives": randint(2, 11),
        "max_epochs": randint(5, 31),
    }

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "model": [StrOptions({"neumf", "gmf", "mlp"})],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "n_negatives": [Interval(Integral, 1, None, closed="left")],
        "user_vector": [StrOptions({"items", "solve"})],
        "pretrain": ["boolean"],
        "alpha": [Interval(Real, 0, 1, closed="both")],
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
        max_epochs: int = 12,
        batch_size: int = 1024,
        learning_rate: float = 2e-3,
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
        """Vectors of the items, ndarray of shape (n_items, n_vector), float32."""
        parts = parts_of(self.net_.plain_module)
        vectors = [part.items.weight.detach().cpu().numpy() for part in parts]
        return np.concatenate(vectors, axis=1)

    @property
    def _n_features_out(self) -> int:
        trained = self._trained_with
        return trained["n_components"] * (2 if trained["model"] == "neumf" else 1)

    def _make_net(self, n_items: int) -> TorchNet:
        sizes = checked_sizes(self.hidden_layer_sizes, "hidden_layer_sizes")
        if not sizes:
            raise ValueError("hidden_layer_sizes must hold at least one size, got none.")
        if self.pretrain and self.model != "neumf":
            raise ValueError(f"pretrain=True needs model='neumf', got {self.model!r}.")
        solved = self.user_vector == "solve"
        return TorchNet(
            NeuMFModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            module__hidden_layer_sizes=sizes,
            module__model=self.model,
            module__n_negatives=self.n_negatives if solved else None,
            criterion=LogLoss,
            passes=[Pass(batches=PairBatches, after_step=step_of_pairs if solved else None)],
            **self._net_params(),
        )

    def _begin_fit(
        self, X: sp.csr_array, validation: tuple[sp.csr_array, sp.csr_array] | None, n_epochs: int
    ) -> None:
        super()._begin_fit(X, validation, n_epochs)
        self._n_entries = X.nnz
        if not self.pretrain or self.model != "neumf":
            return
        self._parts: list[Any] = []
        params: dict[str, Any] = {}
        if validation is not None:
            params = {"X_val": validation[0] + validation[1], "y_val": validation[1]}
        for model in ("gmf", "mlp"):
            part = clone(self).set_params(
                model=model,
                pretrain=False,
                max_epochs=n_epochs,
                warm_start=False,
                random_state=self._seed,
                early_stopping=self.early_stopping and validation is not None,
            )
            part.fit(X, **params)
            if part.net_.interrupted_:
                raise KeyboardInterrupt
            self._parts.append(part.net_.plain_module)

    def _begin_training(self, net: TorchNet) -> None:
        """Begin with the weights of the parts that were trained before."""
        parts = self.__dict__.pop("_parts", None)
        if parts:
            gmf, mlp = parts
            cast(NeuMFModule, net.plain_module).fuse(gmf, mlp, self.alpha)

    def _training_data(self, X: sp.csr_array, device: torch.device) -> Mapping[str, Any]:
        vectors = None
        if self.user_vector == "solve":
            vectors = self._user_vectors(X, self._n_vector(), device)
        return {"users": UserPairs(X, device, vectors, self.n_negatives)}

    def _n_vector(self) -> int:
        """Return the size of the vector of a user or an item."""
        return self.n_components * (2 if self.model == "neumf" else 1)

    def _n_step_values(self, module: nn.Module, n_gradients: int) -> int:
        n_pairs = self.batch_size * (1 + self.n_negatives)
        n_pairs = min(n_pairs, self._n_entries * (1 + self.n_negatives))
        n_of_pair = 4 * self._n_vector()
        if self.model != "gmf":
            n_of_pair += 3 * sum(self.hidden_layer_sizes)
        n_values = n_gradients + n_pairs * n_of_pair
        if self.user_vector == "solve":
            n_values += VALUES_OF_A_VECTOR * self._n_users * self._n_vector()
        return n_values


class NeuMFModule(nn.Module):
    """GMF, MLP or both, and a last layer that makes a score of what they say of a pair.

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
        super().__init__()
        sizes = (n_items, n_components, n_negatives is None)
        self.gmf = None if model == "mlp" else GMF(*sizes)
        self.mlp = None if model == "gmf" else MLP(*sizes, hidden_layer_sizes)
        self.last = Dense(sum(part.n_outputs for part in parts_of(self)), 1)
        self.n_negatives = n_negatives

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return the vectors of users, of shape (n_rows, n_vector)."""
        if self.n_negatives is not None:
            return self._solved(batch)
        return torch.cat([part.of_rows(batch) for part in parts_of(self)], dim=1)

    def forward(self, batch: SparseBatch | PairBatch) -> Output:
        """Return the scores of all items, or in training those of pairs as a tensor."""
        if not isinstance(batch, PairBatch):
            return Output(ScoresOfAllPairs(self, self.encode(batch)))
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
        vectors = users.chunk(len(parts), dim=1)
        items = items.clamp(min=0)
        outputs = [part.outputs(p, items) for part, p in zip(parts, vectors, strict=True)]
        scores: torch.Tensor = self.last(torch.cat(outputs, dim=-1)).squeeze(-1)
        return scores

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
    number.
    """

    n_outputs: int

    def __init__(self, n_items: int, n_components: int, has_members: bool) -> None:
        super().__init__()
        self.items = ItemVectors(n_items, n_components)
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
        return users[:, None] * self.items(items)

    def add_scores(self, scores: torch.Tensor, users: torch.Tensor, weight: torch.Tensor) -> None:
        """Add the part of the scores of all items."""
        scores += (users * weight) @ self.items.weight.T


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
        return self._after_first(self.of_user(users)[:, None] + self.of_item(self.items(items)))

    def add_scores(self, scores: torch.Tensor, users: torch.Tensor, weight: torch.Tensor) -> None:
        """Add the part of the scores of all items, in blocks of users and items."""
        of_user, of_item = self.of_user(users), self.of_item(self.items.weight)
        n_values = BLOCK if scores.device.type == "cpu" else BLOCK_ON_GPU
        n_pairs = max(
            1, n_values // max(layer.out_features for layer in [self.of_user, *self.hidden])
        )
        n_items = min(len(of_item), n_pairs)
        for items in gen_batches(len(of_item), n_items):
            for rows in gen_batches(len(of_user), max(1, n_pairs // n_items)):
                first = of_user[rows, None] + of_item[items]
                scores[rows, items] += self._after_first(first) @ weight

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
    module : NeuMFModule
        The network.
    users : Tensor of shape (n_rows, n_vector)
        Vectors of the users.
    """

    module: NeuMFModule
    users: torch.Tensor

    def dense(self) -> torch.Tensor:
        """Return the scores, of shape (n_rows, n_items)."""
        parts = parts_of(self.module)
        last = self.module.last
        n_items = len(parts[0].items.weight)
        scores = last.bias.repeat(len(self.users), n_items)
        vectors = self.users.chunk(len(parts), dim=1)
        weights = last.weight[0].split([part.n_outputs for part in parts])
        for part, users, weight in zip(parts, vectors, weights, strict=True):
            part.add_scores(scores, users, weight)
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


def step_of_pairs(net: TorchNet, batch: PairBatch) -> None:
    """Take a step with the vectors of the users of a batch."""
    step_of_users(net, batch.rows, lambda_=0.0)
