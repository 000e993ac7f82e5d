"""Matrix factorization by Bayesian personalized ranking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from scipy.special import expit
from scipy.stats import loguniform
from sklearn.utils import check_random_state

from .._linalg import blocks
from .._matrix import take_entries
from .._pairs import NegativeSampler, negative_weights, pair_batches, uniform_by_row
from .._sklearn import Interval, StrOptions, _fit_context, fit_progress
from .._typing import MatrixLike
from ._base import BaseFactorRecommender

PAIRS_AT_ONCE = 1024  # whose factors fit into the cache of a core
ENTRIES_AT_ONCE = 65_536  # of rows whose negatives are drawn together
STEP = 1.0  # of folding in, on the mean loss of a row


class BPR(BaseFactorRecommender):
    r"""Matrix factorization by Bayesian personalized ranking.

    The score of an item i for a user u is :math:`\hat x_{ui} = w_u^\top h_i + b_i`. For pairs of an
    item i of the user and an item j that the user does not have, the fit minimises [1]_

    .. math:: \sum_{(u, i, j)} -\ln \sigma(\hat x_{ui} - \hat x_{uj})
        + \tfrac{\lambda}{2} \big(\|w_u\|^2 + \|h_i\|^2 + \|h_j\|^2 + b_i^2 + b_j^2\big)

    (BPR-Opt, equation 4) by stochastic gradient descent. In each epoch, every interaction is met
    once, in random order and with a new j. Only which values of X are stored matters.

    The factors of a user are the result of gradient descent on the loss of their row with the item
    factors fixed, for new users as for those of ``fit``. It starts from the mean of the factors of
    the user's items. Its items j are drawn uniformly, by a generator seeded with the row, so that
    the same row always has the same factors.

    Parameters
    ----------
    n_components : int, default=64
        Number of factors. Typical range: 64 to 512.
    lambda_ : float, default=0.01
        L2 penalty on the factors and biases, for each pair in which they occur. Typical range:
        0.001 to 0.1, on a logarithmic scale.
    negatives : {"popularity", "uniform"}, default="popularity"
        Distribution from which `fit` draws the items j: in proportion to their numbers of users,
        or uniformly as in [1]_. Popular items j need fewer epochs, and rank better on data where
        uniform ones are mostly items that nobody knows.
    learning_rate : float, default=0.1
        Adagrad's learning rate, with one accumulated squared gradient for each factor vector.
    batch_size : int, default=20_000
        Number of pairs in a step. Larger batches are faster, and smaller ones take more steps in
        an epoch.
    max_epochs : int, default=30
        Number of epochs.
    n_fold_in_steps : int, default=30
        Number of gradient steps that find the factors of a user. With 0, they are the mean of the
        factors of the user's items, which takes less time and ranks almost as well.
    random_state : int, RandomState instance or None, default=None
        Seed of the first factors, the order of the interactions, and the items j.

    Attributes
    ----------
    item_factors_ : ndarray of shape (n_items, n_components)
        Factors of each item, in the precision of X; zero for items without users.
    components_ : ndarray of shape (n_components, n_items)
        The same array transposed, as scikit-learn's decompositions have it.
    item_bias_ : ndarray of shape (n_items,)
        Bias of each item; the lowest one for items without users.
    loss_curve_ : list of float
        Mean of :math:`-\ln \sigma(\hat x_{ui} - \hat x_{uj})` over the pairs of each epoch.
    n_iter_ : int
        Number of epochs.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items where X is a DataFrame with names.

    See Also
    --------
    WMF : Factors fitted to all pairs in closed form, which usually rank better.

    References
    ----------
    .. [1] S. Rendle, C. Freudenthaler, Z. Gantner and L. Schmidt-Thieme, "BPR: Bayesian
       Personalized Ranking from Implicit Feedback", UAI 2009.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklrec.factorization import BPR
    >>> X = csr_array([[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
    >>> bpr = BPR(2, random_state=0).fit(X)
    >>> bpr.predict_ranking(X[:1], k=2)
    array([[3, 2]])
    >>> bpr.transform(X).shape
    (4, 2)
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "lambda_": [Interval(Real, 0, None, closed="left")],
        "negatives": [StrOptions({"popularity", "uniform"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "n_fold_in_steps": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    _suggested_distributions: dict = {
        "n_components": [64, 128, 256, 512],
        "lambda_": loguniform(0.001, 0.1),
    }

    def __init__(
        self,
        n_components: int = 64,
        *,
        lambda_: float = 0.01,
        negatives: str = "popularity",
        learning_rate: float = 0.1,
        batch_size: int = 20_000,
        max_epochs: int = 30,
        n_fold_in_steps: int = 30,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.lambda_ = lambda_
        self.negatives = negatives
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.n_fold_in_steps = n_fold_in_steps
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None) -> BPR:
        """Learn the item factors.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, positive where there is one.
        y : None
            Ignored.

        Returns
        -------
        self : BPR
            The fitted model.

        Raises
        ------
        ValueError
            If the factors become infinite because `learning_rate` is too large.
        """
        X = _ones(self._check_X(X, reset=True))
        self._learn_popularity(X)
        self._begin(X)
        return self._train(X, self._first_factors(X.shape[0]), self.max_epochs)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: MatrixLike, y: Any = None) -> BPR:
        """Train for one epoch on the interactions of some users.

        Their factors are folded in first. The first call is a ``fit`` with one epoch.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of new users, or of those of previous calls.
        y : None
            Ignored.

        Returns
        -------
        self : BPR
            The fitted model.

        Raises
        ------
        ValueError
            If X has another number of items, `n_components` was changed, or the factors become
            infinite because `learning_rate` is too large.
        """
        first = not self.__sklearn_is_fitted__()
        X = _ones(self._check_X(X, reset=first))
        if not first and self.n_components != self._n_features_out:
            raise ValueError(
                f"n_components={self.n_components}, but the model was fitted with "
                f"{self._n_features_out}: call fit to train another model."
            )
        self._learn_popularity(X, reset=first)
        if first:
            self._begin(X)
            return self._train(X, self._first_factors(X.shape[0]), 1)
        return self._train(X, self._fold_in(X), 1)

    def _begin(self, X: sp.csr_array) -> None:
        """Draw the seed and the first item factors."""
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.item_factors_ = self._first_factors(X.shape[1], 1).astype(X.dtype)
        self.item_bias_ = np.zeros(X.shape[1], dtype=X.dtype)
        self._squares = (np.zeros(X.shape[1]), np.zeros(X.shape[1]))
        self.loss_curve_: list[float] = []

    def _first_factors(self, n: int, which: int = 0) -> np.ndarray:
        rng = np.random.default_rng([self._seed, which])
        return rng.normal(scale=0.1 / np.sqrt(self.n_components), size=(n, self.n_components))

    def _train(self, X: sp.csr_array, W: np.ndarray, n_epochs: int) -> BPR:
        # What scores depend on besides the fitted attributes.
        self._folding = (self.lambda_, self.n_fold_in_steps)
        H, b = self.item_factors_, self.item_bias_
        users = _Parameters(W.astype(H.dtype), np.zeros(len(W)))
        items = _Parameters(H.copy(), self._squares[0].copy())
        biases = _Parameters(b.copy(), self._squares[1].copy())
        sampler = NegativeSampler(X, negative_weights(X, self.negatives))
        known = self._known_items()
        with fit_progress(self, X, max_subtasks=n_epochs) as step:
            for _ in range(n_epochs):
                rng = np.random.default_rng([self._seed, 2, len(self.loss_curve_)])
                pairs = pair_batches(X, sampler, self.batch_size, rng)
                self.loss_curve_.append(self._epoch(pairs, users, items, biases))
                # Nothing is known of an item that nobody has: no factors, and the last place.
                H = np.where(known[:, None], items.values, 0)
                b = np.where(known, biases.values, biases.values.min())
                if step("epoch", item_factors_=H, item_bias_=b):
                    break
        self.item_factors_, self.item_bias_ = H, b
        self._squares = (items.squares, biases.squares)
        self.n_iter_ = len(self.loss_curve_)
        return self

    def _epoch(
        self,
        pairs: Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]],
        users: _Parameters,
        items: _Parameters,
        biases: _Parameters,
    ) -> float:
        """Take a step for each batch of pairs; return the mean loss."""
        loss, n_pairs = 0.0, 0
        for of_user, positive, negative in pairs:
            rows, row = _compact(of_user, len(users.values))
            both = np.column_stack([positive, negative])
            columns, column = _compact(both, len(items.values))
            W, H, b = users.values[rows], items.values[columns], biases.values[columns]
            with np.errstate(over="ignore", invalid="ignore"):  # told below
                loss_of_batch, *gradients = loss_and_gradients(row, column, W, H, b, self.lambda_)
            if not np.isfinite(loss_of_batch):
                raise ValueError(
                    f"The factors became infinite with learning_rate={self.learning_rate}: "
                    "it must be smaller."
                )
            users.step(rows, gradients[0], self.learning_rate)
            items.step(columns, gradients[1], self.learning_rate)
            biases.step(columns, gradients[2], self.learning_rate)
            loss += loss_of_batch
            n_pairs += len(row)
        return loss / max(1, n_pairs)

    def _fold_in(self, X: sp.csr_array) -> np.ndarray:
        X = take_entries(X, self._known_items(X.indices))
        U = np.zeros((X.shape[0], self._n_features_out), dtype=self.item_factors_.dtype)
        for rows in _of_few_entries(X.indptr):
            U[rows] = self._descend(X[rows])
        return U

    def _descend(self, X: sp.csr_array) -> np.ndarray:
        """Return the factors of the users of some rows, by gradient descent on their mean losses.

        The penalty of a step is that at its end (a proximal step), which is stable for any.
        """
        lambda_, n_steps = self._folding
        H, b = self.item_factors_, self.item_bias_
        row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        negatives = NegativeSampler(X).at(row[:, None], uniform_by_row(X, n_steps, 0))
        U = np.zeros((X.shape[0], H.shape[1]), dtype=H.dtype)
        # User by user, as the factors of one user's items fit into the cache.
        for user in np.flatnonzero(np.diff(X.indptr)):
            entries = slice(X.indptr[user], X.indptr[user + 1])
            own = X.indices[entries]
            n = len(own)
            of_items, bias = H.take(own, axis=0), b[own]
            u = of_items.mean(axis=0)
            steps = n_steps if n < X.shape[1] else 0  # who has all items has no others
            for others in negatives[entries, :steps].T:
                difference = of_items - H.take(others, axis=0)
                weight = expit(b[others] - bias - difference @ u)
                u = (u + (STEP / n) * (weight @ difference)) / (1 + STEP * lambda_)
            U[user] = u
        return U


@dataclass
class _Parameters:
    """Vectors or numbers with the sums of their squared gradients, for Adagrad.

    A vector has one sum, of the mean squares of its gradients, so that its steps have the
    direction of the gradient.
    """

    values: np.ndarray
    squares: np.ndarray

    def step(self, rows: np.ndarray, gradient: np.ndarray, learning_rate: float) -> None:
        """Take a step along the gradient, an array of which only the given `rows` are not zero."""
        flat = gradient.reshape(len(rows), -1)
        self.squares[rows] += np.einsum("ij,ij->i", flat, flat) / flat.shape[1]
        rate = learning_rate / np.sqrt(self.squares[rows] + np.finfo(np.float32).tiny)
        flat *= rate.astype(flat.dtype)[:, None]
        self.values[rows] -= gradient


def loss_and_gradients(
    row: np.ndarray,
    column: np.ndarray,
    W: np.ndarray,
    H: np.ndarray,
    b: np.ndarray,
    lambda_: float,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Return the loss of pairs and the gradient of the loss with its penalty.

    Parameters
    ----------
    row : ndarray of int of shape (n_pairs,)
        User of each pair, in ascending order, each of the rows of W at least once.
    column : ndarray of int of shape (n_pairs, 2)
        The user's item and the other item of each pair.
    W : ndarray of shape (n_users, n_components)
        User factors.
    H : ndarray of shape (n_items, n_components)
        Item factors.
    b : ndarray of shape (n_items,)
        Item biases.
    lambda_ : float
        Penalty of each vector, for each pair that it occurs in.

    Returns
    -------
    loss : float
        Sum of ``-log(sigmoid(difference of scores))``, without the penalty.
    of_users, of_items, of_biases : ndarrays of the shapes of W, H and b
        Gradients.
    """
    x = b[column[:, 0]] - b[column[:, 1]]
    for pairs in blocks(len(row), PAIRS_AT_ONCE):
        difference = H.take(column[pairs, 0], axis=0)
        difference -= H.take(column[pairs, 1], axis=0)
        x[pairs] += np.einsum("ij,ij->i", W.take(row[pairs], axis=0), difference)
    loss = float(np.logaddexp(0, -x).sum(dtype=np.float64))
    slope = expit(-x)
    # The derivative with respect to each score, as a matrix of users and items.
    indptr = 2 * np.searchsorted(row, np.arange(len(W) + 1))
    D = sp.csr_array(
        (np.column_stack([-slope, slope]).ravel(), column.ravel(), indptr), shape=(len(W), len(H))
    )
    times_user = lambda_ * np.bincount(row).astype(W.dtype)
    times_item = lambda_ * np.bincount(column.ravel(), minlength=len(H)).astype(W.dtype)
    of_users = D @ H
    of_users += times_user[:, None] * W
    of_items = D.T @ W
    of_items += times_item[:, None] * H
    of_biases = np.bincount(D.indices, weights=D.data, minlength=len(H)).astype(b.dtype)
    of_biases += times_item * b
    return loss, of_users, of_items, of_biases


def _compact(numbers: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct ones of some numbers below n, and the place of each among them.

    As ``np.unique`` does, without sorting.
    """
    occurs = np.zeros(n, dtype=bool)
    occurs[numbers] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[numbers]


def _ones(X: sp.csr_array) -> sp.csr_array:
    """Return X with all stored values replaced by 1."""
    return sp.csr_array((np.ones_like(X.data), X.indices, X.indptr), shape=X.shape)


def _of_few_entries(indptr: np.ndarray) -> Iterator[slice]:
    """Cut rows into slices of at most ENTRIES_AT_ONCE entries, or of one row."""
    start = 0
    while start < len(indptr) - 1:
        end = np.searchsorted(indptr, indptr[start] + ENTRIES_AT_ONCE, side="right") - 1
        end = max(start + 1, int(end))
        yield slice(start, end)
        start = end
