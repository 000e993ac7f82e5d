"""Evaluation on test users, with standard errors and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.stats import sem, t
from sklearn.utils import Bunch

from .._matrix import check_matrix, stored_entries
from .._ranking import Excluded, exclusions, only_targets, rank_like
from ._names import measure, parse_metrics
from ._ranking import mean_over_users


@dataclass(frozen=True, eq=False)
class RankingEvaluation:
    """Result of :func:`~sklrec.metrics.evaluate`.

    Parameters
    ----------
    per_user : dict of ndarray of shape (n_users,)
        Value of each metric for each user. It is NaN for users without held-out items or, for
        metrics beyond accuracy, with too few ranked items.
    together : dict of float, default={}
        Metrics with a single value for all users: coverage and Gini.

    Attributes
    ----------
    mean : dict of float
        Mean of each metric over the users whose value is not NaN, and the values in `together`.
    standard_error : dict of float
        Standard error of the mean: the sample standard deviation over the square root of the
        number of users. It is NaN for the metrics in `together`; repeat the split to estimate
        their variation.
    """

    per_user: Mapping[str, np.ndarray]
    together: Mapping[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> dict[str, float]:
        """Mean of each metric over users, or its single value for all users."""
        means = {name: mean_over_users(value) for name, value in self.per_user.items()}
        return means | dict(self.together)

    @property
    def standard_error(self) -> dict[str, float]:
        """Standard error of the mean of each metric; NaN for one user or a single value."""
        errors = {
            name: float(sem(_counting(value))) if _counting(value).size > 1 else float("nan")
            for name, value in self.per_user.items()
        }
        return errors | dict.fromkeys(self.together, float("nan"))

    def __repr__(self) -> str:
        error = self.standard_error
        return "\n".join(
            f"{name}: {m:.4f}" + ("" if name in self.together else f" ± {error[name]:.4f}")
            for name, m in self.mean.items()
        )

    def compare(self, other: RankingEvaluation) -> dict[str, Bunch]:
        """Compare with the evaluation of another model on the same users.

        The test is a paired t-test. As users differ more from each other than models do on the same
        user, the standard errors of two means are not those of their difference.

        Parameters
        ----------
        other : RankingEvaluation
            Evaluation on the same users and held-out items.

        Returns
        -------
        comparison : dict of Bunch
            For each metric in the `per_user` of both: ``difference``, the mean of self minus other,
            its ``standard_error``, the two-sided ``pvalue`` and ``n_users``. The p-value is 1 if
            all differences are 0.

        Raises
        ------
        ValueError
            If the evaluations are not of the same users, or have no metric in common.
        """
        names = [name for name in self.per_user if name in other.per_user]
        if not names:
            raise ValueError(
                f"No metric in common: {', '.join(self.per_user)} and {', '.join(other.per_user)}."
            )
        return {name: _paired(name, self.per_user[name], other.per_user[name]) for name in names}


def evaluate(
    estimator: Any,
    fold_in: Any,
    held_out: Any,
    metrics: str | Sequence[str] = ("ndcg@100", "recall@20", "recall@50"),
    *,
    interactions: Any = None,
    item_features: Any = None,
    items: Any = None,
    targets: Any = None,
    exclude_seen: bool = True,
) -> RankingEvaluation:
    """Evaluate a fitted estimator on users split into a fold-in and a held-out part.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator with ``decision_function``.
    fold_in : {array-like, sparse array} of shape (n_users, n_items)
        Interactions that are given to the model. They are not ranked, unless
        ``exclude_seen=False``.
    held_out : {array-like, sparse array} of shape (n_users, n_items)
        Nonzero at the items to find.
    metrics : str or list of str, default=("ndcg@100", "recall@20", "recall@50")
        Names as in :class:`RankingScorer`, and "gini" and "average_popularity".
    interactions : {array-like, sparse array} of shape (n_other_users, n_items) or None, \
            default=None
        Interactions of the training users, from which "novelty", "average_popularity" and
        "intra_list_diversity/users" are computed.
    item_features : {array-like, sparse array} of shape (n_items, n_features) or None, default=None
        Content of the items, for "intra_list_diversity".
    items : array-like of int, sparse array of shape (n_users, n_items) or None, default=None
        The only candidates for all users, such as new items, or for each user. Held-out items that
        are not among them are ignored.
    targets : array-like of int or None, default=None
        The only held-out items that count, such as new items that are ranked among all.
    exclude_seen : bool, default=True
        Whether to exclude the items of the fold-in from the ranking. If False, `held_out` may have
        items of the fold-in, such as repeated purchases.

    Returns
    -------
    evaluation : RankingEvaluation
        ``mean``, ``standard_error`` and ``per_user`` of each metric, and ``compare``.

    Raises
    ------
    ValueError
        If the shapes differ, the parts overlap, no user has an item held out, or a metric needs
        `interactions` or `item_features` that are not given.
    TypeError
        If the estimator has no ``decision_function``.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.dummy import PopularityRecommender
    >>> from sklrec.linear import EASE
    >>> from sklrec.model_selection import split_interactions
    >>> X = make_interactions(500, 80, random_state=0).data
    >>> train, (fold_in, held_out) = X[:400], split_interactions(X[400:], random_state=0)
    >>> ease = evaluate(EASE(lambda_=10).fit(train), fold_in, held_out, "ndcg@20")
    >>> popular = evaluate(PopularityRecommender().fit(train), fold_in, held_out, "ndcg@20")
    >>> ease.compare(popular)["ndcg@20"].pvalue < 0.05
    True
    >>> evaluate(EASE(lambda_=10).fit(train), fold_in, held_out, ["novelty@5", "gini@5"],
    ...          interactions=train)
    novelty@5: 1.80... ± 0.02...
    gini@5: 0.35...
    """
    parsed = parse_metrics(metrics)
    given = fold_in
    fold_in, held_out, excluded = check_sides(
        fold_in, held_out, items=items, targets=targets, exclude_seen=exclude_seen
    )
    if not held_out.nnz:
        among = "" if items is None else " among the candidates"
        among += "" if targets is None else " among the targets"
        raise ValueError(f"No user has an item held out{among}, so there is nothing to evaluate.")
    k = max(k for _, k in parsed.values())
    ranking = rank_like(estimator, fold_in, k=k, like=given, excluded=excluded)
    values = measure(
        parsed,
        ranking,
        held_out=held_out,
        interactions=interactions,
        item_features=item_features,
    )
    return evaluation_of(values)


def evaluation_of(values: Mapping[str, np.ndarray | float]) -> RankingEvaluation:
    """Return the evaluation with the values of each user, and those of all users together."""
    return RankingEvaluation(
        {name: value for name, value in values.items() if isinstance(value, np.ndarray)},
        {name: value for name, value in values.items() if not isinstance(value, np.ndarray)},
    )


def check_sides(
    fold_in: Any, held_out: Any, *, items: Any, targets: Any, exclude_seen: bool
) -> tuple[sp.csr_array, sp.csr_array, Excluded]:
    """Return the fold-in, the held-out entries that count, and what must not be ranked.

    Parameters are those of :func:`evaluate`.
    """
    fold_in = stored_entries(fold_in, "fold_in")
    held_out = check_matrix(held_out, "held_out", dtype="numeric")
    if fold_in.shape != held_out.shape:
        raise ValueError(
            f"fold_in and held_out must have one shape, got {fold_in.shape} and {held_out.shape}."
        )
    overlap = (fold_in != 0).multiply(held_out != 0).nnz
    if overlap and exclude_seen:
        raise ValueError(
            f"{overlap} held-out interactions are in the fold-in too, which is not ranked; use "
            "exclude_seen=False to evaluate interactions that users repeat."
        )
    excluded = exclusions(fold_in.shape, seen=fold_in if exclude_seen else None, items=items)
    held_out = only_targets(excluded.among_candidates(held_out), targets)
    return fold_in, held_out, excluded


def _counting(value: np.ndarray) -> np.ndarray:
    return value[~np.isnan(value)]


def _paired(name: str, first: np.ndarray, second: np.ndarray) -> Bunch:
    if first.shape != second.shape or not np.array_equal(np.isnan(first), np.isnan(second)):
        raise ValueError(
            f"{name} was evaluated on different users: {_counting(first).size} of {first.size} "
            f"and {_counting(second).size} of {second.size} have a value."
        )
    first, second = _counting(first), _counting(second)
    difference = first - second
    if first.size < 2:
        raise ValueError(f"A paired test needs at least 2 users with a value, got {first.size}.")
    mean, error = difference.mean(), sem(difference)
    with np.errstate(divide="ignore"):  # the same difference for every user has no error
        pvalue = 2 * t.sf(abs(mean) / error, first.size - 1) if difference.any() else 1.0
    return Bunch(
        difference=float(mean),
        standard_error=float(error),
        pvalue=float(pvalue),
        n_users=first.size,
    )
