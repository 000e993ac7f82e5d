"""Scoring of fitted estimators by the ranking of hidden interactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from .._ranking import exclusions, only_targets, rank_like
from ..model_selection._hide import hide_interactions
from ._names import Metric, check_needs, measure, parse_metrics
from ._ranking import mean_over_users


class RankingScorer:
    """Scorer that hides a part of each row and ranks it from the rest.

    It is used as ``scoring`` in GridSearchCV, cross_validate and similar functions, with a splitter
    of users such as :class:`sklrec.model_selection.StrongGeneralizationSplit`. The estimator is
    fitted on complete rows of the training users; this scorer determines which entries of the test
    users are hidden. Items in the remaining row are not ranked, whatever the steps of a pipeline
    do with them.

    Parameters
    ----------
    metrics : str or list of str, default="ndcg@100"
        "ndcg", "recall", "precision", "average_precision", "reciprocal_rank" or "hit_rate" of
        :mod:`sklrec.metrics`, followed by "@" and the number of ranks; "recall/n@20" and
        "average_precision/n@20" divide by the number n of held-out items instead of min(k, n).
        Metrics beyond accuracy are "catalogue_coverage", "novelty", "intra_list_diversity",
        "intra_list_diversity/users", which is computed from co-occurrence instead of content,
        "neg_gini" and "neg_average_popularity". With a string the score is a float. With a list it
        is a dict, computed from a single prediction; a search then needs ``refit="ndcg@100"``.
    threshold : float, default=0.0
        Entries of X above the threshold are relevant. Only these are hidden, so that low ratings
        are never counted as hits; all others stay in the fold-in.
    test_size : float or int, default=0.2
        Share of each row's relevant entries to hide, rounded up, or their number. Rows with fewer
        than two relevant entries are not evaluated.
    random_state : int, default=0
        Seed of the hidden entries, which are the same for all candidates of a search.
    interactions : {array-like, sparse array} of shape (n_other_users, n_items) or None, \
            default=None
        Interactions from which "novelty", "neg_average_popularity" and
        "intra_list_diversity/users" are computed, such as the whole matrix given to a search. The
        test users of a fold are too few to estimate the popularity of items.
    item_features : {array-like, sparse array} of shape (n_items, n_features) or None, default=None
        Content of the items, for "intra_list_diversity".
    items : array-like of int or None, default=None
        The only candidates, such as new items. Only hidden entries among them count as held out.
    targets : array-like of int or None, default=None
        The only hidden items that count, such as new items that are ranked among all.
    exclude_seen : bool, default=True
        Whether to exclude the items of the remaining row from the ranking. For interactions that
        users repeat, see :func:`evaluate`.

    Raises
    ------
    ValueError
        If a metric is unknown, if lower is better for it, or if it needs `interactions` or
        `item_features` that are not given; when called, if `random_state` is not an int.

    See Also
    --------
    sklrec.metrics.evaluate : Values of each user, standard errors and paired tests.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.linear import EASE
    >>> from sklrec.model_selection import StrongGeneralizationSplit
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> search = GridSearchCV(EASE(), {"lambda_": [1, 100]}, scoring=RankingScorer("ndcg@10"),
    ...                       cv=StrongGeneralizationSplit(2, random_state=0)).fit(X)
    >>> search.best_params_
    {'lambda_': 100}
    """

    def __init__(
        self,
        metrics: str | Sequence[str] = "ndcg@100",
        *,
        threshold: float = 0.0,
        test_size: float | int = 0.2,
        random_state: int = 0,
        interactions: Any = None,
        item_features: Any = None,
        items: Any = None,
        targets: Any = None,
        exclude_seen: bool = True,
    ) -> None:
        self.metrics = metrics
        self.threshold = threshold
        self.test_size = test_size
        self.random_state = random_state
        self.interactions = interactions
        self.item_features = item_features
        self.items = items
        self.targets = targets
        self.exclude_seen = exclude_seen
        self._parsed()  # not in __call__, whose errors a search replaces by NaN

    @property
    def __name__(self) -> str:
        """Name of the score in scikit-learn's displays."""
        return self.metrics if isinstance(self.metrics, str) else ", ".join(self.metrics)

    def __repr__(self) -> str:
        matrices = ("interactions", "item_features", "items", "targets")
        given = "".join(f", {name}=..." for name in matrices if getattr(self, name) is not None)
        given += "" if self.exclude_seen else ", exclude_seen=False"
        return (
            f"RankingScorer({self.metrics!r}, threshold={self.threshold!r}, "
            f"test_size={self.test_size!r}, random_state={self.random_state!r}{given})"
        )

    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float | dict[str, float]:
        """Score an estimator on test users.

        Parameters
        ----------
        estimator : estimator
            Fitted estimator with ``decision_function``.
        X : {array-like, sparse array} of shape (n_users, n_items)
            Complete rows of test users.
        y : {array-like, sparse array} of shape (n_users, n_items) or None, default=None
            Nonzero at the entries of X to hide, such as each user's latest. By default, a random
            share is hidden. Hidden entries that are not above the threshold are neither seen nor
            relevant. If no entry of `y` is in X, these are the interactions to find, for example
            those after a date, while X has those before it. GridSearchCV accepts a sparse `y`,
            cross_validate only a dense one.

        Returns
        -------
        score : float or dict of floats
            Mean over the users with held-out items; for metrics beyond accuracy, over all users.
        """
        parsed = self._parsed()
        fold_in, held_out = self.hide(X, y)
        excluded = exclusions(
            fold_in.shape, seen=fold_in if self.exclude_seen else None, items=self.items
        )
        held_out = only_targets(excluded.among_candidates(held_out), self.targets)
        ranking = rank_like(
            estimator, fold_in, k=max(k for _, k in parsed.values()), like=X, excluded=excluded
        )
        values = measure(
            parsed,
            ranking,
            held_out=held_out,
            interactions=self.interactions,
            item_features=self.item_features,
        )
        scores = {
            name: mean_over_users(value) if isinstance(value, np.ndarray) else value
            for name, value in values.items()
        }
        return scores[self.metrics] if isinstance(self.metrics, str) else scores

    def _parsed(self) -> dict[str, tuple[Metric, int]]:
        parsed = parse_metrics(self.metrics)
        for name, (metric, _) in parsed.items():
            if metric.lower_is_better:
                raise ValueError(
                    f"{name} is better when it is lower, but a search selects the highest score; "
                    f"use 'neg_{name}'."
                )
        check_needs(parsed, vars(self))
        return parsed

    def hide(self, X: Any, y: Any = None) -> tuple[sp.csr_array, sp.csr_array]:
        """Split rows into fold-in and held-out entries, as the scorer does when it is called.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Complete rows of test users.
        y : {array-like, sparse array} of shape (n_users, n_items) or None, default=None
            Nonzero at the entries of X to hide, or at interactions to find that X does not have. By
            default, a random share is hidden.

        Returns
        -------
        fold_in : CSR array of shape (n_users, n_items)
            Entries that are not hidden.
        held_out : CSR array of shape (n_users, n_items)
            Hidden entries that are relevant.
        """
        return hide_interactions(
            X,
            y,
            test_size=self.test_size,
            threshold=self.threshold,
            random_state=self.random_state,
        )
