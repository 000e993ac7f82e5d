"""Base classes of recommenders."""

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
from sklearn.utils.validation import check_is_fitted, validate_data

from ._explanation import ExplainMixin
from ._holder import Unsliced
from ._item_features import ItemFeaturesMixin
from ._matrix import FLOATS, check_matrix, stored_entries, warn_of_heavy_tail
from ._ranking import Excluded, exclusions, rank_in_batches, rank_rows, top_k
from ._sklearn import CallbackSupportMixin, fit_progress
from ._typing import MatrixLike

__all__ = [
    "BaseRecommender",
    "ExplainMixin",
    "ItemFeaturesMixin",
    "RecommenderMixin",
    "RecommenderTags",
    "SimilarItemsMixin",
    "fit_progress",
]


# Attribute of a CSR array that predict_ranking has checked: the estimator that it ranks with. Of a
# single row, a second check would take as long as some models need for the scores.
_CHECKED_FOR = "_sklrec_checked_for"


@dataclass(slots=True)
class RecommenderTags:
    """Tags of a recommender, which determine the checks of :mod:`sklrec.utils.estimator_checks`.

    Parameters
    ----------
    personalized : bool, default=True
        Whether two users without common items may get different rankings.
    poor_score : bool, default=False
        Whether the rankings may be no better than random ones.
    learns_from_values : bool, default=False
        Whether the model learns from differences between stored values, such as ratings, and
        cannot be fitted on a matrix of ones.
    keeps_users : bool, default=False
        Whether the fitted model holds rows of training users, which are then in its pickle.
    """

    personalized: bool = True
    poor_score: bool = False
    learns_from_values: bool = False
    keeps_users: bool = False


@dataclass(slots=True)
class _Tags(Tags):
    recommender_tags: RecommenderTags = field(default_factory=RecommenderTags)


class RecommenderMixin:
    """Mixin that adds rankings and a score to estimators with ``decision_function``.

    A subclass implements ``fit(X, y=None)`` and ``decision_function(X)``, which returns an ndarray
    of shape (n_users, n_items) with a score for each item.
    """

    decision_function: Callable[[Any], np.ndarray]

    def predict_ranking(
        self,
        X: MatrixLike,
        *,
        k: int = 10,
        exclude_seen: bool = True,
        items: Any = None,
        exclude: Any = None,
        return_scores: bool = False,
    ) -> Any:
        """Rank the best items for each user.

        Parameters
        ----------
        X : {array-like, sparse array or DataFrame} of shape (n_users, n_items)
            Interactions of each user. Users need not have been seen in ``fit``.
        k : int, default=10
            Number of items to rank for each user.
        exclude_seen : bool, default=True
            Whether to exclude the items with which a user has interacted, the nonzero entries of
            the row.
        items : array-like of int, sparse array of shape (n_users, n_items) or None, default=None
            The only candidates: item indices for all users, or a matrix that is nonzero at the
            candidates of each user. None means all items.
        exclude : array-like of int, sparse array of shape (n_users, n_items) or None, default=None
            Items that are never ranked, such as items out of stock, in the same format.
        return_scores : bool, default=False
            Whether to return the scores too.

        Returns
        -------
        ranking : ndarray of shape (n_users, k), dtype int64
            Item indices, best first. Items with equal scores are ordered by index. If there are
            fewer than `k` items to rank for a user, the ranking ends with -1.
        scores : ndarray of shape (n_users, k)
            Scores of these items by ``decision_function``; minus infinity for -1. Only with
            ``return_scores=True``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `k` is not a positive integer, X has another number of items than in ``fit``, or
            `items` or `exclude` are neither item indices nor a matrix of the shape of X.
        MemoryError
            If the memory of the machine is too small for `k` ranks of each user.
        """
        _check_is_fitted(self)
        _check_k(k)
        seen = stored_entries(X)
        if sp.issparse(X):
            X = seen
            setattr(seen, _CHECKED_FOR, self)  # which does not check it again
        elif not hasattr(X, "shape"):
            X = np.asarray(X)
        n_items = getattr(self, "n_features_in_", seen.shape[1])
        if seen.shape[1] != n_items:  # before items that X does not have are refused
            raise ValueError(
                f"X has {seen.shape[1]} features, but {type(self).__name__} is expecting "
                f"{n_items} features as input."
            )
        excluded = exclusions(
            seen.shape, seen=seen if exclude_seen else None, items=items, exclude=exclude
        )
        return rank_in_batches(
            self, X, k=int(k), excluded=excluded, return_scores=bool(return_scores)
        )

    def _rank_rows(self, X: Any, k: int, excluded: Excluded) -> tuple[np.ndarray, np.ndarray]:
        """Rank the best `k` items for a batch of rows, as :func:`sklrec._ranking.rank_rows` does.

        Models that can rank on a GPU override it.
        """
        return rank_rows(self, X, k, excluded)

    def score(self, X: MatrixLike, y: Any = None) -> float:
        """Return the mean ``ndcg@100`` when a part of each row is hidden and ranked from the rest.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user.
        y : {array-like, sparse array} of shape (n_users, n_items) or None, default=None
            Nonzero at the entries of X to hide. By default, a random 20% of each row. A dense `y`
            of another shape is ignored, as scikit-learn requires of estimators without a target.

        Returns
        -------
        score : float
            Result of ``RankingScorer()(self, X, y)``.
        """
        from .metrics import RankingScorer  # avoids a circular import

        hides = sp.issparse(y) or (np.ndim(y) == 2 and np.shape(y) == np.shape(X))
        return float(RankingScorer()(self, X, y if hides else None))  # type: ignore[arg-type]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags = _Tags(**{f.name: getattr(tags, f.name) for f in fields(tags)})
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        return tags


