"""What happens after each epoch: it is validated, and training goes on or stops."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from skorch.callbacks import Callback

from ..metrics import evaluate
from ._net import TorchNet, TrainingEnd

if TYPE_CHECKING:
    from ._base import BaseTorchRecommender

# What early stopping watches on the validation users.
VALIDATION_METRIC = "ndcg@100"


class Watch(Callback):
    """After each epoch: validate, keep the best weights and report progress."""

    def __init__(
        self,
        recommender: BaseTorchRecommender,
        step: Any,
        validation: tuple[sp.csr_array, sp.csr_array] | None,
    ) -> None:
        self.recommender = recommender
        self.step = step
        self.validation = validation
        self.best_score = -np.inf
        self.best_weights: dict | None = None
        self.n_without_gain = 0
        self.n_epochs = 0
        self.must_stop = False

    def among(self, callbacks: list[tuple[str, Callback]]) -> list[tuple[str, Callback]]:
        """Return the callbacks of a net with the watch after the mean of the loss is known.

        The user's come after it, so that they find the validation score in the history.
        """
        names = [name for name, _ in callbacks]
        place = names.index("train_loss") + 1
        return [*callbacks[:place], ("watch", self), *callbacks[place:], ("stop", Stop(self))]

    def on_epoch_end(self, net: TorchNet, **kwargs: Any) -> None:
        try:
            self._after_epoch(net)
        except KeyboardInterrupt:  # the user's, whatever other callbacks do
            net.interrupted_ = True
            raise

    def _after_epoch(self, net: TorchNet) -> None:
        loss = net.history[-1, "train_loss"]
        if not np.isfinite(loss):
            raise ValueError(
                f"The training loss became {loss} in epoch {len(net.history)}; use a smaller "
                f"learning_rate than {self.recommender.learning_rate}."
            )
        self.n_epochs += 1
        self.recommender.loss_curve_.append(float(loss))
        values = self.recommender._epoch_values(net)
        for name, value in values.items():
            net.history.record(name, value)
        if self.validation is not None:
            self._validate(net, values, *self.validation)
        self.must_stop = self.step(f"epoch {len(net.history)}") or self._has_come_to_rest()

    def _validate(
        self,
        net: TorchNet,
        values: dict[str, float],
        fold_in: sp.csr_array,
        held_out: sp.csr_array,
    ) -> None:
        scores = evaluate(_Scores(self.recommender, net), fold_in, held_out, VALIDATION_METRIC)
        score = scores.mean[VALIDATION_METRIC]
        net.history.record("validation_score", score)
        self.recommender.validation_scores_.append(score)
        self.n_without_gain += 1
        if score > self.best_score:
            self.best_score, self.n_without_gain = score, 0
            self.best_weights = deepcopy(net.plain_module.state_dict())
            self.recommender.best_epoch_ = len(self.recommender.loss_curve_)
            for name, value in values.items():
                setattr(self.recommender, f"best_{name}_", value)

    def _has_come_to_rest(self) -> bool:
        patience = self.recommender.n_iter_no_change
        return self.recommender.early_stopping and self.n_without_gain >= patience

    def on_train_end(self, net: TorchNet, **kwargs: Any) -> None:
        if self.best_weights is not None:
            net.plain_module.load_state_dict(self.best_weights)


class Stop(Callback):
    """Ends training when a watch says so, after all other callbacks have seen the epoch."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_epoch_end(self, net: TorchNet, **kwargs: Any) -> None:
        if self.watch.must_stop:
            raise TrainingEnd


class _Scores:
    """The scores of a net in training, for :func:`evaluate`."""

    def __init__(self, recommender: BaseTorchRecommender, net: TorchNet) -> None:
        self.recommender = recommender
        self.net = net

    def decision_function(self, X: sp.csr_array) -> np.ndarray:
        return self.recommender._scores(self.net, X)
