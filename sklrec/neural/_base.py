"""Neural recommenders: a skorch net behind scikit-learn's contract."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import check_random_state

from .._memory import check_memory
from .._sklearn import Interval, _fit_context, fit_progress
from .._typing import MatrixLike
from ..base import BaseRecommender
from ..metrics import RankingScorer
from ._data import SparseBatches, SparseRows
from ._net import TorchNet
from ._prediction import explained_out_of_memory, in_equal_batches
from ._state import seeded, to_arrays, to_tensors
from ._watch import Watch


class BaseTorchRecommender(BaseRecommender):
    """Base class of recommenders that are trained in epochs over batches of users.

    A model writes ``_make_net(n_items)``, which returns an uninitialized :class:`TorchNet` and
    calls ``_net_params()`` for the settings that all models share. Its module maps a
    :class:`SparseBatch` to an output whose first element gives the scores by ``dense()``, as
    :class:`ItemScores` does; its criterion maps that output and the batch to a loss.
    ``_epoch_values(net)`` may name values to keep in the history of each epoch; that of the best
    epoch becomes the attribute ``best_<name>_``.
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
        "device": [str],
        "mixed_precision": ["boolean"],
        "compile": ["boolean"],
        "pickle_optimizer": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    net_: TorchNet

    # What a model's __init__ assigns; scikit-learn asks that every class spells them out.
    max_epochs: int
    batch_size: int
    learning_rate: float
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    warm_start: bool
    callbacks: list | None
    device: str
    mixed_precision: bool
    compile: bool
    pickle_optimizer: bool
    random_state: Any
    verbose: int

    def _make_net(self, n_items: int) -> TorchNet:
        raise NotImplementedError

    def _epoch_values(self, net: TorchNet) -> dict[str, float]:
        return {}

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
            Whole rows of users to validate on after each epoch, instead of a share of X. The
            weights of the best epoch are kept.
        y_val : sparse array of shape (n_validation_users, n_items) or None
            Nonzero at the entries of `X_val` to hide; without it a random 20% of each row.

        Returns
        -------
        self : estimator
            The fitted model. After an interruption (Ctrl-C) it is usable, and a warning says so.

        Raises
        ------
        ValueError
            If the loss becomes infinite or NaN, there are too few users to validate on, or
            ``warm_start=True`` and a parameter of the network was changed since the last call.
        MemoryError
            If the machine or the GPU lacks the memory.
        """
        fresh = not (self.warm_start and hasattr(self, "net_"))
        if not fresh:
            self._check_unchanged()
        X = self._check_X(X, reset=fresh)
        validation = self._validation_users(X_val, y_val)
        epochs = self.max_epochs if fresh else self.max_epochs - self.n_iter_
        if epochs <= 0:
            return self
        return self._train(X, fresh=fresh, epochs=epochs, validation=validation)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: MatrixLike, y: Any = None) -> BaseTorchRecommender:
        """Train for one more epoch, on these users.

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
        """
        fresh = not hasattr(self, "net_")
        if not fresh:
            self._check_unchanged()
        X = self._check_X(X, reset=fresh)
        return self._train(X, fresh=fresh, epochs=1, validation=None, hold_out=False)

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Score all items for each user.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, known from ``fit`` or not.

        Returns
        -------
        scores : ndarray of shape (n_users, n_items)
            Outputs of the last layer, computed in float32, in the precision of X.
        """
        X = self._check_X(X, reset=False)
        return self._scores(self.net_, X)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def _train(
        self,
        X: sp.csr_array,
        *,
        fresh: bool,
        epochs: int,
        validation: tuple[sp.csr_array, sp.csr_array] | None,
        hold_out: bool = True,
    ) -> BaseTorchRecommender:
        device = self._training_device()
        self.__dict__.pop("best_epoch_", None)  # its weights are trained on
        if fresh:
            for name in [name for name in vars(self) if name == "net_" or name.startswith("best_")]:
                delattr(self, name)
            # Those that make the network, which a later set_params must not change.
            self._made_with = {
                name: value
                for name, value in self.get_params(deep=False).items()
                if name not in BaseTorchRecommender._parameter_constraints
            }
            self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            self.loss_curve_: list[float] = []
            self.validation_scores_: list[float] = []
        if hold_out and self.early_stopping and validation is None:
            X, validation = self._hold_out_users(X)
        with (
            seeded([self._seed, len(self.loss_curve_)]),
            explained_out_of_memory(self.batch_size),
        ):
            if not fresh and self.net_.device != str(device):  # the parameter was changed
                self.__setstate__(self.__getstate__())
            net = self._new_net(X.shape[1], device) if fresh else self.net_
            rows = SparseRows(X, device)
            with fit_progress(self, X, max_subtasks=epochs) as step:
                watch = Watch(self, step, validation)
                callbacks = net.callbacks_
                net.callbacks_ = watch.among(callbacks)
                net.interrupted_ = False
                try:
                    net.partial_fit(rows, None, epochs=epochs)
                finally:
                    net.callbacks_ = callbacks  # without the watch, which holds users
        self.net_ = net
        self.n_iter_ = len(self.loss_curve_)
        if net.interrupted_:
            warnings.warn(
                f"Training was interrupted after {watch.n_epochs} of {epochs} epochs; the model "
                "is that of the best epoch, or the last.",
                UserWarning,
                stacklevel=3,
            )
        return self

    def _check_unchanged(self) -> None:
        """Refuse to go on with a network that was made with other parameters."""
        for name, value in self.get_params(deep=False).items():
            before = self._made_with.get(name, value)
            if repr(before) != repr(value):
                raise ValueError(
                    f"Training goes on with a network that was made with {name}={before!r}, but "
                    f"{name} is {value!r} now; fit with warm_start=False begins anew."
                )

    def _new_net(self, n_items: int, device: torch.device) -> TorchNet:
        net = self._make_net(n_items)
        with torch.device("meta"):  # shapes without memory
            blank = net.module(**net.get_params_for("module"))
        n_weights = sum(weight.numel() for weight in blank.parameters())
        n_values = 4 * n_weights + sum(buffer.numel() for buffer in blank.buffers())
        # Weights, gradients and two moments; what a step needs beside them.
        n_bytes = 4 * (n_values + self._n_step_values(n_items))
        if device.type == "cpu":
            check_memory(
                n_bytes,
                f"{type(self).__name__} with {n_weights:,} weights on batches of {self.batch_size}",
            )
        return net.initialize()

    def _n_step_values(self, n_items: int) -> int:
        """Count the numbers of a step: scores, their gradient and what makes them."""
        return 3 * self.batch_size * n_items

    def _net_params(self) -> dict[str, Any]:
        """Return the settings of a net that all models share."""
        device = self._training_device()
        return {
            "optimizer": torch.optim.Adam,
            "optimizer__fused": True,
            "lr": self.learning_rate,
            "batch_size": self.batch_size,
            "train_split": None,
            "iterator_train": SparseBatches,
            "iterator_train__shuffle": True,
            "iterator_train__device": device,
            "callbacks": self.callbacks,
            "device": str(device),
            "compile": self.compile,
            "mixed_precision": self.mixed_precision,
            "verbose": self.verbose,
        }

    def _training_device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise ValueError(
                f"device must be 'auto', 'cpu', 'cuda' or 'cuda:<number>', got {self.device!r}."
            ) from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"device={self.device!r} asks for a CUDA device, but torch finds none; "
                "use device='auto' or 'cpu'."
            )
        return device

    def _validation_users(
        self, X_val: MatrixLike, y_val: MatrixLike
    ) -> tuple[sp.csr_array, sp.csr_array] | None:
        if X_val is None:
            if y_val is not None:
                raise ValueError("y_val says what to hide of X_val, which is missing.")
            return None
        fold_in, held_out = RankingScorer().hide(X_val, y_val)
        if fold_in.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X_val has {fold_in.shape[1]} items, but X has {self.n_features_in_}."
            )
        return fold_in, held_out

    def _hold_out_users(
        self, X: sp.csr_array
    ) -> tuple[sp.csr_array, tuple[sp.csr_array, sp.csr_array]]:
        """Take the validation users off X, from those with something to hide."""
        eligible = np.flatnonzero(np.diff(X.indptr) >= 2)
        n_validation = max(1, int(self.validation_fraction * X.shape[0]))
        if X.shape[0] < 2 or eligible.size < n_validation:
            raise ValueError(
                f"early_stopping=True with validation_fraction={self.validation_fraction} needs "
                f"{n_validation} users with at least 2 interactions and one more to train on, "
                f"got {eligible.size} in X with n_samples={X.shape[0]}, n_features={X.shape[1]}."
            )
        rng = np.random.RandomState(self._seed)
        chosen = np.zeros(X.shape[0], dtype=bool)
        chosen[rng.choice(eligible, n_validation, replace=False)] = True
        return X[~chosen], RankingScorer(random_state=self._seed).hide(X[chosen])

    def _scores(self, net: TorchNet, X: sp.csr_array) -> np.ndarray:
        module = net.plain_module
        return in_equal_batches(net, X, lambda batch: module(batch)[0].dense(), X.shape[1])

    def __getstate__(self) -> dict[str, Any]:
        """Return the parameters, the fitted attributes, and the weights as numpy arrays."""
        state = dict(super().__getstate__())
        if "net_" in state:
            net = state.pop("net_")
            state["_weights"] = {
                "module": to_arrays(net.plain_module.state_dict()),
                "criterion": to_arrays(net.criterion_.state_dict()),
            }
            if self.pickle_optimizer:
                state["_weights"]["optimizer"] = {
                    name: to_arrays(getattr(net, f"{name}_").state_dict())
                    for name in net._optimizers
                    if hasattr(net, f"{name}_")
                }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the net anew, on a device that this machine has."""
        state = dict(state)
        weights = state.pop("_weights", None)
        super().__setstate__(state)
        if weights is None:
            return
        with torch.random.fork_rng(devices=[]):
            net = self._make_net_here().initialize()
        net.plain_module.load_state_dict(to_tensors(weights["module"]))
        net.criterion_.load_state_dict(to_tensors(weights["criterion"]))
        for name, optimizer in weights.get("optimizer", {}).items():
            getattr(net, f"{name}_").load_state_dict(to_tensors(optimizer))
        self.net_ = net

    def _make_net_here(self) -> TorchNet:
        """Make the net that was fitted, whatever the parameters have been set to since."""
        params = self.get_params(deep=False)
        self.set_params(**self._made_with)
        try:
            return self._make_net(self.n_features_in_)
        except ValueError:  # trained on CUDA, of which there is none here
            self.device = "cpu"
            return self._make_net(self.n_features_in_)
        finally:
            self.set_params(**params)
