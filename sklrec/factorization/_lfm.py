"""The latent factor model of explicit values."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from scipy.stats import loguniform
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state

from .._memory import check_memory
from .._sklearn import Interval, StrOptions, _fit_context, fit_progress, n_threads
from .._typing import MatrixLike
from ._base import BaseFactorRecommender
from ._lfm_solvers import State, alternate, descend, solve_biases, with_values
from ._ridge import RidgeRows


class LFM(BaseFactorRecommender):
    r"""Latent factor model: the value of an entry from a user bias, an item bias and factors.

    Without factors, the default, it is the baseline of [1]_ (equation 4):

    .. math:: \min_{\alpha, \beta} \sum_{(u, i)} (\alpha + \beta_u + \beta_i - T_{ui})^2
        + \lambda \Big(\sum_u \beta_u^2 + \sum_i \beta_i^2\Big)

    over the entries of T that are stored. With ``n_components > 0`` the fit is :math:`\alpha +
    \beta_u + \beta_i + \gamma_u \cdot \gamma_i`, and :math:`\lambda (\sum_u \|\gamma_u\|^2 +
    \sum_i \|\gamma_i\|^2)` joins the penalty [2]_.

    The model learns from the differences between stored values, such as ratings, and not from
    which values are stored. It therefore refuses a matrix of ones. It predicts how much a user
    would like an item, not which items the user will choose. Models of implicit feedback, even
    popularity, usually rank better.

    The bias and the factors of a user are found by ridge regression on the values of their row,
    for new users as for those of ``fit``.

    Parameters
    ----------
    n_components : int, default=0
        Number of factors. With 0, all users get the same ranking except for the items that they
        have seen. With factors, ``similar_items`` compares items by the cosine of their factors.
    lambda_ : float, default=5.4
        L2 penalty on the biases and factors. Compared with the number of entries of a user or an
        item: those with few entries stay near zero. Typical range: 1 to 100, on a logarithmic
        scale.
    threshold : float or None, default=None
        Learn from the labels ``value > threshold``, 1 or 0, instead of the values.
    solver : {"exact", "gd"}, default="exact"
        "exact" solves one linear system for ``n_components=0``; with factors it alternates
        between the exact solutions for the users and for the items. "gd" is plain gradient
        descent as in [1]_. Without factors both reach the only minimum; with factors they may
        reach different local minima.
    learning_rate : float, default=1e-4
        Step size of "gd". It must be below about 1 / (d + `lambda_`), where d is the largest
        number of entries of a user or an item.
    max_iter : int, default=10_000
        Maximum number of iterations. Solving one linear system counts as one iteration.
    tol : float, default=1e-7
        Stop when an iteration lowers the loss by no more than this share of it. A single linear
        system is always solved to the precision of float64.
    random_state : int, RandomState instance or None, default=None
        Seed of the first factors.

    Attributes
    ----------
    intercept_ : float
        The constant :math:`\alpha`, which is not penalised.
    item_bias_ : ndarray of shape (n_items,)
        Bias of each item, in the precision of X; zero for items without entries.
    item_factors_ : ndarray of shape (n_items, n_components)
        Factors of each item, in the precision of X. Those of the exact solver are orthogonal and
        in descending order of their norms.
    components_ : ndarray of shape (n_components, n_items)
        The same array transposed, as scikit-learn's decompositions have it.
    loss_curve_ : list of float
        The objective, a sum, after each iteration.
    n_iter_ : int
        Number of iterations.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items where X is a DataFrame with names.

    See Also
    --------
    sklrec.linear.EASE : Learns from which values are stored.

    Notes
    -----
    The second derivative of the objective with respect to :math:`\alpha` is twice the number of
    entries, so gradient descent on :math:`\alpha` with the learning rate of [1]_ diverges from
    10,000 entries on. Each step therefore sets :math:`\alpha` to its best value, the mean of the
    residuals of the biases and factors. This is gradient descent on the objective minimised over
    :math:`\alpha`.

    Stored zeros count as missing, as everywhere in this package.

    References
    ----------
    .. [1] S. Peng, C. Spears, H. Qiu and T. Jiang, "CSE 258 Assignment 2", UC San Diego.
    .. [2] Y. Koren, R. Bell and C. Volinsky, "Matrix Factorization Techniques for Recommender
       Systems", Computer 42(8), 2009.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklrec.factorization import LFM
    >>> X = csr_array([[5, 3, 0, 1], [4, 0, 4, 1], [1, 1, 5, 0]])
    >>> lfm = LFM(lambda_=1.0).fit(X)
    >>> lfm.item_bias_.round(2)
    array([ 0.45, -0.45,  1.36, -1.36], dtype=float32)
    >>> lfm.predict_ranking(csr_array([[5, 0, 0, 0]]), k=3)
    array([[2, 1, 3]])
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 0, None, closed="left")],
        "lambda_": [Interval(Real, 0, None, closed="neither")],
        "threshold": [Interval(Real, 0, None, closed="left"), None],
        "solver": [StrOptions({"exact", "gd"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }
    _suggested_distributions: dict = {"lambda_": loguniform(1, 100)}

    def __init__(
        self,
        n_components: int = 0,
        *,
        lambda_: float = 5.4,
        threshold: float | None = None,
        solver: str = "exact",
        learning_rate: float = 1e-4,
        max_iter: int = 10_000,
        tol: float = 1e-7,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.lambda_ = lambda_
        self.threshold = threshold
        self.solver = solver
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None) -> LFM:
        """Learn the intercept, the item biases and the item factors.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Values such as ratings, positive where observed; zeros are not observed.
        y : None
            Ignored.

        Returns
        -------
        self : LFM
            The fitted model.

        Raises
        ------
        ValueError
            If X has no stored values or all of them are equal, if `learning_rate` is too large
            for X, or `lambda_` too small to solve for the parameters.
        MemoryError
            If the machine lacks the memory; nothing is allocated then.

        Warns
        -----
        UserWarning
            If `threshold` gives all values the same label.
        ConvergenceWarning
            If `max_iter` iterations were not enough.
        """
        X = self._check_X(X, reset=True)
        self._check_memory(X)
        self._learn_popularity(X)
        # What scores depend on besides the fitted attributes.
        self._lambda, self._threshold = float(self.lambda_), self.threshold
        T = self._targets(X)
        self._check_differences(X, T)
        losses: list[float] = []
        converged = stopped = False
        with fit_progress(self, X, max_subtasks=self.max_iter) as step:
            for state in self._states(T):
                fitted = {
                    "intercept_": state.intercept,
                    "item_bias_": state.items[:, 0].astype(X.dtype),
                    "item_factors_": state.items[:, 1:].astype(X.dtype, order="C"),
                }
                losses.append(state.loss)
                stopped = step("iteration", **fitted)
                converged = state.is_minimum or (
                    len(losses) > 1 and losses[-2] - losses[-1] <= self.tol * losses[-2]
                )
                if converged or stopped or len(losses) == self.max_iter:
                    break
        for name, value in fitted.items():
            setattr(self, name, value)
        self.loss_curve_ = losses
        self.n_iter_ = len(losses)
        if not (converged or stopped):
            warnings.warn(
                f"LFM had not converged after max_iter={self.max_iter} iterations; "
                "use more, or a larger tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Predict the value of all items for each user.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Values of each user, known from ``fit`` or not.

        Returns
        -------
        scores : ndarray of shape (n_users, n_items)
            Predicted values, or labels if the model was fitted with a `threshold`. For a row
            without known items, the popularity of the items.
        """
        return super().decision_function(X)

    def _scores(self, X: sp.csr_array) -> np.ndarray:
        P = self._ridge(X).solve()
        scores = self._product(P[:, 1:])
        scores += (self.intercept_ + P[:, :1]).astype(scores.dtype)
        return scores

    def _fold_in(self, X: sp.csr_array) -> np.ndarray:
        return self._ridge(X).solve()[:, 1:]

    def _ridge(self, X: sp.csr_array) -> RidgeRows:
        """Return the regressions of each user's bias and factors, in float64."""
        T = self._targets(X)
        target = T.data - self.intercept_ - self.item_bias_[T.indices]
        V = np.insert(self.item_factors_.astype(np.float64), 0, 1, axis=1)
        return RidgeRows(with_values(T, np.ones(T.nnz)), V, self._lambda, target)

    def _compares_items(self) -> bool:
        return (self._n_features_out if hasattr(self, "item_factors_") else self.n_components) > 0

    def _targets(self, X: sp.csr_array) -> sp.csr_array:
        """Return what is learned: the stored values, or their labels, in float64."""
        # Compared in the precision of X, in which the threshold 0.1 equals a stored 0.1.
        above = X.data if self._threshold is None else X.data > X.dtype.type(self._threshold)
        return sp.csr_array((above.astype(np.float64), X.indices, X.indptr), shape=X.shape)

    def _check_differences(self, X: sp.csr_array, T: sp.csr_array) -> None:
        if T.nnz == 0:
            raise ValueError(f"X of shape {X.shape} has no stored values for LFM to learn from.")
        if X.data.min() == X.data.max():
            raise ValueError(
                f"All {X.nnz} stored values of X are {X.data[0]:g}, but LFM learns from "
                "differences between them; pass ratings, or use EASE or PopularityRecommender, "
                "which learn from ones."
            )
        if T.data.min() == T.data.max():
            side = "above" if T.data[0] else "at most"
            warnings.warn(
                f"All {X.nnz} stored values of X are {side} threshold={self.threshold}, between "
                f"{X.data.min():g} and {X.data.max():g}: all labels are {T.data[0]:g}, so there "
                "is nothing to learn and items are ranked by popularity.",
                UserWarning,
                stacklevel=4,
            )

    def _check_memory(self, X: sp.csr_array) -> None:
        """Refuse a fit that the machine lacks the memory for.

        The bytes are those that ``benchmarks/memory_guards.py`` finds: without factors the
        residuals, with factors the regressions of the users or the decomposition that balances
        users and items, whichever is larger.
        """
        (n_users, n_items), width = X.shape, 8 * (1 + self.n_components)
        if self.n_components == 0:
            n_bytes = 40 * X.nnz
        else:
            ridge = 56 * X.nnz + 2 * width * (n_users + n_items)
            balance = 28 * X.nnz + width * (5 * n_users + 8 * n_items)
            n_bytes = max(ridge, balance) + n_threads() * 2**24
        check_memory(n_bytes, f"LFM with n_components={self.n_components} on {X.nnz:,} values")

    def _states(self, T: sp.csr_array) -> Iterator[State]:
        """Return the solver's iterations."""
        rng = check_random_state(self.random_state)
        if T.data.min() == T.data.max():  # one label: factors would take long to vanish
            zeros = np.zeros((T.shape[1], 1 + self.n_components))
            return iter([State(float(T.data[0]), zeros, 0.0, is_minimum=True)])
        if self.solver == "gd":
            return descend(T, self.lambda_, self.n_components, rng, self.learning_rate)
        if self.n_components > 0:
            return alternate(T, self.lambda_, self.n_components, rng)
        return iter([solve_biases(T, self.lambda_)])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.recommender_tags.personalized = self.n_components > 0
        tags.recommender_tags.learns_from_values = True
        return tags
