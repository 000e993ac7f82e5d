"""ELSA whose item vectors are a linear map of the content of items."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.random import RandomState
from scipy.stats import randint, uniform
from torch import nn

from .._sklearn import Interval
from ..neural._base import BaseTorchRecommender
from ..neural._elsa import ELSA, UnitVectors
from ..neural._training._data import SparseBatch, SparseRows
from ..neural._training._docs import with_training_docs
from ..neural._training._net import Pass, TorchNet
from ._base_torch import BaseTorchHybrid
from ._feature_map import Content, FeatureMap, read_content

LEAST_NORM = 1e-12


@with_training_docs
class ContentELSA(BaseTorchHybrid, ELSA):
    r"""ELSA whose item vectors are a linear map of the content of items.

    :class:`~sklrec.neural.ELSA` scores items by :math:`x A A^\top - x`, where A has a unit vector
    for each item. Here the vectors depend on the features F of the items, as in beeFormer [1]_,
    with a matrix of weights W in the place of a language model:

    .. math:: A = \operatorname{normalize}(F W + E)

    E is a free vector for each item, or zero with ``free_part=False``. W and E are trained on the
    interactions by the loss of ELSA. A new item has the vector :math:`f W`, normalized. So that W
    alone ranks well, the free vectors of a random part of the items are left out in each training
    step, as in DropoutNet [2]_.

    Without features this is ELSA, with the parameters below.

    Parameters
    ----------
    n_components : int, default=256
        Dimension of the item vectors. Typical range: 64 to 1,024.
    free_part : bool, default=True
        Whether items have free vectors in addition to those of their features. These improve the
        ranking of items with interactions; without them, new items are ranked among all items
        more often.
    item_dropout : float, default=0.5
        Probability, below 1, with which the free vector of an item is left out of a training step.
        Typical range: 0.3 to 0.9.
    max_epochs : int, default=10
        Number of passes over the users. Typical range: 3 to 50. Early stopping finds the best
        number for items with interactions; new items are often ranked best after fewer epochs.
    batch_size : int, default=256
        Number of users in a gradient step. Typical range: 32 to 1,024.
    learning_rate : float, default=0.01
        Learning rate of the optimizer, Adam with Nesterov momentum.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_components)
        The rows of A, unit vectors.
    n_item_features_ : int
        Number of features; 0 without `item_features`.

    See Also
    --------
    sklrec.neural.ELSA : The model without features.
    CollectiveEASE : A model of full rank, in closed form.

    Notes
    -----
    Sparse features stay sparse: a step takes O(nnz(F) * n_components) time for them, beside the
    O(n_items * n_components^2) of ELSA. The features are not kept in the fitted model.

    The defaults were chosen on one split of citeulike-a, with the words of titles as features.
    There, 2 epochs are best for new items, with or without free vectors, and 6 to 8 for the others.

    References
    ----------
    .. [1] V. Vančura, P. Kordík and M. Straka, "beeFormer: Bridging the Gap Between Semantic and
       Interaction Similarity in Recommender Systems", RecSys 2024.
    .. [2] M. Volkovs, G. Yu and T. Poutanen, "DropoutNet: Addressing Cold Start in Recommender
       Systems", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.hybrid import ContentELSA
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> F = np.random.default_rng(0).random((55, 8))
    >>> model = ContentELSA(16, max_epochs=5, random_state=0).fit(X, item_features=F[:50])
    >>> today = model.with_items(F[50:])  # items 50 to 54
    >>> today.item_embeddings_.shape
    (55, 16)
    """

    _suggested_distributions: dict = {
        "n_components": [64, 128, 256, 512, 1024],
        "item_dropout": uniform(0.3, 0.6),  # from 0.3, of length 0.6
        "max_epochs": randint(3, 51),
        "batch_size": [32, 64, 128, 256, 512, 1024],
    }

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "free_part": ["boolean"],
        "item_dropout": [Interval(Real, 0, 1, closed="left")],
    }

    _reads_dense_features = True

    def __init__(
        self,
        n_components: int = 256,
        *,
        free_part: bool = True,
        item_dropout: float = 0.5,
        max_epochs: int = 10,
        batch_size: int = 256,
        learning_rate: float = 0.01,
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
        super().__init__(
            n_components,
            max_epochs=max_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            callbacks=callbacks,
            device=device,
            mixed_precision=mixed_precision,
            compile=compile,
            random_state=random_state,
            verbose=verbose,
        )
        self.free_part = free_part
        self.item_dropout = item_dropout

    def _begin_fit(self, X: sp.csr_array, validation: Any, n_epochs: int) -> TorchNet | None:
        self._has_free_part = self.free_part or not self.n_item_features_
        return super()._begin_fit(X, validation, n_epochs)

    def _known_items(self, items: Any = slice(None)) -> np.ndarray:
        if self._has_free_part:
            return super()._known_items(items) | self._described[items]
        return self._described[items]

    def _training_data(self, X: sp.csr_array, device: torch.device) -> Mapping[str, Any]:
        data: dict[str, Any] = {"users": SparseRows(X, device)}
        if self._F is not None:
            data["content"] = Content.of(self._F, self._popularity > 0, device)
        return data

    def _make_net(self, n_items: int) -> TorchNet:
        net = super()._make_net(n_items)
        if self.n_item_features_:
            net.set_params(
                module=ContentELSAModule,
                module__n_features=self.n_item_features_,
                module__free_part=self.free_part,
                module__item_dropout=self.item_dropout,
                passes=[Pass(before=read_content)],
            )
        return net

    def _n_step_values(self, module: nn.Module, n_gradients: int, n_rows: int) -> int:
        n_products = self.n_features_in_ * self.n_components if self.n_item_features_ else 0
        return super()._n_step_values(module, n_gradients + n_products, n_rows)

    def _keep(self, net: TorchNet) -> BaseTorchRecommender:
        if self.n_item_features_:
            module: Any = net.plain_module
            module.forget_content()
        return super()._keep(net)

    def _weights_of_new_items(self, F: sp.csr_array) -> dict[str, np.ndarray]:
        module: Any = self.net_.plain_module
        W = module.map.weight.detach().cpu().numpy()
        raw = F @ W
        norm = np.linalg.norm(raw, axis=1, keepdims=True).clip(min=LEAST_NORM)
        rows = {"vectors": raw / norm}
        if self._has_free_part:
            rows["free"] = np.zeros_like(raw)
        return rows


class ContentELSAModule(UnitVectors):
    """Item vectors that are a linear map of the features, with or without a free part.

    After training it has the unit vectors, and no features.
    """

    score_row = UnitVectors.score_row

    def __init__(
        self, n_items: int, n_components: int, n_features: int, free_part: bool, item_dropout: float
    ) -> None:
        super().__init__()
        self.item_dropout = item_dropout
        self.map = FeatureMap(n_features, n_components)  # W
        self.free = nn.Parameter(torch.empty(n_items, n_components)) if free_part else None  # E
        self.vectors: torch.Tensor  # A
        self.register_buffer("vectors", torch.empty(n_items, n_components))
        self.content: Content | None = None
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the free vectors."""
        if self.free is not None:
            nn.init.xavier_uniform_(self.free, generator=generator)
        self.vectors.zero_()

    def item_vectors(self, batch: SparseBatch | None = None) -> torch.Tensor:
        """Return the unit vectors, of shape (n_items, n_components), in training for a batch."""
        return self.vectors if self.content is None else super().item_vectors(batch)

    def raw_vectors(self, batch: SparseBatch | None = None) -> torch.Tensor:
        """Return F W + E, in training without the free vectors of a part of the items."""
        content: Any = self.content
        mapped = self.map(content.features)
        if self.free is None:
            return mapped
        kept = content.has_users
        if batch is not None and self.item_dropout:
            kept = kept * torch.empty_like(kept).bernoulli_(
                1 - self.item_dropout, generator=batch.generator
            )
        return torch.addcmul(mapped, self.free, kept)

    def forget_content(self) -> None:
        """Keep the unit vectors instead of the features."""
        self.eval()
        with torch.no_grad():
            self.vectors.copy_(self.item_vectors())
        self.content = self.kept_vectors = None
