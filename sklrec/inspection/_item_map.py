"""A map of items, where items that a model recommends for each other are close."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from numpy.typing import ArrayLike
from sklearn.manifold import TSNE

from .._matrix import stored_entries
from .._ranking import row_batches
from .._typing import MatrixLike
from ._plotting import (
    COLORS,
    MARKERS,
    axes_or_new,
    check_matplotlib,
    draw_title,
    legend_outside,
    merged,
    name_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Minimum number of items of a map.
FEWEST_ITEMS = 4


class ItemMapDisplay:
    r"""A map of the most popular items by the scores of a model.

    As in section IV of [1]_, the model scores all items for users with a single item. From the
    score :math:`s_{ij}` of item j for the user with item i, the mean over these users is
    subtracted. Without this, as in [1]_ (``centered=False``), popular items are close to all
    others. The result is scaled linearly to a distance, by the minimum and the maximum of each
    user,

    .. math:: t_{ij} = s_{ij} - \frac{1}{n - 1} \sum_{k \ne j} s_{kj}, \qquad
       d_{ij} = \frac{\max_{k \ne i} t_{ik} - t_{ij}}
                    {\max_{k \ne i} t_{ik} - \min_{k \ne i} t_{ik}},

    and made symmetric as :math:`(d_{ij} + d_{ji}) / 2`.

    scikit-learn's t-SNE maps the items to a plane so that items with a small distance are close.
    Large distances, axes and the orientation of the map have no meaning.

    Create it with :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    items : ndarray of shape (n_shown,)
        Indices of the items, most popular first.
    distances : ndarray of shape (n_shown, n_shown)
        Symmetric distances between 0 and 1, zero on the diagonal.
    positions : ndarray of shape (n_shown, 2)
        Positions on the map.
    labels : ndarray of shape (n_shown,) or None, default=None
        Labels of the items.
    groups : list of str, default=()
        Labels that are coloured.
    name : str or None, default=None
        Name of the model for the title.

    Attributes
    ----------
    scatters_ : dict of matplotlib PathCollection
        Items of each group. Any others have the key None, which is the last.
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure containing the axes.

    References
    ----------
    .. [1] V. Vančura and P. Kordík, "Deep Variational Autoencoder with Shallow Parallel Path for
       Top-N Recommendation (VASP)", ICANN 2021.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.inspection import ItemMapDisplay
    >>> from sklrec.linear import EASE
    >>> data = make_interactions(500, 60, n_groups=3, random_state=0)
    >>> model = EASE(lambda_=10).fit(data.data)
    >>> display = ItemMapDisplay.from_estimator(
    ...     model, data.data, n_items=40, perplexity=10, random_state=0)
    >>> display.positions.shape
    (40, 2)
    """

    def __init__(
        self,
        *,
        items: np.ndarray,
        distances: np.ndarray,
        positions: np.ndarray,
        labels: np.ndarray | None = None,
        groups: Sequence[str] = (),
        name: str | None = None,
    ) -> None:
        self.items = items
        self.distances = distances
        self.positions = positions
        self.labels = labels
        self.groups = groups
        self.name = name

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        legend: bool = True,
        scatter_kwargs: Mapping[str, Any] | None = None,
    ) -> ItemMapDisplay:
        """Plot the map.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Empty axes to plot on. If None, a new figure is created.
        name : str or None, default=None
            Name of the model for the title. If None, the name of the display is used.
        legend : bool, default=True
            Whether to add a legend; one is enough for several maps.
        scatter_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``scatter``, which override the default style.

        Returns
        -------
        display : ItemMapDisplay
            The display itself.

        Raises
        ------
        ValueError
            If the axes already have a plot.
        """
        ax = axes_or_new(ax, "ItemMapDisplay.plot", figsize=(5.0, 5.2))
        _check_empty(ax)
        name = self.name if name is None else name
        labels = np.full(self.items.size, "") if self.labels is None else self.labels
        self.scatters_: dict[str | None, Any] = {}
        for i, group in enumerate(self.groups):
            style = {
                "color": COLORS[i],
                "marker": MARKERS[i],
                "s": 30,
                "edgecolor": "white",
                "linewidth": 0.5,
                "zorder": 2,
                "label": group,
            }
            self.scatters_[group] = ax.scatter(
                *self.positions[labels == group].T, **merged(style, scatter_kwargs)
            )
        others = ~np.isin(labels, list(self.groups))
        if others.any():
            style = {"color": "0.75", "s": 9, "linewidth": 0, "zorder": 1}
            style["label"] = "others" if self.groups else "items"
            self.scatters_[None] = ax.scatter(
                *self.positions[others].T, **merged(style, scatter_kwargs)
            )
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[["top", "right"]].set_visible(True)
        ax.set_xlabel(f"t-SNE of {self.items.size:,} items, no unit")
        if legend and self.groups:
            legend_outside(ax, below=True)
        draw_title(ax, name, loc="left")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        *,
        labels: ArrayLike | None = None,
        groups: Sequence[str] | None = None,
        n_items: int = 500,
        value: float = 1.0,
        centered: bool = True,
        perplexity: float = 30.0,
        random_state: int | RandomState | None = None,
        name: str | None = None,
        legend: bool = True,
        ax: Axes | None = None,
        scatter_kwargs: Mapping[str, Any] | None = None,
    ) -> ItemMapDisplay:
        """Create the display from the scores of a fitted model.

        Parameters
        ----------
        estimator : object with ``decision_function``
            A fitted model, a pipeline, or a part of a model.
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, from which the most popular items are determined.
        labels : array-like of str of shape (n_items,) or None, default=None
            Label of each column of X, such as a genre; "" means no label.
        groups : list of str or None, default=None
            Labels to colour, seven at most; all other items are grey, and "others" in the legend.
            None means all labels.
        n_items : int, default=500
            Maximum number of items on the map. 500 take a few seconds, 2,000 about a minute. Items
            without interactions are left out.
        value : float, default=1.0
            Value of the single entry of each user. For ratings, use a high one.
        centered : bool, default=True
            Whether to subtract the mean score of each item, so that distances do not depend on
            popularity.
        perplexity : float, default=30.0
            Approximate number of neighbours of each item, see :class:`sklearn.manifold.TSNE`. It is
            at most a third of the number of items.
        random_state : int, RandomState instance or None, default=None
            Seed of the map. Another seed gives another map of the same distances.
        name : str or None, default=None
            Name for the title. If None, the name of the estimator's class is used.
        legend : bool, default=True
            Whether to add a legend; one is enough for several maps.
        ax : matplotlib Axes or None, default=None
            Empty axes to plot on. If None, a new figure is created.
        scatter_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``scatter``.

        Returns
        -------
        display : ItemMapDisplay
            Object that stores the computed values.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If the estimator has no ``decision_function``.
        ValueError
            If there are fewer than four items, `labels` has another number of items, groups are
            unknown or too many, if all scores are equal, or if the axes already have a plot.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        if not hasattr(estimator, "decision_function"):
            raise TypeError(
                "An item map needs an estimator with decision_function, got "
                f"{type(estimator).__name__}."
            )
        if not isinstance(n_items, Integral) or n_items < FEWEST_ITEMS:
            raise ValueError(
                f"n_items must be an integer of at least {FEWEST_ITEMS}, got {n_items!r}."
            )
        if ax is not None:
            _check_empty(axes_or_new(ax, f"{cls.__name__}.from_estimator"))  # before the work
        rows = stored_entries(X)
        label_of_item, groups = _check_labels(labels, groups, rows.shape[1])
        popularity = np.bincount(rows.indices, minlength=rows.shape[1])
        items = np.argsort(-popularity, kind="stable")[: min(n_items, np.count_nonzero(popularity))]
        if items.size < FEWEST_ITEMS:
            raise ValueError(
                f"A map needs at least {FEWEST_ITEMS} items with interactions, got {items.size} in "
                f"X of shape {rows.shape}."
            )
        distances = _distances(_sensitivity(estimator, items, value, like=X), centered=centered)
        positions = TSNE(
            metric="precomputed",
            init="random",
            perplexity=min(perplexity, (items.size - 1) / 3),
            # With scikit-learn's minimum of 50, single items are sometimes far from all others.
            learning_rate=max(10.0, items.size / 48),
            random_state=random_state,
        ).fit_transform(distances)
        return cls(
            items=items,
            distances=distances,
            positions=positions,
            labels=None if label_of_item is None else label_of_item[items],
            groups=groups,
            name=name_of(estimator) if name is None else name,
        ).plot(ax, legend=legend, scatter_kwargs=scatter_kwargs)


