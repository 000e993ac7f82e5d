"""The largest entries of each row of a product against a dense product that is sorted."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from sklrec import _linalg, _nearest
from sklrec._nearest import check_memory_of_largest, largest_of_rows


def by_sorting(product, k):
    """Return the k largest positive entries of each row, ties to the lower column."""
    order = np.argsort(-product, axis=1, kind="stable")[:, :k]
    kept = np.zeros_like(product)
    np.put_along_axis(kept, order, np.take_along_axis(product, order, axis=1), axis=1)
    return np.maximum(kept, 0)


def integers(n_rows, n_columns, low=0, dtype=np.float64):
    """Return small integers, half of them zero, whose products have many ties."""
    rng = np.random.default_rng(0)
    values = rng.integers(low, 3, (n_rows, n_columns)) * (rng.random((n_rows, n_columns)) < 0.5)
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", [sp.csr_array, np.asarray])
@pytest.mark.parametrize("low", [0, -2])
@pytest.mark.parametrize("k", [1, 4, 20, 30, 100])
def test_largest_are_those_of_the_sorted_product(k, low, form, dtype):
    A, B = integers(40, 12, low, dtype), integers(30, 12, low, dtype).T
    found = largest_of_rows(form(A), form(B), k)
    assert_array_equal(found.toarray(), by_sorting(A @ B, k))
    assert found.dtype == dtype
    assert found.indices.dtype == found.indptr.dtype == np.int32  # as X, which it is multiplied by
    assert found.has_canonical_format
    assert (found.data > 0).all()


@pytest.mark.parametrize("form", [sp.csr_array, np.asarray])
def test_blocks_of_one_row_and_threads_change_nothing(form, monkeypatch):
    A = integers(40, 12)
    expected = largest_of_rows(form(A), form(A.T), 5, diagonal=False)
    monkeypatch.setattr(_nearest, "ENTRIES", 1)
    monkeypatch.setattr(_linalg, "_WORTH_A_THREAD", 0)
    monkeypatch.setattr(_linalg, "n_threads", lambda: 3)
    found = largest_of_rows(form(A), form(A.T), 5, diagonal=False)
    assert_array_equal(found.toarray(), expected.toarray())


def test_blocks_have_no_more_entries_than_allowed(monkeypatch):
    monkeypatch.setattr(_nearest, "ENTRIES", 100)
    most = np.random.default_rng(0).integers(0, 60, 500)
    most[7] = 300
    slices = list(_nearest._balanced(most))
    assert_array_equal(np.concatenate([np.arange(s.start, s.stop) for s in slices]), np.arange(500))
    sums = np.array([most[s].sum() for s in slices])
    alone = np.array([s.stop - s.start == 1 for s in slices])
    assert (sums[~alone] <= 100).all()
    assert sums.mean() > 50


@pytest.mark.parametrize("entries", [1, 1000])
@pytest.mark.parametrize("form", [sp.csr_array, np.asarray])
def test_entries_are_finished_with_their_row_and_column(form, entries, monkeypatch):
    monkeypatch.setattr(_nearest, "ENTRIES", entries)
    A, B = integers(6, 5), integers(7, 5).T

    def scale(values, rows, columns):
        values *= (1 + rows) * (10 + columns)

    found = largest_of_rows(form(A), form(B), 3, finish=scale)
    scaled = (A @ B) * (1 + np.arange(6))[:, None] * (10 + np.arange(7))
    assert_array_equal(found.toarray(), by_sorting(scaled, 3))


@pytest.mark.parametrize("form", [sp.csr_array, np.asarray])
def test_diagonal_takes_no_place(form):
    A = integers(20, 12)
    product = A @ A.T
    np.fill_diagonal(product, 0)
    found = largest_of_rows(form(A), form(A.T), 4, diagonal=False)
    assert_array_equal(found.toarray(), by_sorting(product, 4))


def test_product_without_entries_has_none():
    empty = sp.csr_array((3, 4), dtype=np.float32)
    found = largest_of_rows(empty, sp.csr_array(empty.T), 2)
    assert found.shape == (3, 3)
    assert found.nnz == 0
    assert found.dtype == np.float32


def test_memory_that_is_asked_for_is_counted_by_hand(monkeypatch):
    asked = []
    monkeypatch.setattr(_nearest, "check_memory", lambda n_bytes, what: asked.append(n_bytes))
    monkeypatch.setattr(_nearest, "n_threads", lambda: 2)
    A = sp.csr_array(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=np.float32))
    # At most 4 + 2 + 0 products, of which rows of three have 3 + 2 + 0; one of each row is kept.
    check_memory_of_largest(A, sp.csr_array(np.ones((3, 2), dtype=np.float32)), 1, "this")
    n_entries = 2 + 2 + 0
    entry = 4 + 4
    assert asked == [2 * n_entries * (entry + _nearest._BYTES_OF_AN_ENTRY) + 1.5 * 2 * entry]
