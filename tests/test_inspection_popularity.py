"""The curve of recommended and consumed popularity."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError

from sklrec.dummy import PopularityRecommender
from sklrec.inspection import PopularityDisplay
from sklrec.linear import EASE

mpl.use("Agg")
# Item 2 has 3 interactions, items 0 and 3 have 1, item 1 has none.
CONSUMED = np.array([[1, 0, 5, 0], [0, 0, 2, 0], [0, 0, 1, 1]])
RANKING = np.array([[3, 1], [0, -1], [3, 1]])


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def test_shares_by_hand():
    display = PopularityDisplay.from_predictions(CONSUMED, RANKING)
    assert_allclose(display.consumed, [0.6, 0.8, 1, 1])  # items 2, 0, 3, 1
    assert_allclose(display.recommended, [0, 0.2, 0.6, 1])


def test_recommending_what_is_consumed_gives_the_same_curve():
    everything = np.array([[2, 0], [2, -1], [2, 3]])
    display = PopularityDisplay.from_predictions(CONSUMED, everything)
    assert_allclose(display.recommended, display.consumed)


def test_from_estimator_ranks_what_the_users_have_not_seen(X):
    model = EASE(lambda_=5).fit(X)
    display = PopularityDisplay.from_estimator(model, X, k=4)
    other = PopularityDisplay.from_predictions(X, model.predict_ranking(X, k=4))
    assert_allclose(display.recommended, other.recommended)
    assert_allclose(display.consumed, other.consumed)
    assert display.name == "EASE"


def test_consumption_may_be_that_of_other_users(X):
    model = PopularityRecommender().fit(X)
    display = PopularityDisplay.from_estimator(model, X[:10], consumed=X, k=4)
    counts = -np.sort(-(X != 0).sum(axis=0))
    assert_allclose(display.consumed, np.cumsum(counts) / counts.sum())


def test_lines_are_in_percent_and_the_reference_can_be_left_out():
    display = PopularityDisplay.from_predictions(CONSUMED, RANKING, name="first")
    assert_allclose(display.line_.get_xydata(), [[25, 0], [50, 20], [75, 60], [100, 100]])
    assert_allclose(display.equal_line_.get_ydata(), [25, 50, 75, 100])
    second = PopularityDisplay.from_predictions(
        CONSUMED, RANKING, name="second", ax=plt.figure().add_subplot(), plot_consumed=False
    )
    assert second.consumed_line_ is None
    assert [text.get_text() for text in second.ax_.get_legend().get_texts()] == ["second"]


def test_consumption_is_drawn_once_on_the_same_axes():
    display = PopularityDisplay.from_predictions(CONSUMED, RANKING, name="first")
    second = PopularityDisplay.from_predictions(CONSUMED, RANKING, name="second", ax=display.ax_)
    assert second.consumed_line_ is second.equal_line_ is None
    labels = [text.get_text() for text in second.ax_.get_legend().get_texts()]
    assert labels == ["consumed", "equal shares", "first", "second"]


def test_estimator_fitted_with_names_gets_names(X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X.toarray(), columns=[f"item {i}" for i in range(20)])
    display = PopularityDisplay.from_estimator(EASE().fit(frame), frame, k=3)
    plain = PopularityDisplay.from_estimator(EASE().fit(X), X, k=3)
    assert_allclose(display.recommended, plain.recommended)


@pytest.mark.parametrize("k", [0, 21, 1.5])
def test_k_that_is_no_number_of_items_is_refused(X, k):
    with pytest.raises(ValueError, match="between 1 and the 20 items of X, got"):
        PopularityDisplay.from_estimator(PopularityRecommender().fit(X), X, k=k)


@pytest.mark.parametrize(
    "ranking", [[[4, 0]], [[-2, 0]], [[0.5, 1]], [0, 1], [[1, 1]], np.empty((0, 2), int)]
)
def test_ranking_that_holds_no_items_of_the_matrix_is_refused(ranking):
    with pytest.raises(ValueError, match=r"ranking (must|has)"):
        PopularityDisplay.from_predictions(CONSUMED, ranking)


@pytest.mark.parametrize(
    ("consumed", "ranking", "what"),
    [(np.zeros((2, 4)), RANKING, "consumed"), (CONSUMED, [[-1, -1]], "ranking")],
)
def test_nothing_to_share_is_refused(consumed, ranking, what):
    with pytest.raises(ValueError, match=f"{what} holds no item"):
        PopularityDisplay.from_predictions(consumed, ranking)


def test_unfitted_estimator_is_refused(X):
    with pytest.raises(NotFittedError):
        PopularityDisplay.from_estimator(EASE(), X, k=3)


def test_consumption_of_other_items_is_refused(X):
    model = PopularityRecommender().fit(X)
    with pytest.raises(ValueError, match="consumed must have the 20 items of X, got 19"):
        PopularityDisplay.from_estimator(model, X, consumed=X[:, :19], k=3)
