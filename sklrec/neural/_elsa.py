"""Low-rank linear autoencoder whose training never forms the scores of all items."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import RandomState
from torch import nn

from .._sklearn import Interval
from ._base import BaseTorchRecommender
from ._data import SparseBatch
from ._embedding import EmbeddingMixin
from ._modules import sparse_product
from ._net import TorchNet

# Least squared length of a prediction, in that of its user's interactions. In float32 it is a
# difference of numbers around 1 and more, whose last digits are noise.
LEAST_LENGTH = 1e-6


class ELSA(EmbeddingMixin, BaseTorchRecommender):
    r"""Linear item-to-item autoencoder of low rank, for catalogues too large for EASE.

    The weights of :class:`~sklrec.linear.EASE` are replaced by :math:`A A^\top - I`, with a unit
    vector an item in the rows of A, so that the diagonal is zero [1]_. Scores are
    :math:`x A A^\top - x`, and training minimises over users the squared distance between scores
    and interactions, both divided by their Euclidean norms:

    .. math:: \left\| \frac{f}{\|f\|} - \frac{x}{\|x\|} \right\|^2 = 2 - 2 \cos(f, x),
        \qquad f = x A A^\top - x

    With :math:`h = x A`, the cosine needs :math:`f x^\top = \|h\|^2 - \|x\|^2` and
    :math:`\|f\|^2 = h (A^\top A) h^\top - 2 \|h\|^2 + \|x\|^2` alone. So training forms no score
    of an item that a user has not met: its memory is that of a few matrices of n_items x
    n_components, whatever `batch_size`, and a step costs n_items x n_components^2.

    Parameters
    ----------
    n_components : int, default=256
        Length of the item vectors. Worth a search between 64 and 1,024: the accuracy of large
        catalogues grows with it.
    max_epochs : int, default=25
        Number of passes over the users. Few are enough: worth a search between 5 and 50, or
        ``early_stopping=True``.
    batch_size : int, default=256
        Users in a gradient step. Worth a search between 32 and 1,024; the time of a step hardly
        depends on it.
    learning_rate : float, default=0.1
        Of the optimizer, Nesterov's Adam.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the users, end training when ``ndcg@100`` on
        them has not grown for `n_iter_no_change` epochs, and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Share of the users to hold out for early stopping.
    n_iter_no_change : int, default=10
        Epochs without a better validation score after which training ends.
    warm_start : bool, default=False
        Whether ``fit`` goes on where the last call ended, up to `max_epochs` in all, as the
        ensembles of scikit-learn do: raise `max_epochs` to train for longer.
    callbacks : list of skorch callbacks or None, default=None
        Called in training, as :class:`skorch.NeuralNet` does.
    device : str, default="auto"
        Where to compute: "cpu", "cuda", "cuda:1", or "auto" for CUDA where there is one.
    mixed_precision : bool, default=False
        Whether to multiply in bfloat16 on CUDA; no effect on a CPU.
    compile : bool, default=False
        Whether to compile the network with :func:`torch.compile`.
    pickle_optimizer : bool, default=False
        Whether a pickle holds the state of the optimizer, for ``partial_fit`` to go on as if it
        had not been interrupted. It is twice the size of the weights.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, batches and validation users. One seed on one device gives identical
        scores.
    verbose : int, default=0
        1 prints a line for each epoch, by skorch.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained network.
    item_embeddings_ : ndarray of shape (n_items, n_components)
        The item vectors, the rows of A, of length 1.
    n_iter_ : int
        Number of epochs.
    loss_curve_ : list of float
        Mean loss over each epoch.
    validation_scores_ : list of float
        ``ndcg@100`` of the validation users after each epoch.
    best_epoch_ : int
        Epoch with the best validation score, from 1; only with validation users.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items where X is a DataFrame with names.

    See Also
    --------
    sklrec.linear.EASE : Of full rank, in closed form, where n_items x n_items fits.

    Notes
    -----
    The loss is that of [1]_ times the number of items, over which [1]_ takes a mean: gradients of
    large catalogues would vanish beside the optimizer's constant of 1e-8. A user without
    interactions adds nothing to it. Code that the authors published for [1]_ also cuts the scores
    at 0; their later code does not, as here.

    References
    ----------
    .. [1] V. Vančura et al., "Scalable Linear Shallow Autoencoder for Collaborative Filtering",
       RecSys 2022.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.neural import ELSA
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> elsa = ELSA(16, max_epochs=5, random_state=0).fit(X)
    >>> elsa.predict_ranking(X[:2], k=3).shape
    (2, 3)
    >>> elsa.transform(X).shape
    (200, 16)
    """

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 256,
        *,
        max_epochs: int = 25,
        batch_size: int = 256,
        learning_rate: float = 0.1,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        callbacks: list | None = None,
        device: str = "auto",
        mixed_precision: bool = False,
        compile: bool = False,
        pickle_optimizer: bool = False,
        random_state: int | RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
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
        self.pickle_optimizer = pickle_optimizer
        self.random_state = random_state
        self.verbose = verbose

    @property
    def item_embeddings_(self) -> np.ndarray:
        """The item vectors, ndarray of shape (n_items, n_components), float32."""
        module: Any = self.net_.plain_module
        with torch.inference_mode():
            return module.item_vectors().cpu().numpy()

    def _make_net(self, n_items: int) -> TorchNet:
        params = self._net_params()
        del params["optimizer__fused"]  # which this optimizer has not
        params["optimizer"] = torch.optim.NAdam
        return TorchNet(
            ELSAModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            criterion=CosineDistance,
            **params,
        )

    def _n_step_values(self, n_items: int) -> int:
        # Unit vectors, the two parts of their gradient and what the optimizer divides by.
        return 4 * n_items * self.n_components


@dataclass(frozen=True)
class OtherItemsScores:
    """The scores ``x A A' - x``, not yet multiplied out.

    Parameters
    ----------
    hidden : Tensor of shape (n_rows, n_components)
        The product x A.
    vectors : Tensor of shape (n_items, n_components)
        Unit item vectors A.
    batch : SparseBatch
        The rows x.
    """

    hidden: torch.Tensor
    vectors: torch.Tensor
    batch: SparseBatch

    def dense(self) -> torch.Tensor:
        """Return the scores, of shape (n_rows, n_items)."""
        scores = self.hidden @ self.vectors.T
        scores[self.batch.rows, self.batch.items] -= self.batch.values
        return scores


class ELSAOutput(NamedTuple):
    """What the module makes of a batch."""

    scores: OtherItemsScores


class ELSAModule(nn.Module):
    """A vector an item, divided by its length."""

    def __init__(self, n_items: int, n_components: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_items, n_components))
        nn.init.xavier_uniform_(self.weight)

    def item_vectors(self) -> torch.Tensor:
        """Return the unit vectors A, of shape (n_items, n_components)."""
        return _UnitRows.apply(self.weight)

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return x A, of shape (n_rows, n_components)."""
        return sparse_product(batch, self.item_vectors())

    def forward(self, batch: SparseBatch) -> ELSAOutput:
        """Return the factors of the scores."""
        vectors = self.item_vectors()
        return ELSAOutput(OtherItemsScores(sparse_product(batch, vectors), vectors, batch))


