"""Weighted matrix factorization against its objective, dense solves and published figures."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.preprocessing import Binarizer

from sklrec import _memory
from sklrec.datasets import make_interactions
from sklrec.factorization import WMF
from sklrec.metrics import evaluate
from sklrec.model_selection import strong_generalization_split

SOLVERS = ["cg", "cholesky"]
ZEROS = ["all", "unobserved"]


def weights_and_targets(X, unobserved_weight, zeros):
    """Return the weight and the target of each pair, and what the objective has besides."""
    if zeros == "unobserved":
        return X + unobserved_weight, np.sign(X), 0.0
    # x (1 - s)^2 + a s^2 is (x + a) (x / (x + a) - s)^2 but for a constant.
    weights = X + unobserved_weight
    targets = np.divide(X, weights, out=np.zeros_like(X), where=weights > 0)
    return weights, targets, (X - weights * targets**2).sum()


def objective(X, W, H, *, lambda_=0.01, unobserved_weight=0.1, frequency_exponent=1.0, zeros="all"):
    """Return the objective, written out over all pairs."""
    X = X.toarray()
    weights, targets, constant = weights_and_targets(X, unobserved_weight, zeros)
    loss = (weights * (targets - W @ H.T) ** 2).sum() + constant
    n_users, n_items = X.shape
    of_user = (np.count_nonzero(X, axis=1) + unobserved_weight * n_items) ** frequency_exponent
    of_item = (np.count_nonzero(X, axis=0) + unobserved_weight * n_users) ** frequency_exponent
    return loss + lambda_ * (of_user @ (W**2).sum(axis=1) + of_item @ (H**2).sum(axis=1))


def dense_solution(x, V, *, lambda_=0.01, unobserved_weight=0.1, nu=1.0, zeros="all"):
    """Return the ridge regression of a dense row on the factors of its columns."""
    weights, targets, _ = weights_and_targets(x, unobserved_weight, zeros)
    penalty = lambda_ * (np.count_nonzero(x) + unobserved_weight * len(x)) ** nu
    A = V.T @ np.diag(weights) @ V + penalty * np.eye(V.shape[1])
    return np.linalg.solve(A, V.T @ (weights * targets))


@pytest.fixture
def confidences(X):
    """Return 60 users of 20 items with values from .5 to 3."""
    X.data *= np.random.default_rng(0).uniform(0.5, 3, X.nnz)
    return X


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("zeros", ZEROS)
@pytest.mark.parametrize("nu", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_components", [1, 3, 15])
def test_users_are_dense_weighted_ridge_regressions(confidences, n_components, nu, zeros, solver):
    X = confidences
    model = WMF(
        n_components, lambda_=0.1, frequency_exponent=nu, zeros=zeros, solver=solver, random_state=0
    )
    H = model.fit(X).item_factors_
    for x, w in zip(X.toarray(), model.transform(X), strict=True):
        assert_allclose(w, dense_solution(x, H, lambda_=0.1, nu=nu, zeros=zeros), atol=1e-8)


@pytest.mark.parametrize("zeros", ZEROS)
def test_items_are_dense_weighted_ridge_regressions_of_the_users(confidences, zeros):
    X = confidences
    start = WMF(3, zeros=zeros, solver="cholesky", max_iter=4, random_state=0).fit(X)
    W = start.transform(X)
    then = clone(start).set_params(max_iter=5).fit(X)
    expected = np.array([dense_solution(x, W, zeros=zeros) for x in X.toarray().T])
    scores = W @ expected.T
    assert_allclose(then.item_factors_ @ then.item_factors_.T, expected @ expected.T, atol=1e-8)
    assert np.abs(scores).max() > 0.1


PARAMETERS = [
    {"lambda_": 0.1},
    {"lambda_": 1.0, "unobserved_weight": 0.3, "frequency_exponent": 0.0},
    {"unobserved_weight": 0.0, "frequency_exponent": 0.5},
]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("zeros", ZEROS)
@pytest.mark.parametrize("parameters", PARAMETERS)
def test_loss_never_rises_and_is_the_objective(confidences, parameters, zeros, solver):
    X = confidences
    model = WMF(4, **parameters, zeros=zeros, solver=solver, max_iter=200, random_state=0)
    loss = np.array(model.fit(X).loss_curve_)
    assert (np.diff(loss) <= 1e-10 * loss[0]).all()
    # At rest, the users' solution for the last items is that before it.
    found = objective(X, model.transform(X), model.item_factors_, **parameters, zeros=zeros)
    assert found <= loss[-1] * (1 + 1e-10)
    assert_allclose(found, loss[-1], rtol=1e-3)


def test_first_iteration_is_the_solution_by_hand():
    # One user and one item: w = h / (h^2 + .5 h^2 + penalty), with the penalty of both .2 * 1.5.
    model = WMF(1, lambda_=0.2, unobserved_weight=0.5, max_iter=1, random_state=0)
    h0 = np.random.RandomState(0).normal(scale=0.1)
    h = model.fit(np.ones((1, 1))).item_factors_[0, 0]
    w = h0 / (1.5 * h0**2 + 0.3)
    assert_allclose(abs(h), abs(w / (1.5 * w**2 + 0.3)), rtol=1e-12)


@pytest.mark.parametrize("zeros", ZEROS)
def test_many_steps_of_conjugate_gradients_are_the_exact_solver(confidences, zeros):
    model = WMF(5, zeros=zeros, cg_steps=20, max_iter=6, random_state=0).fit(confidences)
    exact = clone(model).set_params(solver="cholesky").fit(confidences)
    assert_allclose(model.loss_curve_, exact.loss_curve_, rtol=1e-9)
    expected = exact.decision_function(confidences)
    assert_allclose(model.decision_function(confidences), expected, atol=1e-7)


def test_two_steps_get_about_as_far_as_the_exact_solver():
    X = make_interactions(600, 200, random_state=0).data
    few, exact = (WMF(16, solver=solver, random_state=0).fit(X) for solver in SOLVERS)
    assert_allclose(few.loss_curve_[1:], exact.loss_curve_[1:], rtol=0.03)


def test_objective_of_hu_et_al_is_a_multiple_of_ours(confidences):
    """Equation 3 of the paper: confidences 1 + alpha x, and one penalty for all."""
    alpha, lambda_ = 40.0, 3.0
    ours = {"unobserved_weight": 1 / alpha, "lambda_": lambda_ / alpha, "frequency_exponent": 0.0}
    model = WMF(3, **ours, zeros="unobserved", random_state=0).fit(confidences)
    W, H = model.transform(confidences), model.item_factors_
    x = confidences.toarray()
    squares = (W**2).sum() + (H**2).sum()
    theirs = ((1 + alpha * x) * ((x > 0) - W @ H.T) ** 2).sum() + lambda_ * squares
    assert_allclose(objective(confidences, W, H, **ours, zeros="unobserved"), theirs / alpha)


def test_settings_for_implicit_give_its_equations(X):
    """Its users solve ``Y'Y + Y'(C - I)Y + lambda I`` with C = alpha X where there is a value."""
    alpha, lambda_ = 5.0, 0.7
    a = 1 / (alpha - 1)
    model = WMF(
        3,
        zeros="unobserved",
        frequency_exponent=0,
        unobserved_weight=a,
        lambda_=lambda_ * a,
        random_state=0,
    ).fit(X)
    Y = model.item_factors_
    for x, w in zip(X.toarray()[:5], model.transform(X[:5]), strict=True):
        A = Y.T @ Y + Y.T @ np.diag((alpha - 1) * x) @ Y + lambda_ * np.eye(3)
        assert_allclose(w, np.linalg.solve(A, Y.T @ (alpha * x)), atol=1e-10)


def test_ones_have_the_same_ranking_with_either_zeros(X):
    observed = WMF(3, zeros="unobserved", lambda_=0.33, max_iter=300, random_state=0).fit(X)
    everywhere = clone(observed).set_params(zeros="all", lambda_=0.3).fit(X)
    ratio = observed.decision_function(X) / everywhere.decision_function(X)
    assert_allclose(ratio, 1.1, rtol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_binary_values_are_ones(X, confidences, solver):
    ones = sp.csr_array(confidences > 0).astype(float)
    expected = WMF(3, solver=solver, random_state=0).fit(ones)
    model = WMF(3, solver=solver, binary=True, random_state=0).fit(confidences)
    assert_array_equal(model.item_factors_, expected.item_factors_)
    scores = expected.decision_function(ones)
    assert_array_equal(model.decision_function(confidences), scores)
    assert_allclose(model.explain(confidences, 3).sum(axis=1), scores[:, 3], atol=1e-10)
    # Popularity is a number of users too.
    nobody = sp.csr_array(confidences.shape)
    assert_array_equal(model.decision_function(nobody)[0], ones.sum(axis=0))
    assert_array_equal(model.partial_fit(confidences)._popularity, 2 * ones.sum(axis=0))


@pytest.mark.parametrize("solver", SOLVERS)
def test_factors_are_orthogonal_and_in_descending_order(X, solver):
    model = WMF(5, solver=solver, random_state=0).fit(X)
    for fitted in (model, clone(model).fit(X).partial_fit(X[:20]), model.with_items(wider(X))):
        gram = fitted.item_factors_.T @ fitted.item_factors_
        assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-10)
        assert (np.diff(np.diag(gram)) <= 0).all()


@pytest.mark.parametrize("zeros", ZEROS)
def test_explanations_add_up_to_the_score(confidences, zeros):
    model = WMF(4, zeros=zeros, random_state=0).fit(confidences)
    contributions = model.explain(confidences, 7)
    expected = model.decision_function(confidences)[:, 7]
    assert_allclose(contributions.sum(axis=1), expected, atol=1e-10)


def test_seed_decides_the_factors(X):
    def factors(seed):
        return WMF(3, random_state=seed).fit(X).item_factors_

    assert_array_equal(factors(0), factors(0))
    assert not np.array_equal(factors(0), factors(1))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_factors_have_the_precision_of_X(X, dtype, solver):
    model = WMF(3, solver=solver, random_state=0).fit(X.astype(dtype))
    for other in (np.float64, np.float32):
        assert model.item_factors_.dtype == model.transform(X.astype(dtype)).dtype == dtype
        assert model.with_items(wider(X).astype(other)).item_factors_.dtype == dtype
        model.partial_fit(X.astype(other))


@pytest.mark.parametrize("solver", SOLVERS)
def test_items_without_users_get_no_factors(solver):
    X = sp.csr_array(np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    assert_array_equal(WMF(2, solver=solver, random_state=0).fit(X).item_factors_[2], 0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n_components", [8, 200])
def test_a_fit_that_needs_too_much_memory_is_refused(X, solver, n_components, monkeypatch):
    monkeypatch.setattr(_memory, "available_memory", lambda: 2**10)
    message = rf"WMF with n_components={n_components} on {X.nnz} values needs .* only 0\.0 GiB"
    with pytest.raises(MemoryError, match=message):
        WMF(n_components, solver=solver).fit(X)


# partial_fit


def test_first_partial_fit_is_fit(X):
    model = WMF(3, random_state=0).partial_fit(X)
    assert_array_equal(model.item_factors_, WMF(3, random_state=0).fit(X).item_factors_)
    assert model.n_samples_seen_ == 60


def test_partial_fit_on_a_model_that_knows_nothing_is_fit(X):
    model = WMF(3, random_state=0).fit(sp.csr_array(X.shape)).partial_fit(X)
    assert_array_equal(model.item_factors_, WMF(3, random_state=0).fit(X).item_factors_)


@pytest.mark.parametrize("zeros", ZEROS)
def test_partial_fit_minimises_the_loss_of_new_users_and_an_average_of_the_earlier(
    confidences, zeros
):
    """Each item's equations, written out, with the users' factors at rest."""
    earlier, new = confidences[:40], confidences[40:]
    model = WMF(3, lambda_=0.1, zeros=zeros, max_iter=300, random_state=0).fit(earlier)
    before, W, w = model.item_factors_, model.transform(earlier), model.transform(new)
    x, a = earlier.toarray(), 0.1
    weight = x.sum(axis=0) + a * 40
    matrices = [
        W.T @ np.diag(x[:, i] + a) @ W + 0.1 * (np.count_nonzero(x[:, i]) + a * 40) * np.eye(3)
        for i in range(20)
    ]
    average = sum(matrices) / weight.sum()
    expected = np.empty_like(before)
    for i, values in enumerate(new.toarray().T):
        weights, targets, _ = weights_and_targets(values, a, zeros)
        A = weight[i] * average + w.T @ np.diag(weights) @ w
        b = weight[i] * average @ before[i] + w.T @ (weights * targets)
        expected[i] = np.linalg.solve(A, b)
    found = model.partial_fit(new).item_factors_
    assert_allclose(found @ found.T, expected @ expected.T, atol=1e-6)
    assert model.n_samples_seen_ == 60
    assert_allclose(model._popularity, confidences.sum(axis=0))
    assert_allclose(
        np.linalg.eigvalsh(model._curvature),
        np.linalg.eigvalsh(sum(matrices) + w.T @ np.diag(new.sum(axis=1) + a * 20) @ w),
        rtol=1e-5,
    )


def test_partial_fit_comes_near_fit_on_all_users():
    X = make_interactions(2000, 100, random_state=0).data
    split = strong_generalization_split(X, n_heldout=400, random_state=0)

    def ndcg(model):
        found = evaluate(model, split.test_fold_in, split.test_held_out, "ndcg@100")
        return found.mean["ndcg@100"]

    train = split.train
    before, after, full = (WMF(16, random_state=0) for _ in range(3))
    before.fit(train[:200])
    after.fit(train[:200])
    for start in range(200, train.shape[0], 200):
        after.partial_fit(train[start : start + 200])
    full.fit(train)
    assert ndcg(before) + 0.4 * (ndcg(full) - ndcg(before)) < ndcg(after)


def test_partial_fit_without_zeros_learns_new_items_too():
    X = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    model = WMF(2, unobserved_weight=0, random_state=0).fit(X)
    model.partial_fit(np.array([[1.0, 0.0, 1.0]]))
    assert np.isfinite(model.item_factors_).all()
    assert np.abs(model.item_factors_[2]).max() > 0


def test_partial_fit_keeps_the_parameters_of_fit(X):
    model = WMF(3, random_state=0).fit(X[:40])
    changed = WMF(3, random_state=0).fit(X[:40]).set_params(lambda_=5.0, zeros="unobserved")
    expected = model.partial_fit(X[40:]).item_factors_
    assert_array_equal(changed.partial_fit(X[40:]).item_factors_, expected)


# with_items


def wider(X, n_new=2):
    """Return X and, as new items, its first two columns, exchanged."""
    return sp.csr_array(sp.hstack([X, X[:, [1, 0][:n_new]]]))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("zeros", ZEROS)
def test_new_items_are_dense_ridge_regressions_of_users_folded_in(confidences, zeros, solver):
    model = WMF(3, zeros=zeros, solver=solver, random_state=0).fit(confidences)
    W, H = model.transform(confidences), model.item_factors_
    X = wider(confidences)
    X.data[:] = np.random.default_rng(3).permutation(X.data)
    X[:, :20] = confidences
    X = sp.csr_array(X)
    new = model.with_items(X)
    expected = [dense_solution(x, W, zeros=zeros) for x in X.toarray().T[20:]]
    expected = np.concatenate([H, expected])
    assert_allclose(new.item_factors_ @ new.item_factors_.T, expected @ expected.T, atol=1e-8)
    assert new.n_features_in_ == 22
    assert_allclose(new._popularity, X.sum(axis=0))
    # Folding in sees all items.
    scores = [expected @ dense_solution(x, expected, zeros=zeros) for x in X.toarray()]
    assert_allclose(new.decision_function(X), scores, atol=1e-8)


def test_a_copy_of_an_item_gets_its_factors(X):
    model = WMF(3, lambda_=0.1, max_iter=300, random_state=0).fit(X)
    H = model.with_items(wider(X)).item_factors_
    assert_allclose(H[[20, 21]], H[[1, 0]], atol=1e-5)


def test_with_items_leaves_the_model_as_it_is_and_can_be_repeated(X):
    model = WMF(3, random_state=0).fit(X)
    before = model.decision_function(X)
    one = model.with_items(wider(X, 1))
    two = one.with_items(wider(X))
    assert_array_equal(model.decision_function(X), before)
    assert two.predict_ranking(wider(X), k=22, exclude_seen=False).shape == (60, 22)
    assert_array_equal(two.similar_items(21, k=1), [0])
    assert two.partial_fit(wider(X)).n_samples_seen_ == 120


def test_items_that_nobody_has_are_added(X):
    model = WMF(3, random_state=0).fit(X)
    new = model.with_items(sp.csr_array(sp.hstack([X, sp.csr_array((60, 1))])))
    assert_array_equal(new.item_factors_[20], 0)


def test_with_items_needs_new_columns_and_a_fitted_model(X):
    model = WMF(3)
    with pytest.raises(ValueError, match="not fitted"):
        model.with_items(X)
    model.fit(X)
    with pytest.raises(
        ValueError, match="each of the 20 items of fit and then for new ones, got 2"
    ):
        model.with_items(X)
    bad = wider(X)
    bad.data[0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        model.with_items(bad)


def test_names_of_items_are_extended(X):
    pd = pytest.importorskip("pandas")
    names = [f"item {i}" for i in range(22)]
    frame = pd.DataFrame(wider(X).toarray(), columns=names)
    model = WMF(3, random_state=0).fit(frame[names[:20]])
    new = model.with_items(frame)
    assert_array_equal(new.feature_names_in_, names)
    assert_array_equal(model.feature_names_in_, names[:20])
    new.decision_function(frame)
    with pytest.raises(ValueError, match="first columns of X must have the names"):
        model.with_items(frame[names[::-1]])
    with pytest.raises(ValueError, match="first columns of X must have the names"):
        model.with_items(frame.to_numpy())
    assert not hasattr(WMF(3).fit(X).with_items(frame), "feature_names_in_")


@pytest.mark.slow
def test_wmf_reaches_on_ml1m_what_independent_implementations_do(ml1m):
    X = Binarizer(threshold=3.5).fit_transform(ml1m)
    split = strong_generalization_split(X, n_heldout=1000)
    model = WMF(64, lambda_=0.008, unobserved_weight=0.2, random_state=0)
    found = evaluate(model.fit(split.train), split.test_fold_in, split.test_held_out, "ndcg@100")
    assert_allclose(found.mean["ndcg@100"], 0.4245, atol=0.003)  # seeds differ by about .001


def test_more_components_than_memory_holds_are_refused():
    X = sp.random_array((5, 4), density=0.5, format="csr", rng=np.random.default_rng(0))
    with pytest.raises(
        MemoryError, match=r"WMF with n_components=1000000 on 10 values needs .*GiB"
    ):
        WMF(1_000_000).fit(X)
