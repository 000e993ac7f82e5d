"""Imports from private modules of scikit-learn, and support of its versions.

Changes for a new release of scikit-learn are only needed in this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import _fit_context
from sklearn.linear_model import _cd_fast
from sklearn.utils import _safe_indexing
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads
from sklearn.utils._param_validation import (
    HasMethods,
    Hidden,
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
    generate_valid_param,
    make_constraint,
    validate_params,
)
from sklearn.utils.metaestimators import _BaseComposition

try:  # scikit-learn 1.9 and later
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback._callback_support import callback_management_context

    SUPPORTS_CALLBACKS = True
except ImportError:
    SUPPORTS_CALLBACKS = False

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Placeholder for versions of scikit-learn without callbacks."""


__all__ = [
    "SUPPORTS_CALLBACKS",
    "CallbackSupportMixin",
    "HasMethods",
    "Hidden",
    "Interval",
    "InvalidParameterError",
    "Options",
    "StrOptions",
    "_BaseComposition",
    "_fit_context",
    "_safe_indexing",
    "fit_progress",
    "generate_valid_param",
    "make_constraint",
    "n_threads",
    "sparse_elastic_net",
    "validate_params",
]


def n_threads() -> int:
    """Return how many threads a computation may use, by OMP_NUM_THREADS and the number of cores.

    joblib lowers OMP_NUM_THREADS in its worker processes, so that ``n_jobs=2`` does not start
    twice as many threads as there are cores.
    """
    return int(_openmp_effective_n_threads())


def sparse_elastic_net(
    columns: sp.csr_array,
    y: np.ndarray,
    w: np.ndarray,
    *,
    l1: float,
    l2: float,
    positive: bool,
    max_iter: int,
    tol: float,
    rng: np.random.RandomState,
) -> tuple[np.ndarray, int, bool]:
    """Minimise ``||y - X w||^2 / 2 + l1 ||w||_1 + l2 ||w||^2 / 2`` by coordinate descent.

    Parameters
    ----------
    columns : CSR array of shape (n_columns, n_rows)
        X transposed: its columns as sparse rows.
    y : ndarray of shape (n_rows,)
        Target, of the same type.
    w : ndarray of shape (n_columns,)
        Initial weights, which are changed.
    l1, l2 : float
        Penalties.
    positive : bool
        Whether weights must not be negative.
    max_iter, tol : int and float
        Maximum number of iterations and tolerance of :class:`sklearn.linear_model.ElasticNet`.
    rng : RandomState
        Not used; scikit-learn asks for it.

    Returns
    -------
    w : ndarray of shape (n_columns,)
        The weights.
    n_iter : int
        Number of iterations.
    converged : bool
        Whether the dual gap is within the tolerance; if not, scikit-learn warns, too.
    """
    w, gap, allowed, n_iter = _cd_fast.sparse_enet_coordinate_descent(
        w,
        l1,
        l2,
        columns.data,
        columns.indices.astype(np.int32, copy=False),
        columns.indptr.astype(np.int32, copy=False),
        y,
        None,  # weights of the rows
        np.zeros_like(w),  # means of the columns
        max_iter,
        tol,
        rng,
        False,  # order of the columns at random
        positive,
    )
    return w, n_iter, bool(gap <= allowed)


@contextmanager
def fit_progress(estimator: Any, X: Any, *, max_subtasks: int) -> Iterator[Callable[..., bool]]:
    """Context manager that reports the steps of a fit to the callbacks of an estimator.

    It does nothing with versions of scikit-learn before 1.9, which do not have callbacks.

    Parameters
    ----------
    estimator : estimator
        Estimator that inherits from :class:`sklearn.callback.CallbackSupportMixin`.
    X : {array-like, sparse array} of shape (n_users, n_items)
        Training data.
    max_subtasks : int
        Maximum number of steps.

    Yields
    ------
    step : callable
        ``step(name, **fitted)`` must be called at the end of each step, with the fitted attributes
        that the estimator would have if it stopped. It returns whether a callback asks to stop.

    Examples
    --------
    >>> from sklrec.base import BaseRecommender, fit_progress
    >>> class Constant(BaseRecommender):
    ...     def fit(self, X, y=None):
    ...         X = self._check_X(X, reset=True)
    ...         with fit_progress(self, X, max_subtasks=1) as step:
    ...             step("nothing to learn")
    ...         return self
    >>> Constant().fit([[1, 0]])
    Constant()
    """
    if not SUPPORTS_CALLBACKS:
        yield lambda name, **fitted: False
        return
    with callback_management_context(estimator):
        task = estimator._init_callback_context(max_subtasks=max_subtasks)
        task.call_on_fit_task_begin(estimator=estimator, X=X)

        def step(name: str, **fitted: Any) -> bool:
            subtask = task.subcontext(task_name=name)
            subtask.call_on_fit_task_begin(estimator=estimator, X=X)
            return subtask.call_on_fit_task_end(
                estimator=estimator, X=X, reconstruction_attributes=fitted or None
            )

        yield step
        task.call_on_fit_task_end(estimator=estimator, X=X)
