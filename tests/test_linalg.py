"""Products and inverses against numpy's dense ones."""

import tracemalloc
from threading import Barrier, current_thread, main_thread
from time import sleep

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from sklrec import _linalg
from sklrec._linalg import (
    add_gram,
    dot_of_vector,
    dot_on_threads,
    in_threads,
    invert_positive_definite,
)


@pytest.fixture(params=["one block, no threads", "many blocks on threads"])
def blocks(request, monkeypatch):
    if request.param.startswith("many"):
        monkeypatch.setattr(_linalg, "BLOCK", 16)
        monkeypatch.setattr(_linalg, "_WORTH_A_THREAD", 0)
        monkeypatch.setattr(_linalg, "n_threads", lambda: 3)


@pytest.fixture
def A():
    return sp.random_array((200, 75), density=0.1, format="csr", rng=np.random.default_rng(0))


@pytest.mark.usefixtures("blocks")
def test_gram_adds_the_upper_triangle_of_XtX(A):
    G = np.ones((75, 75))
    add_gram(A, G)
    assert_allclose(np.triu(G), np.triu(1 + (A.T @ A).toarray()), atol=1e-12)


@pytest.fixture(params=["by LAPACK", "by blocks"])
def whole_or_by_blocks(request, monkeypatch):
    monkeypatch.setattr(_linalg, "_MOST_BYTES_OF_A_ROW", 0 if request.param == "by blocks" else 1e9)


@pytest.mark.usefixtures("blocks", "whole_or_by_blocks")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inverse_in_place_reads_the_upper_triangle_alone(A, dtype):
    expected = np.linalg.inv((A.T @ A).toarray() + np.eye(75))
    G = ((A.T @ A).toarray() + np.eye(75)).astype(dtype)
    G[np.tril_indices(75, -1)] = np.nan
    invert_positive_definite(G)
    assert_allclose(G, expected, atol=1e-5 if dtype is np.float32 else 1e-12)
    assert_array_equal(G, G.T)


@pytest.mark.usefixtures("blocks", "whole_or_by_blocks")
def test_matrix_that_is_not_positive_definite_is_an_error_with_the_pivot():
    with pytest.raises(np.linalg.LinAlgError, match=r"shape \(3, 3\).*row 1"):
        invert_positive_definite(np.diag([1.0, -1.0, 1.0]))
    with pytest.raises(np.linalg.LinAlgError, match=r"shape \(75, 75\).*row 40"):
        invert_positive_definite(np.diag(np.where(np.arange(75) == 40, -1.0, 1.0)))


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("n_rows", [0, 1, 2, 200])
def test_product_on_threads_is_the_product(A, n_rows):
    B = np.random.default_rng(0).normal(size=(75, 40))
    assert_allclose(dot_on_threads(A[:n_rows], B), A[:n_rows].toarray() @ B, atol=1e-12)


@pytest.mark.usefixtures("blocks")
def test_product_of_empty_rows_is_zero():
    assert_array_equal(dot_on_threads(sp.csr_array((5, 75)), np.ones((75, 3))), np.zeros((5, 3)))


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("n_rows", [0, 1, 200])
def test_product_with_weights_of_another_type_is_that_of_converted_ones(A, n_rows, monkeypatch):
    monkeypatch.setattr(_linalg, "_BYTES_CONVERTED", 8 * 75 * 7)
    B = np.random.default_rng(0).normal(size=(75, 40)).astype(np.float32)
    product = dot_on_threads(A[:n_rows], B)
    assert product.dtype == np.float64
    assert_allclose(product, A[:n_rows].toarray() @ B.astype(np.float64), rtol=1e-13, atol=1e-13)


def test_product_with_weights_of_another_type_does_not_copy_them_all(monkeypatch):
    A = sp.random_array((50, 2000), density=0.1, format="csr", rng=np.random.default_rng(0))
    B = np.ones((2000, 2000), dtype=np.float32)
    monkeypatch.setattr(_linalg, "_BYTES_CONVERTED", 2**20)
    dot_on_threads(A, B)  # what is imported on the way
    tracemalloc.start()
    try:
        dot_on_threads(A, B)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < B.nbytes / 2  # a copy in float64 takes twice as much as B


@pytest.mark.parametrize("n_bytes", [0, np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_product_with_a_vector_does_not_depend_on_the_way(n_bytes, dtype, monkeypatch):
    monkeypatch.setattr(_linalg, "_BYTES_NOT_CACHED", n_bytes)
    rng = np.random.default_rng(0)
    A, x = rng.normal(size=(75, 40)).astype(dtype), rng.normal(size=40).astype(dtype)
    product = dot_of_vector(A, x)
    assert product.dtype == dtype
    assert_allclose(product, (A[:, :, None] * x[:, None]).sum(axis=(1, 2)), rtol=1e-5, atol=1e-5)
    assert dot_of_vector(A[:0], x).shape == (0,)


@pytest.mark.parametrize("n_parts", [0, 1, 2, 100])
def test_each_part_is_worked_on_once(n_parts, monkeypatch):
    monkeypatch.setattr(_linalg, "n_threads", lambda: 3)
    done = []
    in_threads(done.append, iter(range(n_parts)), work=np.inf)
    assert sorted(done) == list(range(n_parts))


def test_threads_work_at_the_same_time(monkeypatch):
    monkeypatch.setattr(_linalg, "n_threads", lambda: 3)
    together = Barrier(3, timeout=10)
    in_threads(lambda _: together.wait(), range(3), work=np.inf)


@pytest.mark.parametrize("in_caller", [True, False])
def test_after_an_error_no_other_part_is_begun(in_caller, monkeypatch):
    monkeypatch.setattr(_linalg, "n_threads", lambda: 2)
    together = Barrier(2, timeout=10)
    begun = []

    def work(part):
        begun.append(part)
        together.wait()  # both threads have a part
        if in_caller == (current_thread() is main_thread()):
            raise KeyError(part)
        sleep(0.2)

    with pytest.raises(KeyError):
        in_threads(work, range(50), work=np.inf)
    assert len(begun) == 2