class BaseRecommender(CallbackSupportMixin, RecommenderMixin, BaseEstimator):
    """Base class of the recommenders of this package.

    A subclass implements ``fit``, which calls ``_check_X(X, reset=True)`` and
    ``_learn_popularity(X)`` and reports its steps to :func:`fit_progress`, and
    ``decision_function``, which calls ``_check_X(X, reset=False)`` and returns
    ``_with_popularity(X, scores)``.
    """

    def __sklearn_is_fitted__(self) -> bool:
        # The default of scikit-learn looks for attributes that end with "_", such as ``lambda_``.
        return hasattr(self, "n_features_in_")

    def _check_X(self, X: MatrixLike, *, reset: bool) -> sp.csr_array:
        """Validate `X` and return it as a CSR array in canonical format, without stored zeros.

        float32 and float64 are kept, all other types are converted to float32. X is not changed.
        """
        if not reset:
            if self._has_checked(X):
                return X
            _check_is_fitted(self)
        return self._check_rows(X, "X", reset=reset)

    def _has_checked(self, X: Any) -> bool:
        """Return whether predict_ranking of this estimator has checked X, all but its names."""
        return (
            getattr(X, _CHECKED_FOR, None) is self
            and X.dtype in FLOATS
            and not hasattr(self, "feature_names_in_")
        )

    def _check_rows(self, X: MatrixLike, name: str, *, reset: bool) -> sp.csr_array:
        """Validate rows as X; `name` is that of a parameter such as `X_val` in errors."""
        if isinstance(X, Unsliced):
            X = X.value
        is_plain = sp.issparse(X) and X.ndim == 2 and not hasattr(self, "feature_names_in_")
        if reset or not is_plain or X.shape[1] != self.n_features_in_:
            X = validate_data(
                self,
                X,
                accept_sparse="csr",
                dtype=FLOATS,
                ensure_all_finite=False,
                reset=reset,
            )
        return check_matrix(X, name)

    def _learn_popularity(self, X: sp.csr_array, *, reset: bool = True) -> None:
        """Store the sum of each column of X, or add it to the stored one if not `reset`.

        A warning is issued if a few large values would dominate a model of implicit feedback.
        """
        tags = self.__sklearn_tags__().recommender_tags
        if not (tags.learns_from_values or tags.poor_score):
            warn_of_heavy_tail(X, type(self).__name__)
        popularity = np.bincount(X.indices, weights=X.data, minlength=X.shape[1])
        self._popularity: np.ndarray = popularity if reset else self._popularity + popularity

    def _known_items(self, items: Any = slice(None)) -> np.ndarray:
        """Return whether each item, or each of some items, is known to the model."""
        return self._popularity[items] > 0

    def _holds_nothing_known(self, X: sp.csr_array) -> np.ndarray:
        """Return whether each row of X has no item that is known to the model."""
        known = self._known_items(X.indices)
        place = X.indptr
        if not known.all():
            place = np.concatenate([[0], np.cumsum(known)])[place]
        return place[1:] == place[:-1]

    def _with_popularity(self, X: sp.csr_array, scores: np.ndarray) -> np.ndarray:
        """Replace scores in place by the popularity of the items if they have no information.

        These are the scores of rows of X without known items, and rows of equal scores.

        Parameters
        ----------
        X : CSR array of shape (n_users, n_items)
            Rows that were scored.
        scores : ndarray of shape (n_users, n_items)
            Scores of these rows, which are changed.

        Returns
        -------
        scores : ndarray of shape (n_users, n_items)
            The same array.
        """
        usual = len(scores) == 1 and scores[0, 0] != scores[0, -1]
        if usual and self._known_items(X.indices).any():
            return scores  # for one row in a third of the time
        differ = scores[:, 0] != scores[:, -1]
        unknown = self._holds_nothing_known(X)
        if not differ.all():  # usually few rows
            tied = np.flatnonzero(~differ & ~unknown)
            unknown[tied] = (scores[tied] == scores[tied, :1]).all(axis=1)
        if unknown.any():
            scores[unknown] = self._popularity
        return scores


