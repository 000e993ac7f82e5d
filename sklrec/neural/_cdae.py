"""Collaborative denoising autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.random import RandomState
from scipy.stats import loguniform, randint
from torch import nn

from .._sklearn import Interval, StrOptions
from ._base import BaseTorchRecommender
from ._criteria import NegativeLogLikelihood, Output
from ._embedding import EmbeddingMixin
from ._modules import ItemLayer, SparseLinear, normalized_row
from ._training._data import SparseBatch
from ._training._docs import with_training_docs
from ._training._net import Pass, TorchNet
from ._user_vectors import (
    VALUES_OF_A_VECTOR,
    UserBatches,
    UserRows,
    UserVectorsMixin,
    step_of_users,
)

# Steps of gradient descent by which the vector of a new user is solved for.
N_STEPS = 30


@with_training_docs
class CDAE(UserVectorsMixin, EmbeddingMixin, BaseTorchRecommender):
    r"""Collaborative denoising autoencoder: one hidden layer, and a vector of each user.

    The interactions of a user are predicted from a part of them, the others being dropped at
    random, and from a vector :math:`V_u` of the user's own [1]_:

    .. math:: z_u = h(W^\top \tilde{x}_u + V_u + b), \qquad f_u = W' z_u + b'

    Training minimises a loss of the user's items and of negatives, items that the user does not
    have. With `n_negatives`, a number of them is drawn anew in each epoch, as in [1]_. With
    ``n_negatives=None`` all other items count, with `unobserved_weight`: this is the CDAE that
    [2]_ compares with.

    The vectors belong to the users of ``fit``. `user_vector` says what takes their place for a row
    that is scored.

    Parameters
    ----------
    n_components : int, default=200
        Size of the hidden layer. Typical range: 50 to 400.
    activation : {"tanh", "sigmoid", "identity"}, default="tanh"
        Activation h of the hidden layer.
    normalize : bool, default=True
        Whether rows are divided by their Euclidean norms. [1]_ does not, and ranks worse on
        MovieLens-1M: see Notes.
    dropout : float, default=0.5
        Probability with which an interaction is left out of the input in training.
    user_vector : {"zero", "solve"} or None, default="zero"
        Vector of a user who is scored, known from ``fit`` or not.

        - "zero": 0, where the vectors of training begin.
        - "solve": the result of 30 steps of gradient descent on the loss of the user's row, with
          all other weights fixed.
        - None: there are no vectors, in training neither.
    loss : {"square", "logistic"}, default="square"
        Loss of an item with score f: ``(x - f)^2`` for an entry x and ``f^2`` for a negative, or
        ``log(1 + exp(-f))`` and ``log(1 + exp(f))``.
    n_negatives : int or None, default=5
        Number of negatives to draw for each interaction. With None, all items that the user does
        not have are negatives.
    unobserved_weight : float, default=1.0
        Weight of a negative in the loss, relative to an interaction. Typical range:
        0.05 to 1, on a logarithmic scale; drawn negatives usually have a weight of 1.
    lambda_ : float, default=1e-3
        L2 penalty on the weights and on the vectors of users, not on the biases: the objective is
        the mean over users of ``loss + lambda_ * sum(V_u ** 2)``, plus ``lambda_ * (sum(W ** 2) +
        sum(W' ** 2))``. Typical range: 1e-4 to 0.01, on a logarithmic scale.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_components)
        Weights of the last layer.
    loss_curve_ : list of float
        Mean loss in each epoch, without the penalty.

    See Also
    --------
    MultDAE : Denoising autoencoder with a multinomial likelihood, without vectors of users.

    Notes
    -----
    On MovieLens-1M, ``ndcg@100`` on test users is .4257 with ``user_vector="zero"``, .4258 with
    None and .3820 with "solve", where all items are negatives, `unobserved_weight` is .3 and
    `lambda_` 1e-3; without `normalize` it is .4043 with None. On citeulike-a, whose users have
    fewer items, it is .2485 with "zero" and .2667 with "solve".

    The vectors of users are trained by Adam too, each in its own steps. They are dropped at the end
    of ``fit``; with ``warm_start=True`` they are kept in the model and its pickles, together with
    the state of the optimizer, and continue if the next call is on the same rows. All other
    training that continues begins with vectors of 0, such as ``partial_fit`` on new users.

    A step computes the scores of all items, also where only some of them count.

    The authors of [1]_ use stochastic gradient descent with AdaGrad, user by user, and 50
    components; [2]_ uses Adam, batches of 500 users, 200 components with tanh, and a square loss.
    The defaults of `lambda_`, `max_epochs` and `batch_size` were found on MovieLens-1M.

    References
    ----------
    .. [1] Y. Wu, C. DuBois, A. X. Zheng and M. Ester, "Collaborative Denoising Auto-Encoders for
       Top-N Recommender Systems", WSDM 2016.
    .. [2] D. Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.neural import CDAE
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> cdae = CDAE(16, max_epochs=5, random_state=0).fit(X)
    >>> cdae.predict_ranking(X[:2], k=3).shape
    (2, 3)
    """

    _suggested_distributions: dict = {
        "n_components": randint(50, 401),
        "unobserved_weight": loguniform(0.05, 1),
        "lambda_": loguniform(1e-4, 0.01),
    }

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"tanh", "sigmoid", "identity"})],
        "normalize": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "user_vector": [StrOptions({"zero", "solve"}), None],
        "loss": [StrOptions({"square", "logistic"})],
        "n_negatives": [Interval(Integral, 1, None, closed="left"), None],
        "unobserved_weight": [Interval(Real, 0, None, closed="left")],
        "lambda_": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 200,
        *,
        activation: str = "tanh",
        normalize: bool = True,
        dropout: float = 0.5,
        user_vector: str | None = "zero",
        loss: str = "square",
        n_negatives: int | None = 5,
        unobserved_weight: float = 1.0,
        lambda_: float = 1e-3,
        max_epochs: int = 25,
        batch_size: int = 100,
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
        self.n_components = n_components
        self.activation = activation
        self.normalize = normalize
        self.dropout = dropout
        self.user_vector = user_vector
        self.loss = loss
        self.n_negatives = n_negatives
        self.unobserved_weight = unobserved_weight
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

    def _can_share_batches(self) -> bool:
        return False  # vectors and negatives belong to a user

    def _make_net(self, n_items: int) -> TorchNet:
        loss = PointwiseLoss(self.loss, self.unobserved_weight, self.n_negatives)
        step = None
        if self.user_vector is not None:
            step = partial(step_of_users, lambda_=self.lambda_)
        return TorchNet(
            CDAEModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            module__activation=self.activation,
            module__normalize=self.normalize,
            module__dropout=self.dropout,
            module__solver=(loss, self.lambda_) if self.user_vector == "solve" else None,
            criterion=NegativeLogLikelihood,
            criterion__likelihood=loss,
            # Adam adds weight_decay * W to the gradient, half the derivative of the penalty.
            optimizer__param_groups=[("*weight", {"weight_decay": 2 * self.lambda_})],
            passes=[Pass(batches=UserBatches, after_step=step)],
            **self._net_params(),
        )

    def _training_data(self, X: sp.csr_array, device: torch.device) -> Mapping[str, Any]:
        vectors = None
        if self.user_vector is not None:
            vectors = self._user_vectors(X, self.n_components, device)
        return {"users": UserRows(X, device, vectors, self.n_negatives or 0)}

    def _n_score_tensors(self) -> int:
        return 2 if self.n_negatives is None else 1

    def _n_step_values(self, module: nn.Module, n_gradients: int, n_rows: int) -> int:
        own = 0 if self.user_vector is None else self._n_users * self.n_components
        return super()._n_step_values(module, n_gradients, n_rows) + VALUES_OF_A_VECTOR * own


class CDAEModule(nn.Module):
    """One hidden layer, to whose input the user's vector is added, and a linear output.

    Parameters
    ----------
    n_items, n_components : int
        Sizes of the layers.
    activation, normalize, dropout
        As those of :class:`CDAE`.
    solver : tuple of PointwiseLoss and float, or None
        Loss and penalty for which the vector of a user is solved for outside of training; with None
        it is 0.
    """

    def __init__(
        self,
        n_items: int,
        n_components: int,
        activation: str,
        normalize: bool,
        dropout: float,
        solver: tuple[PointwiseLoss, float] | None,
    ) -> None:
        super().__init__()
        self.first = SparseLinear(n_items, n_components)
        self.item_layer = ItemLayer(n_components, n_items)
        self.activation = activation
        self.normalize = normalize
        self.dropout = dropout
        self.solver = solver

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return the hidden layer, of shape (n_rows, n_components)."""
        rows = batch.normalized() if self.normalize else batch
        a = self.first(rows.dropout(self.dropout, training=self.training))
        own = getattr(batch, "own", None)
        if self.solver is not None and not self.training:
            own = self._solved(a, batch, *self.solver)
        return self._activated(a if own is None else a + own)

    def forward(self, batch: SparseBatch) -> Output:
        """Return the scores of all items."""
        return Output(self.item_layer(self.encode(batch)))

    def score_row(self, values: np.ndarray, items: np.ndarray) -> np.ndarray | None:
        """Return the scores of all items for the entries of one row, by numpy."""
        if self.solver is not None:
            return None
        a = self.first.of_row(normalized_row(values) if self.normalize else values, items)
        z = np.tanh(a) if self.activation == "tanh" else self._activated(torch.from_numpy(a))
        return self.item_layer.of_row(np.asarray(z))

    def _activated(self, a: torch.Tensor) -> torch.Tensor:
        if self.activation == "tanh":
            return a.tanh()
        return a.sigmoid() if self.activation == "sigmoid" else a

    def _slope(self, z: torch.Tensor) -> torch.Tensor:
        """Return the derivative of the activation, from its value."""
        if self.activation == "tanh":
            return 1 - z.square()
        return z * (1 - z) if self.activation == "sigmoid" else torch.ones_like(z)

    def _solved(
        self, a: torch.Tensor, batch: SparseBatch, loss: PointwiseLoss, lambda_: float
    ) -> torch.Tensor:
        """Return the users' vectors after some steps of Nesterov's gradient descent from 0.

        The loss of drawn negatives is replaced by its mean over draws, so that a vector depends on
        its row alone.
        """
        weight = self.item_layer.weight
        loss = loss.of_all_items(batch)
        # Bound on the curvature, exactly where h is the identity.
        curvature = loss.curvature() * torch.linalg.eigvalsh(weight.T @ weight)[-1] + 2 * lambda_
        own = ahead = torch.zeros_like(a)
        for step in range(N_STEPS):
            z = self._activated(a + ahead)
            _, gradient = loss(self.item_layer(z).dense(), batch)  # of the mean over users
            gradient = len(batch) * (gradient @ weight) * self._slope(z) + 2 * lambda_ * ahead
            before, own = own, ahead - gradient / curvature
            ahead = own + step / (step + 3) * (own - before)
        return own


@dataclass(frozen=True)
class PointwiseLoss:
    """Loss of a user's items, and of negatives: all other items, or some of them.

    Parameters
    ----------
    loss : {"square", "logistic"}
        ``(x - f)^2`` for an entry x and ``f^2`` for a negative, or ``log(1 + exp(-f))`` and ``log(1
        + exp(f))``.
    unobserved_weight : float or Tensor of shape (n_rows, 1)
        Weight of a negative.
    n_negatives : int or None, default=None
        With None, all other items are negatives. Otherwise they are those of the batch, as many
        for each entry.
    """

    loss: str
    unobserved_weight: float | torch.Tensor
    n_negatives: int | None = None

    def __call__(self, scores: torch.Tensor, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss, averaged over users, and its gradient."""
        at = (batch.rows, batch.items)
        observed, gradient_at = self._of_entries(scores[at], batch.values)
        if self.n_negatives is None:
            losses, gradient = self._of_negatives(scores)
            losses[at] = 0
            loss = (self.unobserved_weight * losses.sum(dim=1, keepdim=True)).sum()
            gradient *= self.unobserved_weight
        else:
            # Those that are not drawn have the weight 0: to select the others would wait for a GPU.
            weight = self.unobserved_weight * (batch.negatives >= 0).to(scores.dtype)
            negatives = (batch.rows[:, None].expand_as(weight), batch.negatives.clamp(min=0))
            losses, of_negatives = self._of_negatives(scores[negatives])
            loss = (weight * losses).sum()
            gradient = scores.zero_()
            # An item that is drawn twice adds the same number twice: the order does not matter.
            gradient.index_put_(negatives, weight * of_negatives, accumulate=True)
        gradient[at] = gradient_at
        return (observed.sum() + loss) / len(batch), gradient.div_(len(batch))

    def of_all_items(self, batch: SparseBatch) -> PointwiseLoss:
        """Return the mean over draws of the loss, whose negatives are all items."""
        if self.n_negatives is None:
            return self
        n = batch.n_entries[:, None].float()
        share = self.n_negatives * n / (batch.n_items - n).clamp(min=1)
        return PointwiseLoss(self.loss, self.unobserved_weight * share)

    def curvature(self) -> torch.Tensor:
        """Return a bound on the second derivative by a score, of shape (n_rows, 1) or ()."""
        largest = torch.as_tensor(self.unobserved_weight).clamp(min=1)
        return largest * (2 if self.loss == "square" else 0.25)

    def _of_entries(self, f: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses at entries x and their derivatives."""
        if self.loss == "square":
            return (f - x).square(), 2 * (f - x)
        return F.softplus(-f), -(-f).sigmoid()

    def _of_negatives(self, f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses of negatives and their derivatives, which overwrite the scores."""
        if self.loss == "square":
            return f.square(), f.mul_(2)
        return F.softplus(f), f.sigmoid_()
