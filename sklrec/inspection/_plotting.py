"""What the displays share: axes, styles that differ in grey too, words for the axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches. Small, so that the text is still readable where a page shrinks the figure to a phone.
FIGSIZE = (5.0, 3.6)

# M. Okabe and K. Ito's colours, which those who are colour-blind tell apart. In grey some of them
# are equal, so each comes with a line, a marker and its own.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "0.45"
LIGHT = "#56B4E9"  # of bars, on which black lines are seen


def check_matplotlib(caller: str) -> None:
    """Raise an ImportError that says what to install, where matplotlib is missing."""
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
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def curve_style(n: int) -> dict[str, Any]:
    """Return colour, line and marker of the n-th curve in one plot."""
    return {
        "color": COLORS[n % len(COLORS)],
        "linestyle": LINES[n % len(LINES)],
        "marker": MARKERS[n % len(MARKERS)],
        "markersize": 5,
    }


def n_labelled_lines(ax: Axes) -> int:
    """Return how many lines of `ax` have an entry in the legend."""
    return sum(not str(line.get_label()).startswith("_") for line in ax.get_lines())


def legend_above(ax: Axes, *, ncols: int = 3, title: str | None = None) -> None:
    """Put the legend above the axes, where it hides nothing."""
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=ncols,
        frameon=False,
        borderaxespad=0.2,
        title=title,
        title_fontsize="small",
        alignment="left",
    )


def metric_label(metric: str) -> str:
    """Return how an axis names a metric: "NDCG@100" for "ndcg@100"."""
    name, at, k = metric.partition("@")
    return ("NDCG" if name == "ndcg" else name.replace("_", " ").capitalize()) + at + k


def name_of(estimator: Any) -> str:
    """Return the name of an estimator; of a pipeline, that of its last step."""
    return type(estimator[-1] if hasattr(estimator, "steps") else estimator).__name__
