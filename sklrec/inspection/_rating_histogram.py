"""Histogram of ratings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._matrix import stored_entries
from .._typing import MatrixLike
from ._plotting import LIGHT, axes_or_new, check_matplotlib, check_no_bars, draw_title, merged

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Maximum number of different ratings.
MOST_VALUES = 100


class RatingHistogramDisplay:
    """Number of times each rating was given.

    As figure 1 of [1]_, it helps to choose a threshold for positive ratings, such as 3.5 stars.

    Create it with :meth:`from_interactions`. All parameters are stored as attributes.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        Ratings in increasing order.
    counts : ndarray of shape (n_values,)
        Number of occurrences of each rating.
    name : str or None, default=None
        Name of the data set for the title.
    unit : str, default="stars"
        Unit of the ratings.

    Attributes
    ----------
    bars_ : matplotlib BarContainer
        One bar for each rating.
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure containing the axes.

    See Also
    --------
    UserMeanHistogramDisplay : Histogram of the mean ratings of users.

    References
    ----------
    .. [1] S. Peng and C. Spears, "CSE 258 Assignment 2", University of California San Diego.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.inspection import RatingHistogramDisplay
    >>> X = make_interactions(500, 80, ratings=True, random_state=0).data
    >>> display = RatingHistogramDisplay.from_interactions(X)
    >>> int(display.counts.sum()) == X.nnz
    True
    """

    def __init__(
        self,
        *,
        values: np.ndarray,
        counts: np.ndarray,
        name: str | None = None,
        unit: str = "stars",
    ) -> None:
        self.values = values
        self.counts = counts
        self.name = name
        self.unit = unit

    def plot(
        self,
        ax: Axes | None = None,
        *,
        unit: str | None = None,
        bar_kwargs: Mapping[str, Any] | None = None,
    ) -> RatingHistogramDisplay:
        """Plot the histogram.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to plot on, without another histogram. If None, a new figure is created.
        unit : str or None, default=None
            Unit of the ratings. If None, the unit of the display is used.
        bar_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``bar``, which override the default style.

        Returns
        -------
        display : RatingHistogramDisplay
            The display itself.

        Raises
        ------
        ValueError
            If the axes already have a display with bars.
        """
        ax = axes_or_new(ax, "RatingHistogramDisplay.plot")
        check_no_bars(ax, "use separate axes for each histogram")
        unit = self.unit if unit is None else unit
        n_ratings = self.counts.sum()
        gap = np.diff(self.values).min() if self.values.size > 1 else 1.0
        style = {"color": LIGHT, "width": 0.8 * gap}
        self.bars_ = ax.bar(self.values, 100 * self.counts / n_ratings, **merged(style, bar_kwargs))
        if self.values.size <= 10:
            ax.set_xticks(self.values, [f"{value:g}" for value in self.values])
        ax.set_xlabel(f"rating ({unit})")
        ax.set_ylabel(f"share of the {n_ratings:,} ratings (%)")
        draw_title(ax, self.name)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_interactions(
        cls,
        X: MatrixLike,
        *,
        unit: str = "stars",
        name: str | None = None,
        ax: Axes | None = None,
        bar_kwargs: Mapping[str, Any] | None = None,
    ) -> RatingHistogramDisplay:
        """Create the display from ratings.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Ratings; zero means no rating.
        unit : str, default="stars"
            Unit of the ratings.
        name : str or None, default=None
            Name of the data set for the title.
        ax : matplotlib Axes or None, default=None
            Axes to plot on. If None, a new figure is created.
        bar_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``bar``.

        Returns
        -------
        display : RatingHistogramDisplay
            Object that stores the computed values.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If X has no ratings, or too many different values for ratings.
        """
        check_matplotlib(f"{cls.__name__}.from_interactions")
        values, counts = np.unique(stored_entries(X).data, return_counts=True)
        if not values.size:
            raise ValueError("X holds no rating, so there is nothing to count.")
        if values.size > MOST_VALUES:
            raise ValueError(
                f"X must hold at most {MOST_VALUES} different ratings, got {values.size:,}."
            )
        return cls(values=values, counts=counts, name=name, unit=unit).plot(
            ax, bar_kwargs=bar_kwargs
        )
