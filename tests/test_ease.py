"""EASE against ridge regressions and a dense inverse."""

import itertools
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import Ridge
from sklearn.preprocessing import Binarizer

from sklrec import _memory
from sklrec.linear import EASE, _ease
from sklrec.metrics import evaluate
from sklrec.model_selection import strong_generalization_split


def test_each_item_is_the_ridge_regression_on_the_others(X):
    B = EASE(lambda_=2.0).fit(X).coef_
    dense = X.toarray()
    for j in range(X.shape[1]):
        rest = np.arange(X.shape[1]) != j
        ridge = Ridge(alpha=2.0, fit_intercept=False).fit(dense[:, rest], dense[:, j])
        assert_allclose(B[rest, j], ridge.coef_, atol=1e-10)
        assert B[j, j] == 0


def test_weighted_interactions_give_the_ridge_regression_too(X):
    X.data *= np.random.default_rng(0).uniform(0.1, 3, X.nnz)
    B = EASE(lambda_=0.5).fit(X).coef_
    ridge = Ridge(alpha=0.5, fit_intercept=False).fit(X.toarray()[:, 1:], X.toarray()[:, 0])
    assert_allclose(B[1:, 0], ridge.coef_, atol=1e-10)


def with_values(X):
    X.data *= np.random.default_rng(0).uniform(0.1, 3, X.nnz)
    return X


@pytest.mark.parametrize("weigh", [lambda X: X, with_values], ids=["ones", "values"])
def test_dropout_is_the_ridge_regression_with_a_penalty_of_each_items_own(X, weigh):
    X = weigh(X)
    B = EASE(lambda_=2.0, dropout=0.25).fit(X).coef_
    dense = X.toarray()
    for j in range(X.shape[1]):
        rest = np.arange(X.shape[1]) != j
        penalty = 2.0 + 0.25 / 0.75 * (dense[:, rest] ** 2).sum(axis=0)
        # Ridge regression by least squares: a row for each weight that asks it to be zero.
        A = np.vstack([dense[:, rest], np.diag(np.sqrt(penalty))])
        b = np.concatenate([dense[:, j], np.zeros(rest.sum())])
        assert_allclose(B[rest, j], np.linalg.lstsq(A, b, rcond=None)[0], atol=1e-10)
        assert B[j, j] == 0


def test_dropout_is_what_is_expected_over_all_that_may_be_left_out():
    X = np.array([[1.0, 2.0, 0.5, 0.0], [0.0, 1.0, 1.0, 3.0], [1.0, 0.0, 2.0, 1.0]])
    p = 0.4
    masks = np.array(list(itertools.product([0, 1], repeat=4)))
    weights = np.repeat((p ** (1 - masks) * (1 - p) ** masks).prod(axis=1), len(X))
    Z = (masks[:, None, :] * X / (1 - p)).reshape(-1, 4)
    target = np.tile(X, (len(masks), 1))
    B = EASE(lambda_=1.5, dropout=p).fit(X).coef_
    for j in range(4):
        rest = np.arange(4) != j
        ridge = Ridge(alpha=1.5, fit_intercept=False)
        ridge.fit(Z[:, rest], target[:, j], sample_weight=weights)
        assert_allclose(B[rest, j], ridge.coef_, atol=1e-10)


def test_dropout_of_zero_is_ease_without_it(X):
    expected = EASE(lambda_=2.0).fit(X).coef_
    assert_array_equal(EASE(lambda_=2.0, dropout=0.0).fit(X).coef_, expected)


def test_batches_of_users_give_the_fit_on_all_with_dropout_too(X):
    model = EASE(lambda_=2.0, dropout=0.3)
    model.partial_fit(X[:25])
    model.decision_function(X)  # solves between the batches
    model.partial_fit(X[25:])
    assert_allclose(model.coef_, EASE(lambda_=2.0, dropout=0.3).fit(X).coef_, atol=1e-13)


def test_edlae_reaches_on_ml1m_what_an_independent_implementation_does(ml1m):
    X = Binarizer(threshold=3.5).fit_transform(ml1m)
    split = strong_generalization_split(X, n_heldout=1000)
    model = EASE(lambda_=300, dropout=0.33).fit(split.train)
    found = evaluate(model, split.test_fold_in, split.test_held_out, "ndcg@100")
    assert_allclose(found.mean["ndcg@100"], 0.4230, atol=5e-4)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1, np.nan, "0.5", None])
def test_dropout_must_be_a_probability_below_one(X, dropout):
    with pytest.raises(ValueError, match="dropout"):
        EASE(dropout=dropout).fit(X)


def test_scores_are_the_product_of_row_and_weights(X):
    model = EASE(lambda_=3.0).fit(X)
    assert_allclose(model.decision_function(X), X.toarray() @ model.coef_, atol=1e-12)


def test_batches_of_users_give_the_fit_on_all(X):
    model = EASE(lambda_=2.0)
    for start in range(0, 60, 25):
        model.partial_fit(X[start : start + 25])
    assert_allclose(model.coef_, EASE(lambda_=2.0).fit(X).coef_, atol=1e-13)
    assert model.n_samples_seen_ == 60


def test_partial_fit_goes_on_after_a_prediction_and_a_pickle(X):
    model = EASE(lambda_=2.0).partial_fit(X[:25])
    model.predict_ranking(X)
    model = pickle.loads(pickle.dumps(model)).partial_fit(X[25:])
    assert_allclose(model.coef_, EASE(lambda_=2.0).fit(X).coef_, atol=1e-13)


