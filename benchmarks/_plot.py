"""The figure of the accuracy benchmark: NDCG@100 of each model on each data set."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

METRIC = "ndcg@100"
SHOWN = 0.6  # of the best; what is below is in the tables alone
WIDTH = 5.5  # inches, so that the names can be read on a phone


class Point(NamedTuple):
    """A model in a panel."""

    label: str
    mean: float
    standard_error: float
    published: float | None


Panels = dict[str, list[Point]]


def digest(panels: Panels) -> str:
    """Return what identifies the figures drawn; the file holds it, whatever version drew it."""
    return hashlib.sha256(json.dumps(panels).encode()).hexdigest()


def is_current(panels: Panels, path: Path) -> bool:
    """Return whether a file shows these panels."""
    return path.exists() and digest(panels) in path.read_text(encoding="utf-8")


def best_of_panel(points: list) -> list:
    """Leave out what would leave the others no room."""
    least = SHOWN * max(point.mean for point in points)
    return [point for point in points if point.mean >= least]


def draw(panels: Panels, path: Path) -> None:
    """Draw a panel for each data set, the models in rows, the best on top."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    shown = {title: best_of_panel(points) for title, points in panels.items()}
    n_rows = [len(points) + 1.5 for points in shown.values()]
    figure = Figure(figsize=(WIDTH, 0.25 * sum(n_rows) + 1), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.12)  # a panel's title is nearer to it than to the last
    FigureCanvasSVG(figure)
    axes = figure.subplots(len(panels), 1, height_ratios=n_rows, squeeze=False)[:, 0]
    for ax, (title, points) in zip(axes, shown.items(), strict=True):
        ordered = sorted(points, key=lambda point: point.mean)
        places = range(len(ordered))
        ax.errorbar(
            [point.mean for point in ordered],
            places,
            xerr=[2 * point.standard_error for point in ordered],
            fmt="o",
            color="black",
            markersize=4,
            capsize=2,
            label="here, ± 2 standard errors",
        )
        known = [(p.published, i) for i, p in enumerate(ordered) if p.published is not None]
        if known:
            values, rows = zip(*known, strict=True)
            ax.plot(values, rows, "D", markerfacecolor="none", color="0.45", label="published")
        ax.set_yticks(places, [point.label for point in ordered])
        ax.set_ylim(-0.7, len(ordered) - 0.3)
        ax.set_title(title, loc="left", fontsize="medium")
        ax.grid(axis="x", color="0.85")
        ax.set_axisbelow(True)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(left=False)
    axes[-1].set_xlabel("NDCG@100 of the test users")
    marks = {
        label: mark
        for ax in axes
        for mark, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(marks.values(), marks, loc="outside upper center", ncols=2, frameon=False)
    with mpl.rc_context({"svg.hashsalt": "sklrec", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None, "Description": digest(panels)})
