"""Graphs of matrix factorization, which solve a ridge regression for the factors of each user."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..factorization import LFM, WMF
from ._graph import Graph

# Conjugate gradients end where the squared norm of the residual, weighted by the preconditioner, is
# this part of what it was for all users, or after some steps for each unknown. They are computed in
# float64, in which they would need no more steps than unknowns if the matrices were well
# conditioned.
TOLERANCE = 1e-20
STEPS_FOR_EACH_UNKNOWN = 20

_TINY = np.float64(np.finfo(np.float64).tiny)


def factors(graph: Graph, model: Any, x: str) -> str:
    """Return the products of the factors of users and items, with the biases of items."""
    return _product(graph, model, _fold_in(graph, model, x))


def factors_and_biases(graph: Graph, model: Any, x: str) -> str:
    """Return the predictions of LFM."""
    found = _biased(graph, model, x)  # (n_users, 1 + n_components)
    bias = graph.op("Slice", found, *map(np.array, ([0], [1], [1])))
    constant = graph.op("Add", graph.float32(bias), np.float32(model.intercept_))
    return graph.op("Add", _product(graph, model, _without_bias(graph, found)), constant)


def factors_from_content(graph: Graph, model: Any, x: str) -> str:
    """Return the products with factors that are partly predicted from content."""
    recommender = model.recommender_
    if type(recommender) not in (WMF, LFM):
        raise TypeError(
            f"{graph.model_name} can be exported with a WMF or an LFM as recommender, got "
            f"{type(recommender).__name__}."
        )
    return _product(graph, model, _fold_in(graph, recommender, x))


def _fold_in(graph: Graph, model: Any, x: str) -> str:
    """Return the factors of the users in float64."""
    if type(model) is LFM:
        return _without_bias(graph, _biased(graph, model, x))
    if type(model) is WMF:
        return _weighted(graph, model, x)
    return _around_content(graph, model, x)


def _product(graph: Graph, model: Any, users: str) -> str:
    V = model.item_factors_
    if not V.shape[1]:
        zero = graph.op("Mul", graph.reduce("ReduceSum", graph.x), np.float32(0))
        scores = graph.op("Add", zero, np.zeros(len(V), dtype=np.float32))
    else:
        weight = graph.constant(V, dtype=np.float32)
        scores = graph.op("Gemm", graph.float32(users), weight, transB=1)
    if hasattr(model, "item_bias_"):
        scores = graph.op("Add", scores, model.item_bias_.astype(np.float32))
    return scores


def _weighted(graph: Graph, model: Any, x: str) -> str:
    """Return the factors of users of WMF."""
    objective = model._objective
    met = graph.items_met(x)
    values = graph.op("Gather", x, met, axis=1)
    stored = graph.float64(graph.is_positive(values))
    c = stored if model._binary else graph.float64(values)
    ct = c  # the confidence times the target
    if objective.zeros != "all":
        ct = graph.op("Add", c, graph.op("Mul", stored, np.float64(objective.unobserved_weight)))
    n_others = np.float64(objective.unobserved_weight * graph.n_items)
    weight = graph.op("Add", graph.reduce("ReduceSum", stored), n_others)
    power = graph.op("Pow", weight, np.float64(objective.frequency_exponent))
    penalty = graph.op("Mul", power, np.float64(objective.lambda_))
    return _solved(graph, met, c, ct, [(1.0, model.item_factors_)], penalty, model._gram)


def _biased(graph: Graph, model: Any, x: str) -> str:
    """Return the biases of users of LFM, and in the other columns their factors."""
    met = graph.items_met(x)
    values = graph.op("Gather", x, met, axis=1)
    stored = graph.float64(graph.is_positive(values))
    target = graph.float64(values)
    if model._threshold is not None:
        above = graph.op("Greater", values, np.float32(model._threshold))
        target = graph.float64(above)
    of_items = np.float64(model.intercept_) + model.item_bias_.astype(np.float64)
    target = graph.op("Sub", target, graph.op("Gather", of_items, met))
    ct = graph.op("Mul", stored, target)
    V = np.insert(model.item_factors_.astype(np.float64), 0, 1, axis=1)
    penalty = graph.constant(np.float64(model._lambda))
    return _solved(graph, met, stored, ct, [(1.0, V)], penalty, np.zeros(V.shape[1]))


def _without_bias(graph: Graph, found: str) -> str:
    return graph.op("Slice", found, *map(np.array, ([1], [np.iinfo(np.int64).max], [1])))


def _around_content(graph: Graph, model: Any, x: str) -> str:
    """Return the factors of users of CTR, CDL, CVAE and DICER."""
    if hasattr(model, "item_covariances_") and model._is_bayesian():
        raise TypeError(
            f"{graph.model_name} can be exported with inference='map' alone, got 'bayes'."
        )
    problem, known = _problem_of(model)
    a, b = problem.confidence, problem.unobserved_weight
    met = graph.items_met(x)
    values = graph.op("Gather", x, met, axis=1)
    stored = graph.float64(graph.is_positive(values))
    # The target of an entry is 1.
    ct = graph.op("Mul", stored, np.float64(b))
    ct = graph.op("Add", ct, graph.op("Mul", graph.float64(values), np.float64(a - b)))
    in_gram = graph.op("Gather", b * known.astype(np.float64), met)
    c = graph.op("Sub", ct, graph.op("Mul", stored, in_gram))
    penalty = graph.constant(np.float64(problem.lambda_u))
    parts = [(1.0, model.item_factors_)]
    if hasattr(model, "_shares_of_factors"):  # DICER has items as they are, and as new ones
        parts = model._shares_of_factors()
    return _solved(graph, met, c, ct, parts, penalty, model._gram)


def _problem_of(model: Any) -> tuple[Any, np.ndarray]:
    """Return the least squares of a model, and whether each item has users."""
    if callable(model._problem):
        return model._problem(), model._has_users
    from ..hybrid._least_squares import LeastSquares

    return LeastSquares(*model._problem), model._popularity > 0


def _solved(
    graph: Graph,
    met: str,
    c: str,
    ct: str,
    parts: list[tuple[float, np.ndarray]],
    penalty: str,
    gram: np.ndarray,
) -> str:
    """Solve ``(V' C V + G + penalty I) w = V' C t`` for each user by conjugate gradients.

    Parameters
    ----------
    graph : Graph
        The graph.
    met : str
        The items in the rows.
    c, ct : str
        Confidences of the entries, and their products with the targets, in these columns.
    parts : list of (float, ndarray of shape (n_items, n_components))
        Factors of all items, which are in the file in their precision. If there are several, each
        entry counts with all of them, with their shares of its confidence.
    penalty : str
        Penalty of all users or of each, of shape (n_users, 1).
    gram : ndarray of shape (n_components, n_components) or (n_components,)
        G, or its diagonal.

    Returns
    -------
    w : str
        Of shape (n_users, n_components), in float64.
    """
    op, add = graph.op, lambda *parts: graph.op("Sum", *parts)
    found = [graph.float64(op("Gather", graph.constant(V), met)) for _, V in parts]
    features = op("Concat", *found, axis=0)  # (n_met, n_components), for each of the parts
    c, ct = (
        op("Concat", *(op("Mul", weights, np.float64(share)) for share, _ in parts), axis=1)
        for weights in (c, ct)
    )
    transposed = op("Transpose", features)
    gram = gram.astype(np.float64)
    full = graph.constant(gram) if gram.ndim == 2 else None
    diagonal = op("Add", penalty, np.diagonal(gram).copy() if gram.ndim == 2 else gram)
    squares = op("MatMul", c, op("Mul", features, features))
    P = op("Max", op("Add", squares, diagonal), _TINY)  # preconditioner

    def dot(a: str, b: str) -> str:
        return graph.reduce("ReduceSum", op("Mul", a, b))

    def product(p: str) -> str:
        of_entries = op("MatMul", op("Mul", c, op("MatMul", p, transposed)), features)
        if full is None:
            return add(of_entries, op("Mul", p, diagonal))
        return add(of_entries, op("Mul", p, penalty), op("MatMul", p, full))

    r = op("MatMul", ct, features)
    z = op("Div", r, P)
    rz = dot(r, z)
    bound = op("Mul", rz, np.float64(TOLERANCE))

    def step(number: str, state: list[str]) -> tuple[str, list[str]]:
        w, r, p, rz = state
        Ap = product(p)
        length = op("Div", rz, op("Max", dot(p, Ap), _TINY))
        w = op("Add", w, op("Mul", length, p))
        r = op("Sub", r, op("Mul", length, Ap))
        z = op("Div", r, P)
        before, rz = rz, dot(r, z)
        p = op("Add", z, op("Mul", op("Div", rz, op("Max", before, _TINY)), p))
        is_above = graph.float32(op("Greater", rz, bound))
        goes_on = op("Greater", op("ReduceMax", is_above, keepdims=0), np.float32(0))
        return goes_on, [w, r, p, rz]

    start = op("Mul", r, np.float64(0))
    n_steps = 100 + STEPS_FOR_EACH_UNKNOWN * len(gram)
    return graph.loop(n_steps, [start, r, z, rz], step, np.float64)[0]
