"""Base class of models that train a network on item content, and solve for users and items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import check_random_state
from torch import nn

from .._typing import MatrixLike
from ..factorization._base import BaseFactorRecommender
from ..factorization._ridge import RidgeRows
from ..neural._base import BaseTorchRecommender
from ..neural._training._data import SparseRows
from ..neural._training._net import Pass, TorchNet
from ..neural._training._prediction import batch_of, outputs_of
from ..neural._training._state import net_from_arrays, net_to_arrays
from ._base_torch import BaseTorchHybrid, TrainedOnAllUsers
from ._content_nets import adapt_to_content
from ._features import check_not_empty
from ._least_squares import PROBLEM, LeastSquares, initial_factors

# A latent dimension is active if its mean varies over the items by more than this; see Y. Burda,
# R. Grosse and R. Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.
ACTIVE_VARIANCE = 0.01


class BaseTorchFactors(TrainedOnAllUsers, BaseFactorRecommender, BaseTorchHybrid):
    """Base class of models whose item factors are made with a network.

    The factors of users are solved for, which a subclass implements as ``_ridge(X)``.
    """

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Score all items for each user.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, known from ``fit`` or not.

        Returns
        -------
        scores : ndarray of shape (n_users, n_items)
            Products of the factors of users and items. Rows without known items are scored by
            popularity.
        """
        return BaseTorchRecommender.decision_function(self, X)

    def _scores(self, net: TorchNet, X: sp.csr_array) -> np.ndarray:  # type: ignore[override]
        scores = self._product(self._fold_in(X))
        return self._with_popularity(X, scores.astype(X.dtype, copy=False))

    def _score_rows(
        self, net: TorchNet, X: sp.csr_array, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        U = torch.from_numpy(self._fold_in(X)).to(net.device)
        return U @ torch.from_numpy(self.components_).to(U)

    def _params_in_use(self) -> Mapping[str, Any]:
        """Return the parameters in training, and afterwards those of the last fit."""
        return vars(self) if self._is_training() else self._trained_with

    def _is_training(self) -> bool:
        return hasattr(self, "_given_features")

    def _part_from_original(self) -> None:
        """Copy the net of a copy, whose training must not train the model it was copied from."""
        self.net_ = net_from_arrays(self._net_as_trained(), net_to_arrays(self.net_))
        self.loss_curve_ = list(self.loss_curve_)
        self.validation_scores_ = list(self.validation_scores_)

    @property
    def item_embeddings_(self) -> np.ndarray:
        """The item factors, ndarray of shape (n_items, n_components)."""
        return self.item_factors_


class BaseCollaborativeRecommender(BaseTorchFactors):
    """Base class of models whose item factors are close to what a network makes of their content.

    An epoch trains the network in one pass over the items, with the item factors fixed, and then
    solves for the factors of all users and of all items, with their content fixed. A subclass
    implements ``_make_content_net(n_items, passes)``, whose module has the method
    ``encode(batch)``, a layer ``first``, a vector ``feature_bias``, and a buffer ``item_factors``
    without rows.
    """

    # What is learnt of the items beside the network: buffers of the module, without rows except in
    # training, and attributes of the model, with an underscore at the end.
    _learnt: tuple[str, ...] = ("item_factors",)

    n_components: int
    n_pretraining_epochs: int
    likelihood: str

    def _problem(self) -> LeastSquares:
        """Return the least-squares part of the objective, with the parameters of the last fit."""
        params = self._params_in_use()
        return LeastSquares(*(params[name] for name in PROBLEM))

    def _ridge(self, X: sp.csr_array) -> RidgeRows:
        return self._problem().users(X, self.item_factors_, self._gram, self._has_users)

    def _make_net(self, n_items: int) -> TorchNet:
        sweep = Pass(data="items", batches=no_batches, before=self._sweep)
        passes = [
            Pass(
                data="items",
                options={"coupled": False},
                n_times=self.n_pretraining_epochs,
                n_epochs=1,
                before=self._begin_pretraining,
            ),
            Pass(data="items", before=self._begin_coupling),
            sweep,
        ]
        return self._make_content_net(n_items, passes if self.n_item_features_ else [sweep])

    def _make_content_net(self, n_items: int, passes: list[Pass]) -> TorchNet:
        raise NotImplementedError

    def _check_beside(self, X: sp.csr_array, *, reset: bool) -> None:
        super()._check_beside(X, reset=reset)
        if self._F is not None:
            check_not_empty(self._F)

    def _forget_features(self) -> None:
        super()._forget_features()
        self.__dict__.pop("_rows", None)

    def _known_items(self, items: Any = slice(None)) -> np.ndarray:
        return super()._known_items(items) | self._described[items]

    def _begin_fit(
        self, X: sp.csr_array, validation: tuple[sp.csr_array, sp.csr_array] | None, n_epochs: int
    ) -> TorchNet | None:
        self._problem()  # which checks its parameters
        return None

    def _training_data(self, X: sp.csr_array, device: torch.device) -> Mapping[str, Any]:
        self._rows = X, X.T.tocsr()
        self._has_users = np.bincount(X.indices, minlength=X.shape[1]) > 0
        if hasattr(self, "net_"):  # training goes on
            self._set_learnt(self.net_.plain_module, *self._learnt_arrays())
        return {"items": None if self._F is None else SparseRows(self._F, device)}

    def _begin_pretraining(self, net: TorchNet) -> None:
        """Set the weights that depend on the content, before the first step."""
        if not net.history[-1]["batches"]:
            module: Any = net.plain_module
            adapt_to_content(module.first, module.feature_bias, self._F, self.likelihood)

    def _begin_coupling(self, net: TorchNet) -> None:
        """Set item factors to the content of the items, before the first pass that needs them."""
        if not _has_rows(net.plain_module):
            if self.n_pretraining_epochs == 0:
                self._begin_pretraining(net)
            self._start(net.plain_module, self._encoded(net, self._F))

    def _start(self, module: nn.Module, V: np.ndarray) -> None:
        """Set what is learnt of the items to begin with."""
        self._set_learnt(module, V)

    def _sweep(self, net: TorchNet) -> None:
        """Solve for the factors of all users, and then for those of all items."""
        X, Xt = self._rows
        module = net.plain_module
        theta = np.zeros((X.shape[1], self.n_components), dtype=X.dtype)
        if self._F is not None:
            self._begin_coupling(net)  # where training was interrupted before it
            theta = self._encoded(net, self._F)
            net.history.record("active_dimensions", n_active_dimensions(theta))
        elif not _has_rows(module):
            rng = check_random_state(self._seed)
            self._start(module, initial_factors(theta.shape, rng, X.dtype))
        loss = self._solve(module, X, Xt, theta) / X.shape[1]
        net.history.record("rating_loss", loss)
        if self._F is None:  # there is no other loss
            net.history.new_batch()
            net.history.record_batch("train_loss", torch.tensor(loss))
            net.history.record_batch("train_batch_size", X.shape[1])

    def _solve(
        self, module: nn.Module, X: sp.csr_array, Xt: sp.csr_array, theta: np.ndarray
    ) -> float:
        """Solve for users and items, store what is learnt of the items, and return the loss."""
        problem = self._problem()
        U = self._ridge(X).solve()
        V = problem.items(Xt, U, theta)
        self._set_learnt(module, V)
        return problem.objective(Xt, U, V, theta)

    def _learnt_arrays(self) -> list[np.ndarray]:
        return [getattr(self, f"{name}_") for name in self._learnt]

    def _set_learnt(self, module: nn.Module, *arrays: np.ndarray) -> None:
        """Store what is learnt of the items, also in the module, whose best state is kept."""
        device = next(module.parameters()).device
        for name, array in zip(self._learnt, arrays, strict=True):
            setattr(self, f"{name}_", array)
            setattr(module, name, torch.from_numpy(array).to(device))
        self._items_changed()

    def _items_changed(self) -> None:
        self._gram = self._gram_of_known()

    def _gram_of_known(self) -> np.ndarray:
        """Return the Gram matrix of the items with users, times b."""
        return self._problem().gram(self.item_factors_[self._has_users])

    def _keep(self, net: TorchNet) -> BaseTorchRecommender:
        module = net.plain_module
        if not _has_rows(module):  # interrupted before the first sweep
            self._sweep(net)
        self._set_learnt(module, *(getattr(module, name).cpu().numpy() for name in self._learnt))
        for name in self._learnt:
            setattr(module, name, getattr(module, name)[:0].float())
        return super()._keep(net)

    def _encoded(self, net: TorchNet, F: sp.csr_array) -> np.ndarray:
        """Return what the network makes of features, of shape (n_items, n_components)."""
        encode: Any = net.plain_module.encode
        return outputs_of(net, F, lambda rows, _: encode(batch_of(rows, net)), self.n_components)

    def _add_items(self, F: Any) -> None:
        V = self.item_factors_
        theta = self._encoded(self.net_, sp.csr_array(F, dtype=V.dtype))
        self.item_factors_ = np.concatenate([V, theta])
        self._has_users = np.concatenate([self._has_users, np.zeros(len(theta), dtype=bool)])
        self._part_from_original()

    def _n_step_values(self, module: nn.Module, n_gradients: int, n_rows: int) -> int:
        return 2 * self.batch_size * self.n_item_features_ + n_gradients


def _has_rows(module: Any) -> bool:
    return len(module.item_factors) > 0


def no_batches(dataset: Any, batch_size: int, **kwargs: Any) -> tuple[()]:
    """Return no batches, for a pass that takes no gradient step."""
    return ()


def n_active_dimensions(means: np.ndarray) -> int:
    """Return the number of active dimensions of latent means, of shape (n_items, n_components)."""
    return int((means.var(axis=0) > ACTIVE_VARIANCE).sum())