class SimilarItemsMixin:
    """Mixin that adds ``similar_items`` to models that can compare items.

    A subclass implements ``_item_similarity(items)``, which returns an ndarray of shape
    (len(items), n_items), and ``_compares_items()`` if this depends on its parameters.
    """

    n_features_in_: int
    _popularity: np.ndarray
    _item_similarity: Callable[[np.ndarray], np.ndarray]

    def _compares_items(self) -> bool:
        return True

    @available_if(lambda self: self._compares_items())
    def similar_items(self, item: int | ArrayLike, k: int = 10) -> np.ndarray:
        """Rank the items that are most similar to an item according to the model.

        Parameters
        ----------
        item : int or array-like of int of shape (n_queries,)
            Index of an item, or indices of several.
        k : int, default=10
            Number of items to rank.

        Returns
        -------
        ranking : ndarray of shape (k,) or (n_queries, k), dtype int64
            Item indices, most similar first, without the item itself; -1 if there are fewer than
            `k`. For items without training users, the most popular items are ranked.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            If an item does not exist or `k` is not a positive integer.
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
        similarity = self._item_similarity(queries)
        if hasattr(self, "_known_items"):
            unknown = ~self._known_items(queries)
            similarity = np.where(unknown[:, None], self._popularity, similarity)
        ranking, _ = top_k(similarity, int(k), excluded=Excluded(entries=itself))
        return ranking if items.ndim else ranking[0]


def _check_is_fitted(estimator: Any) -> None:
    """Raise a NotFittedError as scikit-learn does, whose check takes longer than to rank a row."""
    is_fitted = getattr(estimator, "__sklearn_is_fitted__", None)
    if is_fitted is None or not is_fitted():
        check_is_fitted(estimator)


def _check_k(k: int) -> None:
    if not isinstance(k, Integral) or k < 1:
        raise ValueError(f"k must be a positive integer, got {k!r}.")
