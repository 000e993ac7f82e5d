"""Validation after each epoch, and early stopping."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from skorch.callbacks import Callback

from ..._ranking import Excluded, rank_rows
from ...metrics import evaluate
from ...metrics._ranking import mean_over_users
from ._net import TorchNet
from ._prediction import rows_in_memory
from ._processes import gathered, own_part

if TYPE_CHECKING:
    from .._base import BaseTorchRecommender

# Metric of the validation users.
VALIDATION_METRIC = "ndcg@100"


class ValidationCallback(Callback):
    """Validate after each epoch, keep the best weights, and record both in the recommender.

    Parameters
    ----------
    recommender : BaseTorchRecommender
        The estimator that is being fitted.
    report : callable
        ``report(name)`` notifies scikit-learn's callbacks of the end of an epoch, and returns
        whether one of them asks to stop.
    validation : tuple of CSR arrays or None
        Fold-in and held-out part of the validation users.
    """

    def __init__(
        self,
        recommender: BaseTorchRecommender,
        report: Callable[[str], bool],
        validation: tuple[sp.csr_array, sp.csr_array] | None,
    ) -> None:
        self.recommender = recommender
        self.report = report
        self.validation = validation
        self.best_score = -np.inf
        self.best_weights: dict | None = None
        self.n_without_gain = 0
        self.n_epochs = 0

    def on_train_begin(self, net: TorchNet, **kwargs: Any) -> None:
        """Score a network that was trained before, so that only a better one replaces it."""
        if self.validation is not None and len(net.history):
            best_epoch = getattr(self.recommender, "best_epoch_", self.recommender.n_iter_)
            self._keep_if_best(net, self._score(net), best_epoch)

    def on_epoch_end(self, net: TorchNet, **kwargs: Any) -> None:
        try:
            self._after_epoch(net)
        except KeyboardInterrupt:  # Ctrl-C, not a callback that ends training
            net.interrupted_ = True
            raise

    def _after_epoch(self, net: TorchNet) -> None:
        loss = net.history[-1, "train_loss"]
        if not np.isfinite(loss):
            raise ValueError(
                f"The training loss became {loss} in epoch {len(net.history)}; use a smaller "
                f"learning_rate than {self.recommender.learning_rate}, or smaller values in X."
            )
        self.n_epochs += 1
        self.recommender.loss_curve_.append(float(loss))
        if self.validation is not None:
            score = self._score(net)
            net.history.record("validation_score", score)
            self.recommender.validation_scores_.append(score)
            self.n_without_gain += 1
            self._keep_if_best(net, score, len(self.recommender.loss_curve_))
        stops = self.report(f"epoch {len(net.history)}") or self._should_stop()
        net.is_to_stop_ = any(gathered(stops))

    def _score(self, net: TorchNet) -> float:
        trained = _InTraining(self.recommender, net)
        fold_in, held_out = self.validation  # type: ignore[misc]
        own, weight = own_part(fold_in.shape[0])
        values = np.empty(0)
        if (weight and held_out[own].nnz) or not held_out.nnz:  # of which there is nothing to find
            found = evaluate(trained, fold_in[own], held_out[own], VALIDATION_METRIC)
            values = found.per_user[VALIDATION_METRIC]
        return mean_over_users(np.concatenate(gathered(values)))

    def _keep_if_best(self, net: TorchNet, score: float, epoch: int) -> None:
        if score <= self.best_score:
            return
        self.best_score, self.n_without_gain = score, 0
        self.best_weights = None  # not in memory beside the new ones
        self.best_weights = deepcopy(net.plain_module.state_dict())
        self.recommender.best_epoch_ = epoch
        for name in net.epoch_values():
            setattr(self.recommender, f"best_{name}_", net.history[epoch - 1, name])

    def _should_stop(self) -> bool:
        patience = self.recommender.n_iter_no_change
        return self.recommender.early_stopping and self.n_without_gain >= patience

    def on_train_end(self, net: TorchNet, **kwargs: Any) -> None:
        """Restore the best weights."""
        if self.best_weights is not None:
            net.plain_module.load_state_dict(self.best_weights)


class _InTraining:
    """A recommender with the net that is being trained, for :func:`evaluate`."""

    def __init__(self, recommender: BaseTorchRecommender, net: TorchNet) -> None:
        self.recommender = recommender
        self.net = net

    def decision_function(self, X: sp.csr_array) -> np.ndarray:
        return self.recommender._scores(self.net, X)

    def _rows_at_once(self) -> int | None:
        return rows_in_memory(torch.device(self.net.device), self.recommender.n_features_in_)

    def _rank_rows(
        self, X: sp.csr_array, k: int, excluded: Excluded
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.net.on_cpu:
            return rank_rows(self, X, k, excluded)
        return self.recommender._rank_on_device(self.net, X, k, excluded)
