"""What users rate on average."""

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
    """How the mean ratings of the users are distributed.

    As in figure 2 of [1]_: where most users' means are high, people rate what they like; where the
    means are far apart, one threshold does not mean the same for everybody.

    Made by :meth:`from_interactions`; its parameters are kept as attributes.

    Parameters
    ----------
    means : ndarray of shape (n_raters,)
        Mean rating of each user who has rated anything.
    bins : int or array-like, default=20
        Number of bins, or their edges, between which all means must lie.
    name : str or None, default=None
        Of the data set, for the title.
    unit : str, default="stars"
        Of the ratings.

    Attributes
    ----------
    counts_ : ndarray of shape (n_bins,)
        Number of users in each bin.
    edges_ : ndarray of shape (n_bins + 1,)
        Of the bins, in the unit of the ratings.
    bars_ : matplotlib BarContainer
        One bar for each bin.
    line_ : matplotlib Line2D
        The mean of the means.
    ax_ : matplotlib Axes
        What is drawn on.
    figure_ : matplotlib Figure
        What holds the axes.

    See Also
    --------
    RatingHistogramDisplay : How often each rating was given.

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
        """Draw the histogram.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            What to draw on, without another histogram; None makes a figure.
        unit : str or None, default=None
            Of the ratings; None means that of the display.
        bar_kwargs : dict or None, default=None
            For matplotlib's ``bar``; anything else than the default style.

        Returns
        -------
        display : UserMeanHistogramDisplay
            Itself.

        Raises
        ------
        ValueError
            If users lie outside of the bins, or the axes hold a display with bars already.
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
        check_no_bars(ax, "give each histogram axes of its own")
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
        """Take each user's mean over what the user has rated.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Ratings; zero means none. Users without any are left out.
        bins : int or array-like, default=20
            Number of bins, or their edges, between which all means must lie, as in
            :func:`numpy.histogram`.
        unit : str, default="stars"
            Of the ratings.
        name : str or None, default=None
            Of the data set, for the title.
        ax : matplotlib Axes or None, default=None
            What to draw on; None makes a figure.
        bar_kwargs : dict or None, default=None
            For matplotlib's ``bar``.

        Returns
        -------
        display : UserMeanHistogramDisplay
            With the numbers, drawn.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If X holds no rating, or users lie outside of the bins.
        """
        check_matplotlib(f"{cls.__name__}.from_interactions")
        X = stored_entries(X)
        n_ratings = np.diff(X.indptr)
        if not X.nnz:
            raise ValueError("X holds no rating, so there is no mean to take.")
        means = X.sum(axis=1, dtype=np.float64)[n_ratings > 0] / n_ratings[n_ratings > 0]
        return cls(means=means, bins=bins, name=name, unit=unit).plot(ax, bar_kwargs=bar_kwargs)
