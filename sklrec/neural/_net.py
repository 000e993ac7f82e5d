"""A skorch net that trains on sparse batches, in passes over parts of its module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import skorch
import torch
from torch import nn


class TrainingEnd(KeyboardInterrupt):
    """Ends training as skorch's callbacks do, told apart from the user's Ctrl-C."""


class TorchNet(skorch.NeuralNet):
    """A skorch net that trains on :class:`SparseBatches`.

    An epoch is a sequence of passes over the data; each trains one part of the module with an
    optimizer of its own. The plain case is one part and one pass.

    Parameters
    ----------
    module, criterion, **kwargs
        As in :class:`skorch.NeuralNet`. The module maps a batch to an output, the criterion an
        output and the target batch to a loss.
    parts : dict of str to list of str or None, default=None
        For each part the prefixes of the names of its parameters; None means one part with all.
    passes : sequence of str or None, default=None
        The part that each pass of an epoch trains, in order; None means each part once.
    mixed_precision : bool, default=False
        Whether to multiply in bfloat16, on CUDA.
    """

    def __init__(
        self,
        module: type[nn.Module],
        criterion: type[nn.Module],
        *,
        parts: dict[str, list[str]] | None = None,
        passes: Sequence[str] | None = None,
        mixed_precision: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(module, criterion, **kwargs)
        self.parts = parts
        self.passes = passes
        self.mixed_precision = mixed_precision

    @property
    def plain_module(self) -> nn.Module:
        """The module as it was before ``torch.compile``, under which its names change."""
        module: nn.Module = self.module_
        return getattr(module, "_orig_mod", module)

    def initialize_optimizer(self, triggered_directly: bool | None = None) -> TorchNet:
        """Make one optimizer for each part, all with the settings ``optimizer__...``.

        ``optimizer_`` where there is one part, else ``optimizer_<part>_``.
        """
        for part, prefixes in self._parts().items():
            named = [
                (name, parameter)
                for name, parameter in self.plain_module.named_parameters()
                if name.startswith(tuple(prefixes))
            ]
            args, kwargs = self.get_params_for_optimizer("optimizer", named)
            setattr(self, self._optimizer_of(part), self.optimizer(*args, **kwargs))
        if "optimizer" not in self.prefixes_:  # skorch knows optimizer_ by itself
            self.prefixes_: list[str] = [*self.prefixes_, "optimizer"]
        return self

    def fit_loop(self, *args: Any, **kwargs: Any) -> TorchNet:
        """Train, and remember it if the user interrupts: skorch takes that for a way to stop."""
        try:
            super().fit_loop(*args, **kwargs)
        except KeyboardInterrupt as stop:
            by_callback = self.callbacks and self.notified_ == "on_epoch_end"
            if not (by_callback or isinstance(stop, TrainingEnd)):
                self.interrupted_ = True
            raise
        return self

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call a method of all callbacks, and know which."""
        self.notified_ = method_name
        super().notify(method_name, **cb_kwargs)
        self.notified_ = ""

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Go through the passes of an epoch."""
        if not training:
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
            return
        for part in self.passes or self._parts():
            self._begin_pass(part)
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)

    def _parts(self) -> dict[str, list[str]]:
        return self.parts or {"all": [""]}

    def _optimizer_of(self, part: str) -> str:
        return f"optimizer_{part}_" if self.parts else "optimizer_"

    def _begin_pass(self, part: str) -> None:
        """Let gradients reach the parameters of `part` alone; the module knows which it is."""
        self.part_ = part
        if self.parts:
            self.plain_module.training_part = part  # type: ignore[assignment]
            prefixes = tuple(self.parts[part])
            for name, parameter in self.plain_module.named_parameters():
                parameter.requires_grad_(name.startswith(prefixes))
        for _, callback in self.callbacks_:
            if hasattr(callback, "on_pass_begin"):
                callback.on_pass_begin(self, part=part)

    def _step_optimizer(self, step_fn: Any) -> None:
        getattr(self, self._optimizer_of(self.part_)).step(step_fn)

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Run the module on a batch."""
        with self._autocast():
            return self.module_(x, **fit_params)

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Any:
        """Run the criterion on an output and its target."""
        with self._autocast():
            return self.criterion_(y_pred, y_true)

    def _autocast(self) -> torch.autocast:
        device = torch.device(self.device).type
        enabled = self.mixed_precision and device == "cuda"
        return torch.autocast(device, dtype=torch.bfloat16, enabled=enabled)