def test_lambda_changed_between_batches_is_used_from_then_on(X):
    model = EASE(lambda_=2.0).partial_fit(X[:25]).set_params(lambda_=5.0).partial_fit(X[25:])
    assert_allclose(model.coef_, EASE(lambda_=5.0).fit(X).coef_, atol=1e-13)


def test_set_params_after_partial_fit_changes_no_weight(X):
    model = EASE(lambda_=2.0).partial_fit(X).set_params(lambda_=500.0, dropout=0.5)
    assert_allclose(model.coef_, EASE(lambda_=2.0).fit(X).coef_, atol=1e-13)


def test_explanations_add_up_to_the_score(X):
    model = EASE(lambda_=2.0).fit(X)
    contributions = model.explain(X, 3)
    assert_allclose(contributions.sum(axis=1), model.decision_function(X)[:, 3], atol=1e-12)
    # By hand: the value of an entry times its weight.
    user = int(np.flatnonzero(np.diff(X.indptr) > 2)[0])
    item = X[[user]].indices[1]
    assert_allclose(contributions[user, item], X[user, item] * model.coef_[item, 3])


def test_a_user_without_items_has_no_explanation(X):
    assert EASE().fit(X).explain(np.zeros((2, 20)), 3).nnz == 0


def test_partial_fit_after_fit_warns_that_it_begins_anew(X):
    model = EASE(lambda_=2.0).fit(X)
    with pytest.warns(UserWarning, match="begins a new model"):
        model.partial_fit(X[:25])
    assert_allclose(model.coef_, EASE(lambda_=2.0).fit(X[:25]).coef_, atol=1e-13)


def test_partial_fit_refuses_other_items_and_keeps_what_it_has(X):
    model = EASE(lambda_=2.0).partial_fit(X)
    with pytest.raises(ValueError, match="19 features, but EASE is expecting 20"):
        model.partial_fit(X[:, :19])
    assert_allclose(model.coef_, EASE(lambda_=2.0).fit(X).coef_, atol=1e-13)


def test_fit_after_partial_fit_forgets_the_batches(X):
    model = EASE(lambda_=2.0).partial_fit(X[:25]).fit(X)
    assert_allclose(model.coef_, EASE(lambda_=2.0).fit(X).coef_, atol=1e-13)
    assert not hasattr(model, "gram_")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_have_the_precision_of_X(X, dtype):
    assert EASE().fit(X.astype(dtype)).coef_.dtype == dtype
    assert EASE().partial_fit(X.astype(dtype)).coef_.dtype == dtype


@pytest.mark.parametrize("lambda_", [0, -1.0, np.nan, "500", None])
def test_lambda_must_be_positive(X, lambda_):
    with pytest.raises(ValueError, match="lambda_"):
        EASE(lambda_=lambda_).fit(X)


def test_lambda_too_small_for_the_precision_is_an_error_that_says_so():
    X = np.ones((5, 3), dtype=np.float32)
    with pytest.raises(ValueError, match=r"lambda_=1e-30 is too small .* float32"):
        EASE(lambda_=1e-30).fit(X)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_fit_beyond_the_memory_is_refused_before_it_starts(X, method, monkeypatch):
    monkeypatch.setattr(_memory, "available_memory", lambda: 1000)
    model = EASE()
    with pytest.raises(MemoryError, match=r"EASE on 20 items in float64 needs .* available"):
        getattr(model, method)(X)
    assert not hasattr(model, "gram_")


def test_a_million_items_name_the_memory_they_would_need():
    X = sp.csr_array((np.ones(1, np.float32), ([0], [0])), shape=(1, 10**6))
    with pytest.raises(MemoryError, match=r"1,000,000 items in float32 needs [34],\d{3}\.\d GiB"):
        EASE().fit(X)


def test_the_memory_asked_for_counts_the_blocks_of_the_threads(X, monkeypatch):
    asked = []
    monkeypatch.setattr(_ease, "check_memory", lambda n_bytes, what: asked.append(n_bytes))
    for n_threads in (1, 4):
        monkeypatch.setattr(_ease, "n_threads", lambda n_threads=n_threads: n_threads)
        EASE().fit(X)
    a_thread = _ease._BUFFER_OF_A_THREAD + X.nnz * (X.data.itemsize + X.indices.itemsize)
    assert asked[1] - asked[0] == 3 * a_thread


def test_items_without_users_get_no_weight(X):
    X = X.tolil()
    X[:, 4] = 0
    B = EASE(lambda_=1.0).fit(X.tocsr()).coef_
    assert_array_equal(B[4], 0)
    assert_array_equal(B[:, 4], 0)


def test_matrix_without_interactions_ranks_by_index():
    X = sp.csr_array((3, 5))
    assert_array_equal(EASE().fit(X).predict_ranking(X, k=2), [[0, 1]] * 3)


def test_one_item_and_one_user_are_fitted():
    assert_array_equal(EASE().fit([[1.0]]).predict_ranking([[1.0]], k=1), [[-1]])


def test_similar_items_are_those_the_item_votes_for(X):
    model = EASE(lambda_=2.0).fit(X)
    assert_array_equal(model.similar_items(3, k=4), np.argsort(-model.coef_[3], kind="stable")[:4])


def test_values_whose_squares_are_no_numbers_any_more_are_refused():
    X = np.array([[1, 0], [1, 1]], dtype=np.float32)
    with pytest.raises(ValueError, match="squares of the values of X are too large for float32"):
        EASE().fit(1e30 * X)
    assert np.isfinite(EASE().fit(1e30 * X.astype(float)).coef_).all()
