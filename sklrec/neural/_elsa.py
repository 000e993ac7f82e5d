"""Linear autoencoder of low rank, trained without computing the scores of all items."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.random import RandomState
from scipy.stats import randint
from torch import nn

from .._linalg import dot_of_vector
from .._sklearn import Interval
from ..base import ExplainMixin
from ._base import BaseTorchRecommender
from ._criteria import Output
from ._embedding import EmbeddingMixin
from ._losses import products_with_items
from ._modules import sparse_product
from ._training._data import SparseBatch
from ._training._docs import with_training_docs
from ._training._net import TorchNet

# Lower bound of ||f||^2 / ||x||^2, which in float32 is a difference of larger numbers with rounding
# errors.
LEAST_LENGTH = 1e-6


@with_training_docs
class ELSA(ExplainMixin, EmbeddingMixin, BaseTorchRecommender):
    r"""Linear item-to-item autoencoder of low rank, for catalogues too large for EASE.

    The weights of :class:`~sklrec.linear.EASE` are replaced by :math:`A A^\top - I`, where the rows
    of A are one unit vector per item, so that the diagonal is zero [1]_. Scores are
    :math:`x A A^\top - x`, and training minimises over users the squared distance between scores
    and interactions, both divided by their Euclidean norms:

    .. math:: \left\| \frac{f}{\|f\|} - \frac{x}{\|x\|} \right\|^2 = 2 - 2 \cos(f, x),
        \qquad f = x A A^\top - x

    With :math:`h = x A`, the cosine only needs :math:`f x^\top = \|h\|^2 - \|x\|^2` and
    :math:`\|f\|^2 = h (A^\top A) h^\top - 2 \|h\|^2 + \|x\|^2`. Training therefore never computes
    the scores of all items: it needs the memory of a few matrices of shape (n_items,
    n_components), whatever the `batch_size`, and a step takes O(n_items * n_components^2) time.

    Parameters
    ----------
    n_components : int, default=256
        Dimension of the item vectors. Typical range: 64 to 1,024; larger catalogues benefit from
        more components.
    max_epochs : int, default=25
        Number of passes over the users. Typical range: 5 to 50, or use ``early_stopping=True``.
    batch_size : int, default=256
        Number of users in a gradient step. Typical range: 32 to 1,024; the time of a step hardly
        depends on it.
    learning_rate : float, default=0.1
        Learning rate of the optimizer, Adam with Nesterov momentum.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_components)
        The rows of A, unit vectors.

    See Also
    --------
    sklrec.linear.EASE : The model of full rank, in closed form, for an (n_items, n_items) matrix
        that fits into memory.

    Notes
    -----
    The loss is a sum over items, where [1]_ takes the mean: with the mean, the gradients of large
    catalogues would be negligible compared with the optimizer's epsilon of 1e-8. Users without
    interactions do not contribute to it. The code published for [1]_ also clips the scores at 0;
    later code of the authors does not, and neither does this class.

    The defaults of `n_components`, `batch_size` and `learning_rate` were chosen on MovieLens-1M.

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

    _suggested_distributions: dict = {
        "n_components": [64, 128, 256, 512, 1024],
        "max_epochs": randint(5, 51),
        "batch_size": [32, 64, 128, 256, 512, 1024],
    }

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
        self.random_state = random_state
        self.verbose = verbose

    @property
    def item_embeddings_(self) -> np.ndarray:
        """The item vectors, ndarray of shape (n_items, n_components), float32."""
        module: Any = self.net_.plain_module
        with torch.inference_mode():
            return module.item_vectors().cpu().numpy()

    def _contributions(self, X: sp.csr_array, item: int) -> np.ndarray:
        vectors = self.item_embeddings_
        weight = vectors @ vectors[item]  # (n_items,)
        weight[item] = 0
        return X.data * weight[X.indices].astype(X.dtype)

    def _make_net(self, n_items: int) -> TorchNet:
        params = self._net_params()
        del params["optimizer__fused"]  # NAdam does not have it
        params["optimizer"] = torch.optim.NAdam
        return TorchNet(
            ELSAModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            criterion=CosineDistance,
            **params,
        )

    def _n_step_values(self, module: nn.Module, n_gradients: int, n_rows: int) -> int:
        # Unit vectors, both parts of their gradient, its sum and the denominator of the optimizer.
        return 5 * n_gradients


