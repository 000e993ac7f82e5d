"""Means over users and their tests, in the benchmark of accuracy."""

import numpy as np
import pytest
from _compare import holm, mean_over_users
from numpy.testing import assert_allclose
from scipy.stats import sem, ttest_1samp, ttest_rel

from sklrec.dummy import PopularityRecommender
from sklrec.linear import EASE
from sklrec.metrics import evaluate


def test_mean_of_one_value_a_user_has_the_usual_error_and_test():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 50))
    found = mean_over_users(first - second, np.arange(50))
    expected = ttest_rel(first, second)
    assert found.value == pytest.approx((first - second).mean())
    assert found.standard_error == pytest.approx(sem(first - second))
    assert found.pvalue == pytest.approx(expected.pvalue)


def test_paired_test_agrees_with_the_one_of_an_evaluation(X):
    fold_in, held_out = X.copy(), X.copy()
    hidden = np.arange(X.nnz) % 4 == 0
    fold_in.data[hidden], held_out.data[~hidden] = 0, 0
    fold_in.eliminate_zeros()
    held_out.eliminate_zeros()
    ease, popular = (
        evaluate(model.fit(X), fold_in, held_out, "ndcg@10")
        for model in (EASE(lambda_=1), PopularityRecommender())
    )
    difference = ease.per_user["ndcg@10"] - popular.per_user["ndcg@10"]
    difference = difference[~np.isnan(difference)]
    found = mean_over_users(difference, np.arange(difference.size))
    assert found.pvalue == pytest.approx(ease.compare(popular)["ndcg@10"].pvalue)


def test_user_with_two_values_is_one_observation():
    values = np.random.default_rng(0).normal(0.1, 1, size=(2, 40))
    found = mean_over_users(values.ravel(), np.tile(np.arange(40), 2))
    assert found.n_users == 40
    assert found.standard_error == pytest.approx(sem(values.mean(axis=0)))
    assert found.pvalue == pytest.approx(ttest_1samp(values.mean(axis=0), 0).pvalue)


def test_no_difference_has_the_p_value_one():
    assert mean_over_users(np.zeros(5), np.arange(5)).pvalue == 1


def test_holm_multiplies_the_least_by_the_number_and_keeps_the_order():
    assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])


def test_holm_stays_below_one():
    assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])
