"""SLIM against scikit-learn's ElasticNet, column by column, and other solutions by hand."""

import numpy as np
import pytest
import scipy.sparse as sp
from joblib import parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet

from sklrec import _memory
from sklrec.linear import EASE, SLIM, _slim

SOLVERS = pytest.mark.parametrize("solver", ["cd", "admm"])
SIGNS = pytest.mark.parametrize("positive", [True, False])


def elastic_nets(X, *, alpha, l1_ratio, positive):
    """Return the weights of ElasticNet on all other items, for each item."""
    X = X.toarray().astype(float)
    n_items = X.shape[1]
    B = np.zeros((n_items, n_items))
    for j in range(n_items):
        rest = np.arange(n_items) != j
        net = ElasticNet(
            alpha,
            l1_ratio=l1_ratio,
            positive=positive,
            fit_intercept=False,
            tol=1e-12,
            max_iter=100_000,
        )
        B[rest, j] = net.fit(X[:, rest], X[:, j]).coef_
    return B


@SOLVERS
@SIGNS
@pytest.mark.parametrize(("alpha", "l1_ratio"), [(0.05, 0.1), (0.02, 0.9), (0.01, 0.01)])
@pytest.mark.parametrize("values", [False, True])
def test_each_column_is_the_elastic_net_on_the_other_items(
    X, alpha, l1_ratio, positive, solver, values
):
    if values:
        X.data *= np.random.default_rng(0).uniform(0.1, 3, X.nnz)
    expected = elastic_nets(X, alpha=alpha, l1_ratio=l1_ratio, positive=positive)
    assert 0 < np.count_nonzero(expected) < 380  # some weights are zero, and some are not
    model = SLIM(alpha, l1_ratio=l1_ratio, positive=positive, solver=solver)
    model.set_params(tol=1e-12, max_iter=100_000).fit(X)
    assert_allclose(model.coef_.toarray(), expected, atol=1e-7)
    assert_array_equal(model.coef_.diagonal(), 0)
    assert positive == (model.coef_.data.min() > 0)


@SIGNS
def test_lasso_without_a_penalty_of_squares(X, positive):
    expected = elastic_nets(X, alpha=0.05, l1_ratio=1, positive=positive)
    for solver in ("cd", "admm"):
        model = SLIM(0.05, l1_ratio=1, positive=positive, solver=solver, tol=1e-12, max_iter=10**5)
        assert_allclose(model.fit(X).coef_.toarray(), expected, atol=1e-7)


@SOLVERS
def test_hardly_any_l1_penalty_is_ease(X, solver):
    alpha = 2.0 / X.shape[0]
    model = SLIM(alpha, l1_ratio=1e-9, positive=False, solver=solver, tol=1e-12, max_iter=10**5)
    assert_allclose(model.fit(X).coef_.toarray(), EASE(lambda_=2.0).fit(X).coef_, atol=1e-6)


def test_items_that_no_user_has_in_common_have_weights_where_signs_are_free():
    # Items 0 and 3 have no common user, but both are in the rows of 1 and 2.
    rows = [[1, 1, 1, 0]] * 8 + [[0, 1, 1, 1]] * 8 + [[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0]]
    X = sp.csr_array(np.array(rows, dtype=float))
    expected = elastic_nets(X, alpha=0.01, l1_ratio=0.05, positive=False)
    assert expected[3, 0] < 0
    model = SLIM(0.01, l1_ratio=0.05, positive=False, tol=1e-12, max_iter=10**5).fit(X)
    assert_allclose(model.coef_.toarray(), expected, atol=1e-8)


def test_weights_by_hand():
    # Two items with four common users of ten: 4 of the 6 of item 0, of the 5 of item 1.
    X = np.zeros((10, 2))
    X[:6, 0] = X[2:7, 1] = 1
    l1, l2 = 10 * 0.2 * 0.5, 10 * 0.2 * 0.5
    expected = [[0, (4 - l1) / (6 + l2)], [(4 - l1) / (5 + l2), 0]]
    for solver in ("cd", "admm"):
        model = SLIM(0.2, l1_ratio=0.5, solver=solver, tol=1e-12).fit(X)
        assert_allclose(model.coef_.toarray(), expected, atol=1e-10)
    # With an L1 penalty of 4, no weight is left; with a little less, all are.
    assert SLIM(0.8, l1_ratio=0.5).fit(X).coef_.nnz == 0
    assert SLIM(0.79, l1_ratio=0.5, tol=1e-12).fit(X).coef_.nnz == 2


