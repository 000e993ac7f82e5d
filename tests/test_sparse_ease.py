"""SparseEASE against EASE and ridge regressions on the neighbors."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from sklrec import _memory
from sklrec.linear import EASE, SparseEASE, _sparse_ease


def with_values(X):
    X.data *= np.random.default_rng(0).uniform(0.1, 3, X.nnz)
    return X


WEIGHED = pytest.mark.parametrize("weigh", [lambda X: X, with_values], ids=["ones", "values"])


@WEIGHED
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("n_neighbors", [19, 500])
def test_all_neighbors_give_ease(X, weigh, dropout, n_neighbors):
    X = weigh(sp.csr_array(sp.vstack([X, np.ones((1, 20))])))
    assert ((X.T @ X).toarray() > 0).all()  # so that all items are neighbors
    expected = EASE(lambda_=2.0, dropout=dropout).fit(X).coef_
    found = SparseEASE(2.0, n_neighbors=n_neighbors, dropout=dropout).fit(X).coef_
    assert_allclose(found.toarray(), expected, atol=1e-12)


def by_hand(X, *, lambda_, n_neighbors, dropout):
    """Return the regression of each item on the items most similar to it."""
    X = X.toarray()
    G = X.T @ X
    norm = np.sqrt(np.maximum(np.diag(G), 1e-300))
    similarity = G / np.outer(norm, norm)
    np.fill_diagonal(similarity, 0)
    B = np.zeros_like(G)
    for j in range(len(G)):
        order = np.argsort(-similarity[:, j].round(12), kind="stable")[:n_neighbors]
        order = order[similarity[order, j] > 0]
        penalty = lambda_ + dropout / (1 - dropout) * G[order, order]
        # Least squares, with a row for each weight that asks it to be zero.
        A = np.vstack([X[:, order], np.diag(np.sqrt(penalty))])
        b = np.concatenate([X[:, j], np.zeros(len(order))])
        B[order, j] = np.linalg.lstsq(A, b, rcond=None)[0]
    return B


@WEIGHED
@pytest.mark.parametrize("n_neighbors", [1, 3, 8])
@pytest.mark.parametrize("size", [1, 5, 32])
def test_each_item_is_the_ridge_regression_on_its_neighbors(
    X, weigh, n_neighbors, size, monkeypatch
):
    monkeypatch.setattr(_sparse_ease, "GROUP_SIZE", size)
    X = weigh(X)
    model = SparseEASE(0.5, n_neighbors=n_neighbors, dropout=0.3).fit(X)
    expected = by_hand(X, lambda_=0.5, n_neighbors=n_neighbors, dropout=0.3)
    assert_allclose(model.coef_.toarray(), expected, atol=1e-12)
    assert model.coef_.nnz <= 20 * n_neighbors
    assert_array_equal(model.coef_.diagonal(), 0)


@pytest.mark.parametrize("dense_from", [0.0, 2.0])
def test_dense_and_sparse_products_give_the_same(dense_from, monkeypatch):
    rng = np.random.default_rng(0)
    X = sp.csr_array((rng.random((400, 30)) < 0.05).astype(float))
    monkeypatch.setattr(_sparse_ease, "DENSE_FROM", dense_from)
    for rows in (X, X[:40]):  # more users than interactions, and fewer
        found = SparseEASE(0.5, n_neighbors=6).fit(rows).coef_.toarray()
        expected = by_hand(rows, lambda_=0.5, n_neighbors=6, dropout=0.33)
        assert_allclose(found, expected, atol=1e-12)


def test_each_item_is_in_one_group():
    rng = np.random.default_rng(0)
    nearest = sp.csr_array((rng.random((50, 50)) < 0.1).astype(float))
    for size in (1, 4, 100):
        groups = list(_sparse_ease._groups(nearest, size))
        assert_array_equal(np.sort(np.concatenate(groups)), np.arange(50))
        assert max(map(len, groups)) <= size


def test_threads_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    X = sp.csr_array((rng.random((300, 60)) < 0.2).astype(float))
    expected = SparseEASE(n_neighbors=20).fit(X).coef_
    monkeypatch.setattr("sklrec._linalg._WORTH_A_THREAD", 1)
    monkeypatch.setattr("sklrec._linalg.n_threads", lambda: 3)
    found = SparseEASE(n_neighbors=20).fit(X).coef_
    assert_array_equal(found.toarray(), expected.toarray())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_have_the_precision_of_X(X, dtype):
    coef = SparseEASE().fit(X.astype(dtype)).coef_
    assert coef.dtype == dtype
    assert isinstance(coef, sp.csr_array)


def test_scores_explanations_and_similar_items_are_those_of_the_weights(X):
    model = SparseEASE(2.0, n_neighbors=5).fit(X)
    B = model.coef_.toarray()
    assert_allclose(model.decision_function(X), X.toarray() @ B, atol=1e-12)
    contributions = model.explain(X, 3)
    assert_allclose(contributions.sum(axis=1), model.decision_function(X)[:, 3], atol=1e-12)
    assert_array_equal(model.similar_items(3, k=4), np.argsort(-B[3], kind="stable")[:4])


def test_items_and_matrices_without_users_get_no_weight(X):
    X = X.tolil()
    X[:, 4] = 0
    B = SparseEASE(1.0, n_neighbors=5).fit(X.tocsr()).coef_.toarray()
    assert_array_equal(B[4], 0)
    assert_array_equal(B[:, 4], 0)
    nothing = sp.csr_array((3, 5))
    assert_array_equal(SparseEASE().fit(nothing).predict_ranking(nothing, k=2), [[0, 1]] * 3)


def test_one_item_and_one_user_are_fitted():
    assert_array_equal(SparseEASE().fit([[1.0]]).predict_ranking([[1.0]], k=1), [[-1]])
    assert SparseEASE().fit([[1.0, 1.0, 0.0]]).coef_.nnz == 2


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("lambda_", value) for value in (0, -1.0, np.nan, "1", None)),
        *(("n_neighbors", value) for value in (0, 2.5, None)),
        *(("dropout", value) for value in (-0.1, 1.0, np.nan)),
    ],
)
def test_parameters_out_of_range_are_refused(X, name, wrong):
    with pytest.raises(ValueError, match=name):
        SparseEASE(**{name: wrong}).fit(X)


def test_lambda_too_small_for_the_precision_is_an_error_that_says_so():
    X = np.ones((5, 3), dtype=np.float32)
    with pytest.raises(ValueError, match=r"lambda_=1e-30 is too small .* float32"):
        SparseEASE(1e-30, dropout=0.0).fit(X)


def test_fit_beyond_the_memory_is_refused_before_it_starts(X, monkeypatch):
    monkeypatch.setattr(_memory, "available_memory", lambda: 1000)
    with pytest.raises(
        MemoryError, match=r"SparseEASE on 20 items with 20 neighbors in float64 needs .* available"
    ):
        SparseEASE().fit(X)


def test_values_whose_squares_are_no_numbers_any_more_are_refused():
    X = np.array([[1, 0], [1, 1]], dtype=np.float32)
    with pytest.raises(ValueError, match="squares of the values of X are too large for float32"):
        SparseEASE().fit(1e30 * X)
