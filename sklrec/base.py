"""The contract of every recommender."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from ._explanation import ExplainMixin
from ._matrix import canonical_csr, stored_entries
from ._ranking import rank_in_batches, top_k
from ._sklearn import CallbackSupportMixin, fit_progress
from ._typing import MatrixLike

__all__ = [
    "BaseRecommender",
    "ExplainMixin",
    "RecommenderMixin",
    "RecommenderTags",
    "SimilarItemsMixin",
    "fit_progress",
]


@dataclass(slots=True)
class RecommenderTags:
    """What the checks of :mod:`sklrec.utils.estimator_checks` must know of a recommender.

    Parameters
    ----------
    personalized : bool, default=True
        Whether two users without common items may get different rankings.
    poor_score : bool, default=False
        Whether the rankings may be no better than random ones.
    learns_from_values : bool, default=False
        Whether the model learns from the differences between the stored values, as from ratings,
        so that a matrix of ones holds nothing to learn.
    """

    personalized: bool = True
    poor_score: bool = False
    learns_from_values: bool = False


@dataclass(slots=True)
class _Tags(Tags):
    recommender_tags: RecommenderTags = field(default_factory=RecommenderTags)


class RecommenderMixin:
    """Adds rankings and a score to any estimator that has ``decision_function``.

    A class that inherits from it writes ``fit(X, y=None)`` and ``decision_function(X)``, which
    returns an ndarray of shape (n_users, n_items) with a score for each item.
    """

    decision_function: Callable[[Any], np.ndarray]

    def predict_ranking(
        self, X: MatrixLike, *, k: int = 10, exclude_seen: bool = True
    ) -> np.ndarray:
        """Rank the best items for each user.

        Parameters
        ----------
        X : {array-like, sparse array or DataFrame} of shape (n_users, n_items)
            The interactions of each user. Users need not be known from ``fit``.
        k : int, default=10
            Number of items to rank for each user.
        exclude_seen : bool, default=True
            Whether the items with which a user has interacted, the nonzero entries of the row,
            are left out.

        Returns
        -------
        ranking : ndarray of shape (n_users, k), dtype int64
            Item indices, best first. Equal scores go to the lower index. Where fewer than `k`
            items are left for a user, the ranking ends with -1.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `k` is not a positive integer, or X is not what ``fit`` has seen.
        MemoryError
            If the machine lacks the memory for `k` ranks of each user.
        """
        check_is_fitted(self)
        _check_k(k)
        seen = stored_entries(X)
        if sp.issparse(X):
            X = sp.csr_array(X)  # other sparse formats have no rows to slice
        return rank_in_batches(self.decision_function, X, seen, k=int(k), exclude_seen=exclude_seen)

    def score(self, X: MatrixLike, y: Any = None) -> float:
        """Return the mean ``ndcg@100`` when a part of each row is hidden and ranked from the rest.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            The interactions of each user.
        y : sparse array of shape (n_users, n_items) or None, default=None
            The entries of X to hide; without it 20% of each row. Anything else than a sparse
            matrix is ignored, as scikit-learn asks of an estimator without target.

        Returns
        -------
        score : float
            What ``RankingScorer()(self, X, y)`` returns.
        """
        from .metrics import RankingScorer  # metrics ranks with this module

        return float(RankingScorer()(self, X, y if sp.issparse(y) else None))  # type: ignore[arg-type]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags = _Tags(**{f.name: getattr(tags, f.name) for f in fields(tags)})
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        return tags


class BaseRecommender(CallbackSupportMixin, RecommenderMixin, BaseEstimator):
    """Base class of the recommenders of this package.

    A model writes ``fit``, which calls ``_check_X(X, reset=True)`` and reports its steps through
    :func:`fit_progress`, and ``decision_function``, which calls ``_check_X(X, reset=False)``.
    """

    def __sklearn_is_fitted__(self) -> bool:
        # scikit-learn's own test looks for attributes that end in "_", such as ``lambda_``.
        return hasattr(self, "n_features_in_")

    def _check_X(self, X: MatrixLike, *, reset: bool) -> sp.csr_array:
        """Validate `X` and return it as a CSR array in canonical form, without stored zeros.

        float32 and float64 are kept, every other type becomes float32. X itself is unchanged.
        """
        if not reset:
            check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=(np.float32, np.float64), reset=reset)
        check_non_negative(X, type(self).__name__)
        return canonical_csr(X)


class SimilarItemsMixin:
    """Adds ``similar_items`` to a model that can compare items with each other.

    A model writes ``_item_similarity(items)``, which returns an ndarray of shape
    (len(items), n_items), and ``_compares_items()`` where that depends on its parameters.
    """

    n_features_in_: int
    _item_similarity: Callable[[np.ndarray], np.ndarray]

    def _compares_items(self) -> bool:
        return True

    @available_if(lambda self: self._compares_items())
    def similar_items(self, item: int | ArrayLike, k: int = 10) -> np.ndarray:
        """Rank the items most similar to an item, by what the model has learnt.

        Parameters
        ----------
        item : int or array-like of int of shape (n_queries,)
            Index of the item, or of several.
        k : int, default=10
            Number of items to rank.

        Returns
        -------
        ranking : ndarray of shape (k,) or (n_queries, k), dtype int64
            Item indices, most similar first, without the item itself; -1 past the last item.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            If there is no such item or `k` is not a positive integer.
        """
        check_is_fitted(self)
        _check_k(k)
        items = np.asarray(item)
        if items.ndim > 1 or not np.issubdtype(items.dtype, np.integer):
            raise ValueError(f"item must be an integer or a list of integers, got {item!r}.")
        n_items = self.n_features_in_
        queries = np.atleast_1d(items)
        unknown = queries[(queries < 0) | (queries >= n_items)]
        if unknown.size:
            raise ValueError(f"item must be between 0 and {n_items - 1}, got {unknown[0]}.")
        itself = sp.csr_array(
            (np.ones(queries.size), queries, np.arange(queries.size + 1)),
            shape=(queries.size, n_items),
        )
        ranking = top_k(self._item_similarity(queries), int(k), seen=itself)
        return ranking if items.ndim else ranking[0]


def _check_k(k: int) -> None:
    if not isinstance(k, Integral) or k < 1:
        raise ValueError(f"k must be a positive integer, got {k!r}.")
