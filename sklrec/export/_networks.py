"""Graphs of neural recommenders, for the scores that they have outside of training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from ._graph import Graph, Tensor
from ._items import log_sigmoid


def mult_vae(graph: Graph, model: Any, x: str) -> str:
    """Return the scores of Mult-VAE and of models with its network."""
    module = model.net_.plain_module
    return _decoded(graph, module, _mean(graph, module.encoder, x))


def mult_dae(graph: Graph, model: Any, x: str) -> str:
    """Return the scores of Mult-DAE."""
    module = model.net_.plain_module
    latent = _sparse_encoder(graph, module.encoder, x, model._n_features_out)
    return _decoded(graph, module, graph.op("Tanh", latent))


def cond_vae(graph: Graph, model: Any, x: str) -> str:
    """Return the scores of CondVAE: Mult-VAE beside the mean of the features."""
    module = model.net_.plain_module
    if module.map is None:
        return mult_vae(graph, model, x)
    with torch.inference_mode():
        items = module.features[torch.arange(len(module.features))].normalized()
        mapped = array(module.map(items))  # (n_items, sum(sizes))
    stored = graph.float32(graph.is_positive(x))
    graph.met[stored] = graph.items_met(x)
    n_stored = graph.op("Max", graph.reduce("ReduceSum", stored), np.float32(1))
    mean = graph.op("Div", graph.rows_times(stored, mapped), n_stored)
    sizes = np.array(module.sizes)
    of_encoder, of_decoder = graph.ops("Split", 2, mean, sizes, axis=1)
    mu = _mean(graph, module.encoder, x, of_encoder)
    return _decoded(graph, module, graph.op("Concat", mu, of_decoder, axis=1))


def mdcvae(graph: Graph, model: Any, x: str) -> str:
    """Return the scores of MD-CVAE, those of its Mult-VAE, whose weights may be tied."""
    module = model.net_.plain_module.users
    if hasattr(module, "encoder"):
        return _decoded(graph, module, _mean(graph, module.encoder, x))
    weight = array(module.item_layer.weight)
    h = normalized_product(graph, x, weight, array(module.bias))
    if hasattr(module, "rest"):
        *inner, last = module.rest
        h = linear(graph, _layers(graph, h, inner), last, last.out_features // 2)
    return _decoded(graph, module, h)


def hvamp_vae(graph: Graph, model: Any, x: str) -> str:
    """Return the scores of HVamp-VAE, with one latent vector or two."""
    module = model.net_.plain_module
    z = _mean(graph, module.encoder, x)
    if module.hierarchical:
        given = linear(graph, z, module.inner_given)
        inner = _mean(graph, module.inner_encoder, x, given)
        z = graph.op("Concat", inner, z, axis=1)
    return _decoded(graph, module, z)


def rec_vae(graph: Graph, model: Any, x: str) -> str:
    """Return the scores of RecVAE."""
    module = model.net_.plain_module
    return linear(graph, _dense_mean(graph, module.encoder, x, True), module.item_layer)


def flvae(graph: Graph, model: Any, x: str) -> str:
    """Return the scores of FLVAE."""
    return _flvae(graph, model.net_.plain_module, x)


def vasp(graph: Graph, model: Any, x: str) -> str:
    """Return the scores of VASP, of which items that are not modelled have the lowest."""
    module, items = model.net_.plain_module, model.items_
    is_whole = items.size == graph.n_items
    modelled = x if is_whole else graph.op("Gather", x, items.astype(np.int64), axis=1)
    deep = log_sigmoid(graph, _flvae(graph, module.flvae, modelled))
    shallow = log_sigmoid(graph, graph.rows_times(modelled, array(module.ease.weight)))
    scores = graph.op("Add", deep, shallow)
    if is_whole:
        return scores
    lowest = graph.op("Sub", graph.reduce("ReduceMin", scores), np.float32(1))
    place = np.full(graph.n_items, items.size)
    place[items] = np.arange(items.size)
    return graph.op("Gather", graph.op("Concat", scores, lowest, axis=1), place, axis=1)


def elsa(graph: Graph, model: Any, x: str) -> str:
    """Return ``x A A' - x`` for unit vectors A, as ELSA and ContentELSA do."""
    A = model.item_embeddings_
    scores = graph.op("Gemm", graph.rows_times(x, A), graph.constant(A), transB=1)
    return graph.op("Sub", scores, x)


def factorization_machine(graph: Graph, model: Any, x: str) -> str:
    """Return the scores of a factorization machine."""
    module = model.net_.plain_module
    with torch.inference_mode():
        vectors, biases = map(array, module.items())
    users = normalized_product(graph, x, array(module.history.weight))
    return graph.op("Gemm", users, vectors, biases, transB=1)


