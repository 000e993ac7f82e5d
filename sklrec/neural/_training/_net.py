"""A skorch net whose epochs have one or more passes, each with its own data and criterion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import skorch
import torch
from skorch.callbacks import BatchScoring, EpochScoring
from torch import nn

from .._modules import reset_parameters
from ._data import SparseBatches
from ._generators import Generators
from ._processes import add_up, n_processes


class StopTraining(Exception):  # noqa: N818 - no error
    """Raised at the end of an epoch to end training."""


@dataclass(frozen=True)
class Pass:
    """One pass of an epoch over a dataset, which trains the module or a part of it.

    Parameters
    ----------
    part : str, default=""
        Name of the submodule to train, see :meth:`torch.nn.Module.get_submodule`; all other
        weights are fixed. "" is the whole module. A part can have its own optimizer settings, as
        in skorch: ``optimizer__param_groups=[("part.*", {"lr": 0.1})]``.
    data : str, default="users"
        Name of the dataset, one of those given to the net.
    batches : callable, default=SparseBatches
        ``batches(dataset, batch_size, generators=..., device=...)`` returns an iterable over pairs
        of an input and a target.
    options : dict, default={}
        Keyword arguments of the module's ``forward``.
    criterion : str, default=""
        Name of the submodule of the criterion that computes the loss; "" is the whole criterion.
    n_times : int, default=1
        Number of times the pass is repeated in each epoch.
    before : callable or None, default=None
        ``before(net)`` is called before each repetition, for updates other than gradient steps.
        ``net.datasets`` has the datasets.
    after_step : callable or None, default=None
        ``after_step(net, input)`` is called after each gradient step, for updates of what belongs
        to the batch and not to the module.
    n_epochs : int or None, default=None
        Number of epochs that have this pass, the first ones; None means all.
    """

    part: str = ""
    data: str = "users"
    batches: Callable[..., Any] = SparseBatches
    options: Mapping[str, Any] = field(default_factory=dict)
    criterion: str = ""
    n_times: int = 1
    before: Callable[[TorchNet], None] | None = None
    after_step: Callable[[TorchNet, Any], None] | None = None
    n_epochs: int | None = None


class TorchNet(skorch.NeuralNet):
    """A skorch net whose epochs have one or more passes.

    It is fitted on a dict of datasets, ``net.partial_fit({"users": SparseRows(X)}, None)``.

    Parameters
    ----------
    module, criterion, **kwargs
        As in :class:`skorch.NeuralNet`. The module maps a batch to an output, the criterion maps
        this output and the target batch to a loss. If the criterion has ``epoch_values()``, the
        values of the dict that it returns are recorded in the history of each epoch.
    passes : sequence of Pass
        The passes of an epoch, in order.
    seed : int
        Seed of the initial weights and, with the number of the epoch, of the random numbers of
        each epoch.
    mixed_precision : bool, default=False
        Whether to compute matrix products in bfloat16 if the device has instructions for it.

    Attributes
    ----------
    interrupted_ : bool
        Whether the user interrupted the last training.
    """

    def __init__(
        self,
        module: type[nn.Module],
        criterion: type[nn.Module],
        *,
        passes: Sequence[Pass] = (Pass(),),
        seed: int = 0,
        mixed_precision: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(module, criterion, **kwargs)
        self.passes = passes
        self.seed = seed
        self.mixed_precision = mixed_precision
        self.predecessor: TorchNet | None = None
        self._check: Callable[[nn.Module], None] | None = None
        self.datasets: Any = None

    history_: Any

    @property
    def plain_module(self) -> nn.Module:
        """The module without the wrapper of ``torch.compile``, which changes parameter names."""
        return _plain(self.module_)

    @property
    def on_cpu(self) -> bool:
        """Whether the module is on the CPU."""
        return self.device == "cpu" or torch.device(self.device).type == "cpu"

    @property
    def plain_criterion(self) -> nn.Module:
        """The criterion without the wrapper of ``torch.compile``."""
        return _plain(self.criterion_)

    def initialize(self, check: Callable[[nn.Module], None] | None = None) -> TorchNet:
        """Initialize module, criterion and optimizer; the weights depend on the seed alone.

        `check` is called with the module on the meta device, before its memory is allocated.
        """
        self.generators = Generators(torch.device(self.device))
        self._check = check
        try:
            super().initialize()
        finally:
            self._check = None
        return self

    def initialize_from(self, trained: TorchNet) -> TorchNet:
        """Initialize with the weights and the state of a net that was trained before.

        The module is shared, not copied. The state of the optimizer is taken over if `trained` has
        one, with its learning rate, unless the `lr` of the two nets differ.
        """
        self.predecessor = trained
        self.initialize()
        self.predecessor = None
        self.plain_criterion.load_state_dict(trained.plain_criterion.state_dict())
        self.history_ = trained.history_
        if trained.optimizer_.state:
            rates = [group["lr"] for group in self.optimizer_.param_groups]
            self.optimizer_.load_state_dict(trained.optimizer_.state_dict())
            if self.lr != trained.lr:
                for group, rate in zip(self.optimizer_.param_groups, rates, strict=True):
                    group["lr"] = group["initial_lr"] = rate
        for group in self.optimizer_.param_groups:
            group.setdefault("initial_lr", group["lr"])  # schedulers that continue need it
        return self

    def initialize_module(self) -> TorchNet:
        """Initialize the module in float32, without torch's global generator."""
        if self.predecessor is not None:
            self.module_ = self.predecessor.plain_module
            return self
        module = blank_module(self)
        if self._check is not None:
            self._check(module)
        module._apply(_allocated)
        self.generators.seed(self.seed, 0)
        with torch.no_grad():
            reset_parameters(module, self.generators.cpu)
        for name, weight in module.state_dict().items():
            if weight.isnan().any():
                raise TypeError(
                    f"{type(module).__name__} does not set {name!r} in "
                    "reset_parameters(generator), which must initialize all weights."
                )
        self.module_ = module
        return self

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> TorchNet:
        """Make the optimizer; on a CPU it does not look for a GPU."""
        super().initialize_optimizer(*args, **kwargs)
        if self.on_cpu:
            # Before each step torch asks whether a GPU records it, which starts CUDA.
            for name in (
                "_accelerator_graph_capture_health_check",
                "_cuda_graph_capture_health_check",
            ):
                if hasattr(self.optimizer_, name):
                    setattr(self.optimizer_, name, _do_nothing)
        return self

    def get_all_learnable_params(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters of the module, with names that do not depend on `compile`."""
        yield from self.plain_module.named_parameters()

    def get_dataset(self, X: Any, y: Any = None) -> Any:
        """Return the datasets unchanged."""
        return X

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the passes of an epoch, each with its batches."""
        return [
            (
                one,
                one.batches(
                    dataset[one.data],
                    self.batch_size,
                    generators=self.generators,
                    device=self.device,
                ),
            )
            for one in self.passes
            for _ in range(one.n_times)
        ]

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Train with the passes of one epoch.

        The losses are copied from a GPU at the end, so that no step waits for it. Those of a CPU
        are read at once: thousands of tensors of one number, each made between larger ones, would
        keep the memory of these from being used again.
        """
        if iterator is None:
            return
        self.generators.seed(self.seed, len(self.history))
        n_batches = 0
        for one, batches in iterator:
            if one.n_epochs is not None and len(self.history) > one.n_epochs:
                continue
            self._begin_pass(one)
            for batch in batches:
                self.notify("on_batch_begin", batch=batch, training=training)
                step = step_fn(batch, **one.options)
                if one.after_step is not None:
                    one.after_step(self, batch[0])
                loss = step["loss"].detach()
                self.history.record_batch(f"{prefix}_loss", loss.item() if self.on_cpu else loss)
                n_rows = batch[0].n_whole if n_processes() > 1 else len(batch[0])
                self.history.record_batch(f"{prefix}_batch_size", n_rows)
                self.notify("on_batch_end", batch=batch, training=training, **step)
                n_batches += 1
        if not self.on_cpu:
            steps = self.history[-1]["batches"]
            losses = torch.stack([step[f"{prefix}_loss"] for step in steps]).tolist()
            for step, loss in zip(steps, losses, strict=True):
                step[f"{prefix}_loss"] = loss
        self.history.record(f"{prefix}_batch_count", n_batches)
        for name, value in self.epoch_values().items():
            self.history.record(name, value)

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute the loss of a batch and its gradients, which several processes add up."""
        step: dict[str, Any] = super().train_step_single(batch, **fit_params)
        if n_processes() > 1:
            step["loss"] = add_up(step["loss"], self.module_.parameters(), batch[0].weight)
        return step

    def epoch_values(self) -> dict[str, float]:
        """Return the values of the criterion to record in the history."""
        values = getattr(self.plain_criterion, "epoch_values", dict)
        return values()

    def _begin_pass(self, one: Pass) -> None:
        if one.before is not None:
            one.before(self)
        self.criterion_name_ = one.criterion
        trained = set(self.plain_module.get_submodule(one.part).parameters())
        for parameter in self.plain_module.parameters():
            parameter.requires_grad_(parameter in trained)

    def fit_loop(self, *args: Any, **kwargs: Any) -> TorchNet:
        """Train for all epochs, or until a callback ends training or the user interrupts it."""
        self.interrupted_ = self.is_to_stop_ = False
        self.datasets = args[0]
        try:
            super().fit_loop(*args, **kwargs)
        except StopTraining:
            pass
        except KeyboardInterrupt:
            self.interrupted_ = True
            raise  # skorch ends training and keeps the net
        finally:
            self.datasets = None
        return self

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call a method of all callbacks, and end training if one of them asks for it."""
        at_end = method_name == "on_epoch_end"
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt as stop:
            # The callbacks of skorch end training by raising KeyboardInterrupt, as Ctrl-C does.
            if at_end and self.callbacks and not self.interrupted_:
                raise StopTraining from stop
            raise
        if at_end and self.is_to_stop_:
            raise StopTraining

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Return the output of the module for a batch."""
        with self._autocast():
            return self.module_(x, **fit_params)

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Any:
        """Return the loss by the criterion of the current pass."""
        with self._autocast():
            return self.criterion_.get_submodule(self.criterion_name_)(y_pred, y_true)

    def _autocast(self) -> torch.autocast:
        device = torch.device(self.device).type
        enabled = self.mixed_precision and (device == "cuda" or cpu_multiplies_bfloat16())
        return torch.autocast(device, dtype=torch.bfloat16, enabled=enabled)


def blank_module(net: TorchNet) -> nn.Module:
    """Return the module of a net in float32 on the meta device, which allocates no memory.

    Tensors that are given to the module, such as the content of items, keep their values.
    """
    with torch.device("meta"):
        module = net.module(**net.get_params_for("module"))
    return module.float()


def _allocated(tensor: torch.Tensor) -> torch.Tensor:
    """Allocate a meta tensor, with NaN as the weights, so that one that is never set is noticed."""
    if not tensor.is_meta:
        return tensor
    fill = torch.nan if tensor.is_floating_point() else 0
    return torch.full_like(tensor, fill, device="cpu")


def _do_nothing() -> None:
    pass


def cpu_multiplies_bfloat16() -> bool:
    """Return whether this CPU has instructions for products in bfloat16."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def _plain(module: nn.Module) -> nn.Module:
    # getattr would write the message of an error first, which takes long for a single row.
    return module._modules.get("_orig_mod") or module


def check_callbacks(callbacks: Sequence | None) -> None:
    """Raise an error for callbacks that monitor values which are not computed."""
    for callback in callbacks or []:
        callback = callback[1] if isinstance(callback, tuple) else callback
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor.startswith("valid_"):
            raise ValueError(
                f"{type(callback).__name__} monitors {monitor!r}, which is not computed; use "
                "monitor='validation_score' with lower_is_better=False and validation users, "
                "or monitor='train_loss'."
            )
        if isinstance(callback, (EpochScoring, BatchScoring)):
            raise ValueError(
                f"{type(callback).__name__} compares predictions with labels, which "
                "recommenders do not have; with X_val or early_stopping=True the history has "
                "the 'validation_score'."
            )
