"""Weighted matrix factorization of implicit feedback."""

from __future__ import annotations

from copy import deepcopy
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from scipy.stats import loguniform
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .._device import gpu_named
from .._matrix import check_matrix
from .._memory import check_memory
from .._sklearn import Interval, StrOptions, _fit_context, fit_progress, n_threads
from .._typing import MatrixLike
from ._base import BaseFactorRecommender
from ._conjugate_gradients import CHUNK_BYTES
from ._ridge import RidgeRows
from ._wmf_solvers import Objective, add_users, alternate, curvature_of, in_eigenbasis

if TYPE_CHECKING:
    import torch

# Matrices of components by components in float64: a Gram matrix, its eigenvectors, work space.
N_SQUARES = 5


class WMF(BaseFactorRecommender):
    r"""Weighted matrix factorization by alternating least squares: iALS, or implicit ALS.

    The factors of users and items minimise [2]_

    .. math:: \sum_{(u, i)} x_{ui} (1 - w_u^\top h_i)^2 + \alpha_0 \sum_{u, i} (w_u^\top h_i)^2
        + \lambda \Big(\sum_u (n_u + \alpha_0 I)^\nu \|w_u\|^2
        + \sum_i (n_i + \alpha_0 U)^\nu \|h_i\|^2\Big)

    The first sum is over the stored values of X, which are confidences; the second is over all
    pairs of the U users and I items, or only over those without a stored value [1]_. :math:`n_u`
    and :math:`n_i` are the numbers of stored values of a user and an item. Users and items are
    solved for in turn.

    A user's factors are the exact solution for their row with the item factors fixed, for new users
    as for those of ``fit``, whatever the solver.

    Parameters
    ----------
    n_components : int, default=64
        Number of factors. Typical range: 64 to 1,024; more factors need more time and usually
        rank better.
    lambda_ : float, default=0.01
        L2 penalty on the factors, multiplied as `frequency_exponent` says. The best value differs
        by orders of magnitude between data sets. Typical range: 1e-4 to 0.1, on a logarithmic
        scale.
    unobserved_weight : float, default=0.1
        Weight :math:`\alpha_0` of the pairs without a stored value, relative to a stored value of
        1. Typical range: 0.01 to 1, on a logarithmic scale.
    frequency_exponent : float, default=1.0
        Exponent :math:`\nu` of the number of values in the penalty of a user or an item. With 0
        the penalty is the same for all [1]_; with 1 it grows as the loss does [2]_.
    zeros : {"all", "unobserved"}, default="all"
        Pairs whose score is drawn to zero with the weight `unobserved_weight`: "all" as in [2]_, or
        those without a stored value as in [1]_. In the second case the weight of a stored value x
        is ``unobserved_weight + x``, and its score is drawn to one only.
    binary : bool, default=False
        Whether all stored values count as 1. Otherwise they are confidences, such as numbers of
        plays, best after a logarithm.
    solver : {"cg", "cholesky"}, default="cg"
        "cg" takes a few steps of preconditioned conjugate gradients from the factors of the
        previous iteration [3]_; "cholesky" solves exactly. Both get as far in an iteration; "cg" is
        faster, above all with many factors.
    cg_steps : int, default=2
        Number of steps of "cg" in an iteration.
    max_iter : int, default=16
        Number of iterations, each of which solves for all users and for all items.
    device : str or torch.device, default="cpu"
        Device of the iterations of ``fit``: "cpu", "cuda", "cuda:1", or "auto" for CUDA if
        available. All but "cpu" need torch. The factors are in main memory, where users are folded
        in. Scores are those of a fit on the CPU, to rounding.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial item factors.

    Attributes
    ----------
    item_factors_ : ndarray of shape (n_items, n_components)
        Factors of each item, in the precision of X: orthogonal, in descending order of their
        norms.
    components_ : ndarray of shape (n_components, n_items)
        The same array transposed, as scikit-learn's decompositions have it.
    loss_curve_ : list of float
        The objective after each iteration of ``fit``.
    n_iter_ : int
        Number of iterations of ``fit``.
    n_samples_seen_ : int
        Number of users of ``fit`` and ``partial_fit``.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items where X is a DataFrame with names.

    See Also
    --------
    sklrec.linear.EASE : Scores without factors, in closed form.

    Notes
    -----
    The objective of [1]_ with the confidences :math:`1 + \alpha x` and the penalty
    :math:`\lambda'`, divided by :math:`\alpha`, is that of ``WMF(zeros="unobserved",
    frequency_exponent=0, unobserved_weight=1 / alpha, lambda_=lambda' / alpha)``. The library
    implicit has the confidences :math:`\alpha x` instead: for ones, replace alpha by
    ``alpha - 1`` in these settings.

    If all stored values are 1, both choices of `zeros` give the same rankings: "all" with
    ``lambda_ / (1 + unobserved_weight)`` in place of the ``lambda_`` of "unobserved".

    The steps of "cg" are preconditioned by the diagonal of the equations of an average row, in the
    basis where the Gram matrix of the other factors is diagonal, so that two are nearly exact.

    References
    ----------
    .. [1] Y. Hu, Y. Koren and C. Volinsky, "Collaborative Filtering for Implicit Feedback
       Datasets", ICDM 2008, equation 3.
    .. [2] S. Rendle, W. Krichene, L. Zhang and Y. Koren, "Revisiting the Performance of iALS on
       Item Recommendation Benchmarks", RecSys 2022.
    .. [3] G. Takács, I. Pilászy and D. Tikk, "Applications of the Conjugate Gradient Method for
       Implicit Feedback Collaborative Filtering", RecSys 2011.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklrec.factorization import WMF
    >>> X = csr_array([[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
    >>> wmf = WMF(2, random_state=0).fit(X)
    >>> wmf.predict_ranking(X[:1], k=2)
    array([[3, 2]])
    >>> wmf.transform(X).shape
    (4, 2)

    A fifth item, chosen by the last two users:

    >>> with_new = csr_array([[1, 1, 0, 0, 0], [1, 1, 0, 1, 0], [0, 0, 1, 1, 1], [0, 1, 1, 1, 1]])
    >>> wmf.with_items(with_new).similar_items(4, k=1)
    array([2])
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "lambda_": [Interval(Real, 0, None, closed="neither")],
        "unobserved_weight": [Interval(Real, 0, None, closed="left")],
        "frequency_exponent": [Interval(Real, 0, None, closed="left")],
        "zeros": [StrOptions({"all", "unobserved"})],
        "binary": ["boolean"],
        "solver": [StrOptions({"cg", "cholesky"})],
        "cg_steps": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "device": "no_validation",  # its types are those of torch
        "random_state": ["random_state"],
    }

    _suggested_distributions: dict = {
        "n_components": [64, 128, 256, 512, 1024],
        "lambda_": loguniform(1e-4, 0.1),
        "unobserved_weight": loguniform(0.01, 1),
    }

    def __init__(
        self,
        n_components: int = 64,
        *,
        lambda_: float = 0.01,
        unobserved_weight: float = 0.1,
        frequency_exponent: float = 1.0,
        zeros: str = "all",
        binary: bool = False,
        solver: str = "cg",
        cg_steps: int = 2,
        max_iter: int = 16,
        device: str | torch.device = "cpu",
        random_state: int | RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.lambda_ = lambda_
        self.unobserved_weight = unobserved_weight
        self.frequency_exponent = frequency_exponent
        self.zeros = zeros
        self.binary = binary
        self.solver = solver
        self.cg_steps = cg_steps
        self.max_iter = max_iter
        self.device = device
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None) -> WMF:
        """Learn the item factors.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Confidences, positive where there is an interaction.
        y : None
            Ignored.

        Returns
        -------
        self : WMF
            The fitted model.

        Raises
        ------
        ValueError
            If `lambda_` is too small for a unique solution in the precision of X.
        MemoryError
            If the machine or the GPU lacks the memory; nothing is allocated then.
        """
        return self._fit(self._check_X(X, reset=True))

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: MatrixLike, y: Any = None) -> WMF:
        """Learn from more users.

        The first call is ``fit``. After it, or after ``fit``, the new users are folded in, and the
        factors of the items are fitted to them and to an approximation of what they were fitted to
        before, in one step. This is much faster than ``fit`` on all users and nearly as good, if
        the new users are fewer than the earlier ones.

        Users that are passed twice count twice. The parameters are those of ``fit``.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Confidences of additional users. For additional items, see :meth:`with_items`.
        y : None
            Ignored.

        Returns
        -------
        self : WMF
            The model.

        Raises
        ------
        ValueError
            As :meth:`fit`.
        MemoryError
            As :meth:`fit`, in the first call.

        Notes
        -----
        The loss of the earlier users with fixed factors is a quadratic function of the factors of
        an item. Its minimum is where they are, and its matrix is replaced by the average of all
        items, in proportion to the weight of the item's pairs. Only this average is kept.
        """
        first = not hasattr(self, "n_features_in_")
        X = self._check_X(X, reset=first)
        if first or not self._popularity.any():  # nothing is known yet
            return self._fit(X)
        X = self._confidences(X)
        objective = self._objective
        weight = self._popularity + objective.unobserved_weight * self.n_samples_seen_
        with fit_progress(self, X, max_subtasks=1) as step:
            H, curvature = add_users(
                X, self.item_factors_, self._gram, objective, weight, self._curvature
            )
            self._learn_popularity(X, reset=False)
            self._set_items(H, curvature)
            step("iteration")
        self.n_samples_seen_ += X.shape[0]
        return self

    def with_items(self, X: MatrixLike) -> WMF:
        """Return a copy of the fitted model whose catalogue ends with new items.

        Users are folded in by their known items. Their factors are then fixed, and the factors of
        each new item are the exact solution for its column, as in an iteration of ``fit``. Those of
        known items stay the same up to a rotation, in which the factors of users must be computed
        again.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items + n_new_items)
            Confidences of users with all items, the known ones first, in the order of ``fit``.
            These should be the users of ``fit``, or others like them: the penalty of the new items
            and their popularity depend on the number of users.

        Returns
        -------
        model : WMF
            The copy, for matrices with ``n_items + n_new_items`` columns.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            If X has no column for a new item, or the names of its first columns are not those of
            ``fit``.
        """
        check_is_fitted(self)
        n_items = self.n_features_in_
        names = self._names_with_new_items(X)
        X = check_matrix(X, "X")
        if X.shape[1] <= n_items:
            raise ValueError(
                f"X must have a column for each of the {n_items} items of fit and then for new "
                f"ones, got {X.shape[1]} columns."
            )
        X = self._confidences(X.astype(self.item_factors_.dtype, copy=False))
        known, new = X[:, :n_items], X[:, n_items:]
        objective, H = self._objective, self.item_factors_
        W = objective.ridge(known, H, self._gram).solve()
        gram = objective.unobserved_weight * (W.T @ W)
        added = objective.ridge(new.T.tocsr(), W, gram).solve()
        model = deepcopy(self)
        model.n_features_in_ = X.shape[1]
        if names is not None:
            model.feature_names_in_ = names
        model._popularity = np.concatenate([self._popularity, new.sum(axis=0, dtype=np.float64)])
        curvature = self._curvature + curvature_of(new, W, objective)
        model._set_items(np.concatenate([H, added]), curvature)
        return model

    def _names_with_new_items(self, X: MatrixLike) -> np.ndarray | None:
        """Return the names of all items, or None if those of ``fit`` had none."""
        known = getattr(self, "feature_names_in_", None)
        if known is None:
            return None
        names = np.asarray(getattr(X, "columns", []), dtype=object)
        if not np.array_equal(names[: known.size], known):
            raise ValueError(
                "The first columns of X must have the names of the items of fit, in their order."
            )
        return names

    def _fit(self, X: sp.csr_array) -> WMF:
        gpu = gpu_named(self.device)
        self._check_memory(X)
        if gpu is not None:
            from ._wmf_on_device import alternate_on_device, check_wmf

            check_wmf(X, self.n_components, gpu)
        objective = self._begin()
        X = self._confidences(X)
        self._learn_popularity(X)
        H = self._start(X.shape[1], X.dtype)
        cg_steps = self.cg_steps if self.solver == "cg" else None
        self.loss_curve_: list[float] = []
        with fit_progress(self, X, max_subtasks=self.max_iter) as step:
            if gpu is None:
                states = alternate(X, H, objective, cg_steps)
            else:
                states = alternate_on_device(X, H, objective, cg_steps, gpu)
            for state in states:
                self.loss_curve_.append(state.loss)
                stopped = step("iteration", item_factors_=state.items, _gram=state.gram)
                if stopped or len(self.loss_curve_) == self.max_iter:
                    break
        n_of_item = np.bincount(X.indices, minlength=X.shape[1])
        curvature = curvature_of(X, state.users, objective)
        popularity, n_users = self._popularity, X.shape[0]
        return self._end(state.items, state.gram, curvature, popularity, n_of_item, n_users)

    def _begin(self) -> Objective:
        """Store what scores depend on besides the fitted attributes."""
        self._binary = self.binary
        self._weights = (self.lambda_, self.unobserved_weight, self.frequency_exponent, self.zeros)
        return self._objective

    @property
    def _objective(self) -> Objective:
        return Objective(*self._weights)

    def _start(self, n_items: int, dtype: np.dtype) -> np.ndarray:
        """Draw the factors of items to begin with."""
        rng = check_random_state(self.random_state)
        scale = 0.1 / np.sqrt(self.n_components)
        return rng.normal(scale=scale, size=(n_items, self.n_components)).astype(dtype)

    def _end(
        self,
        H: np.ndarray,
        gram: np.ndarray,
        curvature: np.ndarray,
        popularity: np.ndarray,
        n_of_item: np.ndarray,
        n_users: int,
    ) -> WMF:
        """Fit on the result of iterations that are done elsewhere; see :func:`add_users`."""
        penalty = self._objective.penalty(n_of_item, n_users).sum()
        self.item_factors_, self._gram = H, gram
        self._curvature = curvature + penalty * np.eye(self.n_components)
        self._popularity = popularity
        self.n_features_in_ = len(H)
        self.n_iter_ = len(self.loss_curve_)
        self.n_samples_seen_ = n_users
        return self

    def _set_items(self, H: np.ndarray, curvature: np.ndarray) -> None:
        """Set new factors of the items, in the basis where their Gram matrix is diagonal."""
        self._gram, self.item_factors_, Q = in_eigenbasis(H, self._objective)
        self._curvature = Q.T @ curvature @ Q

    def _items_changed(self) -> None:
        H = self.item_factors_[self._popularity > 0]
        self._gram = self._objective.unobserved_weight * (H.T @ H)

    def _ridge(self, X: sp.csr_array) -> RidgeRows:
        return self._objective.ridge(self._confidences(X), self.item_factors_, self._gram)

    def _confidences(self, X: sp.csr_array) -> sp.csr_array:
        """Return X, or ones in place of its values."""
        if not self._binary:
            return X
        return sp.csr_array((np.ones_like(X.data), X.indices, X.indptr), shape=X.shape)

    def _check_memory(self, X: sp.csr_array) -> None:
        """Refuse a fit that the machine lacks the memory for.

        The bytes are those that ``benchmarks/memory_guards.py`` finds. Factors are held before and
        after a step, and once more to gather from; values only where they are not all equal.
        """
        (n_users, n_items), itemsize = X.shape, X.dtype.itemsize
        transposed = itemsize + X.indices.itemsize
        plain = self.binary or X.nnz == 0 or X.data.min() == X.data.max() == 1
        if self.solver == "cg":
            longest = max(np.diff(X.indptr).max(), np.bincount(X.indices, minlength=1).max())
            gathered = max(2 * CHUNK_BYTES, int(longest) * self.n_components * itemsize)
            laid_out = 2 * 1.07 * (X.indices.itemsize + (0 if plain else 2 * itemsize))
        else:
            gathered = 2**23
            laid_out = (1 if plain else 1.5) * itemsize
        n_bytes = (transposed + laid_out + self.binary * itemsize) * X.nnz
        n_bytes += 3 * (n_users + n_items) * self.n_components * itemsize
        n_bytes += n_threads() * gathered
        n_bytes += N_SQUARES * 8 * self.n_components**2
        check_memory(int(n_bytes), f"WMF with n_components={self.n_components} on {X.nnz:,} values")