class CosineDistance(nn.Module):
    """Squared distance of scores and interactions of length 1, ``2 - 2 cos``, a mean over users."""

    def forward(self, output: ELSAOutput, batch: SparseBatch) -> torch.Tensor:
        """Return the loss; a user without interactions adds 0."""
        h = output.scores.hidden / batch.norm[:, None]  # (n_rows, n_components)
        own = h.square().sum(dim=1)  # (n_rows,)
        is_user = (batch.n_entries > 0).to(own.dtype)
        hit = own - is_user  # f x' / |x|^2
        length = ((h @ _Gram.apply(output.scores.vectors)) * h).sum(dim=1) - 2 * own + is_user
        return 2 * (is_user - hit * length.clamp(min=LEAST_LENGTH).rsqrt()).mean()


class _UnitRows(torch.autograd.Function):
    """Rows divided by their Euclidean norms; autograd alone would keep three times as much."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor) -> torch.Tensor:
        norm = torch.linalg.vector_norm(weight, dim=1, keepdim=True).clamp(min=1e-12)
        unit = weight / norm
        ctx.save_for_backward(unit, norm)
        return unit

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        unit, norm = ctx.saved_tensors
        along = torch.linalg.vecdot(unit, gradient).unsqueeze(1)
        return torch.addcmul(gradient, unit, along, value=-1).div_(norm)


class _Gram(torch.autograd.Function):
    """``A' A``, whose gradient is one product of the size of A where autograd takes two."""

    @staticmethod
    def forward(ctx: Any, A: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(A)
        return A.T @ A

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (A,) = ctx.saved_tensors
        return A @ (gradient + gradient.T).to(A.dtype)
