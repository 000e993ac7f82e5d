"""Graph of CDAE, with a user's vector that is 0 or solved for."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..neural._cdae import N_STEPS
from ._graph import Graph
from ._networks import array, linear, normalized_product, product


def cdae(graph: Graph, model: Any, x: str) -> str:
    """Return the scores of CDAE, with a user's vector that is 0 or solved for."""
    module = model.net_.plain_module
    weight, bias = array(module.first.weight), array(module.first.bias)
    multiply = normalized_product if module.normalize else product
    a = multiply(graph, x, weight, bias)
    if module.solver is not None:
        a = graph.op("Add", a, _solved(graph, module, a, x))
    return linear(graph, _activated(graph, module, a), module.item_layer)


def _activated(graph: Graph, module: Any, a: str) -> str:
    """Return the hidden layer."""
    if module.activation == "identity":
        return a
    return graph.op(module.activation.capitalize(), a)


def _times_slope(graph: Graph, module: Any, z: str, gradient: str) -> str:
    """Return the gradient by the input of the activation, where that by its output z is given."""
    one = np.float32(1)
    if module.activation == "tanh":
        return graph.op("Mul", gradient, graph.op("Sub", one, graph.op("Mul", z, z)))
    if module.activation == "sigmoid":
        return graph.op("Mul", gradient, graph.op("Mul", z, graph.op("Sub", one, z)))
    return gradient


def _solved(graph: Graph, module: Any, a: str, x: str) -> str:
    """Return the vectors of the users after the steps of ``CDAEModule``."""
    op, two = graph.op, np.float32(2)
    loss, lambda_ = module.solver
    is_square = loss.loss == "square"
    stored = graph.is_positive(x)
    unobserved = graph.constant(np.float32(loss.unobserved_weight))
    if loss.n_negatives is not None:  # the mean over draws of them
        n = graph.reduce("ReduceSum", graph.float32(stored))
        others = op("Max", op("Sub", np.float32(graph.n_items), n), np.float32(1))
        share = op("Div", op("Mul", n, np.float32(loss.n_negatives)), others)
        unobserved = op("Mul", unobserved, share)
    W, bias = array(module.item_layer.weight), array(module.item_layer.bias)
    weight = graph.constant(W)
    largest = np.linalg.eigvalsh(W.T @ W)[-1] * (2 if is_square else 0.25)
    curvature = op("Mul", op("Max", unobserved, np.float32(1)), np.float32(largest))
    curvature = op("Add", curvature, np.float32(2 * lambda_))

    def step(number: str, state: list[str]) -> tuple[str, list[str]]:
        own, ahead = state
        z = _activated(graph, module, op("Add", a, ahead))
        f = op("Gemm", z, weight, bias, transB=1)
        if is_square:
            observed = op("Mul", op("Sub", f, x), two)
            others = op("Mul", op("Mul", f, two), unobserved)
        else:
            observed = op("Neg", op("Sigmoid", op("Neg", f)))
            others = op("Mul", op("Sigmoid", f), unobserved)
        gradient = op("MatMul", op("Where", stored, observed, others), weight)
        penalty = op("Mul", ahead, np.float32(2 * lambda_))
        gradient = op("Add", _times_slope(graph, module, z, gradient), penalty)
        before, own = own, op("Sub", ahead, op("Div", gradient, curvature))
        n_done = graph.float32(number)
        momentum = op("Div", n_done, op("Add", n_done, np.float32(3)))
        ahead = op("Add", own, op("Mul", momentum, op("Sub", own, before)))
        return op("Greater", np.float32(1), np.float32(0)), [own, ahead]

    start = op("Mul", a, np.float32(0))
    return graph.loop(N_STEPS, [start, start], step, np.float32)[0]
