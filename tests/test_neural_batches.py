"""Sparse batches against dense rows."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from sklrec.neural._training._data import HalvedBatches, SparseBatches, SparseRows  # noqa: E402
from sklrec.neural._training._generators import Generators  # noqa: E402


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


def test_rows_without_zeros_are_the_same_rows_with_fewer_entries(X):
    batch = replace(SparseRows(X)[torch.arange(7)], generator=torch.Generator().manual_seed(0))
    batch = batch.dropout(0.5, training=True)
    kept = batch.without_zeros()
    assert_array_equal(kept.to_dense(), batch.to_dense())
    assert_array_equal(kept.n_entries, (batch.to_dense() != 0).sum(dim=1))
    assert kept.values.all()
    assert len(kept.values) < len(batch.values)


def test_batches_cover_each_row_once_also_where_the_last_is_smaller(X):
    batches = SparseBatches(SparseRows(X), batch_size=3)
    assert [len(batch) for batch, _ in batches] == [3, 3, 1]
    assert len(batches) == 3
    rows = np.vstack([batch.to_dense().numpy() for batch, _ in batches])
    assert_array_equal(rows, X.toarray())


def test_batches_of_generators_are_a_permutation_that_the_seed_decides(X):
    generators = Generators(torch.device("cpu"))
    batches = SparseBatches(SparseRows(X), batch_size=3, generators=generators)

    def rows(seed):
        generators.seed(0, seed)
        return np.vstack([batch.to_dense().numpy() for batch, _ in batches])

    assert_array_equal(np.unique(rows(1), axis=0), np.unique(X.toarray(), axis=0))
    assert (rows(1) != X.toarray()).any()
    assert (rows(1) != rows(2)).any()
    assert_array_equal(rows(1), rows(1))


def test_dropout_drops_a_share_of_the_entries():
    x = SparseRows(sp.csr_array(np.ones((100, 100), dtype=np.float32)))[torch.arange(100)]
    x = replace(x, generator=torch.Generator().manual_seed(0))
    dropped = x.dropout(0.3, training=True).values.numpy()
    assert_allclose(dropped.mean(), 1, atol=0.03)
    assert_allclose((dropped == 0).mean(), 0.3, atol=0.03)


def test_halves_are_disjoint_and_together_the_rows(X):
    first, second = (half.to_dense().numpy() for half in SparseRows(X)[torch.arange(7)].halved())
    assert not (first * second).any()
    assert_array_equal(first + second, X.toarray())
    n_entries = np.diff(X.indptr)
    assert_array_equal((second > 0).sum(axis=1), n_entries // 2)


def test_a_single_entry_is_in_the_first_half():
    first, second = SparseRows(sp.csr_array(np.eye(3, dtype=np.float32)))[torch.arange(3)].halved()
    assert_array_equal(first.to_dense(), np.eye(3))
    assert_array_equal(second.to_dense(), np.zeros((3, 3)))


def test_a_half_is_a_batch_like_that_of_its_rows(X):
    half = SparseRows(X)[torch.arange(7)].halved()[0]
    expected = SparseRows(sp.csr_array(half.to_dense().numpy()))[torch.arange(7)]
    for name, value in vars(expected).items():
        if name in ("generator", "n_in_halves", "share"):  # those of the whole rows
            continue
        assert_allclose(getattr(half, name), value, rtol=1e-6, err_msg=name)


def test_each_entry_is_as_often_in_one_half_as_in_the_other():
    batch = SparseRows(sp.csr_array(np.ones((2000, 4), dtype=np.float32)))[torch.arange(2000)]
    batch = replace(batch, generator=torch.Generator().manual_seed(0))
    share = batch.halved()[0].to_dense().numpy().mean(axis=0)
    assert_allclose(share, 0.5, atol=4 * np.sqrt(0.25 / 2000))


def test_halved_batches_come_both_ways_and_cover_each_row(X):
    batches = list(HalvedBatches(SparseRows(X), batch_size=3))
    assert len(batches) == len(HalvedBatches(SparseRows(X), batch_size=3)) == 6
    for (first, second), (again, other) in zip(batches[::2], batches[1::2], strict=True):
        assert first is other
        assert second is again
    rows = np.vstack([(a.to_dense() + b.to_dense()).numpy() for a, b in batches[::2]])
    assert_array_equal(rows, X.toarray())


def test_halves_are_new_in_each_iteration_and_the_seed_decides_them(X):
    generators = Generators(torch.device("cpu"))
    batches = HalvedBatches(SparseRows(X), batch_size=7, generators=generators)

    def iterations():
        generators.seed(0)
        return [next(iter(batches))[0].to_dense().numpy() for _ in range(2)]

    (one, two), again = iterations(), iterations()
    assert (one != two).any()
    assert_array_equal([one, two], again)


def test_float32_rows_share_the_memory_of_X(X):
    assert np.shares_memory(SparseRows(X).values.numpy(), X.data)


def test_read_only_X_is_taken(X):
    X.data.flags.writeable = X.indices.flags.writeable = False
    assert_array_equal(SparseRows(X)[torch.arange(7)].to_dense().numpy(), X.toarray())
