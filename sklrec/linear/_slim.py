"""Sparse linear methods: elastic nets between items."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from joblib import Parallel, delayed, effective_n_jobs
from scipy.stats import loguniform
from sklearn.exceptions import ConvergenceWarning

from .._linalg import blocks, single_threaded_blas
from .._nearest import stacked
from .._sklearn import Interval, StrOptions, _fit_context, fit_progress
from .._typing import MatrixLike
from ._base import BaseItemWeights
from ._ease import check_gram_memory
from ._slim_solvers import ADMM, CoordinateDescent, Problem, Weights

# Number of items that are solved for together.
BLOCK = 256

# Arrays of shape (n_items, BLOCK) that ADMM needs for a block.
_ARRAYS_OF_A_BLOCK = 7


class SLIM(BaseItemWeights):
    r"""Sparse item-to-item weights, an elastic net for each item.

    Each item is predicted from the others by a linear regression with an L1 and an L2 penalty [1]_:

    .. math::

       \min_B \frac{1}{2 n} \|X - XB\|_F^2 + \alpha \rho \|B\|_1
           + \frac{\alpha (1 - \rho)}{2} \|B\|_F^2
       \quad \text{s.t.} \quad \mathrm{diag}(B) = 0, \; B \ge 0

    where n is the number of users and :math:`\rho` is `l1_ratio`. A column of the solution is that
    of :class:`sklearn.linear_model.ElasticNet` with ``fit_intercept=False`` on the other items. The
    constraint ``B >= 0`` is that of [1]_; without it, there are more weights and rankings are often
    better.

    Parameters
    ----------
    alpha : float, default=0.05
        Strength of both penalties, as in :class:`sklearn.linear_model.ElasticNet`. Typical range:
        1e-3 to 1, on a logarithmic scale.
    l1_ratio : float, default=0.01
        Share of the L1 penalty, above 0 and at most 1. Typical range: 1e-4 to 1, on a logarithmic
        scale; values of some thousandths to hundredths are usually best.
    positive : bool, default=True
        Whether weights must not be negative.
    solver : {"cd", "admm"}, default="cd"
        "cd" is scikit-learn's coordinate descent on X, for sparse data with any number of items.
        "admm" is the alternating direction method of multipliers of [2]_, for some thousands of
        items with many interactions each, above all without the constraint to be positive. It needs
        the memory of a dense (n_items, n_items) matrix, and raises an error before it starts if
        there is too little.
    max_iter : int, default=1000
        Maximum number of iterations for an item.
    tol : float, default=1e-4
        Tolerance. For "cd", of the changes of the weights and of the dual gap, as in
        :class:`sklearn.linear_model.ElasticNet`. For "admm", of the distance between its two copies
        of the weights, relative to their norm; rankings hardly change below 1e-2.
    n_jobs : int or None, default=None
        Number of threads; -1 means all cores. The result does not depend on it.

    Attributes
    ----------
    coef_ : CSR array of shape (n_items, n_items)
        Weight of each item (row) in the score of each item (column), in the precision of X.
    n_iter_ : int
        Largest number of iterations for an item.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items. Only if X is a DataFrame with names.

    See Also
    --------
    EASE : Only the L2 penalty, in closed form.
    SparseEASE : Weights of the nearest neighbors of an item, in closed form.

    Notes
    -----
    The penalties of [1]_ on the sum of squares over users are, in its letters,
    :math:`\lambda = n \alpha \rho` and :math:`\beta = n \alpha (1 - \rho)`. irspack has the same
    `alpha` and `l1_ratio` as this class. Published searches have both :math:`\lambda` and
    :math:`\beta` in {.1, .5, 1, 5} (Liang et al., 2018). For MovieLens-20M, ``alpha=.001`` and
    ``l1_ratio=.0067`` were selected by Ferrari Dacrema et al. (2021).

    If all weights are positive, item j has none in the score of item i if
    :math:`(X^\top X)_{ij} \le n \alpha \rho`, and "cd" leaves it out. Without the constraint, it
    begins with the others and adds items until the optimality conditions hold for all.

    References
    ----------
    .. [1] X. Ning and G. Karypis, "SLIM: Sparse Linear Methods for Top-N Recommender Systems",
       ICDM 2011.
    .. [2] H. Steck, M. Dimakopoulou, N. Riabov and T. Jebara, "ADMM SLIM: Sparse Recommendations
       for Many Users", WSDM 2020.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklrec.linear import SLIM
    >>> X = csr_array([[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
    >>> slim = SLIM(0.1, l1_ratio=0.1).fit(X)
    >>> slim.predict_ranking(X[:1], k=2)
    array([[3, 2]])
    >>> slim.coef_.nnz
    8
    """

    _parameter_constraints: dict = {
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "l1_ratio": [Interval(Real, 0, 1, closed="right")],
        "positive": ["boolean"],
        "solver": [StrOptions({"cd", "admm"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_jobs": [Integral, None],
    }
    _suggested_distributions: dict = {
        "alpha": loguniform(1e-3, 1),
        "l1_ratio": loguniform(1e-4, 1),
    }

    def __init__(
        self,
        alpha: float = 0.05,
        *,
        l1_ratio: float = 0.01,
        positive: bool = True,
        solver: str = "cd",
        max_iter: int = 1000,
        tol: float = 1e-4,
        n_jobs: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.positive = positive
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None) -> SLIM:
        """Learn the weights.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.

        Returns
        -------
        self : SLIM
            The fitted model.

        Raises
        ------
        MemoryError
            If the machine lacks the memory for ``solver="admm"``; nothing is allocated then.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` iterations are not enough for some items.
        """
        X = self._check_X(X, reset=True)
        if self.solver == "admm":
            self._check_memory(X)
        self._learn_popularity(X)
        _check_squares(X)
        n_users, n_items = X.shape
        penalty = self.alpha * n_users
        problem = Problem(
            l1=penalty * self.l1_ratio,
            l2=penalty * (1 - self.l1_ratio),
            positive=self.positive,
            max_iter=self.max_iter,
            tol=self.tol,
        )
        n_blocks = -(-n_items // BLOCK)
        with fit_progress(self, X, max_subtasks=n_blocks) as step:
            found: list[tuple[np.ndarray, ...]] = []
            n_iter = n_not_converged = 0
            for weights in self._solve(X, problem):
                found.append((weights.counts, weights.rows, weights.values))
                n_iter = max(n_iter, weights.n_iter)
                n_not_converged += weights.n_not_converged
                step("items")
        self.coef_ = stacked(found, (n_items, n_items)).T.tocsr()
        self.n_iter_ = n_iter
        if n_not_converged:
            warnings.warn(
                f"The weights of {n_not_converged} of {n_items} items did not converge to "
                f"tol={self.tol} in max_iter={self.max_iter} iterations.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _solve(self, X: sp.csr_array, problem: Problem) -> Iterator[Weights]:
        """Yield the weights of the items, block by block."""
        solver: Any = {"cd": CoordinateDescent, "admm": ADMM}[self.solver](X, problem)
        with ExitStack() as stack, warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # one for each item
            if effective_n_jobs(self.n_jobs) > 1:
                stack.enter_context(single_threaded_blas())
            work = (delayed(solver.solve)(items) for items in blocks(X.shape[1], BLOCK))
            parallel = Parallel(self.n_jobs, prefer="threads", return_as="generator")
            yield from parallel(work)

    def _check_memory(self, X: sp.csr_array) -> None:
        """Raise a MemoryError if the memory of the machine is too small for ADMM."""
        n_items, itemsize = X.shape[1], X.dtype.itemsize
        width = min(BLOCK, n_items) * max(1, effective_n_jobs(self.n_jobs))
        blocks_of_weights = _ARRAYS_OF_A_BLOCK * width * n_items * itemsize
        check_gram_memory(X, n_matrices=1, model="SLIM(solver='admm')", after=blocks_of_weights)


def _check_squares(X: sp.csr_array) -> None:
    """Raise an error if the diagonal of X'X is not finite in the precision of X."""
    squares = np.bincount(X.indices, weights=X.data.astype(np.float64) ** 2, minlength=X.shape[1])
    if squares.max(initial=0) > np.finfo(X.dtype).max:
        raise ValueError(f"The squares of the values of X are too large for {X.dtype}.")
