"""scikit-learn's Pipeline with rankings."""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn.pipeline
from joblib import Memory
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if

from ._ranking import Excluded, rank_batch
from ._typing import MatrixLike
from .base import RecommenderMixin

__all__ = ["Pipeline", "make_pipeline"]


def _ends_in_a_recommender(pipeline: Pipeline) -> bool:
    last = pipeline._final_estimator
    # Classifiers and outlier detectors have a decision function too, but it scores no items.
    if not hasattr(last, "decision_function") or get_tags(last).estimator_type is not None:
        raise AttributeError(f"The last step must be a recommender, got {last!r}.")
    return True


class Pipeline(sklearn.pipeline.Pipeline):
    """Transformers and a recommender as one estimator, with ``predict_ranking``.

    :class:`sklearn.pipeline.Pipeline` forwards a fixed list of methods to its last step:
    ``decision_function`` is on it, ``predict_ranking`` is not. This subclass adds it. What a user
    has seen is read from the rows given to the pipeline, before any step changes them, so that a
    step that drops low ratings does not bring the items back into the ranking.

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
        self, X: MatrixLike, *, k: int = 10, exclude_seen: bool = True
    ) -> np.ndarray:
        """Rank the best items for each user.

        Parameters
        ----------
        X : {array-like, sparse array or DataFrame} of shape (n_users, n_items)
            The interactions of each user, as the first step takes them.
        k : int, default=10
            Number of items to rank for each user.
        exclude_seen : bool, default=True
            Whether the nonzero entries of a row are left out of its ranking.

        Returns
        -------
        ranking : ndarray of shape (n_users, k), dtype int64
            Item indices, best first, -1 past the last item that may be ranked.
        """
        return RecommenderMixin.predict_ranking(self, X, k=k, exclude_seen=exclude_seen)

    def _rank_rows(self, X: Any, k: int, excluded: Excluded) -> tuple[np.ndarray, np.ndarray]:
        for _, _, step in self._iter(with_final=False):
            X = step.transform(X)
        return rank_batch(self._final_estimator, X, k, excluded)

    @available_if(_ends_in_a_recommender)
    def score(self, X: MatrixLike, y: Any = None) -> float:
        """Return the mean ``ndcg@100`` when a part of each raw row is hidden and ranked back.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            The interactions of each user, as the first step takes them.
        y : sparse array of shape (n_users, n_items) or None, default=None
            The entries of X to hide; without it 20% of each row.

        Returns
        -------
        score : float
            What ``RankingScorer()(self, X, y)`` returns.
        """
        return RecommenderMixin.score(self, X, y)


def make_pipeline(
    *steps: Any,
    memory: str | Memory | None = None,
    transform_input: list[str] | None = None,
    verbose: bool = False,
) -> Pipeline:
    """Build a :class:`~sklrec.pipeline.Pipeline` from its steps, named after their classes.

    Parameters
    ----------
    *steps : estimators
        Transformers, and a recommender at the end.
    memory : str, joblib.Memory or None, default=None
        Where fitted transformers are cached.
    transform_input : list of str or None, default=None
        Metadata to transform before it is handed to a step.
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
