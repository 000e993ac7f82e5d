"""What all displays share: without matplotlib they say what to install, and axes are kept."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp

from sklrec.dummy import PopularityRecommender
from sklrec.inspection import (
    ActivityDisplay,
    ItemMapDisplay,
    PopularityDisplay,
    RankingCurveDisplay,
    RatingHistogramDisplay,
    TrainingCurveDisplay,
    UserMeanHistogramDisplay,
)
from sklrec.inspection._plotting import (
    COLORS,
    LINES,
    MARKERS,
    legend_outside,
    merged,
    metric_label,
    name_of,
)
from sklrec.pipeline import make_pipeline


class Scores:
    """Scores item j for a user of item i by a fixed matrix, without being an estimator."""

    def __init__(self, S):
        self.S = S

    def decision_function(self, X):
        return sp.csr_array(X) @ self.S


@pytest.fixture
def plt():
    """Return pyplot without windows, and close all figures in the end."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    yield pyplot
    pyplot.close("all")


X = sp.csr_array(np.random.default_rng(0).integers(0, 3, (30, 8)).astype(float))
MODEL = PopularityRecommender().fit(X)
TRAINED = PopularityRecommender().fit(X)
TRAINED.loss_curve_ = [3.0, 2.0, 1.5]

MAKERS = {
    "ranking curve": lambda ax: RankingCurveDisplay.from_estimator(MODEL, X, k=5, ax=ax),
    "activity": lambda ax: ActivityDisplay.from_estimator(
        MODEL, X, metric="ndcg@5", n_bins=2, ax=ax
    ),
    "rating histogram": lambda ax: RatingHistogramDisplay.from_interactions(X, ax=ax),
    "user mean histogram": lambda ax: UserMeanHistogramDisplay.from_interactions(X, ax=ax),
    "training curve": lambda ax: TrainingCurveDisplay.from_estimator(TRAINED, ax=ax),
    "popularity": lambda ax: PopularityDisplay.from_estimator(MODEL, X, k=2, ax=ax),
    "item map": lambda ax: ItemMapDisplay.from_estimator(
        Scores(np.random.default_rng(1).random((8, 8))), X, random_state=0, ax=ax
    ),
}
every_display = pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))


@every_display
def test_display_without_matplotlib_names_the_extra(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"needs matplotlib, .*pip install 'sklrec\[plot\]'"):
        make(None)


@every_display
def test_display_makes_a_figure_with_named_axes(make, plt):
    display = make(None)
    assert plt.get_fignums() == [display.figure_.number]
    assert all(ax.get_ylabel() or not ax.get_yticks().size for ax in display.figure_.axes)
    assert display.figure_.axes[-1].get_xlabel()
    display.figure_.canvas.draw()


@every_display
def test_display_draws_on_the_axes_it_is_given(make, plt):
    figure, (left, right) = plt.subplots(1, 2)
    display = make(left)
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert not right.has_data()


@every_display
def test_display_can_be_plotted_again(make, plt):
    display = make(None)
    first = display.figure_
    assert display.plot() is display
    assert display.figure_ is not first


@every_display
def test_what_is_no_axes_is_refused(make, plt):
    with pytest.raises(TypeError, match="needs one matplotlib Axes, got ax of type Figure"):
        make(plt.figure())


CURVES = {
    "ranking curve": lambda ax: RankingCurveDisplay.from_predictions(X, [[0]] * 30, ax=ax),
    "popularity": lambda ax: PopularityDisplay.from_predictions(X, [[0]], ax=ax),
    "training curve": lambda ax: TrainingCurveDisplay(loss=np.ones(2)).plot(ax),
}
curves = pytest.mark.parametrize(
    "make",
    [*[MAKERS[name] for name in CURVES], *CURVES.values()],
    ids=[*CURVES, *[f"{name} without a name" for name in CURVES]],
)


def panels_of(display):
    return display.axes_ if hasattr(display, "axes_") else display.ax_


@curves
def test_second_model_on_the_same_axes_looks_different_in_grey(make, plt):
    first = make(None)
    second = make(panels_of(first))
    old, new = (getattr(d, "line_", None) or d.lines_[0] for d in (first, second))
    assert old.axes is new.axes
    assert old.get_marker() != new.get_marker()
    assert old.get_linestyle() != new.get_linestyle()
    assert old.get_color() != new.get_color()


@curves
def test_more_models_than_can_be_told_apart_are_refused(make, plt):
    panels = None
    for _ in COLORS:
        panels = panels_of(make(panels))
    with pytest.raises(ValueError, match="At most 7 models can be told apart, got 8"):
        make(panels)


def test_legend_has_long_names_in_lines_and_fewer_columns(plt):
    _, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    for label in ("a", "b", "c"):
        ax.plot([0, 1], label=label)
    legend_outside(ax)
    assert ax.get_legend()._ncols == 3
    ax.plot([0, 1], label="a name of many words " * 4)
    legend_outside(ax)
    assert ax.get_legend()._ncols == 1
    ax.figure.canvas.draw()
    right = ax.get_legend().get_window_extent().x1
    assert right <= ax.figure.bbox.x1


def test_legend_of_nothing_is_none(plt):
    _, ax = plt.subplots()
    legend_outside(ax)
    assert ax.get_legend() is None


def test_given_style_wins_by_any_name():
    style = {"color": "red", "linewidth": 1, "marker": "o"}
    assert merged(style, {"c": "blue", "lw": 2}) == {"color": "blue", "linewidth": 2, "marker": "o"}
    assert merged(style, None) == style


def test_each_style_has_its_own_color_line_and_marker():
    assert len(COLORS) == len(set(COLORS)) == len(set(LINES)) == len(set(MARKERS))


def test_importing_the_displays_does_not_import_matplotlib():
    code = "import sys, sklrec.inspection; print('matplotlib' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("ndcg@100", "NDCG@100"),
        ("ndcg", "NDCG"),
        ("recall@20", "Recall@20"),
        ("reciprocal_rank@5", "Reciprocal rank@5"),
        ("recall/n@20", "Recall/n@20"),
    ],
)
def test_axis_names_the_metric(metric, label):
    assert metric_label(metric) == label


def test_pipeline_is_named_after_its_last_step():
    assert name_of(make_pipeline(PopularityRecommender())) == "PopularityRecommender"
