"""A metric for groups of users by their activity."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from .._matrix import stored_entries
from .._typing import MatrixLike
from ..metrics import RankingEvaluation, RankingScorer, evaluate
from ._plotting import (
    axes_or_new,
    check_matplotlib,
    check_no_bars,
    check_styles,
    curve_style,
    legend_outside,
    merged,
    metric_label,
    name_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Largest p-value for one, two and three stars, as in figure 3 of Liang et al.
STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


class ActivityDisplay:
    """A metric of one or more models for groups of users by their activity.

    As in figure 3 of [1]_, users are divided into quantiles of the number of items in their
    fold-in. Users with the same number are in the same part, so that there may be fewer than
    `n_bins` parts, of different sizes. Dots are means, and bars plus and minus one standard error.
    Stars mark differences from the first model, by a paired t-test in each part with p-values that
    are corrected for all tests of the figure by Holm's method. (In [1]_ they are not corrected.)

    Create it with :meth:`from_estimator` or :meth:`from_evaluations`. All parameters are stored as
    attributes.

    Parameters
    ----------
    names : list of str
        Names of the models, seven at most. All others are compared with the first.
    activity : ndarray of shape (n_parts, 2)
        Smallest and largest number of items in the fold-in of each part's users.
    n_users : ndarray of shape (n_parts,)
        Number of users in each part.
    mean : ndarray of shape (n_models, n_parts)
        Mean of the metric.
    standard_error : ndarray of shape (n_models, n_parts)
        Standard error of the mean; NaN for a single user.
    pvalue : ndarray of shape (n_models, n_parts)
        Two-sided, corrected p-values; NaN for the first model and for a single user.
    metric : str
        Name of the metric, such as "ndcg@100".

    Attributes
    ----------
    containers_ : list of matplotlib ErrorbarContainer
        One for each model.
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure containing the axes.

    See Also
    --------
    sklrec.metrics.RankingEvaluation.compare : The test over all users.

    References
    ----------
    .. [1] D. Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.dummy import PopularityRecommender
    >>> from sklrec.inspection import ActivityDisplay
    >>> from sklrec.linear import EASE
    >>> X = make_interactions(500, 80, random_state=0).data
    >>> models = {
    ...     "EASE": EASE(lambda_=10).fit(X[:400]),
    ...     "popularity": PopularityRecommender().fit(X[:400]),
    ... }
    >>> display = ActivityDisplay.from_estimator(models, X[400:], metric="ndcg@20", n_bins=3)
    >>> display.mean.shape
    (2, 3)
    """

    def __init__(
        self,
        *,
        names: list[str],
        activity: np.ndarray,
        n_users: np.ndarray,
        mean: np.ndarray,
        standard_error: np.ndarray,
        pvalue: np.ndarray,
        metric: str,
    ) -> None:
        self.names = names
        self.activity = activity
        self.n_users = n_users
        self.mean = mean
        self.standard_error = standard_error
        self.pvalue = pvalue
        self.metric = metric

    def plot(
        self, ax: Axes | None = None, *, errorbar_kwargs: Mapping[str, Any] | None = None
    ) -> ActivityDisplay:
        """Plot the means.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to plot on, without another such display. If None, a new figure is created.
        errorbar_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``errorbar``, which override the default style.

        Returns
        -------
        display : ActivityDisplay
            The display itself.

        Raises
        ------
        ValueError
            If there are more than seven models, or the axes hold a display with bars already.
        """
        n_models, n_parts = self.mean.shape
        check_styles(n_models)
        ax = axes_or_new(ax, "ActivityDisplay.plot")
        check_no_bars(ax, "compare several models in one call")
        place = np.arange(n_parts)
        shift = 0.7 / n_models
        self.containers_ = []
        for i, name in enumerate(self.names):
            x = place + (i - (n_models - 1) / 2) * shift
            style = {**curve_style(i), "linewidth": 1, "elinewidth": 1.5, "capsize": 3}
            style = merged({**style, "label": name}, errorbar_kwargs)
            drawn = ax.errorbar(x, self.mean[i], yerr=self.standard_error[i], **style)
            self.containers_.append(drawn)
            tops = self.mean[i] + np.nan_to_num(self.standard_error[i])
            for left, top, pvalue in zip(x, tops, self.pvalue[i], strict=True):
                ax.annotate(
                    next((stars for level, stars in STARS if pvalue < level), ""),
                    (left, top),
                    xytext=(3, 2),  # centres the stars
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    color=style["color"],
                    rotation="vertical",  # leaves space for those of the next model
                )
        ax.margins(y=0.12)  # for the stars
        ranges = [str(low) if low == high else f"{low} to {high}" for low, high in self.activity]
        users = [f"{n:,} user{'' if n == 1 else 's'}" for n in self.n_users]
        ax.set_xticks(
            place, [f"{r}\n{n}" for r, n in zip(ranges, users, strict=True)], fontsize="small"
        )
        ax.set_xlim(-0.5, n_parts - 0.5)
        ax.set_xlabel("items in a user's fold-in")
        ax.set_ylabel(f"{metric_label(self.metric)}\nmean ± s.e.")
        title = None
        if n_models > 1:
            n_tests = np.count_nonzero(~np.isnan(self.pvalue))
            title = "* p < .05, ** p < .01, *** p < .001: paired t-test\n"
            title += f"with {self.names[0]}, corrected for {n_tests} tests (Holm)"
        legend_outside(ax, title=title)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: Any = None,
        *,
        metric: str = "ndcg@100",
        n_bins: int = 5,
        threshold: float = 0.0,
        test_size: float | int = 0.2,
        random_state: int = 0,
        interactions: MatrixLike | None = None,
        item_features: MatrixLike | None = None,
        ax: Axes | None = None,
        errorbar_kwargs: Mapping[str, Any] | None = None,
    ) -> ActivityDisplay:
        """Create the display from fitted estimators and complete rows of test users.

        A part of each row is hidden and ranked, as by :class:`.RankingScorer`.

        Parameters
        ----------
        estimator : estimator or dict of estimators
            Fitted estimator with ``decision_function``, or a dict of several by name. The others
            are compared with the first.
        X : {array-like, sparse array} of shape (n_users, n_items)
            Complete rows of test users.
        y : {array-like, sparse array} of shape (n_users, n_items) or None, default=None
            Nonzero at the entries of X to hide. By default, a random share is hidden.
        metric : str, default="ndcg@100"
            As in :func:`sklrec.metrics.evaluate`, one with a value for each user.
        n_bins : int, default=5
            Number of parts.
        threshold, test_size, random_state
            Relevant and hidden entries, as in :class:`.RankingScorer`.
        interactions, item_features
            Input of metrics beyond accuracy, as in :func:`sklrec.metrics.evaluate`.
        ax : matplotlib Axes or None, default=None
            Axes to plot on. If None, a new figure is created.
        errorbar_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``errorbar``.

        Returns
        -------
        display : ActivityDisplay
            Object that stores the computed values.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the metric is unknown or lacks what it needs, or there are more than seven models
            or fewer users with a value than parts.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        if not isinstance(estimator, Mapping):
            estimator = {name_of(estimator): estimator}
        check_styles(len(estimator))
        scorer = RankingScorer(threshold=threshold, test_size=test_size, random_state=random_state)
        fold_in, held_out = scorer.hide(X, y)
        told = type(X)(fold_in.toarray(), columns=X.columns) if hasattr(X, "iloc") else fold_in
        beyond: dict[str, Any] = {"interactions": interactions, "item_features": item_features}
        return cls.from_evaluations(
            {
                name: evaluate(one, told, held_out, metric, **beyond)
                for name, one in estimator.items()
            },
            fold_in,
            metric=metric,
            n_bins=n_bins,
            ax=ax,
            errorbar_kwargs=errorbar_kwargs,
        )

    @classmethod
    def from_evaluations(
        cls,
        evaluations: RankingEvaluation | Mapping[str, RankingEvaluation],
        fold_in: MatrixLike,
        *,
        metric: str = "ndcg@100",
        n_bins: int = 5,
        ax: Axes | None = None,
        errorbar_kwargs: Mapping[str, Any] | None = None,
    ) -> ActivityDisplay:
        """Create the display from results of :func:`sklrec.metrics.evaluate`.

        Parameters
        ----------
        evaluations : RankingEvaluation or dict of RankingEvaluation
            Evaluation, or a dict of several for the same users, by the names of the models. The
            others are compared with the first.
        fold_in : {array-like, sparse array} of shape (n_users, n_items)
            Interactions that were given to the models.
        metric : str, default="ndcg@100"
            One of the evaluated metrics, with a value for each user.
        n_bins : int, default=5
            Number of parts.
        ax : matplotlib Axes or None, default=None
            Axes to plot on. If None, a new figure is created.
        errorbar_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``errorbar``.

        Returns
        -------
        display : ActivityDisplay
            Object that stores the computed values.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the metric was not evaluated or has no value for each user, the evaluations are not
            of the users of `fold_in`, or there are fewer users with a value than parts.
        """
        check_matplotlib(f"{cls.__name__}.from_evaluations")
        if isinstance(evaluations, RankingEvaluation):
            evaluations = {"model": evaluations}
        counts = np.diff(stored_entries(fold_in).indptr)
        values = _values_of(evaluations, metric, counts.size)
        told = counts[~np.isnan(values[0])]
        values = values[:, ~np.isnan(values[0])]
        if not isinstance(n_bins, Integral) or not 1 <= n_bins <= told.size:
            raise ValueError(
                "n_bins must be an integer between 1 and the number of users with a value, "
                f"{told.size}, got {n_bins!r}."
            )
        part = _quantile_parts(told, int(n_bins))
        members = [part == i for i in range(part.max() + 1)]
        found = [[RankingEvaluation({metric: row[m]}) for m in members] for row in values]
        pvalue = np.full((len(found), len(members)), np.nan)
        for i, row in enumerate(found[1:], start=1):
            for j, (first, second) in enumerate(zip(found[0], row, strict=True)):
                if np.count_nonzero(members[j]) > 1:
                    pvalue[i, j] = first.compare(second)[metric].pvalue
        tested = ~np.isnan(pvalue)
        pvalue[tested] = _holm(pvalue[tested])
        return cls(
            names=list(evaluations),
            activity=np.array([[told[m].min(), told[m].max()] for m in members]),
            n_users=np.array([np.count_nonzero(m) for m in members]),
            mean=np.array([[one.mean[metric] for one in row] for row in found]),
            standard_error=np.array([[one.standard_error[metric] for one in row] for row in found]),
            pvalue=pvalue,
            metric=metric,
        ).plot(ax, errorbar_kwargs=errorbar_kwargs)


