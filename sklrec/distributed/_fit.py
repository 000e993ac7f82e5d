"""Fits on all users."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.base import clone

from .._linalg import blocks as parts_of
from ..dummy import PopularityRecommender
from ..factorization import WMF
from ..linear import EASE, SparseEASE
from ..neighbors import ItemKNN, RP3beta
from ._blocks import Blocks, rows_together
from ._fit_neighbors import fit_item_knn, fit_rp3beta, fit_sparse_ease
from ._fit_wmf import fit_wmf
from ._tasks import run_tasks, sum_tasks

_BYTES_OF_A_STRIP = 2**28
_INTERACTIONS_AT_ONCE = 16_000_000


def fit(estimator: Any, blocks: Blocks, *, client: Any = None) -> Any:
    """Fit a recommender on the users of all blocks.

    - :class:`~sklrec.dummy.PopularityRecommender` counts the interactions of each block.
    - :class:`~sklrec.linear.EASE` needs X'X: each task computes some of its rows from all blocks,
      and one task solves for the weights. X'X is never sent between workers.
    - :class:`~sklrec.neighbors.ItemKNN`, :class:`~sklrec.neighbors.RP3beta` and
      :class:`~sklrec.linear.SparseEASE` find the nearest items in the same way, of which each task
      keeps the largest; the regressions of SparseEASE are solved in groups of items.
    - :class:`~sklrec.factorization.WMF` solves for the users of each block, and for items in tasks
      that gather the factors of their users.
    - Other models with ``partial_fit`` are trained by one task, for ``max_epochs`` epochs of one
      block after the other.

    Parameters
    ----------
    estimator : estimator
        Recommender, which is not changed.
    blocks : Blocks
        Interactions.
    client : distributed.Client or None, default=None
        Cluster that does the work. By default, this process does it.

    Returns
    -------
    model : estimator
        A fitted clone, with the same result as ``fit`` on the rows of all blocks. Models with
        ``partial_fit`` are the exception, as they meet the users in another order.

    Raises
    ------
    TypeError
        If the estimator can only be fitted on all users at once.
    MemoryError
        If the memory of a worker is too small.

    Examples
    --------
    See :func:`rank_to_parquet`.
    """
    model = clone(estimator)
    model._validate_params()
    if type(model) in _FITS:
        work = _FITS[type(model)]
    elif hasattr(model, "partial_fit"):
        work = _fit_in_one_task
    else:
        raise TypeError(
            f"{type(model).__name__} has neither a fit on blocks nor partial_fit; fit it on all "
            "users at once, scipy.sparse.vstack(list(blocks))."
        )
    with tempfile.TemporaryDirectory(prefix="fit-", dir=blocks.path) as folder:
        return work(model, blocks, client, Path(folder))


def _popularity(blocks: Blocks, client: Any) -> np.ndarray:
    arguments = [(blocks, i) for i in range(len(blocks))]
    return sum_tasks(client, _column_sums, arguments, "counting")[0]


def _column_sums(blocks: Blocks, i: int) -> tuple[np.ndarray]:
    X = blocks[i]
    return (np.bincount(X.indices, weights=X.data, minlength=blocks.n_items),)


def _fit_popularity(
    model: PopularityRecommender, blocks: Blocks, client: Any, folder: Path
) -> PopularityRecommender:
    return model._set_popularity(_popularity(blocks, client))


def _fit_ease(model: EASE, blocks: Blocks, client: Any, folder: Path) -> EASE:
    gram, out = folder / "gram.npy", folder / "model.joblib"
    write_gram(blocks, client, gram)
    popularity = _popularity(blocks, client)
    run_tasks(client, _solve_ease, [(model, blocks, gram, popularity, out)], "solving EASE")
    return joblib.load(out)


def write_gram(blocks: Blocks, client: Any, path: Path) -> None:
    """Write the upper triangle of X'X to a file of numpy's, of which each task writes some rows."""
    shape = blocks.n_items, blocks.n_items
    np.lib.format.open_memmap(path, "w+", np.float32, shape)  # empty, which takes no space
    strips = _strips(blocks.n_items)
    run_tasks(client, _strip_of_gram, [(blocks, *strip, path) for strip in strips], "computing X'X")


def _strips(n_items: int) -> list[tuple[int, int]]:
    """Cut the upper triangle of X'X into strips of rows of about equal size."""
    n_strips = max(1, -(-2 * n_items**2 // _BYTES_OF_A_STRIP))  # float32, half of the matrix
    # The rows before r have 1 - (1 - r / n)^2 of the triangle.
    shares = np.arange(n_strips + 1) / n_strips
    edges = np.unique(np.round(n_items * (1 - np.sqrt(1 - shares))).astype(int))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def _strip_of_gram(blocks: Blocks, start: int, end: int, path: Path) -> None:
    """Compute the rows from `start` to `end` of X'X, and write them from the diagonal on."""
    n_items = blocks.n_items
    strip = np.zeros((end - start, n_items - start), dtype=np.float32)
    from_start = (X[:, start:] for X in blocks)
    for right in rows_together(from_start, _INTERACTIONS_AT_ONCE):
        left = right[:, : end - start].T.tocsr()  # (n_items_of_strip, n_users)
        for rows in parts_of(end - start):  # of the triangle only, and with small products
            strip[rows, rows.start :] += (left[rows] @ right[:, rows.start :]).toarray()
    # Written, as a full disk would end the process if the file were mapped.
    begin = np.load(path, mmap_mode="r").offset
    with open(path, "r+b") as file:
        for i, row in enumerate(strip):
            file.seek(begin + row.itemsize * (start + i) * (n_items + 1))
            file.write(row[i:].data)


def _solve_ease(model: EASE, blocks: Blocks, gram: Path, popularity: np.ndarray, out: Path) -> None:
    joblib.dump(model._set_gram(np.load(gram), popularity, blocks.n_users), out)


def _fit_in_one_task(model: Any, blocks: Blocks, client: Any, folder: Path) -> Any:
    out = folder / "model.joblib"
    run_tasks(client, _train, [(model, blocks, out)], "training")
    return joblib.load(out)


def _train(model: Any, blocks: Blocks, out: Path) -> None:
    for _ in range(getattr(model, "max_epochs", 1)):
        for X in blocks:
            model.partial_fit(X)
    joblib.dump(model, out)


_FITS: dict[type, Any] = {
    PopularityRecommender: _fit_popularity,
    EASE: _fit_ease,
    SparseEASE: fit_sparse_ease,
    ItemKNN: fit_item_knn,
    RP3beta: fit_rp3beta,
    WMF: fit_wmf,
}