def array(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor as an array."""
    return tensor.detach().cpu().numpy()


def _decoded(graph: Graph, module: Any, z: str) -> str:
    """Return the scores for latent vectors."""
    return linear(graph, _layers(graph, z, [module.decoder]), module.item_layer)


def _flvae(graph: Graph, module: Any, x: str) -> str:
    z = _dense_mean(graph, module.encoder, x, False)
    return linear(graph, _densely_connected(graph, module.decoder, z), module.item_layer)


def _mean(graph: Graph, encoder: Any, x: str, given: str | None = None) -> str:
    """Return the latent mean, which is the first half of the output of an encoder."""
    last = encoder.hidden[-1].bias if len(encoder.hidden) else encoder.first.bias
    return _sparse_encoder(graph, encoder, x, len(last) // 2, given)


def _sparse_encoder(
    graph: Graph, encoder: Any, x: str, n_outputs: int, given: str | None = None
) -> str:
    """Return the first outputs of a :class:`SparseEncoder`; `given` is added to its first layer."""
    weight, bias = array(encoder.first.weight), array(encoder.first.bias)
    if not len(encoder.hidden):
        weight, bias = weight[:, :n_outputs], bias[:n_outputs]
        if given is not None:
            given = graph.op("Slice", given, *map(np.array, ([0], [n_outputs], [1])))
    h = normalized_product(graph, x, weight, bias)
    if given is not None:
        h = graph.op("Add", h, given)
    if not len(encoder.hidden):
        return h
    *inner, last = encoder.hidden
    return linear(graph, _layers(graph, h, inner), last, n_outputs)


def _dense_mean(graph: Graph, encoder: Any, x: str, normalize: bool) -> str:
    """Return the latent mean of a :class:`DenselyConnectedEncoder`."""
    weight, bias = array(encoder.first.weight), array(encoder.first.bias)
    multiply = normalized_product if normalize else product
    h = _normed(graph, _swish(graph, multiply(graph, x, weight, bias)), encoder.norm)
    h = _densely_connected(graph, encoder.rest, h, h)
    return linear(graph, h, encoder.last, encoder.last.out_features // 2)


def _densely_connected(graph: Graph, module: Any, h: str, skipped: str | None = None) -> str:
    """Return the output of :class:`DenselyConnected`."""
    for layer, norm in zip(module.linear, module.norm, strict=True):
        a = linear(graph, h, layer)
        if skipped is not None:
            a = graph.op("Add", a, skipped)
        h = _normed(graph, _swish(graph, a), norm)
        skipped = h if skipped is None else graph.op("Add", skipped, h)
    return h


def product(graph: Graph, x: str, weight: np.ndarray, bias: np.ndarray) -> str:
    """Return ``x @ weight + bias``."""
    return graph.op("Add", graph.rows_times(x, weight), bias)


def normalized_product(
    graph: Graph, x: str, weight: np.ndarray, bias: np.ndarray | None = None
) -> str:
    """Return ``x @ weight / |x| + bias``."""
    norm = graph.reduce("ReduceL2", x)
    norm = graph.op("Where", graph.is_positive(norm), norm, np.float32(1))
    h = graph.op("Div", graph.rows_times(x, weight), norm)
    return h if bias is None else graph.op("Add", h, bias)


def linear(graph: Graph, h: str, layer: Any, n_outputs: int | None = None) -> str:
    """Return the first outputs of a linear layer, or all."""
    parts: list[Tensor] = [array(layer.weight[:n_outputs])]
    if layer.bias is not None:
        parts.append(array(layer.bias[:n_outputs]))
    return graph.op("Gemm", h, *parts, transB=1)


def _layers(graph: Graph, h: str, layers: Iterable[nn.Module]) -> str:
    """Return the output of layers in sequence."""
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            h = _layers(graph, h, layer)
        elif isinstance(layer, nn.Linear):
            h = linear(graph, h, layer)
        elif isinstance(layer, nn.GLU):
            a, b = graph.ops("Split", 2, h, axis=1, num_outputs=2)
            h = graph.op("Mul", a, graph.op("Sigmoid", b))
        else:
            h = graph.op({nn.Tanh: "Tanh", nn.ReLU: "Relu"}[type(layer)], h)
    return h


def _swish(graph: Graph, h: str) -> str:
    return graph.op("Mul", h, graph.op("Sigmoid", h))


def _normed(graph: Graph, h: str, norm: nn.LayerNorm) -> str:
    return graph.op("LayerNormalization", h, array(norm.weight), array(norm.bias), epsilon=norm.eps)
