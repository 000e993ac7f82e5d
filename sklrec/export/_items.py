"""Graphs of the models whose scores are weights of items, of popularity, and of ensembles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.frozen import FrozenEstimator

from ._graph import LIMIT, Graph

# Scores by the stored weights alone read a weight of every item for each user. If items have more
# than this part of all items as neighbours, the product with a dense matrix is faster.
SPARSE_UP_TO = 1 / 16


def weighted_items(graph: Graph, model: Any, x: str) -> str:
    """Return the product of the rows and ``coef_``."""
    coef = model.coef_
    if not sp.issparse(coef):
        return graph.rows_times(x, coef)
    coef = coef.tocsc()
    n_items = coef.shape[0]
    longest = max(1, int(np.diff(coef.indptr).max()))
    n_dense = 4 * n_items**2
    if longest > SPARSE_UP_TO * n_items and graph.n_bytes + n_dense < LIMIT:
        return graph.rows_times(x, coef.toarray())
    graph.check_size(min(n_dense, 8 * n_items * longest))
    column = np.repeat(np.arange(n_items), np.diff(coef.indptr))
    place = np.arange(coef.nnz) - coef.indptr[column]
    items = np.zeros((n_items, longest), dtype=np.int32)
    items[column, place] = coef.indices
    weights = np.zeros((n_items, longest), dtype=np.float32)
    weights[column, place] = coef.data
    of_neighbors = graph.op("Gather", x, items, axis=1)  # (n_users, n_items, longest)
    return graph.op("ReduceSum", graph.op("Mul", of_neighbors, weights), np.array([2]), keepdims=0)


def popularity(graph: Graph, model: Any, x: str) -> str:
    """Return the popularity of the items for each row."""
    row = model.popularity_.astype(np.float32)
    return graph.op("Expand", row, graph.op("Shape", x))


def log_product(
    graph: Graph, model: Any, x: str, scores_of: Callable[[Graph, Any, str], str]
) -> str:
    """Return the logarithm of the product of the members' probabilities."""
    parts = []
    maps = zip(model.estimators_, model.slopes_, model.intercepts_, strict=True)
    for member, slope, intercept in maps:
        if isinstance(member, FrozenEstimator):
            member = member.estimator
        scores = graph.op("Mul", scores_of(graph, member, x), np.float32(slope))
        parts.append(log_sigmoid(graph, graph.op("Add", scores, np.float32(intercept))))
    return graph.op("Sum", *parts)


def log_sigmoid(graph: Graph, h: str) -> str:
    """Return the logarithm of the sigmoid."""
    return graph.op("Neg", graph.op("Softplus", graph.op("Neg", h)))
