"""Deep variational autoencoder with focal loss."""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch
from numpy.random import RandomState
from scipy.stats import loguniform
from torch import nn

from .._sklearn import Interval
from ._base import BaseTorchRecommender
from ._criteria import AnnealedELBO, Output, gaussian_kl
from ._embedding import EmbeddingMixin
from ._losses import FocalLoss
from ._modules import DenselyConnected, DenselyConnectedEncoder, ItemLayer, sample
from ._training._data import HalvedBatches, SparseBatch, SparseBatches
from ._training._docs import with_training_docs
from ._training._net import Pass, TorchNet

# A user has few of all items. Training therefore starts at a probability of .01 instead of one half
# for every item, as in section 4.1 of the paper on the focal loss (Lin et al. 2017).
INITIAL_LOGIT = -math.log((1 - 0.01) / 0.01)


@with_training_docs
class FLVAE(EmbeddingMixin, BaseTorchRecommender):
    r"""Deep variational autoencoder with focal loss, FLVAE.

    The encoder and the decoder have densely connected layers, and the output is an independent
    probability for each item [1]_. Training minimises the mean over users of (equation 5 of [1]_)

    .. math:: -\sum_i \alpha_t (1 - p_t)^\gamma \log p_t
        + \beta \, \mathrm{KL}(q(z_u|x_u)\|\mathcal{N}(0, I))

    where :math:`p_t = p, \alpha_t = \alpha` for an item that the user has, with the predicted
    probability p, and :math:`p_t = 1 - p, \alpha_t = 1 - \alpha` for all others. To prevent a
    network of this size from reproducing its input, the items of each user are split at random
    into two halves in each epoch, and each half is predicted from the other (equations 11 and 12).
    Scores are the logits at the latent mean.

    Parameters
    ----------
    n_components : int, default=200
        Dimension of the latent vector; 2048 in [1]_, for 117,000 users and on a GPU.
    hidden_size : int, default=600
        Size of each hidden layer; 4096 in [1]_.
    n_encoder_layers : int, default=3
        Number of hidden layers of the encoder; 7 in [1]_.
    n_decoder_layers : int, default=0
        Number of hidden layers of the decoder; 5 in [1]_. With 0, the logits are linear in the
        latent vector, which is better for some thousands of users.
    augmentation : bool, default=True
        Whether to predict each half of a user's items from the other; if False, all items are
        predicted from all items.
    alpha : float, default=0.25
        Weight of the items a user has; the weight of all others is ``1 - alpha``.
    gamma : float, default=2.0
        Focusing parameter of the focal loss: with a larger one, well predicted items count less.
        With 0 it is a weighted logistic loss.
    beta : float, default=0.05
        Weight of the KL term, which is a sum over the latent dimensions. The authors of [1]_ take
        the mean, which corresponds to ``beta = 1 / n_components``. Typical range: 0.002 to 0.1.
    batch_size : int, default=200
        Number of users in a gradient step; 1024 in [1]_, for 117,000 users.
    learning_rate : float, default=1e-3
        Adam's learning rate; [1]_ uses 5e-5 for 50 epochs, then 1e-5 and 1e-6 for 20 each.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_hidden)
        Weights of the last layer. If the decoder has no hidden layers, n_hidden is `n_components`,
        otherwise `hidden_size`.

    See Also
    --------
    VASP : Product of FLVAE and a linear model.

    Notes
    -----
    One half of n items has ``n // 2`` of them. For a user with a single item it is empty: the item
    is predicted from an empty row, and an empty row from the item. Each batch of users takes two
    gradient steps, one for each half as target.

    The authors' code uses the Nadam optimizer and an epsilon of 1e-3 in layer normalization; here
    these are Adam and 1e-5.

    The defaults of `beta` and `max_epochs` were chosen on validation users of MovieLens-1M, with
    all and with 500 of its training users, and of ML-Small. With thousands of users, a smaller
    `beta` with fewer epochs can be better.

    References
    ----------
    .. [1] V. Vančura and P. Kordík, "Deep Variational Autoencoder with Shallow Parallel Path for
       Top-N Recommendation (VASP)", ICANN 2021.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.neural import FLVAE
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> vae = FLVAE(8, hidden_size=32, max_epochs=5, random_state=0).fit(X)
    >>> vae.predict_ranking(X[:2], k=3).shape
    (2, 3)
    >>> vae.transform(X).shape
    (200, 8)
    """

    _suggested_distributions: dict = {"beta": loguniform(0.002, 0.1)}

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "n_encoder_layers": [Interval(Integral, 1, None, closed="left")],
        "n_decoder_layers": [Interval(Integral, 0, None, closed="left")],
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
        augmentation: bool = True,
        alpha: float = 0.25,
        gamma: float = 2.0,
        beta: float = 0.05,
        max_epochs: int = 60,
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

    def _n_score_tensors(self) -> int:
        return 5

    def _make_net(self, n_items: int) -> TorchNet:
        return TorchNet(
            FLVAEModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            module__hidden_size=self.hidden_size,
            module__n_encoder_layers=self.n_encoder_layers,
            module__n_decoder_layers=self.n_decoder_layers,
            criterion=AnnealedELBO,
            criterion__likelihood=FocalLoss(self.alpha, self.gamma),
            criterion__beta=self.beta,
            criterion__n_annealing_steps=0,
            passes=[Pass(batches=HalvedBatches if self.augmentation else SparseBatches)],
            **self._net_params(),
        )


class FLVAEModule(nn.Module):
    """Densely connected encoder to a latent Gaussian, and decoder to the logits of all items."""

    def __init__(
        self,
        n_items: int,
        n_components: int,
        hidden_size: int,
        n_encoder_layers: int,
        n_decoder_layers: int,
    ) -> None:
        super().__init__()
        self.encoder = DenselyConnectedEncoder(n_items, n_components, hidden_size, n_encoder_layers)
        self.decoder = DenselyConnected(n_components, hidden_size, n_decoder_layers)
        self.item_layer = ItemLayer(hidden_size if n_decoder_layers else n_components, n_items)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Set the biases of the items."""
        self.item_layer.bias.fill_(INITIAL_LOGIT)

    def encode(self, batch: SparseBatch) -> torch.Tensor:
        """Return the latent mean, of shape (n_rows, n_components)."""
        return self.encoder(batch)[0]

    def forward(self, batch: SparseBatch) -> Output:
        """Return the scores at a sample of the latent vector in training, otherwise at its mean."""
        mu, logvar = self.encoder(batch)
        z = sample(mu, logvar, batch) if self.training else mu
        return Output(self.item_layer(self.decoder(z)), gaussian_kl(mu, logvar))
