"""Axes, styles and labels for all displays."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# In inches; small, so that the text is readable when a page scales the figure down for a phone.
FIGSIZE = (5.0, 3.6)

# M. Okabe and K. Ito's colours, which are suitable for colour-blind readers. Some of them are equal
# in grey, so each has its own line style and marker.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "0.45"
LIGHT = "#56B4E9"  # for bars, on which black lines are visible

# Prefix of the gid of a model's curve; the rest is the quantity of the curve.
CURVE = "sklrec-curve:"
# Aliases of the properties that are set by default styles.
ALIASES = {
    "c": "color",
    "ls": "linestyle",
    "lw": "linewidth",
    "linewidths": "linewidth",
    "ms": "markersize",
    "ec": "edgecolor",
    "edgecolors": "edgecolor",
}
# For matplotlib's default font. Line and gap of a legend entry are as wide as eight letters.
LETTERS_PER_INCH = 13
HANDLE_LETTERS = 8


def check_matplotlib(caller: str) -> None:
    """Raise an ImportError that says what to install if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{caller} needs matplotlib, which is not installed: pip install 'sklrec[plot]'"
        ) from error


def axes_or_new(ax: Axes | None, caller: str, figsize: tuple[float, float] = FIGSIZE) -> Axes:
    """Return `ax`, or the axes of a new figure, without lines at the top and the right."""
    check_matplotlib(caller)
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=figsize, layout="constrained")
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise TypeError(f"{caller} needs one matplotlib Axes, got ax of type {type(ax).__name__}.")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def check_no_bars(ax: Axes, instead: str) -> None:
    """Raise an error for axes with bars or error bars, which others would cover."""
    if ax.containers:
        raise ValueError(f"ax holds a display with bars already; {instead}.")


def check_styles(n_models: int) -> None:
    """Raise an error if there are more models than styles."""
    if n_models > len(COLORS):
        raise ValueError(f"At most {len(COLORS)} models can be told apart, got {n_models}.")


def curve_style(n: int) -> dict[str, Any]:
    """Return the colour, line style and marker of the n-th curve of a plot."""
    return {"color": COLORS[n], "linestyle": LINES[n], "marker": MARKERS[n], "markersize": 5}


def n_curves(ax: Axes, shows: str) -> int:
    """Return how many curves `ax` has, or raise an error if another one cannot be added."""
    gids = [str(line.get_gid()) for line in ax.get_lines()]
    drawn = [gid.removeprefix(CURVE) for gid in gids if gid.startswith(CURVE)]
    others = [other for other in drawn if other != shows]
    if others:
        raise ValueError(f"ax holds a curve of {others[0]}, so none of {shows} can be added.")
    check_styles(len(drawn) + 1)
    return len(drawn)


def merged(style: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a style, updated with the user's, in which matplotlib's aliases are allowed."""
    return {**style, **{ALIASES.get(key, key): value for key, value in (given or {}).items()}}


def legend_outside(ax: Axes, *, below: bool = False, title: str | None = None) -> None:
    """Add a legend above or below the axes, where it does not cover the plot."""
    handles, labels = ax.get_legend_handles_labels()
    if not labels:
        return
    room, size = _letters_across(ax), "medium"
    if max(map(len, labels)) > room - HANDLE_LETTERS:
        room, size = int(1.2 * room), "small"
    labels = [_wrapped(label, room - HANDLE_LETTERS) for label in labels]
    widths = [max(map(len, label.split("\n"))) + HANDLE_LETTERS for label in labels]
    ncols = min(3, len(labels))
    while ncols > 1 and sum(max(column) for column in np.array_split(widths, ncols)) > room:
        ncols -= 1
    ax.legend(
        handles,
        labels,
        loc="upper left" if below else "lower left",
        bbox_to_anchor=(0, -0.07) if below else (0, 1),
        ncols=ncols,
        fontsize=size,
        frameon=False,
        handletextpad=0.1 if below else None,  # points need less space than lines
        borderaxespad=0.2,
        title=None if title is None else _wrapped(title, int(1.2 * _letters_across(ax))),
        title_fontsize="small",
        alignment="left",
    )


def draw_title(ax: Axes, name: str | None, *, loc: Literal["left", "center"] = "center") -> None:
    """Set a title, in lines that are not wider than the axes."""
    if name is not None:
        ax.set_title(_wrapped(name, int(_letters_across(ax) / 1.2)), loc=loc)


def _letters_across(ax: Axes) -> int:
    """Return the approximate width of the axes in letters."""
    return max(20, int(LETTERS_PER_INCH * ax.bbox.width / ax.figure.dpi))


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.fill(line, width) for line in text.splitlines())


def metric_label(metric: str) -> str:
    """Return the axis label of a metric: "NDCG@100" for "ndcg@100"."""
    name, at, k = metric.partition("@")
    return ("NDCG" if name == "ndcg" else name.replace("_", " ").capitalize()) + at + k


def last_step(estimator: Any) -> Any:
    """Return the last step of a pipeline, or the estimator itself."""
    return estimator[-1] if hasattr(estimator, "steps") else estimator


def name_of(estimator: Any) -> str:
    """Return the class name of an estimator, or of the last step of a pipeline."""
    return type(last_step(estimator)).__name__
