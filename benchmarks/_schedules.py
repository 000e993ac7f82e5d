"""A learning rate that falls, for settings of neural models."""

from __future__ import annotations

import math
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback


class FallingRate(Callback):
    """Lets the learning rate of every optimizer fall to zero along half a wave of the cosine.

    Parameters
    ----------
    n_epochs : int
        Epochs until it would be zero.
    """

    def __init__(self, n_epochs: int) -> None:
        self.n_epochs = n_epochs

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        share = (1 + math.cos(math.pi * (len(net.history) - 1) / self.n_epochs)) / 2
        for name in net._optimizers:
            for group in getattr(net, f"{name}_").param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * share

    def __repr__(self) -> str:
        return f"FallingRate({self.n_epochs})"
