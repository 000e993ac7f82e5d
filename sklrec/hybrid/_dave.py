"""Adversarial autoencoders of users and of items, joined by a network of pairs, DAVE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
from numpy.random import RandomState
from scipy.stats import loguniform, randint, uniform
from torch import nn

from .._sklearn import Interval, StrOptions
from ..neural._base import BaseTorchRecommender
from ..neural._losses import likelihood_named, logistic_nll, multinomial_nll
from ..neural._modules import checked_sizes
from ..neural._pair_batches import PairBatches, UserPairs
from ..neural._training._docs import with_training_docs
from ..neural._training._net import Pass, TorchNet
from ._base import n_active_dimensions, no_batches
from ._dave_net import AdversarialLoss, DAVELosses, DAVEModule, read_items
from ._item_autoencoder import BaseItemAutoencoder, ItemRows, outputs_of_items, without_users


@with_training_docs
class DAVE(BaseItemAutoencoder):
    r"""Dual adversarial variational embedding, DAVE.

    Two autoencoders embed users by their items, and items by their users and features. Each is
    regularized by a discriminator, and a network of neural collaborative filtering scores pairs of
    the two embeddings [1]_. An epoch is a pass over the users and one over the items, which
    minimise, with x for a row of either,

    .. math:: \mathbb{E}_{z \sim q(z|x)} [- \log p(x|z) + \beta T^*(x, z)],

    and a pass over interactions, each with items that the user does not have, which minimises the
    log loss of :math:`f(z_u, z_i)`, GMF and MLP of :class:`~sklrec.neural.NeuMF`. A sample of
    :math:`q(z|x)` is the output of a network that reads x and noise, so that it can have several
    modes. The discriminator T maximises

    .. math:: \mathbb{E}_{z \sim q(z|x)} \log \sigma(T(x, z))
        + \mathbb{E}_{z \sim \mathcal{N}(0, I)} \log \sigma(- T(x, z))

    whose solution :math:`T^*` is the logarithm of the ratio of both densities: its mean is the KL
    term of a variational autoencoder, which has no closed form here [2]_.

    Users, in ``fit`` or new, and items are embedded without noise. A new item is embedded by its
    features, as one without users.

    Parameters
    ----------
    n_components : int, default=64
        Dimension of the embeddings and of the noise. Typical range: 20 to 200.
    hidden_layer_sizes : sequence of int, default=(200,)
        Sizes of the hidden layers of both inference networks, at least one; the decoders mirror
        them. The first is also the width of the discriminators.
    pair_layer_sizes : sequence of int, default=(64, 32)
        Sizes of the hidden layers of MLP, at least one.
    dropout : float, default=0.5
        Probability with which an interaction is left out of the input of an inference network in
        training.
    item_dropout : float, default=0.3
        Probability with which all users of an item are left out, as for a new item. Larger values
        are better for new items. Typical range: 0 to 0.8.
    beta : float, default=0.2
        Weight of the adversarial terms. Typical range: 0.01 to 1, on a logarithmic scale.
    item_likelihood : {"logistic", "gaussian", "multinomial"}, default="logistic"
        Likelihood of the features of an item: "logistic" for the presence of words or tags,
        whatever their values, "multinomial" for their counts, "gaussian" for real numbers.
    n_negatives : int, default=4
        Number of negatives to draw for each interaction. Typical range: 2 to 10.
    max_epochs : int, default=15
        Number of epochs. Typical range: 5 to 50.
    batch_size : int, default=512
        Number of users, of items, and of interactions in a gradient step.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_components)
        Embeddings of the items.
    n_item_features_ : int
        Number of features; 0 without `item_features`.
    loss_curve_ : list of float
        Mean loss over all batches of users, items and interactions in each epoch.

    See Also
    --------
    DICER : An autoencoder of items alone.
    sklrec.neural.NeuMF : The network of pairs, with vectors of its own.

    Notes
    -----
    The code of the authors is not public, and this is our reading of the abstract of [1]_ and of
    [3]_. Adversarial training between inference networks and auxiliary discriminators, on the sides
    of users and items, to embed them in a space with several modes, is theirs, and so is neural
    collaborative filtering; the input of features on the side of the items is that of [3]_. These
    are ours: the adversarial term is that of [2]_; the likelihood is multinomial for the items of a
    user, as in :class:`~sklrec.neural.MultVAE`, and Bernoulli for the users of an item; features
    are also reconstructed; a discriminator reads x in the first layer of the inference network,
    which it does not train; discriminators and embeddings take a step at the same time; the three
    losses have a pass each; and the item dropout, which is that of DropoutNet [4]_.

    The network has weights for each training user on the side of the items, which are dropped after
    ``fit``. With ``warm_start=True`` they are kept in the model and its pickles, and the next call
    must be on the same users.

    Without features, items are embedded by their users alone. Items without interactions are not
    trained on, and never drawn as negatives. ``net_.history`` has the number of "active_dimensions"
    of the embeddings of the items after each epoch, those with a variance above 0.01.

    Sparse features stay sparse. Scoring computes MLP for all pairs, in blocks of a limited size.

    References
    ----------
    .. [1] Q. Yi, N. Yang and P. S. Yu, "Dual Adversarial Variational Embedding for Robust
       Recommendation", IEEE Transactions on Knowledge and Data Engineering, 2021.
    .. [2] L. Mescheder, S. Nowozin and A. Geiger, "Adversarial Variational Bayes: Unifying
       Variational Autoencoders and Generative Adversarial Networks", ICML 2017, equations 3.2 and
       3.3.
    .. [3] Y. Zhu and Z. Chen, "Mutually-Regularized Dual Collaborative Variational Auto-encoder for
       Recommendation Systems", WWW 2022, section 4.4.
    .. [4] M. Volkovs, G. Yu and T. Poutanen, "DropoutNet: Addressing Cold Start in Recommender
       Systems", NIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.hybrid import DAVE
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> F = np.random.default_rng(0).integers(0, 2, (55, 10))
    >>> model = DAVE(8, hidden_layer_sizes=(16,), max_epochs=3, random_state=0)
    >>> model = model.fit(X, item_features=F[:50])
    >>> model.predict_ranking(X[:2], k=3).shape
    (2, 3)
    >>> model.with_items(F[50:]).item_embeddings_.shape
    (55, 8)
    """

    _suggested_distributions: dict = {
        "n_components": randint(20, 201),
        "item_dropout": uniform(0, 0.8),
        "beta": loguniform(0.01, 1),
        "n_negatives": randint(2, 11),
        "max_epochs": randint(5, 51),
    }

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "pair_layer_sizes": ["array-like"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "item_dropout": [Interval(Real, 0, 1, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "item_likelihood": [StrOptions({"logistic", "gaussian", "multinomial"})],
        "n_negatives": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 64,
        *,
        hidden_layer_sizes: Sequence[int] = (200,),
        pair_layer_sizes: Sequence[int] = (64, 32),
        dropout: float = 0.5,
        item_dropout: float = 0.3,
        beta: float = 0.2,
        item_likelihood: str = "logistic",
        n_negatives: int = 4,
        max_epochs: int = 15,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
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
        self.pair_layer_sizes = pair_layer_sizes
        self.dropout = dropout
        self.item_dropout = item_dropout
        self.beta = beta
        self.item_likelihood = item_likelihood
        self.n_negatives = n_negatives
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

    @property
    def item_embeddings_(self) -> np.ndarray:
        """Embeddings of the items, ndarray of shape (n_items, n_components), float32."""
        return cast(DAVEModule, self.net_.plain_module).item_vectors.cpu().numpy()

    def _can_share_batches(self) -> bool:
        return False  # pairs with one item have its noise in common

    def _make_net(self, n_items: int) -> TorchNet:
        sizes, pair_sizes = (
            checked_sizes(getattr(self, name), name, at_least_one=True)
            for name in ("hidden_layer_sizes", "pair_layer_sizes")
        )
        return TorchNet(
            DAVEModule,
            module__n_items=n_items,
            module__n_users=self._n_network_users,
            module__n_features=self.n_item_features_,
            module__n_components=self.n_components,
            module__hidden_layer_sizes=sizes,
            module__pair_layer_sizes=pair_sizes,
            module__dropout=self.dropout,
            module__item_dropout=self.item_dropout,
            criterion=DAVELosses,
            criterion__users=AdversarialLoss(multinomial_nll, None, self.beta),
            criterion__items=AdversarialLoss(
                logistic_nll, likelihood_named(self.item_likelihood, confidence=1.0), self.beta
            ),
            passes=[
                Pass("users", criterion="users", options={"autoencoder": "users"}),
                Pass("items", data="items", criterion="items", options={"autoencoder": "items"}),
                Pass(data="pairs", batches=PairBatches, criterion="pairs", before=read_items),
                Pass(data="items", batches=no_batches, before=self._renew_items),
            ],
            **self._net_params(),
        )

    def _training_data(self, X: sp.csr_array, device: torch.device) -> Mapping[str, Any]:
        data = super()._training_data(X, device)
        Xt, F = self._rows
        has_users = (np.diff(Xt.indptr) > 0).astype(np.int64)
        pairs = UserPairs(X, device, None, self.n_negatives, weights=has_users)
        return {**data, "pairs": pairs, "catalogue": ItemRows(Xt, F, device)}

    def _renew_items(self, net: TorchNet) -> None:
        """Embed all items without noise, and count the active dimensions."""
        module = cast(DAVEModule, net.plain_module)
        (vectors,) = outputs_of_items(net, *self._rows, module.encode_items)
        module.item_vectors = torch.from_numpy(vectors).to(module.item_vectors.device)
        net.history.record("active_dimensions", n_active_dimensions(vectors))

    def _keep(self, net: TorchNet) -> BaseTorchRecommender:
        cast(DAVEModule, net.plain_module).rows_of_items = None
        return super()._keep(net)

    def _weights_of_new_items(self, F: sp.csr_array) -> dict[str, np.ndarray]:
        module = cast(DAVEModule, self.net_.plain_module)
        n_new = F.shape[0]
        Xt = without_users(n_new, self._n_network_users)
        (vectors,) = outputs_of_items(self.net_, Xt, F, module.encode_items)
        width = self._trained_with["hidden_layer_sizes"][0]
        bias = module.get_parameter("users.decoder.items.bias").mean().item()
        return {
            "item_vectors": vectors,
            "users.inference.encoder.first.weight": np.zeros((n_new, width)),
            "users.decoder.items.weight": np.zeros((n_new, width)),
            "users.decoder.items.bias": np.full(n_new, bias),
        }

    def _n_step_values(self, module: nn.Module, n_gradients: int, n_rows: int) -> int:
        n_pairs = self.batch_size * (1 + self.n_negatives)
        width = self.hidden_layer_sizes[0]
        n_of_pair = 4 * self.n_components + 3 * sum(self.pair_layer_sizes) + 4 * width
        n_values = super()._n_step_values(module, n_gradients, n_rows)
        return max(n_values, n_gradients + n_pairs * n_of_pair)
