"""Base of the neural recommenders: scikit-learn estimators that are trained with skorch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import check_random_state
from torch import nn

from .._device import device_named
from .._holder import whole
from .._memory import check_memory
from .._ranking import Excluded
from .._sklearn import Interval, _fit_context, fit_progress
from .._typing import MatrixLike
from ..base import BaseRecommender
from ..model_selection._hide import hide_interactions
from ..model_selection._split import hold_out_users
from ._training._data import SparseRows, hash_of
from ._training._net import TorchNet, check_callbacks
from ._training._prediction import (
    batch_of,
    explained_out_of_memory,
    outputs_of,
    rank_on_device,
    rows_in_memory,
    scores_of_row,
    spare_threads_after_fork,
)
from ._training._processes import check_same, gathered, n_processes, rank
from ._training._state import net_from_arrays, net_to_arrays
from ._training._validation import ValidationCallback

# The allocator of Linux keeps freed blocks up to this size in bytes instead of returning them.
LARGEST_KEPT_BLOCK = 2**25


class BaseTorchRecommender(BaseRecommender):
    """Base class of recommenders that are trained in epochs.

    A subclass implements ``_make_net(n_items)``, which returns an uninitialized
    :class:`TorchNet`; ``_net_params()`` has the settings that all models share. The module of the
    net maps a :class:`SparseBatch` to an :class:`Output`, and its criterion maps this output and
    the batch to a loss.

    A subclass may override ``_check_beside``, to validate other input than X, ``_begin_fit``, to
    learn from X what the network depends on, ``_training_data``, to return other datasets for the
    passes of an epoch, and ``_end_fit``, to keep a part of them.
    """

    _parameter_constraints: dict = {
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "callbacks": ["array-like", None],
        "device": [str, torch.device],
        "mixed_precision": ["boolean"],
        "compile": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _n_moments = 2  # numbers that the optimizer keeps of each weight

    net_: TorchNet
    _seed: int
    _seed_source: str

    # Set by the __init__ of each model: scikit-learn requires explicit parameters in every class.
    max_epochs: int
    batch_size: int
    learning_rate: float
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    warm_start: bool
    callbacks: list | None
    device: str | torch.device
    mixed_precision: bool
    compile: bool
    random_state: Any
    verbose: int

    def _make_net(self, n_items: int) -> TorchNet:
        raise NotImplementedError

    def _check_beside(self, X: sp.csr_array, *, reset: bool) -> None:
        """Validate what a model is given beside X; unless `reset`, training continues."""

    def _begin_fit(
        self, X: sp.csr_array, validation: tuple[sp.csr_array, sp.csr_array] | None, n_epochs: int
    ) -> TorchNet | None:
        """Learn from X what the network depends on; return a net if it is trained already."""
        return None

    def _begin_training(self, net: TorchNet) -> None:
        """Change the weights of a new net before it is trained."""

    def _training_data(self, X: sp.csr_array, device: torch.device) -> Mapping[str, Any]:
        """Return the datasets by name, to which the passes refer as `data`."""
        return {"users": SparseRows(X, device)}

    def _end_fit(self, data: Mapping[str, Any]) -> None:
        """Keep what training that continues needs of the datasets."""

    def _can_share_batches(self) -> bool:
        """Return whether several processes can compute a part of each batch.

        The loss must be the mean of that of the rows, or pairs, whose noise is drawn by the batch,
        and nothing in training may belong to a user or an item of the batch alone.
        """
        return True

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: MatrixLike, y: Any = None, *, X_val: MatrixLike = None, y_val: MatrixLike = None
    ) -> BaseTorchRecommender:
        """Train the network.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.
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
            If the loss becomes infinite or NaN, if there are too few users to validate on, or if
            ``warm_start=True`` and a parameter of the network was changed since the last call.
        MemoryError
            If the memory of the machine or the GPU is too small.
        """
        goes_on = self.warm_start and hasattr(self, "net_")
        if goes_on:
            self._check_network_is_unchanged()
        X = self._check_X(X, reset=not goes_on)
        self._check_beside(X, reset=not goes_on)
        validation = self._validation_users(whole(X_val, "X_val", X), y_val)
        n_epochs = self.max_epochs - (self.n_iter_ if goes_on else 0)
        if n_epochs <= 0:
            return self
        self._seed_fit(goes_on)
        self._learn_popularity(X, reset=True)
        if self.early_stopping and validation is None:
            X, validation = self._hold_out_users(X)
        self._train(X, goes_on=goes_on, n_epochs=n_epochs, validation=validation)
        if not self.warm_start:
            self.net_.optimizer_.state.clear()  # up to twice the size of the weights
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: MatrixLike, y: Any = None) -> BaseTorchRecommender:
        """Train for one epoch on the given users.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.

        Returns
        -------
        self : estimator
            The model.

        Raises
        ------
        ValueError
            If a parameter of the network was changed since the last call.
        """
        goes_on = hasattr(self, "net_")
        if goes_on:
            self._check_network_is_unchanged()
        X = self._check_X(X, reset=not goes_on)
        self._check_beside(X, reset=not goes_on)
        self._seed_fit(goes_on)
        self._learn_popularity(X, reset=not goes_on)
        return self._train(X, goes_on=goes_on, n_epochs=1, validation=None)

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Score all items for each user.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, known from ``fit`` or not.

        Returns
        -------
        scores : ndarray of shape (n_users, n_items)
            Outputs of the last layer, computed in float32 and returned in the precision of X.
            Rows without any item of the training users are scored by popularity.
        """
        X = self._check_X(X, reset=False)
        return self._scores(self.net_, X)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def _train(
        self,
        X: sp.csr_array,
        *,
        goes_on: bool,
        n_epochs: int,
        validation: tuple[sp.csr_array, sp.csr_array] | None,
    ) -> BaseTorchRecommender:
        device = device_named(self.device)
        check_callbacks(self.callbacks)
        if n_processes() > 1:
            self._check_processes(X, validation)
        spare_threads_after_fork()
        before = self.net_ if goes_on else None
        if before is None:
            for name in [name for name in vars(self) if name == "net_" or name.startswith("best_")]:
                delattr(self, name)
            self.loss_curve_: list[float] = []
            self.validation_scores_: list[float] = []
            trained = self._begin_fit(X, validation, n_epochs)
            if trained is not None:
                return self._keep(trained)
        if validation is None:
            self.__dict__.pop("best_epoch_", None)  # its weights are trained further
        with explained_out_of_memory(self.batch_size):
            net = self._make_net(X.shape[1])
            if before is None:
                n_rows = min(self.batch_size, X.shape[0])
                net.initialize(partial(self._check_network_memory, net, n_rows, validation))
                self._begin_training(net)
            else:
                net.initialize_from(before)
            data = self._training_data(X, device)
            with fit_progress(self, X, max_subtasks=n_epochs) as report:
                callback = ValidationCallback(self, report, validation)
                names = [name for name, _ in net.callbacks_]
                place = names.index("train_loss") + 1  # before callbacks that monitor the score
                net.callbacks_.insert(place, ("validation", callback))
                try:
                    net.partial_fit(data, None, epochs=n_epochs)
                finally:
                    del net.callbacks_[place]  # it holds the validation users
        self._end_fit(data)
        if net.interrupted_:
            warnings.warn(
                f"Training was interrupted after {callback.n_epochs} of {n_epochs} epochs; the "
                "model has the weights of the best epoch if there are validation users, and "
                "otherwise the last ones.",
                UserWarning,
                stacklevel=4,
            )
        return self._keep(net)

    def _keep(self, net: TorchNet) -> BaseTorchRecommender:
        """Store a trained net and the parameters it was trained with."""
        self.net_ = net
        self.n_iter_ = len(self.loss_curve_)
        self._trained_with = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in ("callbacks", "device", "random_state")
        }
        return self

    def _seed_fit(self, goes_on: bool) -> None:
        """Draw the seed of the fit; training that continues keeps it with the `random_state`."""
        source = repr(self.random_state)
        if not goes_on or source != self._seed_source:
            self._seed_source = source
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            self._seed = gathered(seed)[0]

    def _check_processes(
        self, X: sp.csr_array, validation: tuple[sp.csr_array, sp.csr_array] | None
    ) -> None:
        """Raise an error if the processes of a process group cannot train this model together."""
        if not self._can_share_batches():
            raise ValueError(
                f"{self} cannot be trained in several processes, whose parts of a batch depend on "
                f"each other; there is a process group of {n_processes()}."
            )
        beside = ("callbacks", "device", "random_state", "verbose")
        params = {
            name: repr(value)
            for name, value in self.get_params(deep=False).items()
            if name not in beside
        }
        check_same(
            {"the model": type(self).__name__, **params, "X": hash_of(X)}
            | {"n_iter_": getattr(self, "n_iter_", 0)}
            | {"X_val": None if validation is None else [hash_of(part) for part in validation]}
        )

    def _check_network_is_unchanged(self) -> None:
        """Raise an error if a parameter of the network was changed after it was made."""
        for name, before in self._trained_with.items():
            value = getattr(self, name)
            of_network = name not in BaseTorchRecommender._parameter_constraints
            if of_network and repr(before) != repr(value):
                raise ValueError(
                    f"Training continues a network that was made with {name}={before!r}, but "
                    f"{name} is {value!r} now; use fit with warm_start=False to train a new one."
                )

    def _check_network_memory(
        self,
        net: TorchNet,
        n_rows: int,
        validation: tuple[sp.csr_array, sp.csr_array] | None,
        blank: nn.Module,
    ) -> None:
        """Raise a MemoryError if the memory of the machine is too small to train the network.

        Weights and the optimizer's moments are always in memory, and with validation users the best
        weights. A step computes scores and intermediate results of the loss, then gradients.
        """
        if not net.on_cpu:
            return
        sizes = [weight.numel() for weight in blank.parameters()]
        n_kept = sum(sizes) + sum(buffer.numel() for buffer in blank.buffers())
        n_gradients = max(
            sum(weight.numel() for weight in blank.get_submodule(one.part).parameters())
            for one in net.passes
        )
        if validation is not None:
            n_kept *= 2
        n_step = self._n_step_values(blank, n_gradients, n_rows)
        check_memory(
            4 * (n_kept + self._n_moments * sum(sizes) + n_step),
            f"{type(self).__name__} with {sum(sizes):,} weights on batches of {self.batch_size}",
        )

    def _n_step_values(self, module: nn.Module, n_gradients: int, n_rows: int) -> int:
        """Return how many numbers a step has in memory at most, beside what is always there.

        A batch of users has at most `n_rows` rows.
        """
        n_scores = n_rows * self.n_features_in_
        n_values = self._n_score_tensors() * n_scores
        last = getattr(module, "item_layer", None)
        if last is not None:
            # The gradient of the last layer is computed while that of the scores is kept.
            n_values = max(n_values, n_scores + last.weight.numel())
            n_hidden = sum(weight.numel() for weight in module.parameters()) // self.n_features_in_
            n_values += 4 * n_rows * n_hidden
        n_left = n_scores if 4 * n_scores < LARGEST_KEPT_BLOCK else 0
        return max(n_values, n_gradients + n_left)

    def _n_score_tensors(self) -> int:
        """Return how many tensors with the size of the scores the loss needs at a time."""
        return {"multinomial": 1}.get(getattr(self, "likelihood", ""), 2)

    def _net_params(self) -> dict[str, Any]:
        """Return the settings of a net that all models share."""
        verbose = self.verbose if rank() == 0 else 0
        return {
            "seed": self._seed,
            "optimizer": torch.optim.Adam,
            "optimizer__fused": True,
            "lr": self.learning_rate,
            "batch_size": self.batch_size,
            "train_split": None,
            "callbacks": self.callbacks,
            "device": str(device_named(self.device)),
            "compile": self.compile,
            "mixed_precision": self.mixed_precision,
            "verbose": verbose,
            **({} if verbose else {"callbacks__print_log": None}),  # makes a table nobody sees
        }

    def _validation_users(
        self, X_val: MatrixLike, y_val: MatrixLike
    ) -> tuple[sp.csr_array, sp.csr_array] | None:
        if X_val is None:
            if y_val is not None:
                raise ValueError("y_val marks the entries to hide of X_val, which is missing.")
            return None
        if isinstance(X_val, tuple):
            raise TypeError(
                "X_val must be one matrix, of complete rows, got a tuple; y_val marks what to hide."
            )
        n_items = getattr(X_val, "shape", (0, 0))[-1]
        if n_items not in (0, self.n_features_in_):
            raise ValueError(f"X_val has {n_items} items, but X has {self.n_features_in_}.")
        X_val = self._check_rows(X_val, "X_val", reset=False)
        fold_in, held_out = hide_interactions(X_val, y_val)
        if held_out.nnz and not fold_in.nnz:
            raise ValueError(
                "All interactions of X_val are hidden, so that there are none to recommend from."
            )
        return fold_in, held_out

    def _hold_out_users(
        self, X: sp.csr_array
    ) -> tuple[sp.csr_array, tuple[sp.csr_array, sp.csr_array]]:
        """Split X into training users and validation users."""
        rng = np.random.RandomState(self._seed)
        chosen = hold_out_users(X, self.validation_fraction, rng, name="validation_fraction")
        return X[~chosen], hide_interactions(X[chosen], random_state=self._seed)

    def _scores(self, net: TorchNet, X: sp.csr_array) -> np.ndarray:
        scores = scores_of_row(net, X)
        if scores is None:
            scores = outputs_of(net, X, partial(self._score_rows, net), X.shape[1])
        return self._with_popularity(X, scores)

    def _score_rows(
        self, net: TorchNet, X: sp.csr_array, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Score all items for one batch of rows, on the device of the network.

        The scores may be written to `out`, which saves the time for new memory.
        """
        return net.plain_module(batch_of(X, net)).scores.dense(out)

    def _rank_rows(
        self, X: MatrixLike, k: int, excluded: Excluded
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.net_.on_cpu:
            return super()._rank_rows(X, k, excluded)
        return self._rank_on_device(self.net_, self._check_X(X, reset=False), k, excluded)

    def _rows_at_once(self) -> int | None:
        return rows_in_memory(torch.device(self.net_.device), self.n_features_in_)

    def _rank_on_device(
        self, net: TorchNet, X: sp.csr_array, k: int, excluded: Excluded
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rank on the device of a net, so that the scores of all items are not copied."""
        popularity = torch.from_numpy(self._popularity.astype(np.float32)).to(net.device)

        def scores_of(rows: sp.csr_array) -> torch.Tensor:
            scores = self._score_rows(net, rows)
            unknown = torch.from_numpy(self._holds_nothing_known(rows)).to(scores.device)
            tied = scores.amax(dim=1) == scores.amin(dim=1)  # as _with_popularity does it
            return torch.where((unknown | tied)[:, None], popularity, scores)

        return rank_on_device(net, X, k, excluded, scores_of)

    def __getstate__(self) -> dict[str, Any]:
        """Return the parameters and the fitted attributes, with the net as numpy arrays."""
        state = dict(super().__getstate__())
        if "net_" in state:
            state["_net"] = net_to_arrays(state.pop("net_"))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the net again, on the CPU if this machine does not have its device."""
        state = dict(state)
        arrays = state.pop("_net", None)
        super().__setstate__(state)
        if arrays is not None:
            self.net_ = net_from_arrays(self._net_as_trained(), arrays)

    def _net_as_trained(self, n_items: int | None = None) -> TorchNet:
        """Make a net with the parameters of training, which may have been changed since."""
        n_items = self.n_features_in_ if n_items is None else n_items
        params = self.get_params(deep=False)
        self.set_params(**self._trained_with, callbacks=None)
        try:
            return self._make_net(n_items)
        except ValueError:  # trained on CUDA, which this machine does not have
            self.device = "cpu"
            return self._make_net(n_items)
        finally:
            self.set_params(**params)
