"""Weighted matrix factorization against its objective, dense solves and published figures."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import Binarizer

from sklrec.factorization import WMF
from sklrec.metrics import evaluate
from sklrec.model_selection import strong_generalization_split


def objective(X, W, H, lambda_, unobserved_weight, frequency_exponent):
    """Return the objective, written out over all pairs."""
    X = X.toarray()
    scores = W @ H.T
    loss = (X * (1 - scores) ** 2).sum() + unobserved_weight * (scores**2).sum()
    n_users, n_items = X.shape
    of_user = (np.count_nonzero(X, axis=1) + unobserved_weight * n_items) ** frequency_exponent
    of_item = (np.count_nonzero(X, axis=0) + unobserved_weight * n_users) ** frequency_exponent
    return loss + lambda_ * (of_user @ (W**2).sum(axis=1) + of_item @ (H**2).sum(axis=1))


@pytest.fixture
def confidences(X):
    """Return 60 users of 20 items with values from .5 to 3."""
    X.data *= np.random.default_rng(0).uniform(0.5, 3, X.nnz)
    return X


@pytest.mark.parametrize("frequency_exponent", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_components", [1, 3, 15])
def test_users_are_dense_weighted_ridge_regressions(confidences, n_components, frequency_exponent):
    X = confidences
    model = WMF(n_components, lambda_=0.1, frequency_exponent=frequency_exponent, random_state=0)
    H = model.fit(X).item_factors_
    for user, w in enumerate(model.transform(X)):
        x = X[[user]].toarray()[0]
        penalty = 0.1 * (np.count_nonzero(x) + 0.1 * 20) ** frequency_exponent
        A = H.T @ np.diag(x + 0.1) @ H + penalty * np.eye(n_components)
        assert_allclose(w, np.linalg.solve(A, H.T @ x), atol=1e-8)


@pytest.mark.parametrize("parameters", [(0.1, 0.1, 1.0), (1.0, 0.3, 0.0), (0.01, 0.0, 0.5)])
def test_loss_never_rises_and_its_minimum_over_the_users_is_that_of_the_objective(
    confidences, parameters
):
    names = ("lambda_", "unobserved_weight", "frequency_exponent")
    model = WMF(4, **dict(zip(names, parameters, strict=True)), max_iter=200, random_state=0)
    loss = np.array(model.fit(confidences).loss_curve_)
    assert (np.diff(loss) <= 1e-10 * loss[0]).all()
    # At rest, the users' solution for the last items is that before it.
    found = objective(confidences, model.transform(confidences), model.item_factors_, *parameters)
    assert found <= loss[-1] * (1 + 1e-10)
    assert_allclose(found, loss[-1], rtol=1e-3)


def test_first_iteration_is_the_solution_by_hand():
    # One user and one item: w = h / (h^2 + .5 h^2 + penalty), with the penalty of both .2 * 1.5.
    model = WMF(1, lambda_=0.2, unobserved_weight=0.5, max_iter=1, random_state=0)
    h0 = np.random.RandomState(0).normal(scale=0.1)
    h = model.fit(np.ones((1, 1))).item_factors_[0, 0]
    w = h0 / (1.5 * h0**2 + 0.3)
    assert_allclose(abs(h), abs(w / (1.5 * w**2 + 0.3)), rtol=1e-12)


def test_factors_are_orthogonal_and_in_descending_order(X):
    H = WMF(5, random_state=0).fit(X).item_factors_
    gram = H.T @ H
    assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-10)
    assert (np.diff(np.diag(gram)) <= 0).all()


def test_explanations_add_up_to_the_score(confidences):
    model = WMF(4, random_state=0).fit(confidences)
    contributions = model.explain(confidences, 7)
    expected = model.decision_function(confidences)[:, 7]
    assert_allclose(contributions.sum(axis=1), expected, atol=1e-10)


def test_seed_decides_the_factors(X):
    def factors(seed):
        return WMF(3, random_state=seed).fit(X).item_factors_

    assert_array_equal(factors(0), factors(0))
    assert not np.array_equal(factors(0), factors(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_factors_have_the_precision_of_X(X, dtype):
    model = WMF(3, random_state=0).fit(X.astype(dtype))
    assert model.item_factors_.dtype == model.transform(X.astype(dtype)).dtype == dtype


def test_items_without_users_get_no_factors():
    X = sp.csr_array(np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    assert_array_equal(WMF(2, random_state=0).fit(X).item_factors_[2], 0)


@pytest.mark.slow
def test_wmf_reaches_on_ml1m_what_independent_implementations_do(ml1m):
    X = Binarizer(threshold=3.5).fit_transform(ml1m)
    split = strong_generalization_split(X, n_heldout=1000)
    model = WMF(64, lambda_=0.008, unobserved_weight=0.2, random_state=0).fit(split.train)
    found = evaluate(model, split.test_fold_in, split.test_held_out, "ndcg@100")
    assert_allclose(found.mean["ndcg@100"], 0.4245, atol=0.003)  # seeds differ by about .001
