"""EASE trained by gradient descent, for losses without a closed form."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.random import RandomState
from scipy.stats import loguniform, uniform
from torch import nn

from .._sklearn import Interval, StrOptions
from ..base import ExplainMixin, SimilarItemsMixin
from ._base import BaseTorchRecommender
from ._criteria import NegativeLogLikelihood, Output
from ._losses import DenseScores, FocalLoss, GaussianNLL, Likelihood, cosine_loss
from ._modules import sparse_product
from ._training._data import SparseBatch
from ._training._docs import with_training_docs
from ._training._net import TorchNet


@with_training_docs
class NeuralEASE(ExplainMixin, SimilarItemsMixin, BaseTorchRecommender):
    r"""Linear item-to-item autoencoder with a zero diagonal, for losses without a closed form.

    As in :class:`~sklrec.linear.EASE`, scores are ``x @ W`` and the diagonal of W is zero. The
    model is trained by gradient descent [1]_ on the mean over users of one of

    - the cosine loss, ``1 - cos(x W, x)``, with which [1]_ reports the best rankings,
    - the squared error, ``||x - x W||^2 / 2``, which converges to EASE,
    - the focal loss of the sigmoid of ``x W``, equations 3 and 10 of [1]_,

    plus ``lambda_ / (2 n_users) * ||W||^2``. In the cosine loss, ``||x W||`` is replaced by
    ``sqrt(||x W||^2 + ||x||^2)``: without the second term the loss would not depend on the scale
    of W, and the penalty would only shrink it.

    Training needs the memory of three (n_items, n_items) matrices in float32, for the weights,
    their gradient and its running mean: 4.8 GB for 20,000 items. With validation users it needs
    one more. If the memory of the machine is too small, ``fit`` raises a MemoryError before
    training.

    Parameters
    ----------
    loss : {"cosine", "mse", "focal"}, default="cosine"
        Loss that training minimises.
    lambda_ : float, default=0.5
        L2 penalty on the weights. For "mse" the objective is that of EASE, divided by twice the
        number of users, and the typical range is 10 to 10,000. The other losses are much smaller
        than the squared error; their typical range is 0.05 to 10.
    dropout : float, default=0.0
        Probability with which an interaction is left out of the input in training, but not of the
        target, as in :class:`~sklrec.linear.EASE`. Not in [1]_. Typical range: 0.2 to 0.5.
    alpha : float, default=0.25
        Weight in the focal loss of the items a user has; the weight of all others is ``1 - alpha``.
    gamma : float, default=2.0
        Focusing parameter of the focal loss: with a larger one, well predicted items count less.
    learning_rate : float, default=1.0
        Learning rate of gradient descent with a Nesterov momentum of 0.9, in units of the inverse
        of a bound on the curvature of the objective: the mean of ``||x||^2`` (1 for the cosine
        loss) plus ``lambda_ / n_users``. Use a smaller rate if the loss becomes NaN, which can
        happen with batches of a few users, with a few values far larger than all others, and with
        a `lambda_` as large as the sum of all ``||x||^2``.

    Attributes
    ----------
    coef_ : ndarray of shape (n_items, n_items)
        Weight of each item (row) in the score of each item (column), float32.
    loss_curve_ : list of float
        Mean loss in each epoch, without the penalty.

    See Also
    --------
    sklrec.linear.EASE : The solution for the squared error in closed form.
    VASP : Product of this model and a deep variational autoencoder.

    Notes
    -----
    Weights are initialized to zero, and those of items without interactions stay zero. As batches
    differ, a constant learning rate does not converge to the minimum exactly; a rate that decreases
    to zero does, see :class:`skorch.callbacks.LRScheduler`.

    The number of users in the penalty and the bound on the curvature are those of the training
    users, without those that early stopping sets aside. ``partial_fit`` and warm starts keep the
    values of the first call.

    Adam, the optimizer of most other neural models, would change the weights of rare pairs of items
    as fast as those of the most popular ones.

    The defaults were chosen on MovieLens-1M.

    References
    ----------
    .. [1] V. Vančura and P. Kordík, "Deep Variational Autoencoder with Shallow Parallel Path for
       Top-N Recommendation (VASP)", ICANN 2021.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.neural import NeuralEASE
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> nease = NeuralEASE(max_epochs=5, random_state=0).fit(X)
    >>> nease.predict_ranking(X[:2], k=3).shape
    (2, 3)
    >>> nease.coef_.shape
    (50, 50)
    """

    @property
    def _suggested_distributions(self) -> dict:
        # The objective of "mse" is that of EASE.
        penalty = loguniform(10, 10_000) if self.loss == "mse" else loguniform(0.05, 10)
        return {"lambda_": penalty, "dropout": uniform(0.2, 0.3)}

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "loss": [StrOptions({"cosine", "mse", "focal"})],
        "lambda_": [Interval(Real, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "gamma": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        loss: str = "cosine",
        *,
        lambda_: float = 0.5,
        dropout: float = 0.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
        max_epochs: int = 50,
        batch_size: int = 500,
        learning_rate: float = 1.0,
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
        self.loss = loss
        self.lambda_ = lambda_
        self.dropout = dropout
        self.alpha = alpha
        self.gamma = gamma
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
    def coef_(self) -> np.ndarray:
        """Weight of each item (row) in the score of each item (column), float32."""
        weight: torch.Tensor = self.net_.plain_module.weight  # type: ignore[assignment]
        return weight.detach().cpu().numpy()

    def _make_net(self, n_items: int) -> TorchNet:
        params = self._net_params() | {
            "lr": self.learning_rate / self._curvature,
            "optimizer": torch.optim.SGD,
            "optimizer__momentum": 0.9,
            "optimizer__nesterov": True,
            # SGD adds weight_decay * W to the gradient, the derivative of the penalty.
            "optimizer__weight_decay": self.lambda_ / self._n_users,
        }
        return TorchNet(
            NeuralEASEModule,
            module__n_items=n_items,
            module__dropout=self.dropout,
            criterion=NegativeLogLikelihood,
            criterion__likelihood=self._likelihood(),
            **params,
        )

    def _likelihood(self) -> Likelihood:
        if self.loss == "cosine":
            return cosine_loss
        return GaussianNLL() if self.loss == "mse" else FocalLoss(self.alpha, self.gamma)

    def _begin_fit(
        self, X: sp.csr_array, validation: tuple[sp.csr_array, sp.csr_array] | None, n_epochs: int
    ) -> None:
        self._n_users = X.shape[0]
        # Bound on the largest eigenvalue of X'X / n_users, where the cosine loss divides the rows
        # of X by their norms, plus the curvature of the penalty.
        mean_square = 1.0 if self.loss == "cosine" else sp.linalg.norm(X) ** 2 / X.shape[0]
        self._curvature = float(mean_square + self.lambda_ / X.shape[0]) or 1.0

    _n_moments = 1

    def _n_score_tensors(self) -> int:
        return 6 if self.loss == "focal" else 3

    def _contributions(self, X: sp.csr_array, item: int) -> np.ndarray:
        return X.data * self.coef_[X.indices, item].astype(X.dtype)

    def _item_similarity(self, items: np.ndarray) -> np.ndarray:
        return self.coef_[items]


class NeuralEASEModule(nn.Module):
    """Scores ``x @ W``, where the diagonal of W stays zero."""

    def __init__(self, n_items: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.weight = nn.Parameter(torch.empty(n_items, n_items))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize the weights to zero, where those of items without interactions stay."""
        nn.init.zeros_(self.weight)

    def forward(self, batch: SparseBatch) -> Output:
        """Return the scores of all items."""
        batch = batch.dropout(self.dropout, training=self.training)
        weight = _DiagonalHeld.apply(self.weight)
        return Output(DenseScores(sparse_product(batch, weight)))


class _DiagonalHeld(torch.autograd.Function):
    """Identity whose gradient has a zero diagonal.

    With zero gradients, the optimizer's moments and steps of the diagonal are zero too.
    """

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor) -> torch.Tensor:
        return weight.view_as(weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.fill_diagonal_(0)  # in place, as no other function uses it
