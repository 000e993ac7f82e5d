"""A metric at k over k."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .._matrix import stored_entries
from .._ranking import rank_unseen
from .._typing import MatrixLike
from ..metrics import RankingEvaluation, RankingScorer
from ..metrics._names import METRICS, measure_curve
from ._plotting import (
    CURVE,
    axes_or_new,
    check_matplotlib,
    curve_style,
    legend_outside,
    merged,
    metric_label,
    n_curves,
    name_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class RankingCurveDisplay:
    """A metric at k, such as NDCG@k, over k, plus and minus one standard error.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. All parameters are stored as
    attributes. To compare up to seven models by the same metric, use the same axes:
    ``from_estimator(..., ax=display.ax_)``.

    Parameters
    ----------
    k : ndarray of shape (n_points,)
        Numbers of ranks.
    mean : ndarray of shape (n_points,)
        Mean of the metric over the users, at each k.
    standard_error : ndarray of shape (n_points,)
        Standard error of the mean; NaN for a single user.
    n_users : int
        Number of users with held-out items.
    metric : str
        Name of the metric, such as "ndcg".
    name : str or None, default=None
        Name of the model for the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        Curve of the means.
    band_ : matplotlib PolyCollection
        Band of plus and minus one standard error.
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure containing the axes.

    See Also
    --------
    sklrec.metrics.evaluate : The values of each user.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.dummy import PopularityRecommender
    >>> from sklrec.inspection import RankingCurveDisplay
    >>> from sklrec.linear import EASE
    >>> X = make_interactions(500, 80, random_state=0).data
    >>> ease, popular = EASE(lambda_=10).fit(X[:400]), PopularityRecommender().fit(X[:400])
    >>> display = RankingCurveDisplay.from_estimator(ease, X[400:], metric="recall", k=40)
    >>> other = RankingCurveDisplay.from_estimator(
    ...     popular, X[400:], metric="recall", k=40, ax=display.ax_)
    >>> bool((display.mean > other.mean)[:20].all())
    True
    """

    def __init__(
        self,
        *,
        k: np.ndarray,
        mean: np.ndarray,
        standard_error: np.ndarray,
        n_users: int,
        metric: str,
        name: str | None = None,
    ) -> None:
        self.k = k
        self.mean = mean
        self.standard_error = standard_error
        self.n_users = n_users
        self.metric = metric
        self.name = name

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> RankingCurveDisplay:
        """Plot the curve.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to plot on. If None, a new figure is created.
        name : str or None, default=None
            Name of the model for the legend. If None, the name of the display is used.
        line_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``plot``, which override the default style.

        Returns
        -------
        display : RankingCurveDisplay
            The display itself.

        Raises
        ------
        ValueError
            If the axes have curves of another metric, or seven models.
        """
        ax = axes_or_new(ax, "RankingCurveDisplay.plot")
        name = self.name if name is None else name
        n = n_curves(ax, f"{self.metric}@k")
        # Markers at different places, so that curves which lie on each other are still seen.
        every = max(1, self.k.size // 6)
        style = {**curve_style(n), "markevery": (n % 3 * (every // 3), every), "label": name}
        style["gid"] = f"{CURVE}{self.metric}@k"
        (self.line_,) = ax.plot(self.k, self.mean, **merged(style, line_kwargs))
        self.band_ = ax.fill_between(
            self.k,
            self.mean - self.standard_error,
            self.mean + self.standard_error,
            color=self.line_.get_color(),
            alpha=0.2,
            linewidth=0,
        )
        ax.set_xlabel("k (ranks looked at)")
        label = f"{metric_label(self.metric)}@k\nmean ± s.e."
        label_with_users = f"{label} over {self.n_users:,} users"
        same_users = n == 0 or ax.get_ylabel() == label_with_users
        ax.set_ylabel(label_with_users if same_users else label)
        ax.set_xlim(0, None)
        legend_outside(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: Any = None,
        *,
        metric: str = "ndcg",
        k: int | ArrayLike = 100,
        threshold: float = 0.0,
        test_size: float | int = 0.2,
        random_state: int = 0,
        name: str | None = None,
        ax: Axes | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> RankingCurveDisplay:
        """Hide a part of each row, as :class:`.RankingScorer` does, and rank it back.

        Parameters
        ----------
        estimator : estimator
            Fitted estimator with ``decision_function``.
        X : {array-like, sparse array} of shape (n_users, n_items)
            Complete rows of test users.
        y : {array-like, sparse array} of shape (n_users, n_items) or None, default=None
            Nonzero at the entries of X to hide. By default, a random share is hidden.
        metric : str, default="ndcg"
            As in :class:`.RankingScorer`, without "@" and number.
        k : int or array-like of int, default=100
            Numbers of ranks. An int means all from 1 to `k`, or to the number of items if there are
            fewer. Values of an array must not exceed the number of items.
        threshold, test_size, random_state
            Relevant and hidden entries, as in :class:`.RankingScorer`.
        name : str or None, default=None
            Name for the legend. If None, the name of the estimator's class is used.
        ax : matplotlib Axes or None, default=None
            Axes to plot on. If None, a new figure is created.
        line_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``plot``.

        Returns
        -------
        display : RankingCurveDisplay
            Object that stores the computed values.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the metric is unknown, `k` is less than 1 or has a value above the number of items,
            or no user has an item held out.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        scorer = RankingScorer(threshold=threshold, test_size=test_size, random_state=random_state)
        fold_in, held_out = scorer.hide(X, y)
        if isinstance(k, Integral):
            k = min(k, held_out.shape[1])
        ks = _check_ks(k, held_out.shape[1], "items of X")
        ranking = rank_unseen(estimator, fold_in, k=int(ks.max()), like=X)
        return cls.from_predictions(
            held_out,
            ranking,
            metric=metric,
            k=ks,
            name=name_of(estimator) if name is None else name,
            ax=ax,
            line_kwargs=line_kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        held_out: MatrixLike,
        ranking: ArrayLike,
        *,
        metric: str = "ndcg",
        k: int | ArrayLike | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> RankingCurveDisplay:
        """Create the display from rankings and held-out items.

        Parameters
        ----------
        held_out : {array-like, sparse array} of shape (n_users, n_items)
            Nonzero at the held-out items of each user.
        ranking : array-like of int of shape (n_users, n_ranks)
            Item indices, best first; -1 means no item.
        metric : str, default="ndcg"
            As in :class:`.RankingScorer`, without "@" and number.
        k : int, array-like of int or None, default=None
            Numbers of ranks. An int means all from 1 to `k`; None means all ranks of `ranking`.
        name : str or None, default=None
            Name for the legend.
        ax : matplotlib Axes or None, default=None
            Axes to plot on. If None, a new figure is created.
        line_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``plot``.

        Returns
        -------
        display : RankingCurveDisplay
            Object that stores the computed values.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the metric is unknown, `k` is not between 1 and the number of ranks, the shapes
            differ, or no user has an item held out.
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        held_out, ranking = stored_entries(held_out), np.asarray(ranking)
        n_users = int(np.count_nonzero(np.diff(held_out.indptr)))
        if not n_users:
            raise ValueError("No user has an item held out, so there is no curve to plot.")
        n_ranks = ranking.shape[1] if ranking.ndim == 2 else 1
        ks = _check_ks(n_ranks if k is None else k, n_ranks, "ranks given")
        of_held_out = [name for name in METRICS if METRICS[name].needs == "held_out"]
        if metric not in of_held_out:
            raise ValueError(
                f"metric must be one of {', '.join(of_held_out)}, without '@' and a number, "
                f"got {metric!r}."
            )
        values = measure_curve(metric, held_out, ranking, ks)
        curve = RankingEvaluation(dict(zip(map(str, ks), values, strict=True)))
        return cls(
            k=ks,
            mean=np.array(list(curve.mean.values())),
            standard_error=np.array(list(curve.standard_error.values())),
            n_users=n_users,
            metric=metric,
            name=name,
        ).plot(ax, line_kwargs=line_kwargs)


def _check_ks(k: int | ArrayLike, largest: int, what: str) -> np.ndarray:
    """Return the unique numbers of ranks in increasing order."""
    ks = np.arange(1, k + 1) if isinstance(k, Integral) else np.unique(np.asarray(k))
    if not ks.size or not np.issubdtype(ks.dtype, np.integer) or ks[0] < 1 or ks[-1] > largest:
        raise ValueError(
            f"k must be one integer or several between 1 and the {largest} {what}, got {k!r}."
        )
    return ks
