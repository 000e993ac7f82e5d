"""Popularity of recommended and consumed items."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .._matrix import stored_entries
from .._ranking import rank_unseen
from .._typing import MatrixLike
from ..metrics._ranking import check_ranking
from ._plotting import (
    CURVE,
    GREY,
    axes_or_new,
    check_matplotlib,
    curve_style,
    legend_outside,
    merged,
    n_curves,
    name_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The gid of the line to compare models with.
CONSUMED = "sklrec-consumed"


class PopularityDisplay:
    """Share of the recommendations that the most popular items have.

    Items are sorted by the number of times they were consumed. The curves are cumulative shares of
    the consumption and of the recommendations. If the curve of a model is above that of the
    consumption, it recommends popular items more often than they were consumed; if it is below,
    less often. The horizontal axis, the share of items, is logarithmic, as a few percent of the
    items have most of the interactions.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. All parameters are stored as
    attributes. To compare up to seven models, use the same axes:
    ``from_estimator(..., ax=display.ax_)``. The consumption is only plotted with the first.

    Parameters
    ----------
    consumed : ndarray of shape (n_items,)
        Cumulative share of the consumption, most popular item first; the last one is 1.
    recommended : ndarray of shape (n_items,)
        Cumulative share of the recommendations, for the same order of items.
    name : str or None, default=None
        Name of the model for the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        Curve of the recommendations.
    consumed_line_, equal_line_ : matplotlib Line2D or None
        Curve of the consumption, and that of equal shares for all items; None if they are left out
        or already on the axes.
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure containing the axes.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.dummy import PopularityRecommender
    >>> from sklrec.inspection import PopularityDisplay
    >>> X = make_interactions(500, 80, random_state=0).data
    >>> model = PopularityRecommender().fit(X)
    >>> display = PopularityDisplay.from_estimator(model, X, k=5)
    >>> bool(display.recommended[20] > display.consumed[20])
    True
    """

    def __init__(
        self, *, consumed: np.ndarray, recommended: np.ndarray, name: str | None = None
    ) -> None:
        self.consumed = consumed
        self.recommended = recommended
        self.name = name

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        plot_consumed: bool = True,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> PopularityDisplay:
        """Plot the curves.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to plot on. If None, a new figure is created.
        name : str or None, default=None
            Name of the model for the legend. If None, the name of the display is used.
        plot_consumed : bool, default=True
            Whether to plot the consumption and the line of equal shares too, unless they are
            already on the axes.
        line_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``plot`` for the curve of the recommendations, which
            override the default style.

        Returns
        -------
        display : PopularityDisplay
            The display itself.

        Raises
        ------
        ValueError
            If the axes have curves of another display, or seven models.
        """
        ax = axes_or_new(ax, "PopularityDisplay.plot")
        name = self.name if name is None else name
        n = n_curves(ax, "popularity")
        n_items = self.consumed.size
        share = 100 * np.arange(1, n_items + 1) / n_items
        self.consumed_line_ = self.equal_line_ = None
        if plot_consumed and not any(line.get_gid() == CONSUMED for line in ax.get_lines()):
            (self.consumed_line_,) = ax.plot(
                share,
                100 * self.consumed,
                color="black",
                linewidth=2.5,
                label="consumed",
                gid=CONSUMED,
            )
            (self.equal_line_,) = ax.plot(
                share, share, color=GREY, linewidth=1, linestyle=":", label="equal shares"
            )
        places = np.geomspace(1, n_items, 8 + n).astype(int) - 1  # evenly on a logarithmic axis
        style = {**curve_style(n), "markevery": np.unique(places).tolist(), "label": name}
        style["gid"] = CURVE + "popularity"
        (self.line_,) = ax.plot(share, 100 * self.recommended, **merged(style, line_kwargs))
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlabel(f"most popular share of the {n_items:,} items (%)")
        ax.set_ylabel("share consumed\nor recommended (%)")
        ax.set_ylim(0, 102)
        legend_outside(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        *,
        consumed: MatrixLike | None = None,
        k: int = 10,
        name: str | None = None,
        ax: Axes | None = None,
        plot_consumed: bool = True,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> PopularityDisplay:
        """Create the display from the recommendations of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted estimator with ``decision_function``.
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of the users to recommend items to.
        consumed : {array-like, sparse array} of shape (n_rows, n_items) or None, default=None
            Interactions to compare with, such as those of all users; None means X. Nonzero
            entries are counted.
        k : int, default=10
            Number of recommendations to each user.
        name : str or None, default=None
            Name for the legend. If None, the name of the estimator's class is used.
        ax : matplotlib Axes or None, default=None
            Axes to plot on. If None, a new figure is created.
        plot_consumed : bool, default=True
            Whether the consumption is drawn too.
        line_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``plot``.

        Returns
        -------
        display : PopularityDisplay
            Object that stores the computed values.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `k` is not between 1 and the number of items, or if `consumed` is empty or has
            another number of items than X.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        rows = stored_entries(X)
        if not isinstance(k, Integral) or not 1 <= k <= rows.shape[1]:
            raise ValueError(
                f"k must be an integer between 1 and the {rows.shape[1]} items of X, got {k!r}."
            )
        consumed = rows if consumed is None else stored_entries(consumed)
        if consumed.shape[1] != rows.shape[1]:
            raise ValueError(
                f"consumed must have the {rows.shape[1]} items of X, got {consumed.shape[1]}."
            )
        return cls.from_predictions(
            consumed,
            rank_unseen(estimator, rows, k=int(k), like=X),
            name=name_of(estimator) if name is None else name,
            ax=ax,
            plot_consumed=plot_consumed,
            line_kwargs=line_kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        consumed: MatrixLike,
        ranking: ArrayLike,
        *,
        name: str | None = None,
        ax: Axes | None = None,
        plot_consumed: bool = True,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> PopularityDisplay:
        """Create the display from rankings.

        Parameters
        ----------
        consumed : {array-like, sparse array} of shape (n_rows, n_items)
            Interactions to compare with. Nonzero entries are counted.
        ranking : array-like of int of shape (n_users, n_ranks)
            Item indices, each at most once in a row; -1 means no item.
        name : str or None, default=None
            Name for the legend.
        ax : matplotlib Axes or None, default=None
            Axes to plot on. If None, a new figure is created.
        plot_consumed : bool, default=True
            Whether the consumption is drawn too.
        line_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``plot``.

        Returns
        -------
        display : PopularityDisplay
            Object that stores the computed values.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the ranking is not 2-d, has values other than item indices or an item twice in a row,
            or if there is no consumed or recommended item.
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        consumed = stored_entries(consumed)
        n_items = consumed.shape[1]
        ranking = check_ranking(ranking, None, n_items=n_items)
        popularity = np.bincount(consumed.indices, minlength=n_items)
        recommended = np.bincount(ranking[ranking >= 0], minlength=n_items)
        for counts, what in ((popularity, "consumed"), (recommended, "ranking")):
            if not counts.any():
                raise ValueError(f"{what} holds no item, so there are no shares to plot.")
        order = np.argsort(-popularity, kind="stable")
        return cls(
            consumed=popularity[order].cumsum() / popularity.sum(),
            recommended=recommended[order].cumsum() / recommended.sum(),
            name=name,
        ).plot(ax, plot_consumed=plot_consumed, line_kwargs=line_kwargs)