@SOLVERS
@pytest.mark.parametrize("n_jobs", [2, -1])
def test_weights_do_not_depend_on_the_number_of_jobs(X, solver, n_jobs, monkeypatch):
    monkeypatch.setattr(_slim, "BLOCK", 3)
    model = SLIM(0.01, solver=solver, positive=False)
    expected = model.fit(X).coef_
    model.set_params(n_jobs=n_jobs).fit(X)
    assert_array_equal(model.coef_.toarray(), expected.toarray())
    with parallel_config(backend="loky"):
        assert_array_equal(model.fit(X).coef_.toarray(), expected.toarray())


@SOLVERS
def test_blocks_change_nothing(X, solver, monkeypatch):
    model = SLIM(0.01, solver=solver, tol=1e-10, max_iter=10_000)
    expected = model.fit(X).coef_.toarray()
    monkeypatch.setattr(_slim, "BLOCK", 7)
    assert_allclose(model.fit(X).coef_.toarray(), expected, atol=1e-8)


@SOLVERS
@SIGNS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_have_the_precision_of_X(X, dtype, solver, positive):
    model = SLIM(0.01, solver=solver, positive=positive).fit(X.astype(dtype))
    assert model.coef_.dtype == dtype
    assert isinstance(model.coef_, sp.csr_array)


def test_index_arrays_of_64_bits_are_no_error(X):
    wide = sp.csr_array((X.data, X.indices.astype(np.int64), X.indptr.astype(np.int64)), X.shape)
    assert_array_equal(SLIM().fit(wide).coef_.toarray(), SLIM().fit(X).coef_.toarray())


@SOLVERS
def test_too_few_iterations_are_one_warning(X, solver):
    model = SLIM(0.01, solver=solver, positive=False, max_iter=1, tol=1e-10)
    with pytest.warns(
        ConvergenceWarning, match=r"of 20 items did not .* tol=1e-10 in max_iter=1 iter"
    ) as caught:
        model.fit(X)
    assert len(caught) == 1
    assert model.n_iter_ == 1


@SOLVERS
def test_items_and_matrices_without_users_get_no_weight(X, solver):
    X = X.tolil()
    X[:, 4] = 0
    B = SLIM(0.01, solver=solver).fit(X.tocsr()).coef_.toarray()
    assert_array_equal(B[4], 0)
    assert_array_equal(B[:, 4], 0)
    for l1_ratio in (0.01, 1):
        model = SLIM(l1_ratio=l1_ratio, solver=solver).fit(sp.csr_array((3, 5)))
        assert_array_equal(model.predict_ranking(sp.csr_array((3, 5)), k=2), [[0, 1]] * 3)


@SOLVERS
def test_one_item_and_one_user_are_fitted(solver):
    model = SLIM(solver=solver).fit([[1.0]])
    assert_array_equal(model.predict_ranking([[1.0]], k=1), [[-1]])
    assert SLIM(0.01, solver=solver).fit([[1.0, 1.0, 0.0]]).coef_.nnz == 2


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("alpha", value) for value in (0, -1.0, np.nan, "1", None)),
        *(("l1_ratio", value) for value in (0, 1.1, np.nan, None)),
        *(("positive", value) for value in (None, "yes")),
        *(("solver", value) for value in ("lars", None)),
        *(("max_iter", value) for value in (0, 2.5)),
        *(("tol", value) for value in (-1e-3, np.nan)),
        ("n_jobs", 1.5),
    ],
)
def test_parameters_out_of_range_are_refused(X, name, wrong):
    with pytest.raises(ValueError, match=name):
        SLIM(**{name: wrong}).fit(X)


def test_admm_beyond_the_memory_is_refused_before_it_starts(X, monkeypatch):
    monkeypatch.setattr(_memory, "available_memory", lambda: 1000)
    with pytest.raises(MemoryError, match=r"SLIM\(solver='admm'\) on 20 items in float64 needs"):
        SLIM(solver="admm").fit(X)
    SLIM(solver="cd").fit(X)


@SOLVERS
def test_values_whose_squares_are_no_numbers_any_more_are_refused(solver):
    X = np.array([[1, 0], [1, 1]], dtype=np.float32)
    with pytest.raises(ValueError, match="squares of the values of X are too large for float32"):
        SLIM(solver=solver).fit(1e30 * X)


def test_explanations_add_up_to_the_score(X):
    model = SLIM(0.01).fit(X)
    contributions = model.explain(X, 3)
    assert_allclose(contributions.sum(axis=1), model.decision_function(X)[:, 3], atol=1e-12)
