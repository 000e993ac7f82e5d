"""Splits of a whole table at a date, and searches with them."""

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.preprocessing import Binarizer

from sklrec.dummy import PopularityRecommender
from sklrec.linear import EASE
from sklrec.metrics import RankingScorer, evaluate
from sklrec.model_selection import TimeSplit, split_interactions
from sklrec.pipeline import make_pipeline

# Ratings of four users and when they were given. The date is 5.
X = np.array([[4, 0, 5, 1, 0], [0, 3, 0, 0, 2], [5, 0, 2, 0, 0], [0, 0, 0, 0, 0]])
TIME = np.array([[1, 0, 2, 5, 0], [0, 1, 0, 0, 3], [6, 0, 7, 0, 0], [0, 0, 0, 0, 0]])


def split_at(cutoff, unit_of_time=1, **options):
    return split_interactions(X, time=sp.csr_array(unit_of_time * TIME), cutoff=cutoff, **options)


def test_all_interactions_before_the_date_are_on_one_side_and_all_others_on_the_other():
    before, after = split_at(5)
    assert_array_equal(before.toarray(), np.where(TIME < 5, X, 0))
    assert_array_equal(after.toarray(), np.where(TIME >= 5, X, 0))


def test_random_tables_are_split_as_entry_by_entry():
    rng = np.random.default_rng(0)
    X = sp.random_array((50, 30), density=0.2, rng=rng, format="csr")
    time = X.copy()
    time.data = rng.integers(-5, 5, X.nnz)
    before, after = split_interactions(X, time=time, cutoff=1, threshold=0.3)
    for user, item in zip(*X.nonzero(), strict=True):
        is_later = time[user, item] >= 1
        assert before[user, item] == (0 if is_later else X[user, item])
        assert after[user, item] == (X[user, item] if is_later and X[user, item] > 0.3 else 0)


def test_later_interactions_that_are_not_relevant_are_in_neither_part():
    before, after = split_at(5, threshold=1.5)
    assert_array_equal(before.toarray(), np.where(TIME < 5, X, 0))
    assert_array_equal(after.toarray(), [[0] * 5, [0] * 5, [5, 0, 2, 0, 0], [0] * 5])


@pytest.mark.parametrize(
    "cutoff",
    [
        "1970-01-06",
        "1970-01-06T00:00",
        date(1970, 1, 6),
        datetime(1970, 1, 6),
        datetime(1970, 1, 6, 2, tzinfo=timezone(timedelta(hours=2))),
        np.datetime64("1970-01-06"),
        5 * 86_400 * 10**9,
        5.0 * 86_400 * 10**9,
    ],
    ids=repr,
)
def test_the_date_may_be_given_in_many_ways(cutoff):
    before, after = split_at(cutoff, unit_of_time=86_400 * 10**9)
    assert_array_equal(before.toarray(), np.where(TIME < 5, X, 0))
    assert_array_equal(after.toarray(), np.where(TIME >= 5, X, 0))


def test_the_date_may_be_a_timestamp_of_pandas():
    pd = pytest.importorskip("pandas")
    before, _ = split_at(pd.Timestamp("1970-01-06"), unit_of_time=86_400 * 10**9)
    assert_array_equal(before.toarray(), np.where(TIME < 5, X, 0))


@pytest.mark.parametrize(("unit", "per_day"), [("s", 86_400), ("ms", 86_400_000)])
def test_times_may_count_another_unit(unit, per_day):
    before, _ = split_at("1970-01-06", unit_of_time=per_day, time_unit=unit)
    assert_array_equal(before.toarray(), np.where(TIME < 5, X, 0))


def test_a_date_between_two_units_is_the_later_one():
    """Half a second after second 4, the interaction of second 4 is over and that of 5 is not."""
    cutoff = datetime(1970, 1, 1, 0, 0, 4, 500_000, tzinfo=UTC)
    _, after = split_at(cutoff, time_unit="s")
    assert_array_equal(after.toarray(), np.where(TIME >= 5, X, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoff": 0}, r"before it and after it, .* it is 0, .* times are from 1 to 7"),
        ({"cutoff": 8}, "it is 8, with time_unit='ns', and the times are from 1 to 7"),
        ({"cutoff": "1970-01-06"}, "cutoff='1970-01-06' must .* it is 432000000000000, with"),
        ({"cutoff": "noon"}, "cutoff must be a number or a date, got 'noon'"),
        ({"cutoff": True}, "cutoff must be a number or a date, got True"),
        ({"cutoff": np.nan}, "cutoff must be a number or a date, got nan"),
        ({"cutoff": [5]}, r"cutoff must be a number or a date, got \[5\]"),
        ({"cutoff": 5, "time_unit": "day"}, "time_unit must be one of .* got 'day'"),
        ({"cutoff": 5, "time_unit": ["s"]}, "time_unit must be one of"),
        ({"cutoff": 5, "time": None}, "cutoff=5 needs the time of each interaction"),
    ],
)
def test_dates_that_cannot_split_are_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        split_interactions(X, **{"time": sp.csr_array(TIME), **options})


