"""Sparse batches against dense rows."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from sklrec.neural._data import SparseBatches, SparseRows  # noqa: E402


@pytest.fixture
def X():
    """Return 7 rows of 9 items, some of them empty, values from 1 to 5."""
    X = sp.random_array((7, 9), density=0.4, format="csr", rng=np.random.default_rng(0))
    X.data = np.ceil(5 * X.data).astype(np.float32)
    return sp.csr_array(sp.vstack([X[:3], sp.csr_array((1, 9), dtype=np.float32), X[4:]]))


def test_batch_holds_its_rows_in_their_order(X):
    batch = SparseRows(X)[torch.tensor([5, 3, 0])]
    assert_array_equal(batch.to_dense().numpy(), X.toarray()[[5, 3, 0]])
    assert_array_equal(batch.to_scipy().toarray(), X.toarray()[[5, 3, 0]])
    assert_array_equal(batch.total.numpy(), X.toarray()[[5, 3, 0]].sum(axis=1))
    assert len(batch) == 3


def test_normalized_rows_have_norm_one_and_empty_ones_stay_empty(X):
    norms = np.linalg.norm(SparseRows(X)[torch.arange(7)].normalized().to_dense().numpy(), axis=1)
    assert_allclose(norms, X.toarray().any(axis=1), rtol=1e-6)


def test_dropout_drops_entries_and_scales_the_others_in_training_alone(X):
    batch = SparseRows(X)[torch.arange(7)]
    assert_array_equal(batch.dropout(0.5, training=False).values, batch.values)
    dropped = batch.dropout(0.5, training=True).values.numpy()
    assert set(np.unique(dropped / batch.values.numpy())) == {0, 2}


def test_batches_cover_each_row_once_also_where_the_last_is_smaller(X):
    batches = SparseBatches(SparseRows(X), batch_size=3)
    assert [len(batch) for batch, _ in batches] == [3, 3, 1]
    assert len(batches) == 3
    rows = np.vstack([batch.to_dense().numpy() for batch, _ in batches])
    assert_array_equal(rows, X.toarray())


def test_shuffled_batches_are_a_permutation_that_the_seed_decides(X):
    def rows():
        torch.manual_seed(0)
        batches = SparseBatches(SparseRows(X), batch_size=3, shuffle=True)
        return np.vstack([batch.to_dense().numpy() for batch, _ in batches])

    assert_array_equal(np.sort(rows().sum(axis=1)), np.sort(X.toarray().sum(axis=1)))
    assert_array_equal(rows(), rows())


def test_float32_rows_share_the_memory_of_X(X):
    assert np.shares_memory(SparseRows(X).values.numpy(), X.data)


def test_read_only_X_is_taken(X):
    X.data.flags.writeable = X.indices.flags.writeable = False
    assert_array_equal(SparseRows(X)[torch.arange(7)].to_dense().numpy(), X.toarray())


@pytest.mark.gpu
def test_batches_are_on_the_device_whether_X_is_or_not(X, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for share in (0.25, 0.0):  # on the device, and fetched ahead from pinned memory
        monkeypatch.setattr("sklrec.neural._data.SHARE_OF_DEVICE", share)
        batches = SparseBatches(SparseRows(X, "cuda"), batch_size=3, device="cuda")
        rows = [batch.to_dense() for batch, _ in batches]
        assert {row.device.type for row in rows} == {"cuda"}
        assert_array_equal(torch.cat(rows).cpu().numpy(), X.toarray())
