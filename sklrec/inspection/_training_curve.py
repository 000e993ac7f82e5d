"""Loss, validation score and KL weight in each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._plotting import (
    CURVE,
    GREY,
    axes_or_new,
    check_matplotlib,
    curve_style,
    last_step,
    legend_outside,
    merged,
    n_curves,
    name_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class TrainingCurveDisplay:
    r"""Training curves of a model.

    As in figure 1 of [1]_, there are panels for the loss and, if the model has them, for the
    ``ndcg@100`` of the validation users and for :math:`\beta`, the weight of the KL term. A large
    marker is the epoch whose weights the model has kept.

    Create it with :meth:`from_estimator`. All parameters are stored as attributes. To compare up to
    seven models, use the same panels: ``from_estimator(..., ax=display.axes_)``. Others may have
    fewer panels than the first; each curve is plotted in the panel with its label.

    Parameters
    ----------
    loss : ndarray of shape (n_epochs,)
        Mean loss over each epoch.
    validation_score : ndarray of shape (n_epochs,) or None, default=None
        Validation score; NaN in epochs without validation.
    beta : ndarray of shape (n_epochs,) or None, default=None
        Weight of the KL term at the end of each epoch.
    best_epoch : int or None, default=None
        Epoch with the best validation score, counted from 1.
    name : str or None, default=None
        Name of the model for the legend.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_panels,)
        All panels, from top to bottom or as given.
    lines_ : list of matplotlib Line2D
        One for each curve of the model.
    ax_ : matplotlib Axes
        The panel of the loss.
    figure_ : matplotlib Figure
        Figure containing the panels.

    References
    ----------
    .. [1] D. Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.inspection import TrainingCurveDisplay
    >>> from sklrec.neural import MultVAE
    >>> X = make_interactions(300, 60, random_state=0).data
    >>> vae = MultVAE(8, hidden_layer_sizes=(), max_epochs=5, random_state=0)
    >>> vae = vae.fit(X[:200], X_val=X[200:])
    >>> display = TrainingCurveDisplay.from_estimator(vae)
    >>> len(display.axes_)
    3
    """

    def __init__(
        self,
        *,
        loss: np.ndarray,
        validation_score: np.ndarray | None = None,
        beta: np.ndarray | None = None,
        best_epoch: int | None = None,
        name: str | None = None,
    ) -> None:
        self.loss = loss
        self.validation_score = validation_score
        self.beta = beta
        self.best_epoch = best_epoch
        self.name = name

    def plot(
        self,
        ax: Axes | Sequence[Axes] | None = None,
        *,
        name: str | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> TrainingCurveDisplay:
        """Draw a panel for each curve.

        Parameters
        ----------
        ax : matplotlib Axes, array of Axes or None, default=None
            Empty axes that the panels take the place of, or one for each panel, such as the
            ``axes_`` of another display; None makes a figure.
        name : str or None, default=None
            Name of the model for the legend. If None, the name of the display is used.
        line_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``plot``, which override the default style.

        Returns
        -------
        display : TrainingCurveDisplay
            The display itself.

        Raises
        ------
        ValueError
            If the axes have data, too few panels or seven models, or if `best_epoch` is not one of
            the epochs.
        """
        check_matplotlib("TrainingCurveDisplay.plot")
        name = self.name if name is None else name
        n_epochs, best = self.loss.size, self.best_epoch
        if best is not None and not 1 <= best <= n_epochs:
            raise ValueError(f"best_epoch must be one of the {n_epochs} epochs, got {best}.")
        curves = [("loss", self.loss, 1.0)]
        if self.validation_score is not None:
            curves.append(("NDCG@100\nof validation users", self.validation_score, 1.5))
        if self.beta is not None:
            curves.append((r"KL weight $\beta$", self.beta, 0.7))
        self.axes_ = _panels(ax, [height for _, _, height in curves])
        panels = _by_label(self.axes_, [label for label, _, _ in curves])
        n = n_curves(panels[0], "training")
        style = {**curve_style(n), "markevery": (0, max(1, n_epochs // 5)), "markersize": 4}
        style = merged({**style, "label": name, "gid": CURVE + "training"}, line_kwargs)
        self.lines_ = []
        for axes, (label, values, _) in zip(panels, curves, strict=True):
            (line,) = axes.plot(np.arange(1, n_epochs + 1), values, **style)
            self.lines_.append(line)
            axes.set_ylabel(label)
            if best is not None:
                axes.plot(
                    best,
                    values[best - 1],
                    color=line.get_color(),
                    marker="*",
                    markersize=13,
                    markeredgecolor="white",
                    zorder=3,
                )
                axes.axvline(best, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        for axes in self.axes_:
            if _is_above_another(axes, self.axes_):
                axes.tick_params(labelbottom=False)
            elif best is not None:
                axes.set_xlabel("epoch (star: the best)")
            elif not axes.get_xlabel():
                axes.set_xlabel("epoch")
        legend_outside(panels[0])
        self.ax_, self.figure_ = panels[0], panels[0].figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        name: str | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> TrainingCurveDisplay:
        r"""Create the display from a fitted estimator.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted estimator with ``loss_curve_``, or a pipeline with one as its last step. If it
            has them, ``validation_scores_``, ``best_epoch_`` and :math:`\beta` in ``net_.history``
            are used too.
        name : str or None, default=None
            Name for the legend. If None, the name of the estimator's class is used.
        ax : matplotlib Axes, array of Axes or None, default=None
            Empty axes that the panels take the place of, or one for each panel, such as the
            ``axes_`` of another display; None makes a figure.
        line_kwargs : dict or None, default=None
            Keyword arguments of matplotlib's ``plot``.

        Returns
        -------
        display : TrainingCurveDisplay
            Object that stores the computed values.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If the estimator is not trained in epochs.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        estimator = last_step(estimator)
        check_is_fitted(estimator)
        if not hasattr(estimator, "loss_curve_"):
            raise TypeError(
                "A training curve needs a model with loss_curve_, which is trained in epochs, got "
                f"{type(estimator).__name__}."
            )
        loss = np.asarray(estimator.loss_curve_, dtype=float)
        scores = _noted(estimator, "validation_score", loss.size)
        if scores is None and len(getattr(estimator, "validation_scores_", ())) == loss.size:
            scores = np.asarray(estimator.validation_scores_, dtype=float)
        return cls(
            loss=loss,
            validation_score=scores,
            beta=_noted(estimator, "beta", loss.size),
            best_epoch=getattr(estimator, "best_epoch_", None),
            name=name_of(estimator) if name is None else name,
        ).plot(ax, line_kwargs=line_kwargs)


