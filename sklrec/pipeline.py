"""scikit-learn's Pipeline with rankings."""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn.pipeline
from joblib import Memory
from sklearn.utils import Bunch, get_tags
from sklearn.utils.metaestimators import available_if

from ._holder import ItemFeatures, Unsliced
from ._ranking import Excluded, rank_batch, rows_at_once
from ._typing import MatrixLike
from .base import RecommenderMixin

__all__ = ["ItemFeatures", "Pipeline", "Unsliced", "make_pipeline"]


def _ends_in_a_recommender(pipeline: Pipeline) -> bool:
    last = pipeline._final_estimator
    # Classifiers and outlier detectors have a decision function too, but it scores no items.
    if not hasattr(last, "decision_function") or get_tags(last).estimator_type is not None:
        raise AttributeError(f"The last step must be a recommender, got {last!r}.")
    return True


class Pipeline(sklearn.pipeline.Pipeline):
    """Pipeline of transformers and a recommender, with ``predict_ranking``.

    :class:`sklearn.pipeline.Pipeline` forwards a fixed list of methods to its last step, which
    includes ``decision_function`` but not ``predict_ranking``. This subclass adds it. The seen
    items of a user are those of the row that is given to the pipeline, so that items with low
    ratings are not recommended if a step drops them. Validation users that are passed to the last
    step as ``X_val`` are transformed by the fitted steps before it.

    Parameters
    ----------
    steps, transform_input, memory, verbose
        As in :class:`sklearn.pipeline.Pipeline`.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklearn.preprocessing import Binarizer
    >>> from sklrec.linear import EASE
    >>> ratings = csr_array([[5, 4, 0, 1], [5, 5, 0, 4], [0, 0, 5, 4], [0, 5, 4, 5]])
    >>> pipe = Pipeline([("binarize", Binarizer(threshold=3.5)), ("ease", EASE(lambda_=1.0))])
    >>> pipe.fit(ratings).predict_ranking(ratings[:1], k=2)
    array([[ 2, -1]])
    """

    @available_if(_ends_in_a_recommender)
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
            Interactions of each user, as input of the first step.
        k : int, default=10
            Number of items to rank for each user.
        exclude_seen : bool, default=True
            Whether to exclude the nonzero entries of a row from its ranking.
        items : array-like of int, sparse array of shape (n_users, n_items) or None, default=None
            The only candidates for all users, or for each user.
        exclude : array-like of int, sparse array of shape (n_users, n_items) or None, default=None
            Items that are never ranked, in the same format.
        return_scores : bool, default=False
            Whether to return the scores too.

        Returns
        -------
        ranking : ndarray of shape (n_users, k), dtype int64
            Item indices, best first; -1 if there are fewer than `k` items to rank.
        scores : ndarray of shape (n_users, k)
            Scores of these items; minus infinity for -1. Only with ``return_scores=True``.
        """
        return RecommenderMixin.predict_ranking(
            self,
            X,
            k=k,
            exclude_seen=exclude_seen,
            items=items,
            exclude=exclude,
            return_scores=return_scores,
        )

    def _rows_at_once(self) -> int | None:
        return rows_at_once(self._final_estimator)

    def _rank_rows(self, X: Any, k: int, excluded: Excluded) -> tuple[np.ndarray, np.ndarray]:
        for _, _, step in self._iter(with_final=False):
            X = step.transform(X)
        return rank_batch(self._final_estimator, X, k, excluded)

    @available_if(_ends_in_a_recommender)
    def score(self, X: MatrixLike, y: Any = None) -> float:
        """Return the mean ``ndcg@100`` when a part of each row is hidden and ranked from the rest.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, as input of the first step.
        y : {array-like, sparse array} of shape (n_users, n_items) or None, default=None
            Nonzero at the entries of X to hide. By default, a random 20% of each row.

        Returns
        -------
        score : float
            Result of ``RankingScorer()(self, X, y)``.
        """
        return RecommenderMixin.score(self, X, y)

    def _validate_steps(self) -> None:
        from .preprocessing import InteractionEncoder  # imported only if needed

        if any(isinstance(step, InteractionEncoder) for _, step in self.steps):
            raise ValueError(
                "InteractionEncoder cannot be a step of a pipeline, as it converts the rows of a "
                "table to rows of users: encode first, X = "
                "InteractionEncoder().fit_transform(table), and pass X to the pipeline."
            )
        super()._validate_steps()

    def _get_metadata_for_step(self, *, step_idx: int, step_params: Any, all_params: Any) -> Any:
        """Transform the validation users of the last step.

        scikit-learn only does this if metadata routing is enabled and ``transform_input`` has
        them.
        """
        found = super()._get_metadata_for_step(
            step_idx=step_idx, step_params=step_params, all_params=all_params
        )
        X_val = found.get("fit", {}).get("X_val")
        if (
            step_idx < len(self.steps) - 1
            or X_val is None
            or "X_val" in (self.transform_input or [])
        ):
            return found
        is_held = isinstance(X_val, Unsliced)
        transformed = X_val.value if is_held else X_val
        for _, _, step in self._iter(with_final=False):
            transformed = step.transform(transformed)
        X_val = Unsliced(transformed) if is_held else transformed
        return Bunch(**{**found, "fit": {**found["fit"], "X_val": X_val}})


def make_pipeline(
    *steps: Any,
    memory: str | Memory | None = None,
    transform_input: list[str] | None = None,
    verbose: bool = False,
) -> Pipeline:
    """Build a :class:`~sklrec.pipeline.Pipeline` from steps, which are named after their classes.

    Parameters
    ----------
    *steps : estimators
        Transformers, and a recommender at the end.
    memory : str, joblib.Memory or None, default=None
        Cache of fitted transformers.
    transform_input : list of str or None, default=None
        Metadata to transform before it is passed to a step.
    verbose : bool, default=False
        Whether to print the time of each step.

    Returns
    -------
    pipeline : Pipeline
        A pipeline with ``predict_ranking``.

    Examples
    --------
    >>> from sklearn.preprocessing import Binarizer
    >>> from sklrec.linear import EASE
    >>> list(make_pipeline(Binarizer(), EASE()).named_steps)
    ['binarizer', 'ease']
    """
    unnamed = sklearn.pipeline.make_pipeline(*steps)
    return Pipeline(unnamed.steps, memory=memory, transform_input=transform_input, verbose=verbose)
