"""The histograms of ratings and of the users' means."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from sklrec.inspection import RatingHistogramDisplay, UserMeanHistogramDisplay

mpl.use("Agg")
RATINGS = np.array([[5, 0, 4.5], [0, 0, 0], [1, 4.5, 5], [0, 4.5, 0]])
BOTH = pytest.mark.parametrize("display", [RatingHistogramDisplay, UserMeanHistogramDisplay])


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array, sp.coo_matrix])
def test_ratings_are_counted(container):
    display = RatingHistogramDisplay.from_interactions(container(RATINGS))
    assert_array_equal(display.values, [1, 4.5, 5])
    assert_array_equal(display.counts, [1, 3, 2])


def test_bars_are_shares_in_percent_and_do_not_overlap():
    display = RatingHistogramDisplay.from_interactions(RATINGS)
    assert_allclose([bar.get_height() for bar in display.bars_], [100 / 6, 50, 100 / 3])
    assert max(bar.get_width() for bar in display.bars_) < 0.5


def test_implicit_interactions_are_one_bar():
    display = RatingHistogramDisplay.from_interactions(RATINGS > 0)
    assert_array_equal(display.counts, [6])


def test_values_that_are_no_ratings_are_refused():
    X = np.random.default_rng(0).random((20, 20))
    with pytest.raises(ValueError, match="at most 100 different ratings, got 400"):
        RatingHistogramDisplay.from_interactions(X)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array, sp.coo_matrix])
def test_means_leave_out_what_was_not_rated(container):
    display = UserMeanHistogramDisplay.from_interactions(container(RATINGS))
    assert_allclose(display.means, [4.75, 3.5, 4.5])


def test_users_are_counted_in_the_bins_given():
    display = UserMeanHistogramDisplay.from_interactions(RATINGS, bins=[3, 4, 4.6, 5])
    assert_array_equal(display.counts_, [1, 1, 1])
    assert_array_equal(display.edges_, [3, 4, 4.6, 5])
    assert_allclose([bar.get_height() for bar in display.bars_], 100 / 3)


def test_line_is_at_the_mean_of_the_means():
    display = UserMeanHistogramDisplay.from_interactions(RATINGS)
    assert_allclose(display.line_.get_xdata(), (4.75 + 3.5 + 4.5) / 3)


def test_single_user_has_a_histogram():
    assert UserMeanHistogramDisplay.from_interactions(RATINGS[:1]).counts_.sum() == 1


@BOTH
def test_unit_and_name_are_shown(display):
    shown = display.from_interactions(
        RATINGS, unit="hearts", name="Letters", bar_kwargs={"zorder": 3}
    )
    assert "(hearts)" in shown.ax_.get_xlabel()
    assert "Letters" in shown.ax_.get_title() + shown.ax_.get_title(loc="right")
    assert shown.bars_[0].get_zorder() == 3


@BOTH
def test_no_rating_is_refused(display):
    with pytest.raises(ValueError, match="X holds no rating"):
        display.from_interactions(np.zeros((2, 3)))


@BOTH
@pytest.mark.parametrize(
    ("X", "message"), [([1, 2], "2D array"), ([[-1, 2]], "Negative"), ([[np.nan, 1]], "NaN")]
)
def test_what_is_no_matrix_of_ratings_is_refused(display, X, message):
    with pytest.raises(ValueError, match=message):
        display.from_interactions(X)


@BOTH
def test_unit_is_kept_for_the_next_plot(display):
    shown = display.from_interactions(RATINGS, unit="hearts")
    assert "(hearts)" in shown.plot().ax_.get_xlabel()
    assert "(stars)" in shown.plot(unit="stars").ax_.get_xlabel()


@BOTH
def test_second_histogram_on_the_same_axes_is_refused(display):
    shown = display.from_interactions(RATINGS)
    with pytest.raises(ValueError, match="bars already; use separate axes for each histogram"):
        display.from_interactions(RATINGS, ax=shown.ax_)


@BOTH
def test_style_has_whichever_of_matplotlibs_names(display):
    shown = display.from_interactions(RATINGS, bar_kwargs={"lw": 3, "ec": "red", "fc": "blue"})
    bar = shown.bars_[0]
    assert bar.get_linewidth() == 3
    assert bar.get_edgecolor() == mpl.colors.to_rgba("red")
    assert bar.get_facecolor() == mpl.colors.to_rgba("blue")


@BOTH
def test_long_name_is_in_several_lines(display):
    shown = display.from_interactions(RATINGS, name="ratings of letters " * 5)
    assert shown.ax_.get_title().count("\n") >= 2
    assert shown.ax_.get_legend() is None
    shown.figure_.canvas.draw()


def test_users_outside_of_the_bins_are_refused():
    with pytest.raises(ValueError, match="all 3 users, but the means of 1 are not between 4 and 5"):
        UserMeanHistogramDisplay.from_interactions(RATINGS, bins=[4, 4.5, 5])


@pytest.mark.parametrize(
    ("ratings", "width"), [([10, 50, 100], 32), ([4], 0.8), ([0.1, 0.3], 0.16)]
)
def test_bars_are_as_wide_as_the_scale_allows(ratings, width):
    display = RatingHistogramDisplay.from_interactions([ratings])
    assert_allclose([bar.get_width() for bar in display.bars_], width)
