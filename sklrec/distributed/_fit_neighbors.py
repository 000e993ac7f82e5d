"""Fits of models that keep the nearest items of each item."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import scipy.sparse as sp

from .._nearest import largest_of_block, stacked
from ..linear import SparseEASE
from ..linear._sparse_ease import gram, union_of, with_penalty
from ..neighbors import ItemKNN, RP3beta
from ..neighbors._similarity import Similarity
from ._blocks import Blocks, rows_together
from ._by_item import read_by_item, read_users, write_by_item
from ._tasks import divided, run_tasks, sum_tasks

# Products of two interactions of a user in a task, and groups of items that are solved in one.
_PRODUCTS_OF_A_TASK = 5 * 10**7
_GROUPS_OF_A_TASK = 16
_INTERACTIONS_AT_ONCE = 5_000_000


class Statistics(NamedTuple):
    """Sums over all users, arrays of shape (n_items,)."""

    sums: np.ndarray
    squares: np.ndarray
    counts: np.ndarray
    products: np.ndarray  # of two interactions of a user, one of them with the item


# Returns the factors of X of which the product is needed: rows of users, columns of items.
Factors = Callable[[sp.csr_array], tuple[sp.csr_array, sp.csr_array]]


def statistics(blocks: Blocks, client: Any, folder: Path) -> Statistics:
    """Sum over the users of all blocks, and write the interactions by item."""
    arguments = [(blocks, i, folder) for i in range(len(blocks))]
    return Statistics(*sum_tasks(client, _of_block, arguments, "counting"))


def _of_block(blocks: Blocks, i: int, folder: Path) -> tuple[np.ndarray, ...]:
    X = blocks[i]
    write_by_item(folder, i, X)
    n_of_user = np.repeat(np.diff(X.indptr), np.diff(X.indptr)).astype(np.float64)
    x = X.data.astype(np.float64)
    return tuple(
        np.bincount(X.indices, weights=weights, minlength=blocks.n_items)
        for weights in (x, x**2, np.ones(x.size), n_of_user)
    )


def fit_item_knn(model: ItemKNN, blocks: Blocks, client: Any, folder: Path) -> ItemKNN:
    """Find the nearest items by cosine or another similarity."""
    of_items = statistics(blocks, client, folder)
    similarity = Similarity(model.metric, model.alpha, model.shrinkage)
    sizes = similarity.sizes_from(of_items.squares, of_items.counts, np.dtype(np.float32))
    nearest = _nearest(
        blocks,
        client,
        folder,
        of_items,
        model.n_neighbors,
        partial(_values_and_given, similarity),
        partial(_divide, similarity, *sizes),
    )
    return model._set_nearest(nearest, of_items.sums)


def _values_and_given(similarity: Similarity, X: sp.csr_array) -> tuple[sp.csr_array, sp.csr_array]:
    return X, similarity.of_given(X)


def _divide(
    similarity: Similarity,
    given: np.ndarray,
    target: np.ndarray,
    products: np.ndarray,
    j: np.ndarray,
    i: np.ndarray,
) -> None:
    similarity.divide(products, given[i], target[j])


def fit_rp3beta(model: RP3beta, blocks: Blocks, client: Any, folder: Path) -> RP3beta:
    """Find the items with the most probable walks."""
    of_items = statistics(blocks, client, folder)
    nearest = _nearest(
        blocks,
        client,
        folder,
        of_items,
        model.n_neighbors,
        partial(model._walks, popularity=of_items.sums),
    )
    return model._set_nearest(nearest, of_items.sums)


def fit_sparse_ease(model: SparseEASE, blocks: Blocks, client: Any, folder: Path) -> SparseEASE:
    """Find the nearest items, and solve for their weights in groups of items."""
    of_items = statistics(blocks, client, folder)
    norm = np.sqrt(of_items.squares)
    scale = np.divide(1, norm, out=np.zeros_like(norm), where=norm > 0).astype(np.float32)
    k = min(model.n_neighbors, blocks.n_items)
    nearest = _nearest(blocks, client, folder, of_items, k, partial(_scaled, scale))
    groups = model._groups(nearest)
    out = [folder / f"weights-{i}.npz" for i in range(0, len(groups), _GROUPS_OF_A_TASK)]
    file = folder / "nearest.joblib"
    joblib.dump((model, nearest, model._penalty(of_items.squares), groups), file)
    run_tasks(
        client,
        _solve_groups,
        [(blocks, file, i * _GROUPS_OF_A_TASK, path) for i, path in enumerate(out)],
        "solving SparseEASE",
    )
    for path in out:
        with np.load(path) as solved:
            nearest.data[solved["places"]] = solved["weights"]
    return model._set_weights(nearest, of_items.sums)


def _scaled(scale: np.ndarray, X: sp.csr_array) -> tuple[sp.csr_array, sp.csr_array]:
    scaled = sp.csr_array((X.data * scale[X.indices], X.indices, X.indptr), shape=X.shape)
    return scaled, scaled


def _solve_groups(blocks: Blocks, file: Path, start: int, out: Path) -> None:
    """Write the weights of some groups of items."""
    model, nearest, penalty, groups = joblib.load(file, mmap_mode="c")  # changed in memory only
    groups = groups[start : start + _GROUPS_OF_A_TASK]
    rows = [nearest[items] for items in groups]
    unions = [union_of(of_group, items) for of_group, items in zip(rows, groups, strict=True)]
    grams = [np.zeros((union.size, union.size), dtype=np.float32) for union in unions]
    for i in range(len(blocks)):
        for union, G in zip(unions, grams, strict=True):
            G += gram(read_by_item(file.parent, i, union)[1])
    for items, of_group, union, G in zip(groups, rows, unions, grams, strict=True):
        model._solve_group(nearest, items, of_group, union, with_penalty(G, penalty[union]))
    places = np.concatenate(
        [
            np.arange(nearest.indptr[item], nearest.indptr[item + 1])
            for items in groups
            for item in items
        ]
    )
    np.savez(out, places=places, weights=nearest.data[places])


def _nearest(
    blocks: Blocks,
    client: Any,
    folder: Path,
    of_items: Statistics,
    k: int,
    factors: Factors,
    finish: Any = None,
) -> sp.csr_array:
    """Return the `k` largest entries of each row of a product of items over all users."""
    strips = divided(of_items.products, _PRODUCTS_OF_A_TASK)
    paths = [folder / f"nearest-{start}.npz" for start, _ in strips]
    work = folder / "factors.joblib"
    joblib.dump((factors, finish), work)
    run_tasks(
        client,
        _nearest_of_strip,
        [(blocks, *strip, k, work, path) for strip, path in zip(strips, paths, strict=True)],
        "finding nearest items",
    )
    parts: list[tuple[np.ndarray, ...]] = []
    for path in paths:
        with np.load(path) as part:
            parts.append((part["counts"], part["columns"], part["values"]))
    return stacked(parts, (blocks.n_items, blocks.n_items))


def _nearest_of_strip(blocks: Blocks, start: int, end: int, k: int, work: Path, out: Path) -> None:
    """Write the largest entries of the rows from `start` to `end`."""
    factors, finish = joblib.load(work)
    product = sp.csr_array((end - start, blocks.n_items), dtype=np.float32)
    items = np.arange(start, end)
    rows = (
        read_users(blocks, i, read_by_item(work.parent, i, items)[0]) for i in range(len(blocks))
    )
    for X in rows_together(rows, _INTERACTIONS_AT_ONCE):
        left, right = factors(X)
        product += left[:, start:end].T.tocsr() @ right
    product.sort_indices()
    counts, columns, values = largest_of_block(product, start, k, finish, diagonal=False)
    np.savez(out, counts=counts, columns=columns, values=values)
