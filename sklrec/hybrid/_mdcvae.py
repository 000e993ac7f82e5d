"""Variational autoencoders of users and of the content of items, mutually regularized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from scipy.stats import loguniform, randint, uniform
from torch import nn

from .._sklearn import Interval, StrOptions
from ..neural._base import BaseTorchRecommender
from ..neural._losses import likelihood_named, multinomial_nll
from ..neural._modules import checked_sizes
from ..neural._training._data import SparseRows
from ..neural._training._docs import with_training_docs
from ..neural._training._net import Pass, TorchNet
from ..neural._training._prediction import predicting
from ._base_torch import BaseTorchHybrid
from ._content_nets import adapt_to_content
from ._features import check_not_empty
from ._mdcvae_net import CoupledELBO, DualELBO, MDCVAEModule, means_of_items, renew_content


@with_training_docs
class MDCVAE(BaseTorchHybrid):
    r"""Dual variational autoencoders of users and of item content, MD-CVAE and MDsym-CVAE.

    The weights of the last layer of a :class:`~sklrec.neural.MultVAE`, one vector :math:`v_j` for
    each item, are drawn from :math:`\mathcal{N}(z_j, 1/\lambda_v)`, where :math:`z_j` is the latent
    vector of the item in a second autoencoder, of the content x of items [1]_. An epoch trains the
    users with the latent vectors fixed, and then the items with the weights fixed. They minimise
    (equations 10 and 11 of [1]_)

    .. math::
        \sum_i \Big( \beta \, \mathrm{KL}(q(u_i|r_i)\|p(u_i)) - \mathbb{E}[\log p(r_i|u_i)] \Big)
        + \frac{\lambda_v}{2} \sum_j \|v_j - \mathbb{E}[z_j]\|^2

    .. math::
        \sum_j \Big( \beta_x \, \mathrm{KL}(q(z_j|x_j)\|p(z_j)) - \mathbb{E}[\log p(x_j|z_j)]
        + \frac{\lambda_v}{2} \, \mathbb{E} \|v_j - z_j\|^2 \Big)

    where the sums over users are estimated from batches. With ``symmetric=True``, MDsym-CVAE, the
    item vectors are also the weights of the encoder's first layer (equation 9). New items get the
    mean of their latent vector as item vector (equation 13), and the mean of all biases.

    Parameters
    ----------
    n_components : int, default=150
        Dimension of the latent vector of a user. Typical range: 50 to 400.
    hidden_layer_sizes : sequence of int, default=()
        Sizes of the hidden layers of the users' encoder; the decoder mirrors them. The first is
        the dimension of the item vectors, which is `n_components` if there are none.
    dropout : float, default=0.5
        Probability with which an interaction is left out of the encoder's input in training.
    symmetric : bool, default=False
        Whether the item vectors are also the weights of the encoder's first layer, or, without
        hidden layers, those of the latent mean.
    lambda_v : float, default=30.0
        Precision of the item vectors given the content. 0 trains a Mult-VAE beside an
        autoencoder of the items. See Notes for the scale of the authors' code.
        Typical range: 1 to 300, on a logarithmic scale.
    coupling : {"decoder", "encoder"}, default="decoder"
        Weights that are close to the content: those of the decoder's last layer, as in [1]_, or,
        as in the authors' code, those of the encoder's first layer, in which case new items cannot
        be added. Both are the same if `symmetric`.
    item_dropout : float, default=0.0
        Probability with which the vector of an item is replaced by its content in a step of the
        users, as in DropoutNet [3]_, so that training meets items that are new. It needs
        ``coupling="decoder"`` or ``symmetric=True``. Typical range: 0 to 0.5.
    beta : float, default=0.2
        Weight of the users' KL term at the end of the annealing.
    n_annealing_steps : int, default=5_000
        Number of gradient steps over which the weight of the users' KL term would rise linearly
        from 0 to 1; it stops at `beta`. 0 means no annealing.
    item_hidden_layer_sizes : sequence of int, default=(150,)
        Sizes of the hidden layers of the items' encoder; the decoder mirrors them.
    item_likelihood : {"logistic", "gaussian", "multinomial"}, default="logistic"
        Likelihood of the features of an item: "logistic" for the presence of words or tags,
        whatever their values, "multinomial" for their counts, "gaussian" for real numbers.
    item_beta : float, default=0.1
        Weight of the items' KL term at the end of its annealing. With a large one, features of
        items that have few of them are ignored: see ``active_dimensions`` in Notes.
        Typical range: 0.01 to 1, on a logarithmic scale.
    n_item_annealing_steps : int, default=0
        The same as `n_annealing_steps` for the items, in batches of items.
    lambda_ : float, default=0.0
        L2 penalty of all weights, half of which times the sum of their squares is added to the
        mean loss.
    max_epochs : int, default=50
        Number of passes over the users, and over the items.
    batch_size : int, default=200
        Number of users, and number of items, in a gradient step. In large batches of few users the
        item vectors need many more epochs.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_hidden)
        The item vectors, weights of the last layer.
    best_beta_, best_item_beta_ : float
        Weights of the KL terms in the best epoch. Only with validation users.
    best_active_dimensions_ : int
        Number of active latent dimensions of the items in the best epoch. Only with validation
        users.
    n_item_features_ : int
        Number of features; 0 without `item_features`.
    loss_curve_ : list of float
        Mean loss over all batches of users and of items in each epoch.

    See Also
    --------
    sklrec.neural.MultVAE : The model without `item_features`.

    Notes
    -----
    Equation 10 is printed for a user, with all item vectors; its sum over users would have the
    penalty once for each of them. It is understood as the sum over users here, and the precision of
    equation 4, printed as :math:`\lambda_u`, as :math:`\lambda_v`. The authors' code adds
    :math:`\lambda_V` times the mean over items of :math:`\|v_j - z_j\|^2` to the mean loss of
    users, which is :math:`\lambda_v = 2 \lambda_V \, n_{users} / n_{items}` here; values in [1]_,
    from 0.1 to 10 and 50 for new items, are evidently those of the code. There, the mean of z is
    used for the items too, the KL term of the items is not weighted, and rows of features are not
    divided by their norms, as they are here. Latent vectors are not pretrained layer by layer: the
    code initializes all variables after it has loaded the pretrained ones.

    The history in ``net_`` has the number of dimensions of the items' latent vectors that are
    active at the beginning of each epoch, ``active_dimensions``: those whose means have a
    variance above 0.01 over the items [2]_. A large `lambda_v` keeps them near the item vectors,
    which are small in the first epochs: the number begins to rise when the vectors have grown. In
    the first step, the biases of the features are set to their frequencies, and the first weights
    of the items' encoder to a size that is right for the number of features of an item. With the
    titles of citeulike-a, of about four words each, ``lambda_v=116`` and ``symmetric=True``, 92 of
    150 dimensions are active after 15 epochs.

    With ``symmetric=False`` the encoder has zero weights for new items, so that interactions with
    them only count in the norm of a user's row; ``symmetric=True`` uses their vectors. Items
    without interactions that were known in ``fit`` are ranked by their vectors like all others, but
    their biases have learnt that nobody has them.

    The numbers of users and the weights of the KL terms in ``partial_fit`` and warm starts go on
    from those of the first call.

    The sparse features are never made dense: a batch of items is decoded to the features, which
    takes memory for `batch_size` times the number of features.

    References
    ----------
    .. [1] Y. Zhu and Z. Chen, "Mutually-Regularized Dual Collaborative Variational Auto-encoder for
       Recommendation Systems", WWW 2022.
    .. [2] Y. Burda et al., "Importance Weighted Autoencoders", ICLR 2016.
    .. [3] M. Volkovs et al., "DropoutNet: Addressing Cold Start in Recommender Systems", NIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.hybrid import MDCVAE
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> F = np.random.default_rng(0).integers(0, 2, (50, 10))
    >>> vae = MDCVAE(16, symmetric=True, max_epochs=5, random_state=0).fit(X, item_features=F)
    >>> vae.predict_ranking(X[:2], k=3).shape
    (2, 3)
    >>> vae.with_items(F[:3]).n_features_in_
    53
    """

    _suggested_distributions: dict = {
        "n_components": randint(50, 401),
        "lambda_v": loguniform(1, 300),
        "item_dropout": uniform(0, 0.5),
        "item_beta": loguniform(0.01, 1),
    }

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "symmetric": ["boolean"],
        "lambda_v": [Interval(Real, 0, None, closed="left")],
        "coupling": [StrOptions({"decoder", "encoder"})],
        "item_dropout": [Interval(Real, 0, 1, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "n_annealing_steps": [Interval(Integral, 0, None, closed="left")],
        "item_hidden_layer_sizes": ["array-like"],
        "item_likelihood": [StrOptions({"logistic", "gaussian", "multinomial"})],
        "item_beta": [Interval(Real, 0, None, closed="left")],
        "n_item_annealing_steps": [Interval(Integral, 0, None, closed="left")],
        "lambda_": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 150,
        *,
        hidden_layer_sizes: Sequence[int] = (),
        dropout: float = 0.5,
        symmetric: bool = False,
        lambda_v: float = 30.0,
        coupling: str = "decoder",
        item_dropout: float = 0.0,
        beta: float = 0.2,
        n_annealing_steps: int = 5_000,
        item_hidden_layer_sizes: Sequence[int] = (150,),
        item_likelihood: str = "logistic",
        item_beta: float = 0.1,
        n_item_annealing_steps: int = 0,
        lambda_: float = 0.0,
        max_epochs: int = 50,
        batch_size: int = 200,
        learning_rate: float = 5e-3,
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
        self.symmetric = symmetric
        self.lambda_v = lambda_v
        self.coupling = coupling
        self.item_dropout = item_dropout
        self.beta = beta
        self.n_annealing_steps = n_annealing_steps
        self.item_hidden_layer_sizes = item_hidden_layer_sizes
        self.item_likelihood = item_likelihood
        self.item_beta = item_beta
        self.n_item_annealing_steps = n_item_annealing_steps
        self.lambda_ = lambda_
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
        passes = [Pass("users", criterion="users")]
        if self.n_item_features_:
            passes = [
                Pass("users", criterion="users", before=self._begin_users),
                Pass("items", data="items", criterion="items", options={"of_items": True}),
            ]
        return TorchNet(
            MDCVAEModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            module__hidden_layer_sizes=checked_sizes(self.hidden_layer_sizes, "hidden_layer_sizes"),
            module__dropout=self.dropout,
            module__symmetric=self.symmetric,
            module__coupling=self.coupling,
            module__item_dropout=self.item_dropout,
            module__n_item_features=self.n_item_features_,
            module__item_hidden_layer_sizes=checked_sizes(
                self.item_hidden_layer_sizes, "item_hidden_layer_sizes"
            ),
            criterion=DualELBO,
            criterion__users=CoupledELBO(
                multinomial_nll,
                self.beta,
                self.n_annealing_steps,
                coupling=self.lambda_v / (2 * self._n_users),
            ),
            criterion__items=CoupledELBO(
                likelihood_named(self.item_likelihood, confidence=1.0),
                self.item_beta,
                self.n_item_annealing_steps,
                coupling=self.lambda_v / 2,
            ),
            # Adam adds weight_decay * W to the gradient, the derivative of the penalty.
            optimizer__param_groups=[("*weight", {"weight_decay": self.lambda_})],
            passes=passes,
            **self._net_params(),
        )

    def _check_beside(self, X: sp.csr_array, *, reset: bool) -> None:
        super()._check_beside(X, reset=reset)
        if self.item_dropout and not self._vectors_are_content(vars(self)):
            raise ValueError(
                f"item_dropout={self.item_dropout} needs coupling='decoder' or symmetric=True, got "
                "coupling='encoder' and symmetric=False."
            )
        if self._F is not None:
            check_not_empty(self._F)
        if self.item_likelihood != "gaussian":
            self._refuse_negative_features("use item_likelihood='gaussian'")

    def _begin_fit(self, X: sp.csr_array, validation: Any, n_epochs: int) -> None:
        self._n_users = X.shape[0]
        self._reads_content = self.symmetric  # in the encoder

    def _begin_users(self, net: TorchNet) -> None:
        """Set weights that depend on the content, before the first step, and renew the content."""
        if len(net.history) == 1 and not net.history[-1]["batches"]:
            items = cast(MDCVAEModule, net.plain_module).items
            assert items is not None
            first, bias = items.encoder.first, items.item_layer.bias
            adapt_to_content(first, bias, self._F, self.item_likelihood)
        renew_content(net)

    @staticmethod
    def _vectors_are_content(params: Mapping[str, Any]) -> bool:
        """Return whether the vectors of the last layer are close to the content."""
        return params["coupling"] == "decoder" or params["symmetric"]

    def _keep(self, net: TorchNet) -> BaseTorchRecommender:
        cast(MDCVAEModule, net.plain_module).content = None
        return super()._keep(net)

    def _known_items(self, items: Any = slice(None)) -> np.ndarray:
        known = super()._known_items(items)
        return known | self._described[items] if self._reads_content else known

    def _weights_of_new_items(self, F: sp.csr_array) -> dict[str, np.ndarray]:
        if not self._vectors_are_content(self._trained_with):
            raise ValueError(
                "with_items needs the decoder's weights to be close to the content: use "
                "coupling='decoder' or symmetric=True, got coupling='encoder' and symmetric=False."
            )
        module = cast(MDCVAEModule, self.net_.plain_module)
        n_new = F.shape[0]
        with predicting(self.net_, n_new):
            means = means_of_items(module, SparseRows(F), self.batch_size, self.net_.device)
        bias = module.users.item_layer.bias.detach().mean().cpu()
        new = {
            "users.item_layer.weight": means.cpu().numpy(),
            "users.item_layer.bias": np.full(n_new, bias),
        }
        for name, weight in module.users.named_parameters():
            if name in ("encoder.first.weight", "logvar.weight"):
                new[f"users.{name}"] = np.zeros((n_new, weight.shape[1]))
        return new

    def _n_score_tensors(self) -> int:
        return 1

    def _n_step_values(self, module: nn.Module, n_gradients: int, n_rows: int) -> int:
        module = cast(MDCVAEModule, module)
        n_values = super()._n_step_values(module, n_gradients, n_rows)
        if module.items is None:
            return n_values
        n_content = module.item_layer.weight.numel()
        return n_content + max(n_values, 2 * self.batch_size * self.n_item_features_)
