"""A map of the items, near each other where a model recommends one to those who took the other."""

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

# Fewer items have no neighbours to be near to.
FEWEST_ITEMS = 4


class ItemMapDisplay:
    r"""A map of the most popular items as a model sees them.

    As in section IV of [1]_, the model scores all items for users who have taken one item alone.
    From the score :math:`s_{ij}` of item j for the user of item i the mean over these users is
    taken off; without that, as in [1]_ (``centered=False``), a popular item is near to all others.
    What is left becomes a distance by linear scaling between the least and the largest of each
    user,

    .. math:: t_{ij} = s_{ij} - \frac{1}{n - 1} \sum_{k \ne j} s_{kj}, \qquad
       d_{ij} = \frac{\max_{k \ne i} t_{ik} - t_{ij}}
                    {\max_{k \ne i} t_{ik} - \min_{k \ne i} t_{ik}},

    and :math:`(d_{ij} + d_{ji}) / 2` counts for both directions.

    scikit-learn's t-SNE puts the items on a plane such that near ones are near. Only that can be
    read from the map: far distances, axes and the map's orientation mean nothing.

    Made by :meth:`from_estimator`; its parameters are kept as attributes.

    Parameters
    ----------
    items : ndarray of shape (n_shown,)
        Indices of the items, most popular first.
    distances : ndarray of shape (n_shown, n_shown)
        Symmetric, between 0 and 1, zero on the diagonal.
    positions : ndarray of shape (n_shown, 2)
        On the map.
    labels : ndarray of shape (n_shown,) or None, default=None
        Of the items.
    groups : list of str, default=()
        The labels that are coloured.
    name : str or None, default=None
        Of the model, for the title.

    Attributes
    ----------
    scatters_ : dict of matplotlib PathCollection
        The items of each group; at the end, under None, all others, where there are any.
    ax_ : matplotlib Axes
        What is drawn on.
    figure_ : matplotlib Figure
        What holds the axes.

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
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            What to draw on, empty; None makes a figure.
        name : str or None, default=None
            Of the model, for the title; None means that of the display.
        legend : bool, default=True
            Whether the groups are named; one legend is enough for maps side by side.
        scatter_kwargs : dict or None, default=None
            For matplotlib's ``scatter``; anything else than the default style.

        Returns
        -------
        display : ItemMapDisplay
            Itself.

        Raises
        ------
        ValueError
            If the axes hold a plot already.
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
        """Ask a model for the neighbourhood of each item and make a map of it.

        Parameters
        ----------
        estimator : object with ``decision_function``
            Fitted: a model, a pipeline, or a part of a model.
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions that tell which items are most popular.
        labels : array-like of str of shape (n_items,) or None, default=None
            One for each column of X, such as a genre; "" is none.
        groups : list of str or None, default=None
            The labels to colour, seven at most; all other items are grey, "others" in the legend.
            None means all labels.
        n_items : int, default=500
            Number of items on the map at most. The time grows faster than it: 500 take a few
            seconds, 2,000 about a minute. Items without interactions are left out.
        value : float, default=1.0
            Of the entry that the user of one item has. With ratings, one that the model takes
            for a good one.
        centered : bool, default=True
            Whether the mean score of an item is taken off its scores, so that the map shows what
            one item says of another and not how popular the other is.
        perplexity : float, default=30.0
            About how many near items each item has, as in :class:`sklearn.manifold.TSNE`; lowered
            to a third of the items where these are few.
        random_state : int, RandomState instance or None, default=None
            Seed of the map. Another one gives another map of the same distances.
        name : str or None, default=None
            For the title; None means the name of the estimator's class.
        legend : bool, default=True
            Whether the groups are named; one legend is enough for maps side by side.
        ax : matplotlib Axes or None, default=None
            What to draw on, empty; None makes a figure.
        scatter_kwargs : dict or None, default=None
            For matplotlib's ``scatter``.

        Returns
        -------
        display : ItemMapDisplay
            With the numbers, drawn.

        Raises
        ------
        ImportError
            Without matplotlib.
        TypeError
            If the estimator has no ``decision_function``.
        ValueError
            If there are fewer than four items, labels of another number of items, unknown or too
            many groups, if the model gives all items the same score, or if the axes hold a plot
            already.
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
            # The least of scikit-learn's own choice, 50, throws single items far out now and then.
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
        raise ValueError("ax holds a plot already; give each map axes of its own.")


def _check_labels(
    labels: ArrayLike | None, groups: Sequence[str] | None, n_items: int
) -> tuple[np.ndarray | None, list[str]]:
    """Return the label of each item and the groups to colour."""
    if labels is None:
        if groups is not None:
            raise ValueError("groups names labels to colour, but labels is missing.")
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
    """Return the scores of these items for users who have taken one of them, one row each."""
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
    """Scale scores linearly to distances, row by row, and take the mean of both directions."""
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
            f"Each of the {len(scores)} items gives the others equal scores, so there are no "
            "distances; value must be one that the model counts, and the model a personal one."
        )
    distances = (largest - scores) / np.where(says_nothing, 1, largest - least)
    distances = np.where(other, np.where(says_nothing, 1, distances), 0)
    return (distances + distances.T) / 2
