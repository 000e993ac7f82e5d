"""The curve of a metric over k."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from sklrec.dummy import PopularityRecommender
from sklrec.inspection import RankingCurveDisplay
from sklrec.linear import EASE
from sklrec.metrics import RankingScorer, evaluate

mpl.use("Agg")
HELD_OUT = np.array([[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
RANKING = np.array([[1, 0, 3], [2, 0, -1], [0, 1, 2]])


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def test_curve_is_that_found_by_hand():
    display = RankingCurveDisplay.from_predictions(HELD_OUT, RANKING, metric="recall")
    users = np.array([[1, 0.5, 1], [0, 1, 1]])  # the third user has nothing to find
    assert_array_equal(display.k, [1, 2, 3])
    assert_allclose(display.mean, users.mean(axis=0))
    assert_allclose(display.standard_error, users.std(axis=0, ddof=1) / np.sqrt(2))
    assert display.n_users == 2


@pytest.mark.parametrize("metric", ["ndcg", "recall/n", "average_precision"])
def test_curve_is_what_evaluate_finds_at_each_k(X, metric):
    model = EASE(lambda_=5).fit(X[:40])
    display = RankingCurveDisplay.from_estimator(model, X[40:], metric=metric, k=[1, 4, 9])
    fold_in, held_out = RankingScorer().hide(X[40:])
    found = evaluate(model, fold_in, held_out, [f"{metric}@{k}" for k in (1, 4, 9)])
    assert_allclose(display.mean, list(found.mean.values()))
    assert_allclose(display.standard_error, list(found.standard_error.values()))


def test_hides_what_y_says(X):
    y = X.multiply(np.arange(20) < 5)
    model = PopularityRecommender().fit(X)
    display = RankingCurveDisplay.from_estimator(model, X, sp.csr_array(y), k=10)
    assert display.mean[-1] == pytest.approx(RankingScorer("ndcg@10")(model, X, sp.csr_array(y)))


def test_hides_by_threshold_size_and_seed_as_the_scorer_does(X):
    setting = {"threshold": 0.5, "test_size": 0.4, "random_state": 3}
    model = PopularityRecommender().fit(X)
    display = RankingCurveDisplay.from_estimator(model, X, k=10, **setting)
    assert display.mean[-1] == pytest.approx(RankingScorer("ndcg@10", **setting)(model, X))


def test_line_and_band_show_mean_and_standard_error():
    display = RankingCurveDisplay.from_predictions(HELD_OUT, RANKING, metric="recall")
    assert_allclose(display.line_.get_xydata(), np.c_[display.k, display.mean])
    corners = display.band_.get_paths()[0].vertices
    assert corners[:, 1].max() == pytest.approx((display.mean + display.standard_error).max())


def test_single_user_has_a_line_without_band():
    display = RankingCurveDisplay.from_predictions(HELD_OUT[:1], RANKING[:1])
    assert np.isnan(display.standard_error).all()
    assert np.isfinite(display.mean).all()
    display.figure_.canvas.draw()


def test_estimator_fitted_with_names_gets_names(X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X.toarray(), columns=[f"item {i}" for i in range(20)])
    display = RankingCurveDisplay.from_estimator(EASE(lambda_=5).fit(frame), frame, k=5)
    plain = RankingCurveDisplay.from_estimator(EASE(lambda_=5).fit(X), X, k=5)
    assert_allclose(display.mean, plain.mean)


def test_legend_has_the_name_and_the_line_the_style_asked_for(X):
    model = PopularityRecommender().fit(X)
    display = RankingCurveDisplay.from_estimator(
        model, X, k=5, name="popular", line_kwargs={"linewidth": 4}
    )
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["popular"]
    assert display.line_.get_linewidth() == 4


@pytest.mark.parametrize("k", [0, [0, 3], [5, 30], [], 2.5])
def test_k_that_is_no_number_of_ranks_is_refused(X, k):
    model = PopularityRecommender().fit(X)
    with pytest.raises(ValueError, match="between 1 and the 20 items of X, got"):
        RankingCurveDisplay.from_estimator(model, X, k=k)


def test_k_beyond_the_ranks_given_is_refused():
    with pytest.raises(ValueError, match="between 1 and the 3 ranks given, got 4"):
        RankingCurveDisplay.from_predictions(HELD_OUT, RANKING, k=4)


@pytest.mark.parametrize("metric", ["accuracy", "gini", "ndcg@10"])
def test_metric_without_held_out_items_is_refused(metric):
    with pytest.raises(ValueError, match=f"one of ndcg, .* without '@' .* got '{metric}'"):
        RankingCurveDisplay.from_predictions(HELD_OUT, RANKING, metric=metric)


def test_nothing_held_out_is_refused():
    with pytest.raises(ValueError, match="No user has an item held out"):
        RankingCurveDisplay.from_predictions(np.zeros((2, 4)), RANKING[:2])


@pytest.mark.parametrize("ranking", [RANKING[:2], RANKING[0], RANKING + 0.5, RANKING + 3])
def test_ranking_that_does_not_fit_is_refused(ranking):
    with pytest.raises(ValueError, match="ranking"):
        RankingCurveDisplay.from_predictions(HELD_OUT, ranking)


def test_unfitted_estimator_is_refused(X):
    with pytest.raises(NotFittedError):
        RankingCurveDisplay.from_estimator(EASE(), X, k=5)


def test_estimator_without_decision_function_is_refused(X):
    with pytest.raises(TypeError, match="decision_function"):
        RankingCurveDisplay.from_estimator(object(), X, k=5)


def test_curve_ends_at_the_number_of_items(X):
    display = RankingCurveDisplay.from_estimator(PopularityRecommender().fit(X), X, k=1000)
    assert_array_equal(display.k, np.arange(1, 21))


def test_another_metric_on_the_same_axes_is_refused():
    display = RankingCurveDisplay.from_predictions(HELD_OUT, RANKING, metric="recall")
    with pytest.raises(ValueError, match="holds a curve of recall@k, so none of ndcg@k can be"):
        RankingCurveDisplay.from_predictions(HELD_OUT, RANKING, metric="ndcg", ax=display.ax_)


def test_number_of_users_is_named_while_it_is_that_of_all_models():
    ax = RankingCurveDisplay.from_predictions(HELD_OUT, RANKING).ax_
    for n_users, named in ((2, True), (1, False), (2, False)):
        RankingCurveDisplay.from_predictions(HELD_OUT[:n_users], RANKING[:n_users], ax=ax)
        assert ("over 2 users" in ax.get_ylabel()) is named


def test_label_of_the_style_is_in_the_legend():
    display = RankingCurveDisplay.from_predictions(HELD_OUT, RANKING)
    assert display.ax_.get_legend() is None
    display = RankingCurveDisplay.from_predictions(
        HELD_OUT, RANKING, line_kwargs={"label": "ours", "c": "red", "lw": 3, "ls": ":", "ms": 9}
    )
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["ours"]
    assert (display.line_.get_color(), display.line_.get_linewidth()) == ("red", 3)
    assert (display.line_.get_linestyle(), display.line_.get_markersize()) == (":", 9)
