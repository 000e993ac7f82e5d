"""Loss, validation score and KL weight over the epochs of a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._plotting import (
    GREY,
    axes_or_new,
    check_matplotlib,
    curve_style,
    legend_above,
    n_labelled_lines,
    name_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class TrainingCurveDisplay:
    r"""How a model was trained, epoch by epoch.

    As in figure 1 of [1]_, there is one panel each for the loss, for the ``ndcg@100`` of the
    validation users and for :math:`\beta`, the weight of the KL term, as far as the model has
    them. A large marker is the epoch whose weights the model has kept.

    Made by :meth:`from_estimator`; its parameters are kept as attributes. A second model goes to
    the same panels: ``from_estimator(..., ax=display.axes_)``.

    Parameters
    ----------
    loss : ndarray of shape (n_epochs,)
        Mean loss over each epoch.
    validation_score : ndarray of shape (n_epochs,) or None, default=None
        NaN in epochs without validation.
    beta : ndarray of shape (n_epochs,) or None, default=None
        Weight of the KL term at the end of each epoch.
    best_epoch : int or None, default=None
        From 1.
    name : str or None, default=None
        Of the model, for the legend.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_panels,)
        What is drawn on, from top to bottom.
    lines_ : list of matplotlib Line2D
        One for each panel.
    ax_ : matplotlib Axes
        The first panel.
    figure_ : matplotlib Figure
        What holds the panels.

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
            Axes that the panels take the place of, or one for each panel; None makes a figure.
        name : str or None, default=None
            Of the model, for the legend; None means that of the display.
        line_kwargs : dict or None, default=None
            For matplotlib's ``plot``; anything else than the default style.

        Returns
        -------
        display : TrainingCurveDisplay
            Itself.

        Raises
        ------
        ValueError
            If there are not as many axes as panels.
        """
        check_matplotlib("TrainingCurveDisplay.plot")
        name = self.name if name is None else name
        panels = [("loss", self.loss, 1.0)]
        if self.validation_score is not None:
            panels.append(("NDCG@100\nof validation users", self.validation_score, 1.5))
        if self.beta is not None:
            panels.append((r"KL weight $\beta$", self.beta, 0.7))
        self.axes_ = _panels(ax, [height for _, _, height in panels])
        n_epochs = self.loss.size
        epochs = np.arange(1, n_epochs + 1)
        n = n_labelled_lines(self.axes_[0])
        style = {**curve_style(n), "markevery": (0, max(1, n_epochs // 5)), "markersize": 4}
        style = {**style, "label": name, **(line_kwargs or {})}
        self.lines_ = []
        for axes, (label, values, _) in zip(self.axes_, panels, strict=True):
            self.lines_.extend(axes.plot(epochs, values, **style))
            axes.set_ylabel(label)
            if self.best_epoch is not None:
                best = {"color": self.lines_[-1].get_color(), "marker": "*", "markersize": 13}
                axes.plot(
                    self.best_epoch,
                    values[self.best_epoch - 1],
                    markeredgecolor="white",
                    zorder=3,
                    **best,
                )
                axes.axvline(self.best_epoch, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        self.axes_[-1].set_xlabel(
            "epoch" + (" (star and dotted line: the best)" if self.best_epoch else "")
        )
        for axes in self.axes_[:-1]:
            axes.tick_params(labelbottom=False)
        if name is not None:
            legend_above(self.axes_[0])
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
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
        r"""Read what a fit has noted.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``loss_curve_``; also read, where it has them, are
            ``validation_scores_``, ``best_epoch_`` and :math:`\beta` in ``net_.history``, which
            a model loaded from a file no longer has.
        name : str or None, default=None
            For the legend; None means the name of the estimator's class.
        ax : matplotlib Axes, array of Axes or None, default=None
            Axes that the panels take the place of, or one for each panel; None makes a figure.
        line_kwargs : dict or None, default=None
            For matplotlib's ``plot``.

        Returns
        -------
        display : TrainingCurveDisplay
            With the numbers, drawn.

        Raises
        ------
        ImportError
            Without matplotlib.
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it is none that is trained in epochs.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
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
    """Return a value of each epoch from the history of the net, NaN where there is none."""
    history = getattr(getattr(estimator, "net_", None), "history", ())
    if len(history) != n_epochs or not any(name in epoch for epoch in history):
        return None
    return np.array([epoch.get(name, np.nan) for epoch in history], dtype=float)


def _panels(ax: Axes | Sequence[Axes] | None, heights: list[float]) -> np.ndarray:
    """Return axes below each other, of these relative heights."""
    if ax is None or not np.iterable(ax):
        ax = axes_or_new(ax, "TrainingCurveDisplay.plot", figsize=(5.0, 1.2 + 1.2 * sum(heights)))
        figure, place = ax.figure, ax.get_subplotspec()
        if place is None:
            raise ValueError("ax must be made by subplots, to be parted into panels.")
        grid = place.subgridspec(len(heights), 1, height_ratios=heights)
        ax.remove()
        first = figure.add_subplot(grid[0])
        axes = [first]
        axes += [figure.add_subplot(grid[i], sharex=first) for i in range(1, len(heights))]
        ax = [axes_or_new(panel, "TrainingCurveDisplay.plot") for panel in axes]
    panels = np.asarray(ax, dtype=object).ravel()
    if panels.size != len(heights):
        raise ValueError(
            f"ax must be one axes or one for each of the {len(heights)} panels, got {panels.size}."
        )
    return panels
