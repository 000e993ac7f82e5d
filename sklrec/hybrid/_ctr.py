"""Collaborative topic regression."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from scipy.stats import loguniform, randint
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.utils import check_random_state

from .._sklearn import Interval, _fit_context, fit_progress
from .._typing import MatrixLike
from ..base import ItemFeaturesMixin
from ..factorization._base import BaseFactorRecommender
from ..factorization._ridge import RidgeRows
from ._features import check_not_empty
from ._least_squares import PROBLEM, LeastSquares, initial_factors

# Steps of bisection for the multiplier of the simplex: the interval is halved in each.
N_BISECTIONS = 60


class CTR(ItemFeaturesMixin, BaseFactorRecommender):
    r"""Collaborative topic regression, CTR.

    Factors of items are close to the proportions :math:`\theta` of topics in their text, which
    latent Dirichlet allocation finds. The model minimises [1]_

    .. math:: \frac12 \sum_{i, j} C_{ij} (R_{ij} - u_i^\top v_j)^2
        + \frac{\lambda_u}2 \sum_i \|u_i\|^2 + \frac{\lambda_v}2 \sum_j \|v_j - \theta_j\|^2

    where R is 1 for the interactions of user i and 0 for all other items that have users. The
    confidence C is a for an interaction of 1, ``b + (a - b) x`` for one of x, and the small number
    b for all others. Users and items are solved for exactly, in turn.

    A user's factors are the solution for their row with the item factors fixed, for new users as
    for those of ``fit``. Items without users in ``fit``, and new ones, are at :math:`\theta`.

    Parameters
    ----------
    n_components : int, default=50
        Number of topics and factors. Typical range: 50 to 200.
    lambda_u : float, default=0.1
        L2 penalty on the factors of users. Typical range: 0.01 to 1, on a logarithmic scale.
    lambda_v : float, default=1.0
        L2 penalty on the distance of item factors from topics. Typical range: 0.1 to 100, on a
        logarithmic scale.
    confidence : float, default=1.0
        Confidence a of an interaction. A factor of both confidences and both penalties changes
        nothing, so that a search need not vary it.
    unobserved_weight : float, default=0.01
        Confidence b of the pairs without an interaction. Typical range: 0.001 to 0.1, on a
        logarithmic scale.
    fit_topics : bool, default=False
        Whether to change the topic proportions of items to fit their users, after each iteration.
        Otherwise they stay those of latent Dirichlet allocation, as in the authors' experiments.
    max_iter : int, default=20
        Number of iterations, each of which solves for all users and for all items.
    n_topic_iter : int, default=10
        Number of passes over the texts in latent Dirichlet allocation.
    random_state : int, RandomState instance or None, default=None
        Seed of latent Dirichlet allocation, or of the initial factors if there is no content.

    Attributes
    ----------
    item_factors_ : ndarray of shape (n_items, n_components)
        Factors of each item, in the precision of X.
    components_ : ndarray of shape (n_components, n_items)
        The same array transposed, as scikit-learn's decompositions have it.
    lda_ : LatentDirichletAllocation
        Model of the topics; ``lda_.components_`` has the words of each. Only with content.
    loss_curve_ : list of float
        The objective after each iteration, without the text.
    n_iter_ : int
        Number of iterations.
    n_item_features_ : int
        Number of words, 0 without content.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items where X is a DataFrame with names.

    See Also
    --------
    CVAE : With a variational autoencoder instead of topics.
    CDL : With a denoising autoencoder instead of topics.

    Notes
    -----
    The defaults are those that [2]_ found for CTR; [1]_ has 200 topics, ``lambda_u=0.01`` and
    ``lambda_v=100``. With ``fit_topics=True``, the topics of item j maximise
    :math:`\gamma_j^\top \log \theta_j - \lambda_v/2 \, \|v_j - \theta_j\|^2` on the simplex, where
    :math:`\gamma_j` is the Dirichlet parameter of the text. It is solved exactly; the words are not
    assigned to topics again. The objective then has the first of these terms too.

    An item without words has the same proportion of all topics. Without content,
    :math:`\theta = 0`: this is weighted matrix factorization with these confidences.

    References
    ----------
    .. [1] C. Wang and D. M. Blei, "Collaborative Topic Modeling for Recommending Scientific
       Articles", KDD 2011.
    .. [2] X. Li and J. She, "Collaborative Variational Autoencoder for Recommender Systems",
       KDD 2017.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> from sklrec.hybrid import CTR
    >>> titles = ["cats and dogs", "dogs", "cats and mice", "shares and bonds", "bonds", "shares"]
    >>> words = CountVectorizer()
    >>> F = words.fit_transform(titles)
    >>> X = [[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1]]
    >>> ctr = CTR(2, random_state=0).fit(X, item_features=F)
    >>> ctr = ctr.with_items(words.transform(["bonds of banks", "dogs of neighbours"]))
    >>> ctr.predict_ranking([[1, 1, 0, 0, 0, 0, 0, 0]], k=1, items=[6, 7])
    array([[7]])
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "lambda_u": [Interval(Real, 0, None, closed="neither")],
        "lambda_v": [Interval(Real, 0, None, closed="neither")],
        "confidence": [Interval(Real, 0, None, closed="neither")],
        "unobserved_weight": [Interval(Real, 0, None, closed="left")],
        "fit_topics": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_topic_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    _suggested_distributions: dict = {
        "n_components": randint(50, 201),
        "lambda_u": loguniform(0.01, 1),
        "lambda_v": loguniform(0.1, 100),
        "unobserved_weight": loguniform(0.001, 0.1),
    }

    def __init__(
        self,
        n_components: int = 50,
        *,
        lambda_u: float = 0.1,
        lambda_v: float = 1.0,
        confidence: float = 1.0,
        unobserved_weight: float = 0.01,
        fit_topics: bool = False,
        max_iter: int = 20,
        n_topic_iter: int = 10,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.lambda_u = lambda_u
        self.lambda_v = lambda_v
        self.confidence = confidence
        self.unobserved_weight = unobserved_weight
        self.fit_topics = fit_topics
        self.max_iter = max_iter
        self.n_topic_iter = n_topic_iter
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None, *, item_features: Any = None) -> CTR:
        """Learn the topics and the item factors.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.
        item_features : {array-like, sparse array, DataFrame} of shape (n_items, n_words), \
ItemFeatures or None
            Number of times each word is in the text of each item.

        Returns
        -------
        self : CTR
            The fitted model.

        Raises
        ------
        ValueError
            If `item_features` has another number of rows than X has columns, or has negative
            values or no words; if `unobserved_weight` is not smaller than `confidence`.
        """
        X = self._check_X(X, reset=True)
        F = self._check_item_features(item_features, X)
        self._learn_popularity(X)
        rng = check_random_state(self.random_state)
        self._problem = tuple(getattr(self, name) for name in PROBLEM)
        problem = LeastSquares(*self._problem)
        self.__dict__.pop("lda_", None)
        gamma = None
        if F is None:
            theta = np.zeros((X.shape[1], self.n_components), dtype=X.dtype)
            V = initial_factors(theta.shape, rng, X.dtype)
        else:
            F = _checked_words(F)
            check_not_empty(F)
            self.lda_ = LatentDirichletAllocation(
                self.n_components, max_iter=self.n_topic_iter, random_state=rng
            ).fit(F)
            V = theta = self._topics(F).astype(X.dtype, copy=False)
            if self.fit_topics:
                gamma = _dirichlet_parameters(theta, F, self.lda_)
        self.loss_curve_: list[float] = []
        with fit_progress(self, X, max_subtasks=self.max_iter) as step:
            for factors, gram, loss in self._iterations(problem, X, V, theta, gamma):
                self.loss_curve_.append(loss)
                stopped = step("iteration", item_factors_=factors, _gram=gram)
                if stopped or len(self.loss_curve_) == self.max_iter:
                    break
        self.item_factors_, self._gram = factors, gram
        self.n_iter_ = len(self.loss_curve_)
        return self

    def _iterations(
        self,
        problem: LeastSquares,
        X: sp.csr_array,
        V: np.ndarray,
        theta: np.ndarray,
        gamma: np.ndarray | None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """Yield item factors, the weighted Gram matrix of known ones, and the objective."""
        known = self._popularity > 0
        Xt = X.T.tocsr()
        while True:
            U = problem.users(X, V, problem.gram(V[known]), known).solve()
            V = problem.items(Xt, U, theta)
            loss = problem.objective(Xt, U, V, theta)
            if gamma is not None:
                loss -= float(np.sum(gamma * np.log(theta), dtype=np.float64))
                theta = fitted_topics(gamma, V, problem.lambda_v)
                V = np.where(known[:, None], V, theta)
            yield V, problem.gram(V[known]), loss

    def _items_changed(self) -> None:
        known = self._popularity > 0
        self._gram = LeastSquares(*self._problem).gram(self.item_factors_[known])

    def _ridge(self, X: sp.csr_array) -> RidgeRows:
        problem = LeastSquares(*self._problem)
        return problem.users(X, self.item_factors_, self._gram, self._popularity > 0)

    def _known_items(self, items: Any = slice(None)) -> np.ndarray:
        return super()._known_items(items) | self._described[items]

    def _topics(self, F: Any) -> np.ndarray:
        """Return the topic proportions of texts, of shape (n_items, n_components)."""
        return self.lda_.transform(F)

    def _add_items(self, F: Any) -> None:
        V = self.item_factors_
        theta = self._topics(_checked_words(F)).astype(V.dtype, copy=False)
        self.item_factors_ = np.concatenate([V, theta])

    def __getstate__(self) -> dict[str, Any]:
        """Return the parameters and the fitted attributes, with the topics as arrays."""
        state = dict(super().__getstate__())
        if "lda_" in state:
            lda = state.pop("lda_")
            arrays = {name: value for name, value in vars(lda).items() if name.endswith("_")}
            arrays.pop("random_state_", None)  # for fits alone
            state["_lda"] = arrays
            state["_lda_params"] = {**lda.get_params(), "random_state": None}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the model of topics again."""
        state = dict(state)
        arrays, params = state.pop("_lda", None), state.pop("_lda_params", None)
        super().__setstate__(state)
        if arrays is not None:
            self.lda_ = LatentDirichletAllocation(**params)
            vars(self.lda_).update(arrays)


def fitted_topics(gamma: np.ndarray, V: np.ndarray, lambda_v: float) -> np.ndarray:
    r"""Return the topic proportions that fit texts and item factors best.

    They maximise :math:`\gamma^\top \log \theta - \lambda_v/2 \, \|v - \theta\|^2` on the simplex:
    with a multiplier m, each is the positive root of
    :math:`\lambda_v \theta^2 + (m - \lambda_v v) \theta - \gamma = 0`, which falls with m, and
    bisection finds the m for which they add up to 1.

    Parameters
    ----------
    gamma : ndarray of shape (n_items, n_components)
        Positive Dirichlet parameters.
    V : ndarray of shape (n_items, n_components)
        Item factors.
    lambda_v : float
        Penalty.

    Returns
    -------
    theta : ndarray of shape (n_items, n_components)
        In the precision of `V`; rows add up to 1.
    """
    v, gamma = V.astype(np.float64), gamma.astype(np.float64)

    def roots(multiplier: np.ndarray) -> np.ndarray:
        half = (multiplier - lambda_v * v) / 2
        # Of the two ways to write the root, the one without a difference of like numbers.
        far = np.sqrt(half**2 + lambda_v * gamma)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(half > 0, gamma / (half + far), (far - half) / lambda_v)

    # At these, a single topic, and all together, are at least and at most 1.
    low = (gamma + lambda_v * (v - 1)).max(axis=1, keepdims=True)
    share = 1 / v.shape[1]
    high = (gamma / share + lambda_v * (v - share)).max(axis=1, keepdims=True)
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        too_much = roots(middle).sum(axis=1, keepdims=True) > 1
        low, high = np.where(too_much, middle, low), np.where(too_much, high, middle)
    theta = roots((low + high) / 2)
    theta /= theta.sum(axis=1, keepdims=True)
    return theta.astype(V.dtype, copy=False)


def _dirichlet_parameters(theta: np.ndarray, F: Any, lda: LatentDirichletAllocation) -> np.ndarray:
    """Return the parameters with the mean `theta`, whose sum is that of the prior and the words."""
    total = lda.doc_topic_prior_ * theta.shape[1] + np.asarray(F.sum(axis=1))
    return theta * total.reshape(-1, 1)


def _checked_words(F: Any) -> Any:
    """Return features that count words; negative ones are an error."""
    least = F.min()
    if least < 0:
        raise ValueError(
            f"item_features must be the numbers of words, which are not negative, got {least:g}."
        )
    return F
