"""Deep variational autoencoder and linear model, multiplied."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.random import RandomState
from torch import nn

from .._sklearn import Interval, StrOptions
from .._typing import MatrixLike
from ._base import BaseTorchRecommender
from ._data import HalvedBatches, SparseBatch, SparseBatches
from ._elbo import AnnealedELBO
from ._flvae import FLVAEModule
from ._losses import DenseScores, FocalLoss, ItemScores, ProductScores
from ._net import TorchNet
from ._neural_ease import NeuralEASEModule
from ._prediction import in_equal_batches


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
        linear model are held, in the second those of FLVAE, each with an optimizer of its own;
        [1]_ takes turns from step to step.
        "pretrained" also passes twice, and trains each model for its own focal loss, as if the
        other did not exist; only then are they multiplied.
    lambda_ : float, default=16.0
        L2 penalty on the weights of the linear model, ``lambda_ / (2 n_users) * ||W||^2`` beside
        the mean loss of a user; the number of users is that of the first call. Not in [1]_:
        without it, thousands of users are too few for the linear model. Worth a search between 1
        and 100.
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
        the mean over these, that is ``beta = 1 / n_components``. Worth a search between 0.002 and
        0.05.
    max_epochs : int, default=100
        Number of passes over the users.
    batch_size : int, default=200
        Users in a gradient step; 1024 in [1]_, for 117,000 users.
    learning_rate : float, default=1e-3
        Of the optimizer, Adam; [1]_ takes 5e-5 for 50 epochs, then 1e-5 and 1e-6 for 20 each.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the users, end training when ``ndcg@100`` on
        them has not grown for `n_iter_no_change` epochs, and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Share of the users to hold out for early stopping.
    n_iter_no_change : int, default=10
        Epochs without a better validation score after which training ends.
    warm_start : bool, default=False
        Whether ``fit`` goes on where the last call ended, up to `max_epochs` in all, as the
        ensembles of scikit-learn do: raise `max_epochs` to train for longer.
    callbacks : list of skorch callbacks or None, default=None
        Called in training, as :class:`skorch.NeuralNet` does.
    device : str, default="auto"
        Where to compute: "cpu", "cuda", "cuda:1", or "auto" for CUDA where there is one.
    mixed_precision : bool, default=False
        Whether to multiply in bfloat16 on CUDA; no effect on a CPU.
    compile : bool, default=False
        Whether to compile the network with :func:`torch.compile`.
    pickle_optimizer : bool, default=False
        Whether a pickle holds the state of the optimizer, for ``partial_fit`` to go on as if it
        had not been interrupted. It is twice the size of the weights.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, batches, dropout and validation users. One seed on one device gives
        identical scores.
    verbose : int, default=0
        1 prints a line for each epoch, by skorch.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained network.
    items_ : ndarray of shape (n_modelled_items,)
        The items that are modelled, in ascending order.
    n_iter_ : int
        Number of epochs.
    loss_curve_ : list of float
        Mean loss over each epoch.
    validation_scores_ : list of float
        ``ndcg@100`` of the validation users after each epoch.
    best_epoch_ : int
        Epoch with the best validation score, from 1; only with validation users.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items where X is a DataFrame with names.

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
        pickle_optimizer: bool = False,
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
        self.pickle_optimizer = pickle_optimizer
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
        X = self._modelled(self._check_X(X, reset=False))
        module: VASPModule = self.net_.plain_module  # type: ignore[assignment]
        both = in_equal_batches(self.net_, X, module.parts, 2 * self.items_.size)
        flvae, ease = np.split(both, 2, axis=1)
        return {"flvae": self._with_others(flvae), "ease": self._with_others(ease)}

    def _make_net(self, n_items: int) -> TorchNet:
        params = self._net_params()
        params["iterator_train"] = HalvedBatches if self.augmentation else SparseBatches
        # It adds weight_decay * W to the gradient, the derivative of the penalty.
        penalty = {"weight_decay": self.lambda_ / self._n_users}
        params["optimizer__param_groups"] = [("ease.*", penalty)]
        return TorchNet(
            VASPModule,
            module__n_items=self.items_.size,
            module__n_components=self.n_components,
            module__hidden_size=self.hidden_size,
            module__n_encoder_layers=self.n_encoder_layers,
            module__n_decoder_layers=self.n_decoder_layers,
            module__apart=self.training == "pretrained",
            criterion=AnnealedELBO,
            criterion__likelihood=FocalLoss(self.alpha, self.gamma),
            criterion__beta=self.beta,
            criterion__n_annealing_steps=0,
            parts=None if self.training == "joint" else {"flvae": ["flvae."], "ease": ["ease."]},
            **params,
        )

    def _train(
        self,
        X: sp.csr_array,
        *,
        fresh: bool,
        epochs: int,
        validation: tuple[sp.csr_array, sp.csr_array] | None,
        hold_out: bool = True,
    ) -> VASP:
        if fresh:
            self._n_users = X.shape[0]
            self.items_ = most_popular(X, self.item_share)
        if not (hold_out and self.early_stopping and validation is None):
            X = self._modelled(X)
        super()._train(X, fresh=fresh, epochs=epochs, validation=validation, hold_out=hold_out)
        return self

    def _hold_out_users(
        self, X: sp.csr_array
    ) -> tuple[sp.csr_array, tuple[sp.csr_array, sp.csr_array]]:
        X, validation = super()._hold_out_users(X)  # validated on all items
        return self._modelled(X), validation

    def _scores(self, net: TorchNet, X: sp.csr_array) -> np.ndarray:
        return self._with_others(super()._scores(net, self._modelled(X)))

    def _modelled(self, X: sp.csr_array) -> sp.csr_array:
        """Return the columns of the modelled items."""
        return X if self.items_.size == X.shape[1] else X[:, self.items_]

    def _with_others(self, scores: np.ndarray) -> np.ndarray:
        """Return the scores with those of the other items, each below the least of its row."""
        if self.items_.size == self.n_features_in_:
            return scores
        lowest = scores.min(axis=1, keepdims=True) - 1
        scores_of_all = np.repeat(lowest, self.n_features_in_, axis=1)
        scores_of_all[:, self.items_] = scores
        return scores_of_all


def most_popular(X: sp.csr_array, share: float) -> np.ndarray:
    """Return a share of the items, those with the most entries, in ascending order.

    At least one; of equally popular items the lower indices.
    """
    popularity = np.bincount(X.indices, minlength=X.shape[1])
    n_items = max(1, math.ceil(round(share * X.shape[1], 6)))  # .07 * 100 is above 7
    return np.sort(np.argsort(-popularity, kind="stable")[:n_items])


class VASPOutput(NamedTuple):
    """What the module makes of a batch."""

    scores: ItemScores | DenseScores | ProductScores
    kl: torch.Tensor  # of posterior and prior, a mean over rows


class VASPModule(nn.Module):
    """The product of FLVAE and Neural EASE, or either of them where they are trained apart."""

    def __init__(
        self,
        n_items: int,
        n_components: int,
        hidden_size: int,
        n_encoder_layers: int,
        n_decoder_layers: int,
        *,
        apart: bool,
    ) -> None:
        super().__init__()
        self.apart = apart
        self.training_part = ""
        self.flvae = FLVAEModule(
            n_items, n_components, hidden_size, n_encoder_layers, n_decoder_layers
        )
        self.ease = NeuralEASEModule(n_items, dropout=0.0)

    def forward(self, batch: SparseBatch) -> VASPOutput:
        """Return the logarithms of the product; of one model where it is trained by itself."""
        part = self.training_part if self.apart and self.training else None
        if part == "flvae":
            return VASPOutput(*self.flvae(batch))
        scores = self.ease(batch).scores
        if part == "ease":
            return VASPOutput(scores, scores.dense().new_zeros(()))
        deep = self.flvae(batch)
        return VASPOutput(ProductScores(deep.scores, scores), deep.kl)

    def parts(self, batch: SparseBatch) -> torch.Tensor:
        """Return the logarithms of both probabilities, of shape (n_rows, 2 * n_items)."""
        scores = self.flvae(batch).scores.dense(), self.ease(batch).scores.dense()
        return F.logsigmoid(torch.cat(scores, dim=1))
