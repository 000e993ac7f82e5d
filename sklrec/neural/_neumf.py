"""Neural matrix factorization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
from numpy.random import RandomState
from scipy.stats import randint
from sklearn.base import clone
from torch import nn

from .._sklearn import Interval, StrOptions
from ._base import BaseTorchRecommender
from ._embedding import EmbeddingMixin
from ._modules import checked_sizes
from ._neumf_module import LogLoss, NeuMFModule, parts_of
from ._pair_batches import PairBatch, PairBatches, UserPairs
from ._training._docs import with_training_docs
from ._training._net import Pass, TorchNet
from ._user_vectors import (
    VALUES_OF_A_VECTOR,
    UserVectorsMixin,
    step_of_users,
)


@with_training_docs
class NeuMF(UserVectorsMixin, EmbeddingMixin, BaseTorchRecommender):
    r"""Neural matrix factorization, and its two parts, GMF and MLP.

    A score is made of what two networks say of a pair of a user and an item [1]_, each with vectors
    p and q of its own: a generalized matrix factorization (GMF), the products of the components,
    and a multilayer perceptron (MLP) of both vectors, with rectified linear units:

    .. math:: \phi^\text{GMF} = p_u \odot q_i, \qquad
        \phi^\text{MLP} = a_L(\dots a_1(W_1 [p_u; q_i] + b_1)), \qquad
        f_{ui} = h^\top [\phi^\text{GMF}; \phi^\text{MLP}] + b

    Training goes over interactions in random order, each with negatives, items that the user does
    not have, drawn anew in each epoch. It minimises the log loss of their sigmoids.

    In [1]_ users are ids with vectors of their own, and no other user can be scored. `user_vector`
    says what the vector of a user is, new or not.

    Parameters
    ----------
    model : {"neumf", "gmf", "mlp"}, default="neumf"
        Both networks or one of them.
    n_components : int, default=64
        Size of the vectors of GMF and of those of MLP. Typical range: 8 to 128.
    hidden_layer_sizes : sequence of int, default=(64, 32, 16)
        Sizes of MLP's hidden layers, at least one.
    n_negatives : int, default=4
        Number of negatives to draw for each interaction. Typical range: 2 to 10.
    user_vector : {"items", "solve"}, default="items"
        What the vector of a user is.

        - "items": the sum of vectors of the user's items divided by the root of their number, in
          training and afterwards. These are other vectors than q. In training, the item whose score
          is learnt is left out of the sum.
        - "solve": a vector of the user's own in training, as in [1]_. For a row that is scored, 30
          steps of Adam, from 0, on the loss of the row, with all other weights fixed. The negatives
          are drawn with a seed made of the row's items.
    pretrain : bool, default=False
        Whether GMF and MLP are trained first, each for `max_epochs`, before training of the two
        together begins with their weights. Only for ``model="neumf"``. An interruption of their
        training leaves no model.
    alpha : float, default=0.5
        Weight of GMF's last layer where pretrained parts are put together; that of MLP's is
        ``1 - alpha`` (equation 13 of [1]_).
    max_epochs : int, default=12
        Number of passes over the interactions. Typical range: 5 to 30, or use
        ``early_stopping=True``.
    batch_size : int, default=1024
        Number of interactions in a gradient step.

    Attributes
    ----------
    item_embeddings_ : ndarray of shape (n_items, n_vector)
        Vectors q of the items; of GMF and MLP side by side.
    loss_curve_ : list of float
        Mean loss of an interaction and its negatives in each epoch.

    See Also
    --------
    CDAE : Denoising autoencoder with vectors of users.

    Notes
    -----
    On MovieLens-1M, ``ndcg@100`` on test users after 12 epochs in batches of 4,096 is .3967 for
    NeuMF and .3856 for GMF with ``user_vector="items"``, and .2695 and .3611 with "solve".

    Interactions count as 1, whatever their value. Those of a user who has all items are left out,
    unless there are no others.

    With ``user_vector="solve"`` the vectors of users are trained by Adam too, each in its own
    steps. They are dropped at the end of ``fit``; with ``warm_start=True`` they are kept in the
    model and its pickles, and continue if the next call is on the same rows. All other training
    that continues begins with vectors of 0, such as ``partial_fit`` on new users.

    Scoring computes MLP for all pairs, in blocks of a limited size. Its first layer is the sum of a
    part of the user and one of the item, each computed once.

    The authors of [1]_ train pretrained networks on by stochastic gradient descent. Here it is Adam
    that trains all of them.

    References
    ----------
    .. [1] X. He, L. Liao, H. Zhang, L. Nie, X. Hu and T.-S. Chua, "Neural Collaborative Filtering",
       WWW 2017.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.neural import NeuMF
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> neumf = NeuMF(n_components=8, hidden_layer_sizes=(8, 4), max_epochs=2, random_state=0)
    >>> neumf = neumf.fit(X)
    >>> neumf.predict_ranking(X[:2], k=3).shape
    (2, 3)
    >>> neumf.transform(X).shape
    (200, 16)
    """

    _suggested_distributions: dict = {
        "n_components": randint(8, 129),
        "n_negatives": randint(2, 11),
        "max_epochs": randint(5, 31),
    }

    _parameter_constraints: dict = {
        **BaseTorchRecommender._parameter_constraints,
        "model": [StrOptions({"neumf", "gmf", "mlp"})],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "n_negatives": [Interval(Integral, 1, None, closed="left")],
        "user_vector": [StrOptions({"items", "solve"})],
        "pretrain": ["boolean"],
        "alpha": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        model: str = "neumf",
        *,
        n_components: int = 64,
        hidden_layer_sizes: Sequence[int] = (64, 32, 16),
        n_negatives: int = 4,
        user_vector: str = "items",
        pretrain: bool = False,
        alpha: float = 0.5,
        max_epochs: int = 12,
        batch_size: int = 1024,
        learning_rate: float = 2e-3,
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
        self.model = model
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_negatives = n_negatives
        self.user_vector = user_vector
        self.pretrain = pretrain
        self.alpha = alpha
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
        """Vectors of the items, ndarray of shape (n_items, n_vector), float32."""
        parts = parts_of(self.net_.plain_module)
        vectors = [part.items.weight.detach().cpu().numpy() for part in parts]
        return np.concatenate(vectors, axis=1)

    @property
    def _n_features_out(self) -> int:
        trained = self._trained_with
        return trained["n_components"] * (2 if trained["model"] == "neumf" else 1)

    def _can_share_batches(self) -> bool:
        return self.user_vector == "items"

    def _make_net(self, n_items: int) -> TorchNet:
        sizes = checked_sizes(self.hidden_layer_sizes, "hidden_layer_sizes", at_least_one=True)
        if self.pretrain and self.model != "neumf":
            raise ValueError(f"pretrain=True needs model='neumf', got {self.model!r}.")
        solved = self.user_vector == "solve"
        return TorchNet(
            NeuMFModule,
            module__n_items=n_items,
            module__n_components=self.n_components,
            module__hidden_layer_sizes=sizes,
            module__model=self.model,
            module__n_negatives=self.n_negatives if solved else None,
            criterion=LogLoss,
            passes=[Pass(batches=PairBatches, after_step=step_of_pairs if solved else None)],
            **self._net_params(),
        )

    def _begin_fit(
        self, X: sp.csr_array, validation: tuple[sp.csr_array, sp.csr_array] | None, n_epochs: int
    ) -> None:
        super()._begin_fit(X, validation, n_epochs)
        self._n_entries = X.nnz
        if not self.pretrain or self.model != "neumf":
            return
        self._parts: list[Any] = []
        params: dict[str, Any] = {}
        if validation is not None:
            params = {"X_val": validation[0] + validation[1], "y_val": validation[1]}
        for model in ("gmf", "mlp"):
            part = clone(self).set_params(
                model=model,
                pretrain=False,
                max_epochs=n_epochs,
                warm_start=False,
                random_state=self._seed,
                early_stopping=self.early_stopping and validation is not None,
            )
            part.fit(X, **params)
            if part.net_.interrupted_:
                raise KeyboardInterrupt
            self._parts.append(part.net_.plain_module)

    def _begin_training(self, net: TorchNet) -> None:
        """Begin with the weights of the parts that were trained before."""
        parts = self.__dict__.pop("_parts", None)
        if parts:
            gmf, mlp = parts
            cast(NeuMFModule, net.plain_module).fuse(gmf, mlp, self.alpha)

    def _training_data(self, X: sp.csr_array, device: torch.device) -> Mapping[str, Any]:
        vectors = None
        if self.user_vector == "solve":
            vectors = self._user_vectors(X, self._n_vector(), device)
        return {"users": UserPairs(X, device, vectors, self.n_negatives)}

    def _n_vector(self) -> int:
        """Return the size of the vector of a user or an item."""
        return self.n_components * (2 if self.model == "neumf" else 1)

    def _n_step_values(self, module: nn.Module, n_gradients: int, n_rows: int) -> int:
        n_pairs = self.batch_size * (1 + self.n_negatives)
        n_pairs = min(n_pairs, self._n_entries * (1 + self.n_negatives))
        n_of_pair = 4 * self._n_vector()
        if self.model != "gmf":
            n_of_pair += 3 * sum(self.hidden_layer_sizes)
        n_values = n_gradients + n_pairs * n_of_pair
        if self.user_vector == "solve":
            n_values += VALUES_OF_A_VECTOR * self._n_users * self._n_vector()
        return n_values


def step_of_pairs(net: TorchNet, batch: PairBatch) -> None:
    """Take a step with the vectors of the users of a batch."""
    step_of_users(net, batch.rows, lambda_=0.0)
