"""The solver of many ridge regressions against dense solves, scipy and scikit-learn."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_info

from sklrec.factorization import _ridge
from sklrec.factorization._ridge import RidgeRows, single_threaded_blas

N_ROWS, N_COLUMNS = 40, 60


@pytest.fixture
def C():
    """Return confidences of 40 rows with 0 to 39 of 60 entries, in no order of their lengths."""
    rng = np.random.default_rng(0)
    dense = np.zeros((N_ROWS, N_COLUMNS))
    for row, n_entries in enumerate(rng.permutation(N_ROWS)):
        dense[row, rng.choice(N_COLUMNS, n_entries, replace=False)] = rng.uniform(0.1, 3, n_entries)
    return sp.csr_array(dense)


def problem(C, d, seed=1, dtype=np.float64):
    """Return features, targets, penalties, a Gram matrix and prior means."""
    rng = np.random.default_rng(seed)
    V = rng.standard_normal((N_COLUMNS, d))
    return {
        "V": V.astype(dtype),
        "lambda_": rng.uniform(0.5, 2, N_ROWS),
        "target": rng.standard_normal(C.nnz),
        "gram": 0.3 * V.T @ V,
        "mean": rng.standard_normal((N_ROWS, d)),
    }


def dense_solution(C, V, lambda_, target=1.0, gram=0.0, mean=0.0):
    """Solve the normal equations of each row, one by one."""
    n_rows, d = C.shape[0], V.shape[1]
    target = np.broadcast_to(target, C.nnz)
    lambda_, mean = np.broadcast_to(lambda_, n_rows), np.broadcast_to(mean, (n_rows, d))
    gram = np.diag(gram) if np.ndim(gram) == 1 else gram
    solutions = np.empty((n_rows, d))
    for row in range(n_rows):
        own = slice(C.indptr[row], C.indptr[row + 1])
        v, c, t = V[C.indices[own]].astype(float), C.data[own], target[own]
        A = v.T @ np.diag(c) @ v + gram + lambda_[row] * np.eye(d)
        solutions[row] = np.linalg.solve(A, v.T @ (c * t) + lambda_[row] * mean[row])
    return solutions


# More features than entries, as many, and fewer; below and above the size for LAPACK.
@pytest.mark.parametrize("d", [1, 5, 20, 35, 50])
@pytest.mark.parametrize("chunk_bytes", [1, 3000, 2**20])
def test_solutions_are_those_of_the_normal_equations(C, d, chunk_bytes, monkeypatch):
    monkeypatch.setattr(_ridge, "CHUNK_BYTES", chunk_bytes)
    parts = problem(C, d)
    assert_allclose(RidgeRows(C, **parts).solve(), dense_solution(C, **parts), atol=1e-10)


@pytest.mark.parametrize("leave_out", ["target", "gram", "mean"])
@pytest.mark.parametrize("d", [5, 50])
def test_each_part_may_be_left_out(C, d, leave_out):
    parts = problem(C, d)
    del parts[leave_out]
    assert_allclose(RidgeRows(C, **parts).solve(), dense_solution(C, **parts), atol=1e-10)


@pytest.mark.parametrize("d", [5, 50])
def test_all_rows_may_share_penalty_mean_and_confidence(C, d):
    parts = problem(C, d) | {"lambda_": 0.7, "mean": np.linspace(-1, 1, d), "target": 2.0}
    C.data[:] = 4.0
    assert_allclose(RidgeRows(C, **parts).solve(), dense_solution(C, **parts), atol=1e-10)


@pytest.mark.parametrize("d", [5, 50])
def test_a_diagonal_gram_matrix_may_be_given_as_its_diagonal(C, d):
    parts = problem(C, d) | {"gram": np.linspace(0, 3, d)}
    expected = RidgeRows(C, **parts | {"gram": np.diag(parts["gram"])}).solve()
    assert_allclose(RidgeRows(C, **parts).solve(), expected, atol=1e-10)
    assert_allclose(expected, dense_solution(C, **parts), atol=1e-10)


@pytest.mark.parametrize("d", [5, 50])
def test_several_targets_are_solved_as_each_alone(C, d):
    parts = problem(C, d)
    targets = np.random.default_rng(2).standard_normal((3, C.nnz))
    together = RidgeRows(C, **parts | {"target": targets}).solve()
    for target, solution in zip(targets, together, strict=True):
        alone = RidgeRows(C, **parts | {"target": target}).solve()
        assert_allclose(solution, alone, atol=1e-12)


def test_solution_minimises_the_objective_as_scipy_finds_it(C):
    parts = problem(C, 3)
    solutions = RidgeRows(C, **parts).solve()
    V, G = parts["V"], parts["gram"]
    for row in (0, 7, 21):
        own = slice(C.indptr[row], C.indptr[row + 1])
        v, c, t = V[C.indices[own]], C.data[own], parts["target"][own]
        lambda_, mean = parts["lambda_"][row], parts["mean"][row]

        def objective(u, v=v, c=c, t=t, lambda_=lambda_, mean=mean):
            return c @ (t - v @ u) ** 2 + u @ G @ u + lambda_ * (u - mean) @ (u - mean)

        found = minimize(objective, np.zeros(3), tol=1e-12)
        assert_allclose(solutions[row], found.x, atol=1e-5)


@pytest.mark.parametrize("d", [4, 50])
def test_rows_are_scikit_learns_ridge_regressions_with_sample_weights(C, d):
    parts = problem(C, d)
    solutions = RidgeRows(C, parts["V"], 1.5, parts["target"]).solve()
    for row in np.flatnonzero(np.diff(C.indptr) > 0)[:10]:
        own = slice(C.indptr[row], C.indptr[row + 1])
        ridge = Ridge(alpha=1.5, fit_intercept=False, solver="svd")
        ridge.fit(parts["V"][C.indices[own]], parts["target"][own], sample_weight=C.data[own])
        assert_allclose(solutions[row], ridge.coef_, atol=1e-10)


def test_a_weight_of_all_columns_is_a_gram_matrix(C):
    # Weighted matrix factorization: weight 5 where there is an entry, .2 where there is none.
    V = problem(C, 6)["V"]
    stored, w, weight = np.ones(C.nnz), 5.0, 0.2
    pattern = sp.csr_array((np.full(C.nnz, w - weight), C.indices, C.indptr), shape=C.shape)
    rows = RidgeRows(pattern, V, 0.4, w / (w - weight) * stored, gram=weight * V.T @ V)
    everywhere = sp.csr_array(np.where(C.toarray() > 0, w, weight))
    expected = dense_solution(everywhere, V, 0.4, (C.toarray() > 0).ravel().astype(float))
    assert_allclose(rows.solve(), expected, atol=1e-10)


@pytest.mark.parametrize("d", [5, 50])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-13)])
def test_a_row_alone_is_solved_as_among_others(C, d, dtype, tolerance):
    parts = problem(C, d, dtype=dtype)
    together = RidgeRows(C, **parts).solve()
    assert together.dtype == dtype
    for row in range(N_ROWS):
        own = slice(C.indptr[row], C.indptr[row + 1])
        alone = RidgeRows(
            C[[row]],
            parts["V"],
            parts["lambda_"][[row]],
            parts["target"][own],
            parts["gram"],
            parts["mean"][[row]],
        ).solve()
        assert_allclose(alone[0], together[row], atol=tolerance * np.abs(together).max())


@pytest.mark.parametrize("d", [5, 50])
def test_float32_is_close_to_float64(C, d):
    wide, narrow = (RidgeRows(C, **problem(C, d, dtype=t)).solve() for t in (float, np.float32))
    assert_allclose(narrow, wide, atol=1e-5 * np.abs(wide).max())


@pytest.mark.parametrize("d", [5, 50])
@pytest.mark.parametrize("gram", [True, False])
def test_contributions_add_up_to_the_projection(C, d, gram):
    parts = problem(C, d)
    del parts["mean"]
    if not gram:
        del parts["gram"]
    rows = RidgeRows(C, **parts)
    direction = np.linspace(-1, 2, d)
    contributions = sp.csr_array((rows.contributions(direction), C.indices, C.indptr), C.shape)
    assert_allclose(contributions.sum(axis=1), rows.solve() @ direction, atol=1e-10)
    # One target alone, the others zero: what is linear has this as the share of the entry.
    entry = C.indptr[3] + 2
    one = np.where(np.arange(C.nnz) == entry, parts["target"], 0)
    alone = RidgeRows(C, **parts | {"target": one}).solve()[3] @ direction
    assert_allclose(contributions.data[entry], alone, atol=1e-10)


def test_a_row_without_entries_has_its_prior_mean(C):
    parts = problem(C, 5)
    del parts["gram"]
    empty = np.flatnonzero(np.diff(C.indptr) == 0)
    assert empty.size
    assert_allclose(RidgeRows(C, **parts).solve()[empty], parts["mean"][empty])
    del parts["mean"]
    assert_array_equal(RidgeRows(C, **parts).solve()[empty], 0)


def test_a_matrix_without_entries_is_solved():
    C = sp.csr_array((4, 3))
    assert_array_equal(RidgeRows(C, np.ones((3, 2)), 1.0).solve(), np.zeros((4, 2)))


@pytest.mark.parametrize("d", [3, 40])
def test_threads_give_what_one_gives(C, d, monkeypatch):
    parts = problem(C, d)
    alone = RidgeRows(C, **parts).solve()
    monkeypatch.setattr(_ridge, "_WORTH_A_THREAD", 0)
    monkeypatch.setattr(_ridge, "CHUNK_BYTES", 3000)
    monkeypatch.setattr(_ridge, "n_threads", lambda: 3)
    assert_allclose(RidgeRows(C, **parts).solve(), alone, atol=1e-12)


@pytest.mark.parametrize(("d", "dtype"), [(2, np.float64), (40, np.float32)])
def test_a_penalty_too_small_for_a_unique_solution_is_named(d, dtype):
    # All rows of V are equal, so that one direction alone is seen.
    C = sp.csr_array(np.ones((2, 50)))
    rows = RidgeRows(C, np.ones((50, d), dtype), np.array([1.0, 1e-300]))
    with pytest.raises(
        ValueError, match=rf"penalty 1e-300 has no unique solution in {np.dtype(dtype)}"
    ):
        rows.solve()


def test_a_negative_confidence_is_refused(C):
    C.data[3] = -0.5
    with pytest.raises(ValueError, match=r"must not be negative, got -0\.5"):
        RidgeRows(C, np.ones((N_COLUMNS, 2)), 1.0).solve()


def blas_threads():
    return [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]


def test_blas_has_its_threads_back_after_overlapping_fits():
    before = blas_threads()
    with ThreadPoolExecutor(1) as other, single_threaded_blas():
        first = single_threaded_blas()
        other.submit(first.__enter__).result()
        assert set(blas_threads()) == {1}
        # This one leaves first, the other last.
    assert set(blas_threads()) == {1}
    first.__exit__(None, None, None)
    assert blas_threads() == before
