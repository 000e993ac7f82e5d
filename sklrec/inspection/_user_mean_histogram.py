"""Histogram of the mean ratings of users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .._matrix import stored_entries
from .._typing import MatrixLike
from ._plotting import LIGHT, axes_or_new, check_matplotlib, check_no_bars, draw_title, merged

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class UserMeanHistogramDisplay:
    """Distribution of the mean ratings of the users.

    As figure 2 of [1]_, it shows whether users mostly rate items that they like, and how much users
    differ, in which case the same threshold has a different meaning for each.

    Create it with :meth:`from_interactions`. All parameters are stored as attributes.

    Parameters
    ----------
    means : ndarray of shape (n_raters,)
        Mean rating of each user with ratings.
    bins : int or array-like, default=20
        Number of bins, or their edges, which must include all means.
    name : str or None, default=None
        Name of the data set for the title.
    unit : str, default="stars"
        Unit of the ratings.

    Attributes
    ----------
    counts_ : ndarray of shape (n_bins,)
        Number of users in each bin.
    edges_ : ndarray of shape (n_bins + 1,)
        Edges of the bins, in the unit of the ratings.
    bars_ : matplotlib BarContainer
        One bar for each bin.
    line_ : matplotlib Line2D
        Line at the mean of the means.
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure containing the axes.

    See Also
    --------
    RatingHistogramDisplay : Histogram of ratings.

    References
    ----------
    .. [1] S. Peng and C. Spears, "CSE 258 Assignment 2", University of California San Diego.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.inspection import UserMeanHistogramDisplay
    >>> X = make_interactions(500, 80, ratings=True, random_state=0).data
    >>> display = UserMeanHistogramDisplay.from_interactions(X, bins=10)
    >>> int(display.counts_.sum())
    500
    """

    def __init__(
        self,
        *,
        means: np.ndarray,
        bins: int | ArrayLike = 20,
        name: str | None = None,
        unit: str = "stars",
    ) -> None:
        self.means = means
        self.bins = bins
        self.name = name
        self.unit = unit

    def plot(
        self,
        ax: Axes | None = None,
        *,
        unit: str | None = None,
        bar_kwargs: Mapping[str, Any] | None = None,
    ) -> UserMeanHistogramDisplay:
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
        display : UserMeanHistogramDisplay
            The display itself.

        Raises
        ------
        ValueError
            If users are outside of the bins, or the axes already have a display with bars.
        """
        self.counts_, self.edges_ = np.histogram(self.means, bins=self.bins)
        n_users = self.means.size
        n_outside = n_users - self.counts_.sum()
        if n_outside:
            raise ValueError(
                f"bins must hold all {n_users:,} users, but the means of {n_outside:,} are not "
                f"between {self.edges_[0]:g} and {self.edges_[-1]:g}."
            )
        ax = axes_or_new(ax, "UserMeanHistogramDisplay.plot")
        check_no_bars(ax, "use separate axes for each histogram")
        unit = self.unit if unit is None else unit
        style = {
            "width": np.diff(self.edges_),
            "align": "edge",
            "color": LIGHT,
            "edgecolor": "white",
            "linewidth": 0.5,
        }
        self.bars_ = ax.bar(
            self.edges_[:-1], 100 * self.counts_ / n_users, **merged(style, bar_kwargs)
        )
        mean = self.means.mean()
        self.line_ = ax.axvline(mean, color="black", linestyle="--", label=f"mean {mean:.2f}")
        ax.set_xlabel(f"mean rating of a user ({unit})\ndashed line: mean of the users, {mean:.2f}")
        ax.set_ylabel(f"share of the {n_users:,} users (%)")
        draw_title(ax, self.name)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_interactions(
        cls,
        X: MatrixLike,
        *,
        bins: int | ArrayLike = 20,
        unit: str = "stars",
        name: str | None = None,
        ax: Axes | None = None,
        bar_kwargs: Mapping[str, Any] | None = None,
    ) -> UserMeanHistogramDisplay:
        """Create the display from ratings.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Ratings; zero means no rating. Users without ratings are left out.
        bins : int or array-like, default=20
            Number of bins, or their edges, which must include all means, as in
            :func:`numpy.histogram`.
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
        display : UserMeanHistogramDisplay
            Object that stores the computed values.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If X has no ratings, or users are outside of the bins.
        """
        check_matplotlib(f"{cls.__name__}.from_interactions")
        X = stored_entries(X)
        n_ratings = np.diff(X.indptr)
        if not X.nnz:
            raise ValueError("X holds no rating, so there are no means.")
        means = X.sum(axis=1, dtype=np.float64)[n_ratings > 0] / n_ratings[n_ratings > 0]
        return cls(means=means, bins=bins, name=name, unit=unit).plot(ax, bar_kwargs=bar_kwargs)
