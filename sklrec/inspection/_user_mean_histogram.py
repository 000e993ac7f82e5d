"""What users rate on average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .._matrix import stored_entries
from .._typing import MatrixLike
from ._plotting import LIGHT, axes_or_new, check_matplotlib

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
        Number of bins, or their edges.
    name : str or None, default=None
        Of the data set, for the title.

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
        self, *, means: np.ndarray, bins: int | ArrayLike = 20, name: str | None = None
    ) -> None:
        self.means = means
        self.bins = bins
        self.name = name

    def plot(
        self,
        ax: Axes | None = None,
        *,
        unit: str = "stars",
        bar_kwargs: Mapping[str, Any] | None = None,
    ) -> UserMeanHistogramDisplay:
        """Draw the histogram.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            What to draw on; None makes a figure.
        unit : str, default="stars"
            Of the ratings.
        bar_kwargs : dict or None, default=None
            For matplotlib's ``bar``; anything else than the default style.

        Returns
        -------
        display : UserMeanHistogramDisplay
            Itself.
        """
        ax = axes_or_new(ax, "UserMeanHistogramDisplay.plot")
        self.counts_, self.edges_ = np.histogram(self.means, bins=self.bins)
        n_users = self.means.size
        style = {
            "width": np.diff(self.edges_),
            "align": "edge",
            "color": LIGHT,
            "edgecolor": "white",
            "linewidth": 0.5,
        }
        self.bars_ = ax.bar(
            self.edges_[:-1], 100 * self.counts_ / n_users, **{**style, **(bar_kwargs or {})}
        )
        mean = self.means.mean()
        self.line_ = ax.axvline(mean, color="black", linestyle="--", label=f"mean {mean:.2f}")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0.2)
        ax.set_xlabel(f"mean rating of a user ({unit})")
        ax.set_ylabel(f"share of the {n_users:,} users (%)")
        if self.name is not None:
            ax.set_title(self.name, loc="right")
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
            Number of bins, or their edges, as in :func:`numpy.histogram`.
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
            If X holds no rating.
        """
        check_matplotlib(f"{cls.__name__}.from_interactions")
        X = stored_entries(X)
        n_ratings = np.diff(X.indptr)
        if not X.nnz:
            raise ValueError("X holds no rating, so there is no mean to take.")
        means = X.sum(axis=1, dtype=np.float64)[n_ratings > 0] / n_ratings[n_ratings > 0]
        return cls(means=means, bins=bins, name=name).plot(ax, unit=unit, bar_kwargs=bar_kwargs)
