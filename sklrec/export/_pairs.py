"""Graphs of networks that score pairs of a user and an item."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..neural._neumf_module import GMF, parts_of
from ._graph import Graph
from ._networks import array


def neumf(graph: Graph, model: Any, x: str) -> str:
    """Return the scores of NeuMF, whose users' vectors are sums of those of their items."""
    module = model.net_.plain_module
    if module.n_negatives is not None:
        raise TypeError(
            f"{graph.model_name} can be exported with user_vector='items' alone, got 'solve'."
        )
    stored = graph.float32(graph.is_positive(x))
    graph.met[stored] = graph.items_met(x)
    n_stored = graph.op("Max", graph.reduce("ReduceSum", stored), np.float32(1))
    parts = parts_of(module)
    weights = array(module.last.weight[0])
    places = np.cumsum([part.n_outputs for part in parts])[:-1]
    scores = []
    for part, weight in zip(parts, np.split(weights, places), strict=True):
        sums = graph.rows_times(stored, array(part.members.weight))
        users = graph.op("Div", sums, graph.op("Sqrt", n_stored))
        of_part = _gmf if isinstance(part, GMF) else _mlp
        scores.append(of_part(graph, part, users, weight))
    return graph.op("Sum", *scores, array(module.last.bias))


def _gmf(graph: Graph, part: Any, users: str, weight: np.ndarray) -> str:
    weighted = graph.op("Mul", users, weight)
    return graph.op("Gemm", weighted, array(part.items.weight), transB=1)


def _mlp(graph: Graph, part: Any, users: str, weight: np.ndarray) -> str:
    """Return the scores by the perceptron, whose layers have all pairs."""
    with torch.inference_mode():
        of_items = array(part.of_item(part.items.weight))  # (n_items, n_first)
    of_users = graph.op(
        "Gemm", users, array(part.of_user.weight), array(part.of_user.bias), transB=1
    )
    of_users = graph.op("Unsqueeze", of_users, np.array([1]))
    h = graph.op("Relu", graph.op("Add", of_users, of_items))  # (n_users, n_items, n_first)
    for layer in part.hidden:
        product = graph.op("MatMul", h, array(layer.weight.T))
        h = graph.op("Relu", graph.op("Add", product, array(layer.bias)))
    return graph.op("Squeeze", graph.op("MatMul", h, weight[:, None]), np.array([2]))
