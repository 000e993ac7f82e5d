"""The breakdown of a metric by the users' activity."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import ttest_rel
from sklearn.exceptions import NotFittedError

from sklrec.dummy import PopularityRecommender, RandomRecommender
from sklrec.inspection import ActivityDisplay
from sklrec.inspection._activity import _holm, _quantile_parts
from sklrec.linear import EASE
from sklrec.metrics import RankingEvaluation, RankingScorer, evaluate

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def fold_in_of(counts, n_items=12):
    return (np.arange(n_items) < np.asarray(counts)[:, None]).astype(float)


def evaluations_of(**values):
    return {
        name: RankingEvaluation({"ndcg@5": np.array(value, float)})
        for name, value in values.items()
    }


COUNTS = [1, 2, 3, 4, 5, 6, 7, 8]
FIRST = [0.1, 0.2, 0.4, 0.3, 0.5, 0.9, 0.7, 0.8]
SECOND = [0.2, 0.4, 0.4, 0.6, 0.4, 0.9, 0.6, 0.4]


def test_parts_by_hand():
    display = ActivityDisplay.from_evaluations(
        evaluations_of(a=FIRST), fold_in_of(COUNTS), metric="ndcg@5", n_bins=2
    )
    assert_array_equal(display.activity, [[1, 4], [5, 8]])
    assert_array_equal(display.n_users, [4, 4])
    assert_allclose(display.mean, [[0.25, 0.725]])
    assert_allclose(display.standard_error[0, 0], np.std(FIRST[:4], ddof=1) / 2)
    assert np.isnan(display.pvalue).all()


def test_pvalues_are_those_of_scipy_corrected_by_holm():
    display = ActivityDisplay.from_evaluations(
        evaluations_of(a=FIRST, b=SECOND), fold_in_of(COUNTS), metric="ndcg@5", n_bins=2
    )
    raw = np.array([ttest_rel(FIRST[i : i + 4], SECOND[i : i + 4]).pvalue for i in (0, 4)])
    small, large = sorted(raw)
    corrected = {small: min(1, 2 * small), large: max(large, min(1, 2 * small))}
    assert np.isnan(display.pvalue[0]).all()
    assert_allclose(display.pvalue[1], [corrected[p] for p in raw])


def test_holm_by_hand():
    assert_allclose(_holm(np.array([0.04, 0.01, 0.03, 0.5])), [0.09, 0.04, 0.09, 0.5])


def test_holm_of_nothing_is_nothing():
    assert _holm(np.empty(0)).size == 0


def test_users_who_are_equally_active_are_in_one_part():
    assert_array_equal(_quantile_parts(np.array([1, 1, 1, 9, 1]), 4), [0, 0, 0, 1, 0])
    assert_array_equal(_quantile_parts(np.array([3, 3, 3]), 3), [0, 0, 0])


def test_no_part_is_empty():
    rng = np.random.default_rng(0)
    for n_parts in (1, 2, 5, 20):
        part = _quantile_parts(rng.geometric(0.2, 20), n_parts)
        assert_array_equal(np.unique(part), np.arange(part.max() + 1))
        assert part.max() < n_parts


def test_users_with_nothing_held_out_do_not_count():
    display = ActivityDisplay.from_evaluations(
        evaluations_of(a=[*FIRST, np.nan]), fold_in_of([*COUNTS, 12]), metric="ndcg@5", n_bins=2
    )
    assert display.activity.max() == 8
    assert display.n_users.sum() == 8


def test_from_estimator_is_from_evaluations_of_what_the_scorer_hides(X):
    models = {"ease": EASE(lambda_=5).fit(X), "popular": PopularityRecommender().fit(X)}
    display = ActivityDisplay.from_estimator(
        models, X, metric="ndcg@5", n_bins=3, test_size=0.4, random_state=2
    )
    fold_in, held_out = RankingScorer(test_size=0.4, random_state=2).hide(X)
    found = {name: evaluate(m, fold_in, held_out, "ndcg@5") for name, m in models.items()}
    other = ActivityDisplay.from_evaluations(found, fold_in, metric="ndcg@5", n_bins=3)
    assert display.names == ["ease", "popular"]
    assert_allclose(display.mean, other.mean)
    assert_allclose(display.pvalue, other.pvalue)


def test_single_model_needs_no_test(X):
    display = ActivityDisplay.from_estimator(EASE().fit(X), X, metric="ndcg@5", n_bins=2)
    assert display.names == ["EASE"]
    assert display.ax_.get_legend().get_title().get_text() == ""


def test_part_of_one_user_has_neither_error_nor_pvalue():
    display = ActivityDisplay.from_evaluations(
        evaluations_of(a=[0.1, 0.2, 0.5], b=[0.3, 0.1, 0.4]),
        fold_in_of([1, 1, 5]),
        metric="ndcg@5",
        n_bins=3,
    )
    assert_array_equal(display.n_users, [2, 1])
    assert np.isnan(display.standard_error[:, 1]).all()
    assert np.isnan(display.pvalue[1, 1])
    assert "1 user" in display.ax_.get_xticklabels()[1].get_text()
    display.figure_.canvas.draw()


def test_stars_are_where_the_pvalues_are_small():
    low = np.linspace(0.1, 0.3, 10)
    noise = np.tile([0.01, -0.01], 5)
    display = ActivityDisplay.from_evaluations(
        evaluations_of(a=[*low, *low], b=[*(low + 0.5 + noise), *(low + noise)]),
        fold_in_of([1] * 10 + [2] * 10),
        metric="ndcg@5",
        n_bins=2,
    )
    assert display.pvalue[1, 0] < 0.001 < 0.05 < display.pvalue[1, 1]
    assert [text.get_text() for text in display.ax_.texts] == ["", "", "***", ""]


def test_estimator_fitted_with_names_gets_names(X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X.toarray(), columns=[f"item {i}" for i in range(20)])
    display = ActivityDisplay.from_estimator(EASE().fit(frame), frame, metric="ndcg@5", n_bins=2)
    plain = ActivityDisplay.from_estimator(EASE().fit(X), X, metric="ndcg@5", n_bins=2)
    assert_allclose(display.mean, plain.mean)


@pytest.mark.parametrize("n_bins", [0, 9, 2.0])
def test_number_of_parts_that_the_users_do_not_allow_is_refused(n_bins):
    with pytest.raises(ValueError, match=r"n_bins must be an integer between 1 and .* 8, got"):
        ActivityDisplay.from_evaluations(
            evaluations_of(a=FIRST), fold_in_of(COUNTS), metric="ndcg@5", n_bins=n_bins
        )


def test_metric_that_was_not_evaluated_is_refused():
    with pytest.raises(ValueError, match="'recall@5' was not evaluated for a, only ndcg@5"):
        ActivityDisplay.from_evaluations(
            evaluations_of(a=FIRST), fold_in_of(COUNTS), metric="recall@5"
        )


def test_fold_in_of_other_users_is_refused():
    with pytest.raises(ValueError, match="fold_in has 7 users, but a was evaluated on 8"):
        ActivityDisplay.from_evaluations(
            evaluations_of(a=FIRST), fold_in_of(COUNTS[:7]), metric="ndcg@5"
        )


def test_evaluations_of_other_users_are_refused():
    with pytest.raises(ValueError, match="b was evaluated on other users than a"):
        ActivityDisplay.from_evaluations(
            evaluations_of(a=FIRST, b=[np.nan, *SECOND[1:]]), fold_in_of(COUNTS), metric="ndcg@5"
        )


def test_no_evaluation_is_refused():
    with pytest.raises(ValueError, match="at least one evaluation"):
        ActivityDisplay.from_evaluations({}, fold_in_of(COUNTS))


def test_metric_of_all_users_together_is_refused(X):
    with pytest.raises(ValueError, match="gini@5' has one value for all users of RandomRec"):
        ActivityDisplay.from_estimator(RandomRecommender().fit(X), X, metric="gini@5")


def test_unfitted_estimator_is_refused(X):
    with pytest.raises(NotFittedError):
        ActivityDisplay.from_estimator(EASE(), X, metric="ndcg@5")


def test_metric_beyond_accuracy_gets_what_it_needs(X):
    model, features = EASE(lambda_=5).fit(X), np.eye(20)[:, :7] + 1
    for metric, given in [
        ("novelty@5", {"interactions": X}),
        ("intra_list_diversity@5", {"item_features": features}),
    ]:
        display = ActivityDisplay.from_estimator(model, X, metric=metric, n_bins=1, **given)
        found = evaluate(model, *RankingScorer().hide(X), metric, **given)
        assert_allclose(display.mean, found.mean[metric])


def test_single_evaluation_is_that_of_a_model():
    (evaluation,) = evaluations_of(a=FIRST).values()
    display = ActivityDisplay.from_evaluations(
        evaluation, fold_in_of(COUNTS), metric="ndcg@5", errorbar_kwargs={"lw": 4}
    )
    assert display.names == ["model"]
    assert display.containers_[0].lines[0].get_linewidth() == 4


def test_style_reaches_the_error_bars(X):
    display = ActivityDisplay.from_estimator(
        EASE().fit(X), X, metric="ndcg@5", n_bins=2, errorbar_kwargs={"c": "red", "capsize": 0}
    )
    assert display.containers_[0].lines[0].get_color() == "red"


def test_stars_have_the_colour_of_their_model():
    display = ActivityDisplay.from_evaluations(
        evaluations_of(a=FIRST, b=SECOND), fold_in_of(COUNTS), metric="ndcg@5", n_bins=2
    )
    colors = [container.lines[0].get_color() for container in display.containers_]
    assert [text.get_color() for text in display.ax_.texts] == [c for c in colors for _ in "12"]


def test_axes_that_hold_another_breakdown_are_refused():
    given = evaluations_of(a=FIRST), fold_in_of(COUNTS)
    display = ActivityDisplay.from_evaluations(*given, metric="ndcg@5")
    with pytest.raises(ValueError, match="bars already; compare several models in one call"):
        ActivityDisplay.from_evaluations(*given, metric="ndcg@5", ax=display.ax_)


def test_more_models_than_can_be_told_apart_are_refused(X):
    models = dict.fromkeys("abcdefgh", EASE().fit(X))
    with pytest.raises(ValueError, match="At most 7 models can be told apart, got 8"):
        ActivityDisplay.from_estimator(models, X, metric="ndcg@5")