def _noted(estimator: Any, name: str, n_epochs: int) -> np.ndarray | None:
    """Return a value of each epoch from the history of the net, NaN if there is none."""
    history = getattr(getattr(estimator, "net_", None), "history", ())
    if len(history) != n_epochs or not any(name in epoch for epoch in history):
        return None
    return np.array([epoch.get(name, np.nan) for epoch in history], dtype=float)


def _panels(ax: Axes | Sequence[Axes] | None, heights: list[float]) -> np.ndarray:
    """Return the given axes, or new axes below each other with relative heights."""
    caller = "TrainingCurveDisplay.plot"
    if ax is None or not np.iterable(ax):
        ax = axes_or_new(ax, caller, figsize=(5.0, 1.2 + 1.2 * sum(heights)))
        figure, place = ax.figure, ax.get_subplotspec()
        if ax.has_data():
            raise ValueError(
                "ax holds data, which new panels would replace; pass display.axes_ to add a model "
                "to a display."
            )
        if place is None:
            raise ValueError("ax must be made by subplots, so that it can be divided into panels.")
        grid = place.subgridspec(len(heights), 1, height_ratios=heights)
        ax.remove()
        first = figure.add_subplot(grid[0])
        ax = [first]
        ax += [figure.add_subplot(grid[i], sharex=first) for i in range(1, len(heights))]
    return np.array([axes_or_new(axes, caller) for axes in np.ravel(np.asarray(ax, dtype=object))])


def _by_label(axes: np.ndarray, labels: list[str]) -> list[Axes]:
    """Return the panel of each curve: the one with its label, or in order without labels."""
    panels = {panel.get_ylabel(): panel for panel in axes}
    if set(panels) != {""}:
        absent = [label for label in labels if label not in panels]
        if absent:
            raise ValueError(
                f"ax must have a panel with the label {absent[0]!r}, got {list(panels)}; plot the "
                "model with the most panels first."
            )
        return [panels[label] for label in labels]
    if axes.size != len(labels):
        raise ValueError(
            f"ax must be one axes or one for each of the {len(labels)} panels, got {axes.size}."
        )
    return list(axes)


def _is_above_another(axes: Axes, panels: np.ndarray) -> bool:
    """Return whether a panel below has the same epochs and their numbers."""
    shared, bottom = axes.get_shared_x_axes(), axes.get_position().y0
    return any(shared.joined(axes, p) and p.get_position().y0 < bottom for p in panels)
