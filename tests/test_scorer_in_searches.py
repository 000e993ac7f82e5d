"""The scorer in the searches of scikit-learn."""

import io

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.preprocessing import Binarizer

from sklrec.dummy import PopularityRecommender
from sklrec.linear import EASE
from sklrec.metrics import RankingScorer, evaluate
from sklrec.model_selection import StrongGeneralizationSplit, split_interactions

FOLD_INS = []


class Remembers(PopularityRecommender):
    """Remembers the rows it is asked to score, for all its clones in this process."""

    def __init__(self, candidate=0):
        self.candidate = candidate

    def decision_function(self, X):
        FOLD_INS.append(X.toarray())
        return super().decision_function(X)


def latest(X, seed=0):
    """Return two entries of each row, as a held-out matrix to hand to a scorer as y."""
    return split_interactions(X, 2, random_state=seed)[1]


def test_every_candidate_of_a_search_meets_the_same_hidden_entries(X):
    FOLD_INS.clear()
    GridSearchCV(
        Remembers(),
        {"candidate": [1, 2, 3]},
        scoring=RankingScorer(),
        cv=StrongGeneralizationSplit(2, random_state=0),
        refit=False,
        error_score="raise",
    ).fit(X)
    assert len(FOLD_INS) == 6
    first, second = FOLD_INS[0], FOLD_INS[1]
    assert not np.array_equal(first, second)
    for a, b in zip(FOLD_INS[::2], FOLD_INS[1::2], strict=True):
        assert_array_equal(a, first)
        assert_array_equal(b, second)


def search_by_hand(estimator, X, y, cv, metric):
    """Return the score of each split, from whole training rows and X minus y of test users."""
    scores = []
    for train, test in cv.split(X):
        model = clone(estimator).fit(X[train])
        scores.append(evaluate(model, X[test] - y[test], y[test], metric).mean[metric])
    return scores


def test_a_search_with_y_hides_the_rows_of_y_that_belong_to_the_test_users(X):
    y = latest(X)
    cv = StrongGeneralizationSplit(3, random_state=0)
    search = GridSearchCV(
        EASE(),
        {"lambda_": [0.1, 1.0, 10.0]},
        scoring=RankingScorer("ndcg@5"),
        cv=cv,
        error_score="raise",
    ).fit(X, y)
    for candidate, lambda_ in enumerate([0.1, 1.0, 10.0]):
        expected = search_by_hand(EASE(lambda_=lambda_), X, y, cv, "ndcg@5")
        found = [search.cv_results_[f"split{s}_test_score"][candidate] for s in range(3)]
        assert_allclose(found, expected, rtol=1e-12)


def test_a_search_takes_several_metrics_and_refits_by_one(X):
    search = GridSearchCV(
        EASE(),
        {"lambda_": [0.1, 1.0, 1000.0]},
        scoring=RankingScorer(["recall@3", "ndcg@5"]),
        refit="ndcg@5",
        cv=StrongGeneralizationSplit(2, random_state=0),
        error_score="raise",
    ).fit(X)
    means = search.cv_results_["mean_test_ndcg@5"]
    assert search.best_index_ == means.argmax()
    assert search.best_score_ == means.max()
    assert np.isfinite(search.cv_results_["mean_test_recall@3"]).all()
    assert search.best_estimator_.predict_ranking(X, k=3).shape == (60, 3)


def test_cross_validate_takes_y_and_several_metrics(X):
    y = latest(X)
    cv = StrongGeneralizationSplit(3, random_state=0)
    scores = cross_validate(
        EASE(lambda_=1.0),
        X,
        y.toarray() > 0,  # cross_validate itself refuses a sparse y
        scoring=RankingScorer(["ndcg@5", "recall@3"]),
        cv=cv,
        error_score="raise",
    )
    for metric in ("ndcg@5", "recall@3"):
        expected = search_by_hand(EASE(lambda_=1.0), X, y, cv, metric)
        assert_allclose(scores[f"test_{metric}"], expected, rtol=1e-12)


def test_scores_are_the_same_in_one_process_and_in_two(X):
    one, two = (
        cross_val_score(
            EASE(lambda_=1.0),
            X,
            scoring=RankingScorer("ndcg@5"),
            cv=StrongGeneralizationSplit(2, random_state=0),
            n_jobs=n_jobs,
            error_score="raise",
        )
        for n_jobs in (1, 2)
    )
    assert_allclose(one, two, rtol=1e-12)


def test_a_search_can_be_scored_and_ranked_itself(X):
    search = GridSearchCV(
        EASE(),
        {"lambda_": [1.0]},
        scoring=RankingScorer("ndcg@5"),
        cv=StrongGeneralizationSplit(2, random_state=0),
    ).fit(X)
    scorer = RankingScorer("ndcg@5")
    assert search.score(X) == scorer(search, X) == scorer(search.best_estimator_, X)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_every_bar_of_a_search_over_EASE_ends_at_100_percent(n_jobs, X):
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9 and later")
    rich = pytest.importorskip("rich")
    shown = io.StringIO()
    rich.reconfigure(file=shown, width=200)
    try:
        GridSearchCV(
            EASE(),
            {"lambda_": [1.0, 10.0, 100.0]},
            scoring=RankingScorer("ndcg@5"),
            cv=StrongGeneralizationSplit(2, random_state=0),
            n_jobs=n_jobs,
        ).set_callbacks(callback.ProgressBar()).fit(X)
    finally:
        rich.reconfigure()
    bars = [line for line in shown.getvalue().splitlines() if "%" in line]
    assert sum("GridSearchCV - fit" in bar for bar in bars) >= 1
    assert sum("EASE - fit" in bar for bar in bars) == 3 * 2 + 1  # the last one is the refit
    assert [bar for bar in bars if " 100%" not in bar] == []


# MovieLens-1M


@pytest.mark.slow
def test_a_search_on_movielens_ranks_the_candidates_the_same_in_one_process_and_in_two(ml1m):
    X = Binarizer(threshold=3.5).transform(ml1m)
    X = X[:, np.argsort(-X.sum(axis=0))[:1000]]  # the most popular, of which EASE's inverse is fast
    one, two = (
        GridSearchCV(
            EASE(),
            {"lambda_": [200.0, 350.0, 500.0]},
            scoring=RankingScorer("ndcg@100"),
            cv=StrongGeneralizationSplit(2, test_size=0.1, random_state=0),
            refit=False,
            n_jobs=n_jobs,
            error_score="raise",
        )
        .fit(X)
        .cv_results_
        for n_jobs in (1, 2)
    )
    assert_array_equal(one["rank_test_score"], two["rank_test_score"])
    assert_allclose(one["mean_test_score"], two["mean_test_score"], atol=1e-5)
    assert one["mean_test_score"].max() > 0.4
