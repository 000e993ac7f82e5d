"""Variational autoencoder that is trained on the features of items, and then on users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.random import RandomState
from scipy.stats import loguniform, randint, uniform
from torch import nn

from .._sklearn import Interval
from ..neural._base import BaseTorchRecommender
from ..neural._criteria import AnnealedELBO
from ..neural._losses import GaussianNLL
from ..neural._modules import checked_sizes
from ..neural._mult_vae import MultVAEModule
from ..neural._training._data import SparseBatch, SparseRows
from ..neural._training._docs import with_training_docs
from ..neural._training._net import Pass, TorchNet
from ._base_torch import BaseTorchContent
from ._features import check_not_empty


@with_training_docs
class CoVAE(BaseTorchContent):
    r"""Collective variational autoencoder of item features and users, CoVAE.

    A feature, such as a word, is a set of items, as a user is. One autoencoder with the items as
    input and output is trained on the features first, and then on the users [1]_. Both phases
    minimise

    .. math:: \beta \, \mathrm{KL}(q(z|x)\|p(z)) - \mathbb{E}_{q(z|x)}[\log p(x|z)]

    with a Gaussian likelihood of the features, :math:`\log p(x|z) = -\frac{1}{2} \sum_j c_j
    (x_j - f_j(z))^2`, and a Bernoulli likelihood of the users, :math:`\sum_j c_j
    \log \sigma(\pm f_j(z))`. The confidence :math:`c_j` of the items that a feature or a user has
    is :math:`\alpha`, and 1 for all others. Scores are the logits at the latent mean.

    New items cannot be added: each item has weights of its own. Items without interactions that are
    known in ``fit`` have those learnt from their features.

    Parameters
    ----------
    n_components : int, default=100
        Dimension of the latent vector. Typical range: 20 to 400.
    hidden_layer_sizes : sequence of int, default=()
        Sizes of the encoder's hidden layers, with rectifiers; the decoder mirrors them.
    dropout : float, default=0.5
        Probability with which an item is left out of the encoder's input in training; [1]_ has
        none.
    alpha : float, default=50.0
        Confidence of the interactions of a user. Typical range: 1 to 100, on a logarithmic scale.
    beta : float, default=0.2
        Weight of the KL term of users. Typical range: 0.1 to 2, on a logarithmic scale.
    feature_alpha : float, default=10.0
        Confidence of the items that have a feature. Typical range: 1 to 10.
    feature_beta : float, default=0.1
        Weight of the KL term of features. Typical range: 0.1 to 2, on a logarithmic scale.
    n_feature_epochs : int, default=5
        Number of passes over the features, all of them in the first epoch. 0 trains on users
        alone.
    max_epochs : int, default=30
        Number of passes over the users.
    batch_size : int, default=100
        Number of users, or of features, in a gradient step.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_hidden)
        Weights of the last layer.
    n_item_features_ : int
        Number of features; 0 without `item_features`.
    loss_curve_ : list of float
        Mean loss in each epoch; that of the first includes the passes over the features.

    See Also
    --------
    sklrec.neural.MultVAE : With ``likelihood="logistic"``, the model of users alone with other
        activations.
    MDCVAE : An autoencoder of users and another one of the content of items.

    Notes
    -----
    The defaults were chosen on MovieLens-1M with 500 users and on ML-Small, and `n_feature_epochs`
    on citeulike-a. There is one hidden layer of 1,000 in [1]_, `alpha` and `beta` are 1 or 2, and
    `learning_rate` 1e-3 and `n_feature_epochs` 50 in the authors' code. With these, ``ndcg@100`` on
    validation users is .190 with 500 users of MovieLens-1M and .185 on ML-Small, where it is
    .354 and .318 with the defaults but for `n_feature_epochs`, as there are no features.

    Without `item_features`, the model is a variational autoencoder with Bernoulli likelihood.
    Features are used as present or not, whatever their values.

    The Gaussian likelihood is printed without its minus sign in [1]_. The authors' code has squared
    errors without the half and of a sigmoid of f, which is left out here as it is in [1]_. Rows are
    divided by their norms in the encoder, as in :class:`~sklrec.neural.MultVAE`. The authors' code
    sets the scores of seen items to 0 before it ranks, so that they are ahead of all items with
    negative logits; here they are not ranked. Adam keeps its moments between the phases.

    References
    ----------
    .. [1] Y. Chen and M. de Rijke, "A Collective Variational Autoencoder for Top-N Recommendation
       with Side Information", DLRS 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.hybrid import CoVAE
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> F = np.random.default_rng(0).integers(0, 2, (50, 10))
    >>> vae = CoVAE(16, hidden_layer_sizes=(32,), max_epochs=5, random_state=0)
    >>> vae.fit(X, item_features=F).predict_ranking(X[:2], k=3).shape
    (2, 3)
    """

    _suggested_distributions: dict = {
        "n_components": randint(20, 401),
        "alpha": loguniform(1, 100),
        "beta": loguniform(0.1, 2),
        "feature_alpha": uniform(1, 9),
        "feature_beta": loguniform(0.1, 2),
    }

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "feature_alpha": [Interval(Real, 0, None, closed="neither")],
        "feature_beta": [Interval(Real, 0, None, closed="left")],
        "n_feature_epochs": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 100,
        *,
        hidden_layer_sizes: Sequence[int] = (),
        dropout: float = 0.5,
        alpha: float = 50.0,
        beta: float = 0.2,
        feature_alpha: float = 10.0,
        feature_beta: float = 0.1,
        n_feature_epochs: int = 5,
        max_epochs: int = 30,
        batch_size: int = 100,
        learning_rate: float = 1e-2,
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
        self.hidden_layer_sizes = hidden_layer_sizes
        self.dropout = dropout
        self.alpha = alpha
        self.beta = beta
        self.feature_alpha = feature_alpha
        self.feature_beta = feature_beta
        self.n_feature_epochs = n_feature_epochs
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

    def _make_net(self, n_items: int) -> TorchNet:
        passes = [Pass(criterion="users")]
        if self.n_item_features_ and self.n_feature_epochs:
            first = Pass(
                data="features", criterion="features", n_times=self.n_feature_epochs, n_epochs=1
            )
            passes.insert(0, first)
        return TorchNet(
            MultVAEModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            module__hidden_layer_sizes=checked_sizes(self.hidden_layer_sizes, "hidden_layer_sizes"),
            module__dropout=self.dropout,
            module__nonlinearity=nn.ReLU,
            criterion=TwoPhases,
            criterion__features=AnnealedELBO(GaussianNLL(self.feature_alpha), self.feature_beta, 0),
            criterion__users=AnnealedELBO(WeightedLogisticNLL(self.alpha), self.beta, 0),
            passes=passes,
            **self._net_params(),
        )

    def _check_beside(self, X: sp.csr_array, *, reset: bool) -> None:
        super()._check_beside(X, reset=reset)
        if self._F is not None:
            check_not_empty(self._F)
        self._refuse_negative_features("binarize them first")

    def _training_data(self, X: sp.csr_array, device: torch.device) -> Mapping[str, Any]:
        data: dict[str, Any] = {"users": SparseRows(X, device)}
        if self._F is not None:
            rows = self._F.T.tocsr()  # (n_features, n_items)
            rows.data = np.ones_like(rows.data)
            data["features"] = SparseRows(rows, device)
        return data

    def _n_step_values(self, module: nn.Module, n_gradients: int, n_rows: int) -> int:
        n_rows = max(n_rows, min(self.batch_size, self.n_item_features_))  # of users, of features
        return super()._n_step_values(module, n_gradients, n_rows)

    def _begin_fit(self, X: sp.csr_array, validation: Any, n_epochs: int) -> None:
        self._reads_content = self.n_feature_epochs > 0

    def _known_items(self, items: Any = slice(None)) -> np.ndarray:
        known = super()._known_items(items)
        return known | self._described[items] if self._reads_content else known


class TwoPhases(nn.Module):
    """Criteria of the passes over features and of those over users."""

    def __init__(self, features: AnnealedELBO, users: AnnealedELBO) -> None:
        super().__init__()
        self.features = features
        self.users = users


@dataclass(frozen=True)
class WeightedLogisticNLL:
    """Logistic likelihood with weights: ``-sum_i c_i log s(f_i) + (1 - x_i) log(1 - s(f_i))``.

    Interactions count as 1, whatever their value.

    Parameters
    ----------
    confidence : float
        Weight c of a stored entry.
    """

    confidence: float

    def __call__(
        self, scores: torch.Tensor, batch: SparseBatch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and its gradient."""
        at = (batch.rows, batch.items)
        observed = scores[at]
        # -c log s(f) = c softplus(f) - c f
        extra = (self.confidence - 1) * F.softplus(observed) - self.confidence * observed
        loss = F.softplus(scores).sum() + extra.sum()
        p = scores.sigmoid_()
        p[at] = self.confidence * (p[at] - 1)
        return loss / len(batch), p.div_(len(batch))
