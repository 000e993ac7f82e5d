"""CTR against its objective, dense solves and the limits of its parameters."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

from sklrec.factorization import WMF
from sklrec.hybrid import CTR
from sklrec.hybrid._ctr import _dirichlet_parameters, fitted_topics
from sklrec.hybrid._least_squares import LeastSquares
from sklrec.persistence import load, save

B = 0.05


def confidences_and_ratings(X):
    """Return C and R of the paper, dense: 1 and 1 at an entry of 1, b and 0 without one."""
    x = X.toarray()
    return np.where(x > 0, B + (1 - B) * x, B), (x > 0) * 1.0


def objective(X, U, V, theta, lambda_u, lambda_v):
    """Return equation 1 of paper [2] of the docstring without its text, written out in loops."""
    C, R = confidences_and_ratings(X)
    total = lambda_u / 2 * (U**2).sum()
    for j in range(X.shape[1]):
        total += lambda_v / 2 * ((V[j] - theta[j]) ** 2).sum()
        if R[:, j].any():
            for i in range(X.shape[0]):
                total += C[i, j] / 2 * (R[i, j] - U[i] @ V[j]) ** 2
    return total


@pytest.fixture
def X(X):
    """Return 60 users of 20 items with values up to 3, of which the last two have no users."""
    X = sp.csr_array(X.multiply(np.arange(20) < 18))
    X.eliminate_zeros()
    X.data *= np.random.default_rng(0).uniform(0.5, 3, X.nnz)
    return X


@pytest.fixture
def F():
    """Return counts of 12 words, four for each group of items."""
    rng = np.random.default_rng(1)
    own = np.arange(20)[:, None] % 3 == np.arange(12) % 3
    return sp.csr_array(rng.poisson(np.where(own, 5, 0.1)))


def model(**params):
    return CTR(4, **{"unobserved_weight": B, "random_state": 0, **params})


def topics(fitted, F):
    return fitted.lda_.transform(F)


@pytest.mark.parametrize("lambda_v", [0.3, 30.0])
def test_users_and_items_are_dense_ridge_regressions(X, F, lambda_v):
    fitted = model(lambda_u=0.2, lambda_v=lambda_v, max_iter=1).fit(X, item_features=F)
    C, R = confidences_and_ratings(X)
    theta = topics(fitted, F)
    known = np.arange(18)
    U = np.stack(
        [
            np.linalg.solve(
                theta[known].T @ (c[known, None] * theta[known]) + 0.2 * np.eye(4),
                theta[known].T @ (c * r)[known],
            )
            for c, r in zip(C, R, strict=True)
        ]
    )
    for j in known:
        A = U.T @ (C[:, [j]] * U) + lambda_v * np.eye(4)
        expected = np.linalg.solve(A, U.T @ (C * R)[:, j] + lambda_v * theta[j])
        assert_allclose(fitted.item_factors_[j], expected, atol=1e-10)


def test_items_without_users_are_at_their_topics(X, F):
    fitted = model().fit(X, item_features=F)
    assert_allclose(fitted.item_factors_[18:], topics(fitted, F)[18:], rtol=1e-12)


def test_a_users_factors_are_the_dense_solution_with_the_items_of_their_row(X, F):
    fitted = model(lambda_u=0.2).fit(X, item_features=F)
    V = fitted.item_factors_
    row = np.zeros(20)
    row[[2, 5, 19]] = 1  # the last item has no users in fit
    inside = np.r_[np.arange(18), 19]
    c = np.where(row > 0, 1, B)[inside]
    A = V[inside].T @ (c[:, None] * V[inside]) + 0.2 * np.eye(4)
    expected = np.linalg.solve(A, V[inside].T @ (c * row[inside]))
    assert_allclose(fitted.transform(row[None])[0], expected, atol=1e-10)
    assert_allclose(fitted.decision_function(row[None])[0], V @ expected, atol=1e-10)


@pytest.mark.parametrize("params", [{}, {"fit_topics": True}, {"lambda_u": 1.0, "lambda_v": 20.0}])
def test_the_objective_never_rises(X, F, params):
    loss = np.array(model(max_iter=100, **params).fit(X, item_features=F).loss_curve_)
    assert (np.diff(loss) <= 1e-9 * abs(loss[0])).all()
    assert loss[-1] < loss[0]


def test_the_loss_is_the_objective_written_out(X, F):
    # At rest, the users' solution for the last items is that before it.
    fitted = model(max_iter=300, lambda_u=0.2, lambda_v=2.0).fit(X, item_features=F)
    U, V = fitted.transform(X), fitted.item_factors_
    found = objective(X, U, V, topics(fitted, F), 0.2, 2.0)
    assert found <= fitted.loss_curve_[-1] * (1 + 1e-12)
    assert_allclose(found, fitted.loss_curve_[-1], rtol=1e-4)


def test_folding_in_is_the_solve_of_training(X, F):
    five, six = (model(max_iter=n).fit(X, item_features=F) for n in (5, 6))
    problem = LeastSquares(*five._problem)
    V = problem.items(X.T.tocsr(), five.transform(X), topics(five, F))
    assert_allclose(six.item_factors_, V, atol=1e-10)


def test_explanations_add_up_to_the_score(X, F):
    fitted = model().fit(X, item_features=F)
    found = fitted.explain(X, 7).sum(axis=1)
    some = X.sum(axis=1) > 0
    assert_allclose(found[some], fitted.decision_function(X)[some, 7], atol=1e-8)


def test_a_user_of_new_items_alone_is_ranked_by_their_content(X, F):
    new = model().fit(X[:, :15], item_features=F[:15]).with_items(F[15:])
    row = np.eye(20)[[15]]
    v = new.item_factors_[15]
    A = new._gram + np.outer(v, v) + 0.1 * np.eye(4)
    assert_allclose(new.transform(row)[0], np.linalg.solve(A, v), atol=1e-10)
    assert_allclose(new.decision_function(row), new.transform(row) @ new.components_)


def test_sparse_content_is_never_made_dense(X, F, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("made dense")

    for name in ("toarray", "todense"):
        monkeypatch.setattr(sp.csr_array, name, refuse)
    model().fit(X, item_features=F).with_items(F[:2])


def test_a_large_coupling_leaves_items_at_their_topics(X, F):
    fitted = model(lambda_v=1e9).fit(X, item_features=F)
    assert_allclose(fitted.item_factors_, topics(fitted, F), atol=1e-6)


def test_without_content_it_is_weighted_matrix_factorization():
    # For entries of 1 both objectives are a(t - s)^2 and b s^2, with other targets t: those of
    # WMF with values of 1 - b are 1 - b, and its factors smaller by the root of it.
    X = sp.csr_array((np.random.default_rng(2).random((40, 15)) < 0.3).astype(float))
    X = X[X.sum(axis=1) > 0]
    t, lambda_ = 1 - B, 0.3
    wmf = WMF(3, lambda_=lambda_, unobserved_weight=B, frequency_exponent=0.0, random_state=0)
    wmf.fit(t * X)
    ctr = model(lambda_u=lambda_ / t, lambda_v=lambda_ / t).fit(X)
    ctr.item_factors_ = V = wmf.item_factors_ / np.sqrt(t)
    ctr._gram = B * V.T @ V
    assert_allclose(ctr.transform(X), wmf.transform(t * X) / np.sqrt(t), atol=1e-8)
    assert_allclose(t * ctr.decision_function(X), wmf.decision_function(t * X), atol=1e-8)
    problem = LeastSquares(*ctr._problem)
    U, zero = ctr.transform(X), np.zeros_like(V)
    expected = wmf.transform(t * X) @ _solved_items(t * X, wmf.transform(t * X), lambda_).T
    found = t * U @ problem.items(X.T.tocsr(), U, zero).T
    assert_allclose(found, expected, atol=1e-8)


def _solved_items(X, W, lambda_):
    """Return the item factors of WMF for the user factors W by dense solves."""
    x = X.toarray()
    return np.stack(
        [
            np.linalg.solve(
                W.T @ ((x[:, [j]] + B) * W) + lambda_ * np.eye(W.shape[1]), W.T @ x[:, j]
            )
            for j in range(x.shape[1])
        ]
    )


def test_without_content_the_objective_falls_and_new_items_are_an_error(X):
    fitted = model(max_iter=50).fit(X)
    assert (np.diff(fitted.loss_curve_) <= 1e-9 * fitted.loss_curve_[0]).all()
    assert_array_equal(fitted.item_factors_[18:], 0)
    with pytest.raises(ValueError, match="with_items needs a CTR that was fitted with"):
        fitted.with_items(np.ones((1, 12)))


def test_topics_that_fit_are_the_maximum_on_the_simplex():
    rng = np.random.default_rng(0)
    gamma, V = rng.gamma(1.0, size=(5, 4)) + 0.01, rng.normal(size=(5, 4))
    for lambda_v in (1e-3, 1.0, 100.0):
        theta = fitted_topics(gamma, V, lambda_v)
        assert_allclose(theta.sum(axis=1), 1)
        assert (theta > 0).all()
        for g, v, found in zip(gamma, V, theta, strict=True):

            def loss(a, g=g, v=v, lambda_v=lambda_v):
                p = np.exp(a - a.max())
                p /= p.sum()
                return lambda_v / 2 * ((v - p) ** 2).sum() - g @ np.log(p)

            best = minimize(loss, np.log(found) + 0.3 * rng.normal(size=4), tol=1e-12).fun
            assert loss(np.log(found)) <= best + 1e-9


def test_topics_of_no_coupling_are_those_of_the_text():
    gamma = np.array([[3.0, 1.0], [0.5, 0.5]])
    assert_allclose(fitted_topics(gamma, np.zeros((2, 2)), 1e-12), [[0.75, 0.25], [0.5, 0.5]])


def test_dirichlet_parameters_add_up_to_the_prior_and_the_words(X, F):
    fitted = model(fit_topics=True).fit(X, item_features=F)
    gamma = _dirichlet_parameters(topics(fitted, F), F, fitted.lda_)
    assert_allclose(gamma.sum(axis=1), 4 * 0.25 + F.sum(axis=1))


def test_topics_that_are_fitted_change_the_scores(X, F):
    fixed = model(lambda_v=50).fit(X, item_features=F)
    moved = model(lambda_v=50, fit_topics=True).fit(X, item_features=F)
    assert abs(fixed.decision_function(X) - moved.decision_function(X)).max() > 1e-4


def test_new_items_are_at_their_topics_and_old_scores_stay(X, F):
    old = model().fit(X[:, :15], item_features=F[:15])
    new = old.with_items(F[15:])
    assert_allclose(new.item_factors_[15:], topics(old, F[15:]))
    wide = sp.csr_array(np.hstack([X[:, :15].toarray(), np.zeros((60, 5))]))
    assert_allclose(
        new.decision_function(wide)[:, :15], old.decision_function(X[:, :15]), rtol=1e-12
    )
    assert old.item_factors_.shape == (15, 4)


def test_new_items_of_a_group_rank_first_for_its_users(X, F):
    new = model(random_state=1).fit(X[:, :15], item_features=F[:15]).with_items(F[15:18])
    for group in range(3):
        row = np.zeros((1, 18))
        row[0, np.flatnonzero(np.arange(15) % 3 == group)] = 1
        assert new.predict_ranking(row, k=1, items=[15, 16, 17])[0, 0] % 3 == group


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_factors_have_the_precision_of_X(X, F, dtype):
    fitted = model(fit_topics=True).fit(X.astype(dtype), item_features=F)
    assert fitted.item_factors_.dtype == fitted.transform(X.astype(dtype)).dtype == dtype


def test_saved_and_pickled_models_infer_topics_of_new_items(tmp_path, X, F):
    fitted = model().fit(X[:, :15], item_features=F[:15])
    save(fitted, tmp_path / "ctr.safetensors")
    expected = fitted.with_items(F[15:]).item_factors_
    for copy in (load(tmp_path / "ctr.safetensors"), pickle.loads(pickle.dumps(fitted))):
        assert_array_equal(copy.with_items(F[15:]).item_factors_, expected)
        assert_array_equal(copy.decision_function(X[:, :15]), fitted.decision_function(X[:, :15]))


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array, sp.csc_matrix, sp.coo_array])
def test_words_may_be_dense_or_sparse(X, F, kind):
    expected = model().fit(X, item_features=F).item_factors_
    found = model().fit(X, item_features=kind(F.toarray())).item_factors_
    assert_allclose(found, expected, rtol=1e-10)


def test_an_item_without_words_has_all_topics(X, F):
    F = F.toarray()
    F[19] = 0
    fitted = model().fit(X, item_features=F)
    assert_allclose(fitted.item_factors_[19], 0.25)
    assert_allclose(fitted.with_items(F[19:]).item_factors_[-1], 0.25)


@pytest.mark.parametrize(
    ("F", "message"),
    [
        (np.full((20, 3), -1.0), "must be the numbers of words, which are not negative, got -1"),
        (np.zeros((20, 3)), r"item_features of shape \(20, 3\) is zero everywhere"),
        (np.ones((19, 3)), "a row for each of the 20 items"),
    ],
)
def test_bad_words_are_an_error(X, F, message):
    with pytest.raises(ValueError, match=message):
        model().fit(X, item_features=F)


def test_negative_words_of_new_items_are_an_error(X, F):
    with pytest.raises(ValueError, match="not negative, got -1"):
        model().fit(X, item_features=F).with_items(-np.ones((1, 12)))


def test_more_topics_than_items_and_words(X, F):
    fitted = CTR(40, random_state=0).fit(X, item_features=F)
    assert np.isfinite(fitted.decision_function(X)).all()


def test_confidences_of_which_that_without_an_interaction_is_larger_are_an_error(X):
    with pytest.raises(ValueError, match="smaller than confidence, got 2 and 1"):
        CTR(unobserved_weight=2).fit(X)


def test_a_factor_of_confidences_and_penalties_changes_nothing(X, F):
    one = model(lambda_u=0.2, lambda_v=3.0).fit(X, item_features=F)
    ten = model(lambda_u=2, lambda_v=30, confidence=10, unobserved_weight=10 * B)
    ten.fit(X, item_features=F)
    assert_allclose(ten.decision_function(X), one.decision_function(X), atol=1e-9)
    assert_allclose(ten.loss_curve_, 10 * np.array(one.loss_curve_), rtol=1e-9)