def _values_of(
    evaluations: Mapping[str, RankingEvaluation], metric: str, n_users: int
) -> np.ndarray:
    """Return the metric of each model and user, NaN for users without a value."""
    if not evaluations:
        raise ValueError("evaluations must have at least one evaluation, got none.")
    values = []
    for name, evaluation in evaluations.items():
        if metric in evaluation.together:
            raise ValueError(
                f"metric={metric!r} has one value for all users of {name} together and none for "
                "each user, so it cannot be broken down."
            )
        if metric not in evaluation.per_user:
            raise ValueError(
                f"metric={metric!r} was not evaluated for {name}, only "
                f"{', '.join(evaluation.per_user)}."
            )
        values.append(evaluation.per_user[metric])
        if values[-1].shape != (n_users,):
            raise ValueError(
                f"fold_in has {n_users} users, but {name} was evaluated on {values[-1].size}."
            )
        if not np.array_equal(np.isnan(values[-1]), np.isnan(values[0])):
            raise ValueError(
                f"{name} was evaluated on other users than {next(iter(evaluations))}: the same "
                "users must have a value."
            )
    return np.array(values)


def _quantile_parts(activity: np.ndarray, n_parts: int) -> np.ndarray:
    """Return the part of each user, from 0; equal activity means equal parts, and none is empty."""
    shares = np.linspace(0, 1, n_parts + 1)[1:-1]
    ends = np.quantile(activity, shares, method="inverted_cdf")
    return np.searchsorted(np.unique(ends[ends < activity.max()]), activity)


def _holm(pvalue: np.ndarray) -> np.ndarray:
    """Return p-values that are corrected for multiple tests by Holm's method."""
    order = np.argsort(pvalue)
    stepped = np.maximum.accumulate(np.arange(pvalue.size, 0, -1) * pvalue[order])
    corrected = np.empty_like(pvalue)
    corrected[order] = np.minimum(stepped, 1)
    return corrected