@dataclass(frozen=True)
class OtherItemsScores:
    """Scores ``x A A' - x`` of all items, kept as factors.

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

    def dense(self, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the scores, of shape (n_rows, n_items), in `out` if it is given."""
        scores = products_with_items(self.hidden, self.vectors, out=out)
        scores[self.batch.rows, self.batch.items] -= self.batch.values
        return scores


class UnitVectors(nn.Module):
    """Scores by one vector per item, divided by its norm.

    A subclass implements ``raw_vectors``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept_vectors: tuple[list[int], torch.Tensor] | None = None

    def raw_vectors(self, batch: SparseBatch | None = None) -> torch.Tensor:
        """Return the vectors before they are divided by their norms, in training for a batch."""
        raise NotImplementedError

    def _apply(self, *args: Any, **kwargs: Any) -> UnitVectors:
        self.kept_vectors = None  # weights that are moved or cast are of the same version
        return super()._apply(*args, **kwargs)

    def item_vectors(self, batch: SparseBatch | None = None) -> torch.Tensor:
        """Return the unit vectors A, of shape (n_items, n_components), in training for a batch.

        They are cached outside of training, as normalizing the vectors of a large catalogue takes
        as long as scoring some users.
        """
        if self.training:
            self.kept_vectors = None
            return UnitRows.apply(self.raw_vectors(batch))
        version = [weight._version for weight in self.parameters()]  # grow with changes in place
        if self.kept_vectors is None or self.kept_vectors[0] != version:
            self.kept_vectors = version, UnitRows.apply(self.raw_vectors())
        return self.kept_vectors[1]

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return x A, of shape (n_rows, n_components)."""
        return sparse_product(batch, self.item_vectors())

    def forward(self, batch: SparseBatch) -> Output:
        """Return the factors of the scores."""
        vectors = self.item_vectors(batch)
        return Output(OtherItemsScores(sparse_product(batch, vectors), vectors, batch))

    def score_row(self, values: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the scores of all items for the entries of one row, by numpy."""
        with torch.inference_mode():
            vectors = self.eval().item_vectors().numpy()
        scores = dot_of_vector(vectors, values @ vectors[items])
        scores[items] -= values
        return scores


class ELSAModule(UnitVectors):
    """One free vector per item."""

    score_row = UnitVectors.score_row

    def __init__(self, n_items: int, n_components: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_items, n_components))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the vectors."""
        nn.init.xavier_uniform_(self.weight, generator=generator)

    def raw_vectors(self, batch: SparseBatch | None = None) -> torch.Tensor:
        """Return the vectors before they are divided by their norms."""
        return self.weight


class CosineDistance(nn.Module):
    """Squared distance of normalized scores and interactions, ``2 - 2 cos``, averaged over users.

    Users without interactions contribute 0.
    """

    def forward(self, output: Output, batch: SparseBatch) -> torch.Tensor:
        """Return the loss."""
        h = output.scores.hidden / batch.norm[:, None]  # (n_rows, n_components)
        own = h.square().sum(dim=1)  # (n_rows,)
        is_user = (batch.n_entries > 0).to(own.dtype)
        hit = own - is_user  # f x' / |x|^2
        length = ((h @ _Gram.apply(output.scores.vectors)) * h).sum(dim=1) - 2 * own + is_user
        return 2 * (is_user - hit * length.clamp(min=LEAST_LENGTH).rsqrt()).mean()


class UnitRows(torch.autograd.Function):
    """Rows divided by their Euclidean norms; autograd would need three times the memory."""

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
    """Gram matrix ``A' A``, whose gradient takes one product instead of the two of autograd."""

    @staticmethod
    def forward(ctx: Any, A: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(A)
        return A.T @ A

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (A,) = ctx.saved_tensors
        return A @ (gradient + gradient.T).to(A.dtype)
