"""Steps of conjugate gradients against the exact solver and scipy."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.linalg import LinearOperator, cg

from sklrec import _linalg
from sklrec.factorization import _conjugate_gradients
from sklrec.factorization._conjugate_gradients import RidgeSteps
from sklrec.factorization._ridge import RidgeRows

N_ROWS, N_COLUMNS, WIDTH = 40, 60, 6
GRAM = np.linspace(3, 0, WIDTH)
PENALTY = np.random.default_rng(1).uniform(0.5, 2, N_ROWS)
V = np.random.default_rng(2).standard_normal((N_COLUMNS, WIDTH))
START = np.random.default_rng(3).standard_normal((N_ROWS, WIDTH))


@pytest.fixture(params=["ones", "confidences"])
def C(request):
    """Return confidences of 40 rows with 0 to 39 of 60 entries, in no order of their lengths."""
    rng = np.random.default_rng(0)
    dense = np.zeros((N_ROWS, N_COLUMNS))
    for row, n_entries in enumerate(rng.permutation(N_ROWS)):
        dense[row, rng.choice(N_COLUMNS, n_entries, replace=False)] = rng.uniform(0.1, 3, n_entries)
    return sp.csr_array(np.sign(dense) if request.param == "ones" else dense)


def targets(C, of_each):
    return np.random.default_rng(4).uniform(1, 2, C.nnz) if of_each else 1.5


def objective(C, target, W):
    """Return the sum of ``w'Aw - 2 b'w``, with each row's equations written out."""
    target = np.broadcast_to(target, C.nnz)
    total = 0.0
    for row, w in enumerate(W):
        own = slice(C.indptr[row], C.indptr[row + 1])
        v, c = V[C.indices[own]], C.data[own]
        A = v.T @ np.diag(c) @ v + np.diag(GRAM + PENALTY[row])
        total += w @ A @ w - 2 * w @ v.T @ (c * target[own])
    return total


@pytest.mark.parametrize("of_each", [False, True])
@pytest.mark.parametrize("chunk_bytes", [1, 3000, 2**22])
@pytest.mark.parametrize("start", [None, START])
def test_many_steps_find_the_exact_solutions(C, of_each, chunk_bytes, start, monkeypatch):
    monkeypatch.setattr(_conjugate_gradients, "CHUNK_BYTES", chunk_bytes)
    target = targets(C, of_each)
    found, loss = RidgeSteps(C, target, PENALTY, WIDTH).improve(start, V, GRAM, 12)
    expected = RidgeRows(C, V, PENALTY, target, GRAM).solve()
    assert_allclose(found, expected, atol=1e-10)
    assert_allclose(loss, objective(C, target, expected), rtol=1e-10)


@pytest.mark.parametrize("of_each", [False, True])
@pytest.mark.parametrize("start", [None, START])
def test_objective_is_that_of_the_result_and_falls_with_each_step(C, of_each, start):
    target = targets(C, of_each)
    steps = RidgeSteps(C, target, PENALTY, WIDTH)
    before = objective(C, target, np.where(np.diff(C.indptr)[:, None], START, 0))
    losses = [0.0 if start is None else before]
    for n_steps in range(1, 6):
        W, loss = steps.improve(start, V, GRAM, n_steps)
        assert_allclose(loss, objective(C, target, W), rtol=1e-10)
        losses.append(loss)
    assert (np.diff(losses) < 0).all()


def test_two_steps_are_those_of_scipy_with_the_same_preconditioner(C):
    found, _ = RidgeSteps(C, 1.0, PENALTY, WIDTH).improve(START, V, GRAM, 2)
    of_columns = C.sum(axis=0)
    average = of_columns @ V**2 / of_columns.sum()
    for row in np.flatnonzero(np.diff(C.indptr) > 0)[:10]:
        c = C[[row]].toarray()[0]
        A = V.T @ np.diag(c) @ V + np.diag(GRAM + PENALTY[row])
        P = GRAM + PENALTY[row] + c.sum() * average
        M = LinearOperator((WIDTH, WIDTH), matvec=lambda r, P=P: r / P, dtype=float)
        expected, _ = cg(A, V.T @ c, x0=START[row], rtol=0, atol=0, maxiter=2, M=M)
        assert_allclose(found[row], expected, rtol=1e-9)


def test_more_steps_than_unknowns_stay_at_the_solution(C):
    steps = RidgeSteps(C.astype(np.float32), 1.0, PENALTY, WIDTH)
    found, _ = steps.improve(None, V.astype(np.float32), GRAM, 200)
    assert found.dtype == np.float32
    assert_allclose(found, RidgeRows(C, V, PENALTY, gram=GRAM).solve(), atol=1e-5)


def test_threads_give_what_one_gives(C, monkeypatch):
    alone, loss = RidgeSteps(C, 1.0, PENALTY, WIDTH).improve(START, V, GRAM, 2)
    monkeypatch.setattr(_linalg, "_WORTH_A_THREAD", 0)
    monkeypatch.setattr(_conjugate_gradients, "CHUNK_BYTES", 3000)
    for module in (_linalg, _conjugate_gradients):
        monkeypatch.setattr(module, "n_threads", lambda: 3)
    found, of_threads = RidgeSteps(C, 1.0, PENALTY, WIDTH).improve(START, V, GRAM, 2)
    assert_allclose(found, alone, atol=1e-12)
    assert_allclose(of_threads, loss, rtol=1e-12)


def test_rows_without_entries_are_zero_and_the_start_is_not_changed(C):
    start = START.copy()
    found, _ = RidgeSteps(C, 1.0, PENALTY, WIDTH).improve(start, V, GRAM, 1)
    assert_array_equal(found[np.diff(C.indptr) == 0], 0)
    assert_array_equal(start, START)


def test_a_matrix_without_entries_is_solved():
    steps = RidgeSteps(sp.csr_array((4, 3)), 1.0, np.ones(4), 2)
    found, loss = steps.improve(None, np.ones((3, 2)), np.zeros(2), 2)
    assert_array_equal(found, np.zeros((4, 2)))
    assert loss == 0
