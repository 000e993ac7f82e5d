"""Product of a deep variational autoencoder and a linear model."""

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
from ._flvae import FLVAEModule
from ._losses import FocalLoss, ProductScores
from ._neural_ease import NeuralEASEModule
from ._training._data import HalvedBatches, SparseBatch, SparseBatches, SparseRows
from ._training._docs import with_training_docs
from ._training._net import Pass, TorchNet
from ._training._prediction import batch_of, outputs_of


@with_training_docs
class VASP(BaseTorchRecommender):
    r"""Variational autoencoder with a shallow parallel path, VASP.

    The probability of an item is the product of the probabilities by :class:`FLVAE` and by
    :class:`NeuralEASE` (equations 9 and 10 of [1]_),

    .. math:: p_{ui} = \sigma(f_{ui}) \, \sigma((x_u W)_i),

    so that an item ranks high if both models agree. Training minimises the focal loss of the
    product plus the KL term of FLVAE, and splits the items of each user into halves as FLVAE does.
    Scores are the logarithms of the product, which are negative.

    Training needs the memory of four (n_items, n_items) matrices in float32 in addition to that of
    FLVAE, and one more with validation users, see :class:`NeuralEASE`; with a smaller `item_share`
    it needs less.

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
        Training method, see table 2 in [1]_. "joint" trains all weights in each step, for the loss
        of the product. "alternating" has two passes over the users in an epoch: the first one
        trains FLVAE with the linear model fixed, the second one the linear model with FLVAE fixed;
        [1]_ alternates in each step. "pretrained" also has two passes, in which each model is
        trained separately for its own focal loss.
    lambda_ : float, default=16.0
        L2 penalty on the weights of the linear model: ``lambda_ / (2 n_users) * ||W||^2`` is added
        to the mean loss over users, where n_users is the number of training users in the first
        call. Not in [1]_: without it the linear model overfits a few thousand users. Typical range:
        1 to 100.
    item_share : float, default=1.0
        Proportion of the items to model, the most popular ones; all others are ranked below them.
        The published code of [1]_ models a third of them, which the paper does not mention.
    augmentation : bool, default=True
        Whether to predict each half of a user's items from the other; if False, all items are
        predicted from all items.
    alpha : float, default=0.25
        Weight of the items a user has; the weight of all others is ``1 - alpha``.
    gamma : float, default=2.0
        Focusing parameter of the focal loss: with a larger one, well predicted items count less.
        With 0 it is a weighted logistic loss.
    beta : float, default=0.02
        Weight of the KL term, which is a sum over the latent dimensions. The authors of [1]_ take
        the mean, which corresponds to ``beta = 1 / n_components``. Typical range: 0.002 to 0.05.
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
    FLVAE : The deep part alone.
    NeuralEASE : The linear part alone.

    Notes
    -----
    The authors' code has a third factor, a dense layer on the latent vector, which the paper does
    not mention; it is left out here.

    The defaults of `beta` and `max_epochs` were chosen on validation users of MovieLens-1M, with
    all and with 500 of its training users, and of ML-Small.

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
        beta: float = 0.02,
        max_epochs: int = 40,
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
        """Score all items for each user with each of the two models.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, known from ``fit`` or not.

        Returns
        -------
        parts : dict of ndarray of shape (n_users, n_items)
            Logarithms of the probabilities by "flvae" and by "ease". For the modelled items, their
            sum is the score that ``decision_function`` returns.
        """
        X = self._check_X(X, reset=False)
        module: VASPModule = self.net_.plain_module  # type: ignore[assignment]

        def parts(rows: sp.csr_array, out: torch.Tensor | None) -> torch.Tensor:
            batch = batch_of(self._modelled(rows), self.net_)
            return torch.cat([self._with_others(part) for part in module.parts(batch)], dim=1)

        both = outputs_of(self.net_, X, parts, 2 * X.shape[1])
        flvae, ease = np.split(both, 2, axis=1)
        return {"flvae": flvae, "ease": ease}

    def _n_score_tensors(self) -> int:
        return 10

    def _make_net(self, n_items: int) -> TorchNet:
        batches = HalvedBatches if self.augmentation else SparseBatches
        passes = [Pass(batches=batches)]
        if self.training != "joint":
            # "pretrained" trains each model for its own loss, not for that of the product.
            apart = self.training == "pretrained"
            passes = [
                Pass(part=part, batches=batches, options={"part": part} if apart else {})
                for part in ("flvae", "ease")
            ]
        # Adam adds weight_decay * W to the gradient, the derivative of the penalty.
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

    def _known_items(self, items: Any = slice(None)) -> np.ndarray:
        modelled = np.zeros(self.n_features_in_, dtype=bool)
        modelled[self.items_] = True
        return super()._known_items(items) & modelled[items]

    def _score_rows(
        self, net: TorchNet, X: sp.csr_array, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self._with_others(super()._score_rows(net, self._modelled(X)))

    def _modelled(self, X: sp.csr_array) -> sp.csr_array:
        """Return the columns of the modelled items."""
        return X if self.items_.size == X.shape[1] else X[:, self.items_]

    def _with_others(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items; those not modelled are below the lowest of the row."""
        if self.items_.size == self.n_features_in_:
            return scores
        lowest = scores.amin(dim=1, keepdim=True) - 1
        scores_of_all = lowest.repeat(1, self.n_features_in_)
        scores_of_all[:, torch.tensor(self.items_, device=scores.device)] = scores
        return scores_of_all


def most_popular(X: sp.csr_array, share: float) -> np.ndarray:
    """Return the indices of the most popular items, in ascending order.

    At least one item is returned; ties go to the lower index.
    """
    popularity = np.bincount(X.indices, minlength=X.shape[1])
    n_items = max(1, math.ceil(round(share * X.shape[1], 6)))  # .07 * 100 is above 7
    return np.sort(np.argsort(-popularity, kind="stable")[:n_items])


class VASPModule(nn.Module):
    """Product of FLVAE and NeuralEASE, or one of them."""

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
        """Return the logarithms of the product, or the scores of one model."""
        if part == "flvae":
            return self.flvae(batch)
        if part == "ease":
            return self.ease(batch)
        deep = self.flvae(batch)
        return Output(ProductScores(deep.scores, self.ease(batch).scores), deep.kl)

    def parts(self, batch: SparseBatch) -> list[torch.Tensor]:
        """Return the logarithms of both probabilities, of shape (n_rows, n_items) each."""
        return [F.logsigmoid(part(batch).scores.dense()) for part in (self.flvae, self.ease)]
