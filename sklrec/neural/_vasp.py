"""Deep variational autoencoder and linear model, multiplied."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.random import RandomState
from scipy.stats import loguniform
from torch import nn

from .._sklearn import Interval, StrOptions
from .._typing import MatrixLike
from ._base import BaseTorchRecommender
from ._criteria import AnnealedELBO, Output
from ._data import HalvedBatches, SparseBatch, SparseBatches, SparseRows
from ._docs import with_training_docs
from ._flvae import FLVAEModule
from ._losses import FocalLoss, ProductScores
from ._net import Pass, TorchNet
from ._neural_ease import NeuralEASEModule
from ._prediction import batch_of, outputs_of


@with_training_docs
class VASP(BaseTorchRecommender):
    r"""Variational autoencoder with a shallow parallel path, VASP.

    The probability of an item is the product of what :class:`FLVAE` and :class:`NeuralEASE` give
    it (equations 9 and 10 of [1]_),

    .. math:: p_{ui} = \sigma(f_{ui}) \, \sigma((x_u W)_i),

    so that an item ranks high where both agree. The focal loss of the product plus FLVAE's KL term
    is minimised, with users cut into halves as FLVAE does it. Scores are the logarithms of the
    product, below 0.

    Memory is four matrices of n_items x n_items in float32 beside FLVAE's, see
    :class:`NeuralEASE`; `item_share` makes them smaller.

    Parameters
    ----------
    n_components : int, default=200
        Dimension of the latent vector; 2048 in [1]_, for 117,000 users and on a GPU.
    hidden_size : int, default=600
        Size of each hidden layer; 4096 in [1]_.
    n_encoder_layers : int, default=3
        Number of hidden layers of the encoder; 7 in [1]_.
    n_decoder_layers : int, default=0
        Number of hidden layers of the decoder; 5 in [1]_.
    training : {"joint", "alternating", "pretrained"}, default="joint"
        The three ways of table 2 in [1]_. "joint" trains all weights for the product in each step.
        "alternating" passes over the users twice in an epoch: in the first pass the weights of the
        linear model are held, in the second those of FLVAE; [1]_ takes turns from step to step.
        "pretrained" also passes twice, and trains each model for its own focal loss, as if the
        other did not exist; only then are they multiplied.
    lambda_ : float, default=16.0
        L2 penalty on the weights of the linear model, ``lambda_ / (2 n_users) * ||W||^2`` beside
        the mean loss of a user; the number of users is that of the first call. Not in [1]_:
        without it, thousands of users are too few for the linear model. Typical range: 1 to 100.
    item_share : float, default=1.0
        Share of the items that are modelled, the most popular ones; all others score below these.
        The authors of [1]_ report results of a third, which the paper does not say.
    augmentation : bool, default=True
        Whether to learn one half of a user's items from the other; else all from all.
    alpha : float, default=0.25
        Weight of the items a user has; that of all others is ``1 - alpha``.
    gamma : float, default=2.0
        How much less an item counts the better it is predicted; 0 is the logistic loss.
    beta : float, default=0.01
        Weight of the KL term, which is a sum over the latent dimensions. The authors of [1]_ take
        the mean over these, that is ``beta = 1 / n_components``. Typical range: 0.002 to 0.05.
    batch_size : int, default=200
        Number of users in a gradient step; 1024 in [1]_, for 117,000 users.
    learning_rate : float, default=1e-3
        Adam's learning rate; [1]_ uses 5e-5 for 50 epochs, then 1e-5 and 1e-6 for 20 each.

    Attributes
    ----------
    items_ : ndarray of shape (n_modelled_items,)
        The items that are modelled, in ascending order.

    See Also
    --------
    FLVAE : The deep part by itself.
    NeuralEASE : The linear part by itself.

    Notes
    -----
    The authors' code multiplies with a third factor, a dense layer on the latent vector, of which
    the paper does not speak; it is left out here.

    References
    ----------
    .. [1] V. Vančura and P. Kordík, "Deep Variational Autoencoder with Shallow Parallel Path for
       Top-N Recommendation (VASP)", ICANN 2021.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.neural import VASP
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> vasp = VASP(8, hidden_size=32, max_epochs=5, random_state=0).fit(X)
    >>> vasp.predict_ranking(X[:2], k=3).shape
    (2, 3)
    >>> sorted(vasp.decision_function_parts(X[:2]))
    ['ease', 'flvae']
    """

    _suggested_distributions: dict = {
        "lambda_": loguniform(1, 100),
        "beta": loguniform(0.002, 0.05),
    }

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "n_encoder_layers": [Interval(Integral, 1, None, closed="left")],
        "n_decoder_layers": [Interval(Integral, 0, None, closed="left")],
        "training": [StrOptions({"joint", "alternating", "pretrained"})],
        "lambda_": [Interval(Real, 0, None, closed="left")],
        "item_share": [Interval(Real, 0, 1, closed="right")],
        "augmentation": ["boolean"],
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "gamma": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 200,
        *,
        hidden_size: int = 600,
        n_encoder_layers: int = 3,
        n_decoder_layers: int = 0,
        training: str = "joint",
        lambda_: float = 16.0,
        item_share: float = 1.0,
        augmentation: bool = True,
        alpha: float = 0.25,
        gamma: float = 2.0,
        beta: float = 0.01,
        max_epochs: int = 100,
        batch_size: int = 200,
        learning_rate: float = 1e-3,
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
        self.n_components = n_components
        self.hidden_size = hidden_size
        self.n_encoder_layers = n_encoder_layers
        self.n_decoder_layers = n_decoder_layers
        self.training = training
        self.lambda_ = lambda_
        self.item_share = item_share
        self.augmentation = augmentation
        self.alpha = alpha
        self.gamma = gamma
        self.beta = beta
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.device = device
        self.mixed_precision = mixed_precision
        self.compile = compile
        self.random_state = random_state
        self.verbose = verbose

    def decision_function_parts(self, X: MatrixLike) -> dict[str, np.ndarray]:
        """Score all items for each user by each of the two models.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, known from ``fit`` or not.

        Returns
        -------
        parts : dict of ndarray of shape (n_users, n_items)
            Logarithms of the probabilities by "flvae" and by "ease". For the items that are
            modelled their sum is what ``decision_function`` returns.
        """
        X = self._check_X(X, reset=False)
        module: VASPModule = self.net_.plain_module  # type: ignore[assignment]

        def parts(rows: sp.csr_array) -> torch.Tensor:
            batch = batch_of(self._modelled(rows), self.net_)
            return torch.cat([self._with_others(part) for part in module.parts(batch)], dim=1)

        both = outputs_of(self.net_, X, parts, 2 * X.shape[1])
        flvae, ease = np.split(both, 2, axis=1)
        return {"flvae": flvae, "ease": ease}

    def _make_net(self, n_items: int) -> TorchNet:
        batches = HalvedBatches if self.augmentation else SparseBatches
        passes = [Pass(batches=batches)]
        if self.training != "joint":
            # Apart, each model is trained for its own loss; else both for that of their product.
            apart = self.training == "pretrained"
            passes = [
                Pass(part=part, batches=batches, options={"part": part} if apart else {})
                for part in ("flvae", "ease")
            ]
        # It adds weight_decay * W to the gradient, the derivative of the penalty.
        penalty = {"weight_decay": self.lambda_ / self._n_users}
        return TorchNet(
            VASPModule,
            module__n_items=self.items_.size,
            module__n_components=self.n_components,
            module__hidden_size=self.hidden_size,
            module__n_encoder_layers=self.n_encoder_layers,
            module__n_decoder_layers=self.n_decoder_layers,
            criterion=AnnealedELBO,
            criterion__likelihood=FocalLoss(self.alpha, self.gamma),
            criterion__beta=self.beta,
            criterion__n_annealing_steps=0,
            optimizer__param_groups=[("ease.*", penalty)],
            passes=passes,
            **self._net_params(),
        )

    def _begin_fit(
        self, X: sp.csr_array, validation: tuple[sp.csr_array, sp.csr_array] | None, n_epochs: int
    ) -> None:
        self._n_users = X.shape[0]
        self.items_ = most_popular(X, self.item_share)

    def _training_data(self, X: sp.csr_array, device: torch.device) -> Mapping[str, Any]:
        return {"users": SparseRows(self._modelled(X), device)}

    def _known_items(self) -> np.ndarray:
        modelled = np.zeros(self.n_features_in_, dtype=bool)
        modelled[self.items_] = True
        return super()._known_items() & modelled

    def _score_rows(self, net: TorchNet, X: sp.csr_array) -> torch.Tensor:
        return self._with_others(super()._score_rows(net, self._modelled(X)))

    def _modelled(self, X: sp.csr_array) -> sp.csr_array:
        """Return the columns of the modelled items."""
        return X if self.items_.size == X.shape[1] else X[:, self.items_]

    def _with_others(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores with those of the other items, each below the least of its row."""
        if self.items_.size == self.n_features_in_:
            return scores
        lowest = scores.amin(dim=1, keepdim=True) - 1
        scores_of_all = lowest.repeat(1, self.n_features_in_)
        scores_of_all[:, torch.tensor(self.items_, device=scores.device)] = scores
        return scores_of_all


