"""The figure to choose by: accuracy against the time and memory of a fit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from _plot import WIDTH, best_of_panel, digest

SIZES = ((0.3, 12), (1, 35), (3, 80), (float("inf"), 170))  # at most so many GiB, area
NAMES = {0.3: "up to .3 GiB", 1: "to 1", 3: "to 3", float("inf"): "more"}
FASTEST = 0.1  # seconds; what is faster is drawn there
HEIGHT, WIDTH_OF_LETTER = 9, 5  # of names, in points


class Choice(NamedTuple):
    """A model in a panel."""

    model: str
    mean: float
    seconds: float
    memory: float  # GiB

    @property
    def place(self) -> tuple[float, float]:
        """Where the dot is drawn."""
        return max(self.seconds, FASTEST), self.mean


Choices = dict[str, list[Choice]]
Box = tuple[float, float, float, float]  # left, right, bottom and top, in points


def front(choices: list[Choice]) -> list[Choice]:
    """Return the models that no other one beats in as little time, the fastest first."""
    best: list[Choice] = []
    for choice in sorted(choices, key=lambda choice: (choice.seconds, -choice.mean)):
        if not best or choice.mean > best[-1].mean:
            best.append(choice)
    return best


def area(memory: float) -> float:
    """Return the area of a dot."""
    return next(area for most, area in SIZES if memory <= most)


def draw_choices(choices: Choices, path: Path) -> None:
    """Draw a panel for each data set; the models of the front are named in black."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 3.4 * len(choices) + 0.4), dpi=72, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(len(choices), 1, squeeze=False)[:, 0]
    panels = [(best_of_panel(found), front(found)) for found in choices.values()]
    for ax, dataset, (shown, best) in zip(axes, choices, panels, strict=True):
        for choice in sorted(shown, key=lambda choice: -choice.memory):  # small ones in front
            color = "black" if choice in best else "0.55"
            ax.scatter(*choice.place, s=area(choice.memory), c=color, ec="white", lw=0.5)
        steps = [choice.place for choice in best if choice in shown]
        ax.step(*zip(*steps, strict=True), where="post", color="0.8", lw=0.8, zorder=0.9)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlim(FASTEST / 1.6, 4 * max(c.seconds for c in shown))
        ax.margins(y=0.08)
        ax.set_title(dataset, loc="left", fontsize="medium")
        ax.set_ylabel("NDCG@100")
        ax.grid(color="0.92")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("seconds of a fit")
    marks = [axes[0].scatter([], [], s=size, color="0.55") for _, size in SIZES]
    names = [NAMES[most] for most, _ in SIZES]
    figure.legend(marks, names, loc="outside upper center", ncols=len(marks), frameon=False)
    figure.draw_without_rendering()  # so that the axes are where they will be
    for ax, (shown, best) in zip(axes, panels, strict=True):
        place_names(ax, shown, best)
    with mpl.rc_context({"svg.hashsalt": "sklrec", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None, "Description": digest(choices)})


def place_names(ax: object, shown: list[Choice], best: list[Choice]) -> None:
    """Write each name beside its dot, as near as other dots and names allow."""
    places = ax.transData.transform([choice.place for choice in shown])  # points
    radii = [math.sqrt(area(choice.memory) / math.pi) for choice in shown]
    taken = [(x - r - 2, x + r + 2, y - r, y + r) for (x, y), r in zip(places, radii, strict=True)]
    order = sorted(range(len(shown)), key=lambda i: (shown[i] not in best, -shown[i].mean))
    for i in order:
        (x, y), choice = places[i], shown[i]
        away, width = radii[i] + 3, WIDTH_OF_LETTER * len(choice.model)
        on_the_left = x - away - width, x - away
        on_the_right = x + away, x + away + width
        tries = [
            (*side, y + move - HEIGHT / 2, y + move + HEIGHT / 2)
            for move in sorted((step * HEIGHT / 4 for step in range(-60, 61)), key=abs)
            for side in (on_the_right, on_the_left)
        ]
        box = next((box for box in tries if is_free(box, taken, ax)), tries[0])
        taken.append(box)
        move = (box[2] + box[3]) / 2 - y
        right = box[0] > x
        ax.annotate(
            choice.model,
            choice.place,
            xytext=(away if right else -away, move),
            textcoords="offset points",
            fontsize=8,
            ha="left" if right else "right",
            va="center",
            color="black" if choice in best else "0.35",
            fontweight="bold" if choice in best else "normal",
            arrowprops={"arrowstyle": "-", "color": "0.6", "lw": 0.5} if move else None,
        )


def is_free(box: Box, taken: list[Box], ax: object) -> bool:
    """Return whether a box lies inside of the axes and meets no other."""
    left, right, bottom, top = box
    inside = ax.bbox.x0 <= left and ax.bbox.y0 <= bottom and top <= ax.bbox.y1
    return inside and all(
        right < start or left > end or top < low or bottom > high for start, end, low, high in taken
    )
