"""Tables, and the rows of the blocks that are made of them."""

import numpy as np
import pytest
import scipy.sparse as sp

from sklrec.datasets import make_interactions

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def interactions(seed=0, n_users=400, n_items=50):
    """Return the columns of a table in random order, some pairs twice."""
    X = make_interactions(n_users, n_items, random_state=seed).data.tocoo()
    rng = np.random.default_rng(seed)
    rows = np.concatenate([np.arange(X.nnz), rng.integers(X.nnz, size=X.nnz // 10)])
    rng.shuffle(rows)
    return X.row[rows].astype(np.int64), X.col[rows].astype(np.int64)


def as_text(numbers):
    return [f"é{number}" * (1 + number % 3) for number in numbers.tolist()]


def write(folder, users, items, values=None, times=None, n_files=3, row_group_size=500):
    folder.mkdir(parents=True, exist_ok=True)
    columns = {"user": users, "item": items}
    if values is not None:
        columns["rating"] = values
    if times is not None:
        columns["when"] = times
    for i in range(n_files):
        part = {name: pa.array(column[i::n_files]) for name, column in columns.items()}
        pq.write_table(pa.table(part), folder / f"{i}.parquet", row_group_size=row_group_size)
    return folder


def whole(blocks):
    """Return all rows of the blocks, in the order of the ids."""
    ids = np.concatenate([blocks.user_ids(i) for i in range(len(blocks))])
    order = np.argsort(ids)
    return ids[order], sp.csr_array(sp.vstack(list(blocks)))[order]


def whole_times(blocks):
    """Return the times of all rows of the blocks, in the order of the ids."""
    ids = np.concatenate([blocks.user_ids(i) for i in range(len(blocks))])
    times = [blocks.times(i) for i in range(len(blocks))]
    return sp.csr_array(sp.vstack(times))[np.argsort(ids)]