def most_popular(X: sp.csr_array, share: float) -> np.ndarray:
    """Return a share of the items, those with the most entries, in ascending order.

    At least one; of equally popular items the lower indices.
    """
    popularity = np.bincount(X.indices, minlength=X.shape[1])
    n_items = max(1, math.ceil(round(share * X.shape[1], 6)))  # .07 * 100 is above 7
    return np.sort(np.argsort(-popularity, kind="stable")[:n_items])


class VASPModule(nn.Module):
    """The product of FLVAE and Neural EASE, or either of them."""

    def __init__(
        self,
        n_items: int,
        n_components: int,
        hidden_size: int,
        n_encoder_layers: int,
        n_decoder_layers: int,
    ) -> None:
        super().__init__()
        self.flvae = FLVAEModule(
            n_items, n_components, hidden_size, n_encoder_layers, n_decoder_layers
        )
        self.ease = NeuralEASEModule(n_items, dropout=0.0)

    def forward(self, batch: SparseBatch, part: str | None = None) -> Output:
        """Return the logarithms of the product, or the scores of one model by itself."""
        if part == "flvae":
            return self.flvae(batch)
        if part == "ease":
            return self.ease(batch)
        deep = self.flvae(batch)
        return Output(ProductScores(deep.scores, self.ease(batch).scores), deep.kl)

    def parts(self, batch: SparseBatch) -> list[torch.Tensor]:
        """Return the logarithms of both probabilities, of shape (n_rows, n_items) each."""
        return [F.logsigmoid(part(batch).scores.dense()) for part in (self.flvae, self.ease)]