def _check_empty(ax: Axes) -> None:
    if ax.has_data():
        raise ValueError("ax holds a plot already; use separate axes for each map.")


def _check_labels(
    labels: ArrayLike | None, groups: Sequence[str] | None, n_items: int
) -> tuple[np.ndarray | None, list[str]]:
    """Return the label of each item and the groups to colour."""
    if labels is None:
        if groups is not None:
            raise ValueError("groups are labels to colour, but labels is missing.")
        return None, []
    labels = np.asarray(labels).astype(str)
    if labels.shape != (n_items,):
        raise ValueError(
            f"labels must have one label for each of the {n_items} items of X, got an array of "
            f"shape {labels.shape}."
        )
    present = [str(label) for label in np.unique(labels) if label]
    groups = present if groups is None else list(groups)
    unknown = [group for group in groups if group not in present]
    if unknown:
        raise ValueError(f"groups must be among labels, but no item has the label {unknown[0]!r}.")
    if len(groups) > len(COLORS):
        raise ValueError(
            f"At most {len(COLORS)} groups can be told apart, got {len(groups)}; name up to "
            f"{len(COLORS)} labels in groups, and the items of the rest are 'others'."
        )
    return labels, groups


def _sensitivity(estimator: Any, items: np.ndarray, value: float, *, like: Any) -> np.ndarray:
    """Return the scores of the items for users with one of them, one row for each user."""
    n_items = like.shape[1] if hasattr(like, "shape") else len(like[0])
    scores = np.empty((items.size, items.size))
    for batch in row_batches(items.size, n_items):
        taken = items[batch]
        rows: Any = sp.csr_array(
            (np.full(taken.size, value, np.float32), taken, np.arange(taken.size + 1)),
            shape=(taken.size, n_items),
        )
        if hasattr(like, "iloc"):  # an estimator fitted with names compares them
            rows = type(like)(rows.toarray(), columns=like.columns)
        found = np.asarray(estimator.decision_function(rows))
        if found.shape != (taken.size, n_items):
            raise ValueError(
                "decision_function must return a score for each item of each user, of shape "
                f"{(taken.size, n_items)}, got {found.shape}."
            )
        scores[batch] = found[:, items]
    return scores


def _distances(scores: np.ndarray, *, centered: bool) -> np.ndarray:
    """Scale the rows of scores linearly to distances, and average both directions."""
    if not np.isfinite(scores).all():
        raise ValueError(
            f"Scores must be finite, but {np.count_nonzero(~np.isfinite(scores))} are not."
        )
    other = ~np.eye(len(scores), dtype=bool)
    rounding = 1e-9 * np.abs(scores).max(axis=1, keepdims=True)
    if centered:
        scores = scores - scores.mean(axis=0, where=other)
    largest = scores.max(axis=1, keepdims=True, where=other, initial=-np.inf)
    least = scores.min(axis=1, keepdims=True, where=other, initial=np.inf)
    says_nothing = largest - least <= rounding
    if says_nothing.all():
        raise ValueError(
            f"All scores are equal for each of the {len(scores)} items, so there are no distances; "
            "use a personalized model, and a value that it does not ignore."
        )
    distances = (largest - scores) / np.where(says_nothing, 1, largest - least)
    distances = np.where(other, np.where(says_nothing, 1, distances), 0)
    return (distances + distances.T) / 2
