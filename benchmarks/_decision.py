"""The figure to choose by: accuracy against the time and memory of a fit."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from _plot import best_of_panel, digest

SIZES = ((0.3, 12), (1, 35), (3, 80), (float("inf"), 170))  # at most so many GiB, area
NAMES = {0.3: "up to .3 GiB", 1: "to 1", 3: "to 3", float("inf"): "more"}
FASTEST = 0.1  # seconds; what is faster is drawn there


class Choice(NamedTuple):
    """A model in a panel."""

    model: str
    mean: float
    seconds: float
    memory: float  # GiB


Choices = dict[str, list[Choice]]


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

    figure = Figure(figsize=(7, 3.4 * len(choices) + 0.4), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(len(choices), 1, squeeze=False)[:, 0]
    for ax, (dataset, found) in zip(axes, choices.items(), strict=True):
        best = front(found)
        shown = best_of_panel(found)
        for choice in shown:
            color = "black" if choice in best else "0.55"
            seconds = max(choice.seconds, FASTEST)
            ax.scatter(seconds, choice.mean, s=area(choice.memory), color=color, zorder=2)
        steps = [(max(c.seconds, FASTEST), c.mean) for c in best if c in shown]
        ax.step(*zip(*steps, strict=True), where="post", color="0.7", lw=0.8, zorder=1)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlim(FASTEST / 1.6, 4 * max(c.seconds for c in shown))
        ax.margins(y=0.08)
        place_names(figure, ax, shown, best)
        ax.set_title(dataset, loc="left", fontsize="medium")
        ax.set_ylabel("NDCG@100")
        ax.grid(color="0.92")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("seconds of a fit")
    marks = [axes[0].scatter([], [], s=size, color="0.55") for _, size in SIZES]
    names = [NAMES[most] for most, _ in SIZES]
    figure.legend(marks, names, loc="outside upper center", ncols=len(marks), frameon=False)
    with mpl.rc_context({"svg.hashsalt": "sklrec", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None, "Description": digest(choices)})


def place_names(figure: object, ax: object, shown: list[Choice], best: list[Choice]) -> None:
    """Write each name beside its dot, up or down by as much as the names before it need."""
    low, high = ax.get_ylim()
    height = 0.052 * (high - low)  # of a name, in units of the axis
    taken: list[tuple[float, float, float]] = []
    for choice in sorted(shown, key=lambda c: (c not in best, -c.mean)):
        x = max(choice.seconds, FASTEST)
        # About the width of the text on a logarithmic axis of this size.
        left, right = x * 1.12, x * 1.12 * 10 ** (0.055 * len(choice.model))
        tries = sorted((i * height / 2 for i in range(-24, 25)), key=abs)
        y = next(
            (
                choice.mean + step
                for step in tries
                if low < choice.mean + step < high
                and all(
                    abs(choice.mean + step - other) >= height or left > end or right < start
                    for other, start, end in taken
                )
            ),
            choice.mean,
        )
        taken.append((y, left, right))
        color = "black" if choice in best else "0.35"
        ax.annotate(
            choice.model,
            (x, choice.mean),
            xytext=(left, y),
            fontsize=8,
            va="center",
            color=color,
            fontweight="bold" if choice in best else "normal",
            arrowprops={"arrowstyle": "-", "color": "0.8", "lw": 0.5} if y != choice.mean else None,
        )
