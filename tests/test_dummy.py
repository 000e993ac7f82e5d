"""Popularity and chance."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from sklrec.dummy import PopularityRecommender, RandomRecommender


def test_popularity_by_hand():
    X = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    model = PopularityRecommender().fit(X)
    assert_array_equal(model.popularity_, [1, 0, 3, 2])
    # Nobody's items: 2, 3, 0, 1 by their number of users; seen ones are left out.
    assert_array_equal(model.predict_ranking(np.zeros((1, 4)), k=4), [[2, 3, 0, 1]])
    assert_array_equal(model.predict_ranking(X, k=3), [[3, 1, -1], [0, 1, -1], [0, 1, -1]])


def test_items_as_popular_as_each_other_are_ranked_by_index():
    model = PopularityRecommender().fit(np.ones((3, 5)))
    assert_array_equal(model.predict_ranking(np.zeros((1, 5)), k=5), [[0, 1, 2, 3, 4]])


def test_popularity_sums_the_values():
    X = np.array([[5.0, 1.0, 1.0], [0.0, 1.0, 0.5]])
    assert_array_equal(PopularityRecommender().fit(X).popularity_, [5, 2, 1.5])


def test_every_user_gets_the_same_scores(X):
    model = PopularityRecommender().fit(X)
    scores = model.decision_function(X)
    assert_array_equal(scores, np.tile(X.toarray().sum(axis=0), (60, 1)))


def test_popularity_in_float32_counts_exactly():
    X = sp.csr_array(np.ones((5000, 2), dtype=np.float32))
    model = PopularityRecommender().fit(X)
    assert model.popularity_.dtype == np.float32
    assert_array_equal(model.popularity_, [5000, 5000])


def test_random_scores_are_a_function_of_the_items_and_the_seed(X):
    model = RandomRecommender(random_state=0).fit(X)
    scores = model.decision_function(X)
    assert_array_equal(model.decision_function(X[10:20]), scores[10:20])
    assert_array_equal(RandomRecommender(random_state=0).fit(X).decision_function(X), scores)
    assert (RandomRecommender(random_state=1).fit(X).decision_function(X) != scores).all()


def test_users_with_the_same_items_get_the_same_random_scores_whatever_the_values():
    X = np.array([[1.0, 0, 1, 0], [5.0, 0, 2, 0], [1.0, 0, 0, 1]])
    scores = RandomRecommender(random_state=0).fit(X).decision_function(X)
    assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).all()


def test_the_seed_and_not_the_training_users_determines_random_scores(X):
    a = RandomRecommender(random_state=0).fit(X).decision_function(X)
    b = RandomRecommender(random_state=0).fit(X[:7]).decision_function(X)
    assert_array_equal(a, b)


def test_random_scores_are_uniform():
    # Rows with different items: the binary digits of 0 to 1023.
    X = sp.csr_array((np.arange(1024)[:, None] >> np.arange(10) & 1).astype(float))
    scores = RandomRecommender(random_state=0).fit(X).decision_function(X)
    assert scores.min() >= 0
    assert scores.max() < 1
    shares = np.histogram(scores, bins=10, range=(0, 1))[0] / scores.size
    assert_allclose(shares, 0.1, atol=0.015)  # five standard errors
    assert np.abs(np.corrcoef(scores.T) - np.eye(10)).max() < 0.2
    assert np.unique(scores).size == scores.size


def test_without_a_seed_two_fits_rank_differently(X):
    model = RandomRecommender()
    seeds = {model.fit(X).seed_ for _ in range(5)}
    assert len(seeds) > 1


def test_a_generator_as_random_state_goes_on_from_fit_to_fit(X):
    model = RandomRecommender(random_state=np.random.RandomState(0))
    first = model.fit(X).seed_
    assert model.fit(X).seed_ != first
    assert RandomRecommender(random_state=np.random.RandomState(0)).fit(X).seed_ == first


@pytest.mark.parametrize("random_state", ["0", 1.5, -1])
def test_a_bad_seed_is_refused(random_state, X):
    with pytest.raises(ValueError, match="The 'random_state' parameter of RandomRecommender"):
        RandomRecommender(random_state=random_state).fit(X)


@pytest.mark.parametrize("model", [PopularityRecommender(), RandomRecommender(random_state=0)])
def test_float32_gives_float32_scores_with_the_same_ranking(model, X):
    wide = model.fit(X)
    ranking = wide.predict_ranking(X)
    narrow = model.fit(X.astype(np.float32))
    assert narrow.decision_function(X.astype(np.float32)).dtype == np.float32
    assert_array_equal(narrow.predict_ranking(X.astype(np.float32)), ranking)


@pytest.mark.parametrize("model", [PopularityRecommender(), RandomRecommender(random_state=0)])
def test_a_matrix_without_interactions_is_fitted(model):
    ranking = model.fit(sp.csr_array((3, 4))).predict_ranking(sp.csr_array((3, 4)), k=4)
    assert_array_equal(np.sort(ranking, axis=1), np.tile(np.arange(4), (3, 1)))