# TimeSplit


@pytest.mark.parametrize(("users", "test"), [("all", [0, 2]), ("known", [0]), ("new", [2])])
@pytest.mark.parametrize("convert", [lambda M: M, lambda M: M.toarray(), sp.csr_matrix])
def test_users_before_the_date_are_trained_on_and_those_after_it_tested(users, test, convert):
    splitter = TimeSplit(users)
    ((train, found),) = splitter.split(*map(convert, split_at(5)))
    assert_array_equal(train, [0, 1])
    assert_array_equal(found, test)
    assert splitter.get_n_splits() == 1


def test_interactions_on_both_sides_are_an_error():
    """The answers would be in the training data."""
    _, after = split_at(5)
    with pytest.raises(ValueError, match="but 3 interactions are in both"):
        next(TimeSplit().split(X, after))


@pytest.mark.parametrize(
    ("users", "X", "y", "message"),
    [
        ("all", X, None, "TimeSplit needs y, the interactions after the date"),
        ("all", X, X[:2], r"y must have the shape of X, \(4, 5\), got \(2, 5\)"),
        ("all", X, 0 * X, "y has no interactions of users to split"),
        ("all", 0 * X, X, "X has no interactions of users to split"),
        ("new", np.eye(2), np.eye(2)[::-1], "y has no .* users='new'"),
    ],
)
def test_tables_that_leave_nobody_are_an_error(users, X, y, message):
    with pytest.raises(ValueError, match=message):
        next(TimeSplit(users).split(X, y))


@pytest.mark.parametrize("users", ["old", None, True, ["all"]])
def test_unknown_kinds_of_users_are_an_error(users):
    with pytest.raises(ValueError, match=r"users must be one of \['all', 'known', 'new'\], got"):
        TimeSplit(users)


def timed_table():
    rng = np.random.default_rng(0)
    X = sp.csr_array((rng.random((80, 20)) < 0.3) * rng.integers(1, 6, (80, 20)))
    time = X.copy()
    time.data = rng.integers(0, 100, X.nnz)
    time.data[: time.indptr[10]] += 100  # the first ten users are new
    return split_interactions(X.astype(float), time=time, cutoff=80)


@pytest.mark.parametrize("users", ["all", "known", "new"])
def test_a_search_scores_as_evaluate_does(users):
    before, after = timed_table()
    search = GridSearchCV(
        make_pipeline(Binarizer(threshold=1.5), EASE()),
        {"ease__lambda_": [1.0, 100.0]},
        scoring=RankingScorer("ndcg@5", threshold=2.5),
        cv=TimeSplit(users),
        error_score="raise",
    ).fit(before, after)
    is_known = np.diff(before.indptr) > 0
    is_tested = np.diff(after.indptr) > 0
    if users != "all":
        is_tested &= is_known if users == "known" else ~is_known
    relevant = after.copy()
    relevant.data *= relevant.data > 2.5
    for i, lambda_ in enumerate([1.0, 100.0]):
        model = make_pipeline(Binarizer(threshold=1.5), EASE(lambda_)).fit(before[is_known])
        expected = evaluate(model, before[is_tested], relevant[is_tested], ["ndcg@5"])
        found = search.cv_results_["mean_test_score"][i]
        assert found == pytest.approx(expected.mean["ndcg@5"], abs=1e-12)
    # The final model is fitted on what came before the date, too.
    again = make_pipeline(
        Binarizer(threshold=1.5), EASE(**{"lambda_": search.best_params_["ease__lambda_"]})
    ).fit(before)
    assert_array_equal(search.best_estimator_[-1].coef_, again[-1].coef_)


def test_cross_validate_takes_the_later_interactions_as_a_dense_array():
    before, after = timed_table()
    scoring, cv = RankingScorer("recall@5"), TimeSplit()
    found = cross_validate(
        PopularityRecommender(),
        before,
        after.toarray(),
        scoring=scoring,
        cv=cv,
        error_score="raise",
    )["test_score"]
    search = GridSearchCV(PopularityRecommender(), {}, scoring=scoring, cv=cv).fit(before, after)
    assert found == search.cv_results_["mean_test_score"]
