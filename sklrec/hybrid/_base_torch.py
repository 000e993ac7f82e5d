"""What neural models of item content share: training with features, and new items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import scipy.sparse as sp
import torch

from .._item_features import ItemFeaturesMixin, ReadsItemFeatures
from .._matrix import canonical_csr
from .._typing import MatrixLike
from ..neural._base import BaseTorchRecommender
from ..neural._embedding import EmbeddingMixin
from ..neural._training._data import SparseRows
from ..neural._training._state import net_from_arrays, net_to_arrays


class BaseTorchContent(ReadsItemFeatures, EmbeddingMixin, BaseTorchRecommender):
    """Base class of models of item content that are trained in epochs.

    The features are there during training only, as the dataset "items". A subclass implements
    ``_make_net(n_items)``, which depends on ``n_item_features_``.
    """

    _reads_dense_features = False  # otherwise they are made sparse

    def fit(
        self,
        X: MatrixLike,
        y: Any = None,
        *,
        item_features: Any = None,
        X_val: MatrixLike = None,
        y_val: MatrixLike = None,
    ) -> BaseTorchContent:
        """Train the network.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.
        item_features : {array-like, sparse array, DataFrame} of shape (n_items, n_features), \
ItemFeatures or None
            Features of the items. With ``warm_start=True`` they are needed in each call.
        X_val : {array-like, sparse array} of shape (n_validation_users, n_items) or None
            Complete rows of the validation users, who are ranked for after each epoch; they
            replace those of early stopping. The weights of the best epoch are kept.
        y_val : sparse array of shape (n_validation_users, n_items) or None
            Nonzero at the entries of `X_val` to hide. By default, a random 20% of each row.

        Returns
        -------
        self : estimator
            The fitted model. If training is interrupted (Ctrl-C), the model can be used and a
            warning is issued.

        Raises
        ------
        ValueError
            If `item_features` has another number of rows than X has items, or values that the
            model cannot learn from, if the loss becomes infinite or NaN, if there are too few users
            to validate on, or if ``warm_start=True`` and a parameter of the network or the number
            of features was changed since the last call.
        MemoryError
            If the memory of the machine or the GPU is too small.
        """
        self._given_features = item_features
        try:
            super().fit(X, y, X_val=X_val, y_val=y_val)
        finally:
            self._forget_features()
        return self

    def partial_fit(
        self, X: MatrixLike, y: Any = None, *, item_features: Any = None
    ) -> BaseTorchContent:
        """Train for one epoch on the given users.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.
        item_features : {array-like, sparse array, DataFrame} of shape (n_items, n_features), \
ItemFeatures or None
            Features of the items, the same in each call.

        Returns
        -------
        self : estimator
            The model.

        Raises
        ------
        ValueError
            If a parameter of the network or the number of features was changed since the last call.
        """
        self._given_features = item_features
        try:
            super().partial_fit(X, y)
        finally:
            self._forget_features()
        return self

    def _check_beside(self, X: sp.csr_array, *, reset: bool) -> None:
        before = 0 if reset else self.n_item_features_
        F = self._check_item_features(self._given_features, X)
        if not reset and self.n_item_features_ != before:
            now, self.n_item_features_ = self.n_item_features_, before
            raise ValueError(
                f"Training continues a network that was made for {before} item features, got "
                f"item_features with {now}; pass the same in each call."
            )
        self._F = F if F is None or self._reads_dense_features else canonical_csr(F)

    def _refuse_negative_features(self, advice: str) -> None:
        if self._F is not None and self._F.nnz and self._F.data.min() < 0:
            raise ValueError(
                f"{type(self).__name__} needs features that are not negative, got "
                f"{self._F.data.min():g}; {advice}."
            )

    def _forget_features(self) -> None:
        for name in ("_given_features", "_F"):
            self.__dict__.pop(name, None)

    def _training_data(self, X: sp.csr_array, device: torch.device) -> Mapping[str, Any]:
        data = dict(super()._training_data(X, device))
        if self._F is not None:
            data["items"] = SparseRows(self._F, device)
        return data


class BaseTorchHybrid(ItemFeaturesMixin, BaseTorchContent):
    """Base class of those that can score new items: it implements ``_weights_of_new_items(F)``."""

    def _add_items(self, F: Any) -> None:
        F = canonical_csr(F.astype(np.float32, copy=False))
        arrays = net_to_arrays(self.net_)
        arrays.pop("optimizer", None)  # its moments have the old shapes
        for name, rows in self._weights_of_new_items(F).items():
            old = arrays["module"][name]
            arrays["module"][name] = np.concatenate([old, rows.astype(old.dtype)])
        self.net_ = net_from_arrays(self._net_as_trained(self.n_features_in_ + F.shape[0]), arrays)
        self.loss_curve_ = list(self.loss_curve_)
        self.validation_scores_ = list(self.validation_scores_)

    def _weights_of_new_items(self, F: sp.csr_array) -> dict[str, np.ndarray]:
        """Return by name the rows to append to weights of the module, one for each new item."""
        raise NotImplementedError


class TrainedOnAllUsers:
    """Mixin for models of items that are trained on all of their users at once."""

    @property
    def partial_fit(self) -> NoReturn:
        """Not available: what is learnt of an item depends on all of its users."""
        raise AttributeError(f"{type(self).__name__} learns from all users at once.")
