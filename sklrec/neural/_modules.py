"""Layers that are used by several models."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .._linalg import dot_of_vector
from ._losses import ItemScores
from ._training._data import SparseBatch


class SparseLinear(nn.Module):
    """Linear layer for sparse rows: ``x @ weight + bias``."""

    def __init__(self, n_items: int, n_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_items, n_outputs))  # (n_items, n_outputs)
        self.bias = nn.Parameter(torch.empty(n_outputs))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights."""
        draw_weights(self.weight, self.bias, generator)

    def forward(self, batch: SparseBatch) -> torch.Tensor:
        """Return a tensor of shape (n_rows, n_outputs)."""
        return sparse_product(batch, self.weight) + self.bias

    def of_row(self, values: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return an array of shape (n_outputs,) for the entries of one row."""
        weight, bias = _arrays(self)
        return values @ weight[items] + bias


def sparse_product(batch: SparseBatch, weight: torch.Tensor) -> torch.Tensor:
    """Return ``x @ weight`` for sparse rows x, a tensor of shape (n_rows, n_outputs)."""
    if torch.is_grad_enabled():
        return _differentiable_product(batch, weight)
    # What F.embedding_bag calls, without its checks. The 0 is the mode, a sum.
    bags = torch.embedding_bag(weight, batch.items, batch.offsets, False, 0, False, batch.values)
    return bags[0]


@torch.compiler.disable  # sizes differ from batch to batch
def _differentiable_product(batch: SparseBatch, weight: torch.Tensor) -> torch.Tensor:
    if weight.device.type == "cpu":
        return _SparseProduct.apply(batch, weight)
    return F.embedding_bag(
        batch.items, weight, batch.offsets, mode="sum", per_sample_weights=batch.values
    )


class _SparseProduct(torch.autograd.Function):
    """Product of sparse rows and dense weights on a CPU.

    Entries that dropout left out are skipped. The gradient by scipy is fifteen times faster than
    that of torch's embedding_bag.
    """

    @staticmethod
    def forward(ctx: Any, batch: SparseBatch, weight: torch.Tensor) -> torch.Tensor:
        ctx.batch = batch.without_zeros()
        return sparse_product(ctx.batch, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:
        by_item = ctx.batch.to_scipy().T.tocsr()  # its product takes half the time
        return None, torch.from_numpy(by_item @ gradient.contiguous().numpy())


class Dense(nn.Linear):
    """Linear layer whose weights are drawn from a given generator."""

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights."""
        draw_weights(self.weight, self.bias, generator)

    def of_row(self, h: np.ndarray) -> np.ndarray:
        """Return an array of shape (n_outputs,) for an input of shape (n_inputs,)."""
        weight, *bias = _arrays(self)
        output = dot_of_vector(weight, h)
        if bias:
            output += bias[0]
        return output


class SparseEncoder(nn.Module):
    """Encoder of sparse rows: normalization, dropout, hidden layers and a linear output.

    Parameters
    ----------
    n_items : int
        Size of the input.
    hidden_layer_sizes : sequence of int
        Sizes of the hidden layers.
    n_outputs : int
        Size of the output.
    dropout : float
        Probability with which an entry is left out in training.
    gated : bool, default=False
        Whether the hidden layers are gated or have an activation; see :func:`hidden_layers`.
    nonlinearity : type, default=nn.Tanh
        The activation.
    """

    def __init__(
        self,
        n_items: int,
        hidden_layer_sizes: Sequence[int],
        n_outputs: int,
        dropout: float,
        gated: bool = False,
        nonlinearity: type[nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        widths = [*((1 + gated) * size for size in hidden_layer_sizes), n_outputs]
        self.first = SparseLinear(n_items, widths[0])
        self.hidden = nn.Sequential(
            *(
                layer
                for n_in, width in zip(hidden_layer_sizes, widths[1:], strict=True)
                for layer in (activation(gated, nonlinearity), Dense(n_in, width))
            )
        )

    def forward(self, batch: SparseBatch, given: torch.Tensor | None = None) -> torch.Tensor:
        """Return a tensor of shape (n_rows, n_outputs).

        Parameters
        ----------
        batch : SparseBatch
            The rows.
        given : Tensor of shape (n_rows, width) or None
            Added to the output of the first layer.
        """
        batch = batch.normalized().dropout(self.dropout, training=self.training)
        h = self.first(batch)
        return self.hidden(h if given is None else h + given)

    def of_row(self, values: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return an array of shape (n_outputs,) for the entries of one row, without dropout."""
        return of_row(self.hidden, self.first.of_row(normalized_row(values), items))


class ItemLayer(Dense):
    """Last layer, with one output per item; the rows of its weights are item vectors."""

    def forward(self, hidden: torch.Tensor) -> ItemScores:  # type: ignore[override]
        """Return the factors of the scores."""
        return ItemScores(hidden, self.weight, self.bias)


class DenselyConnected(nn.Module):
    """Densely connected layers of the same width.

    To the linear part of each layer the outputs of all layers before it are added; swish and layer
    normalization follow, as in the encoder of RecVAE.

    Parameters
    ----------
    n_inputs : int
        Size of the input.
    width : int
        Size of each layer.
    n_layers : int
        Number of layers; with 0, the input is returned.
    """

    def __init__(self, n_inputs: int, width: int, n_layers: int) -> None:
        super().__init__()
        sizes = [n_inputs, *(n_layers * [width])]
        self.linear = nn.ModuleList(Dense(*pair) for pair in pairwise(sizes))
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in self.linear)

    def forward(self, h: torch.Tensor, skipped: torch.Tensor | None = None) -> torch.Tensor:
        """Return a tensor of shape (n_rows, width).

        Parameters
        ----------
        h : Tensor of shape (n_rows, n_inputs)
            Input.
        skipped : Tensor of shape (n_rows, width) or None
            Sum of the outputs of densely connected layers before these.
        """
        for linear, norm in zip(self.linear, self.norm, strict=True):
            a = linear(h) if skipped is None else linear(h) + skipped
            h = norm(F.silu(a))
            skipped = h if skipped is None else skipped + h
        return h


class DenselyConnectedEncoder(nn.Module):
    """Densely connected encoder of sparse rows, to the mean and log-variance of a Gaussian."""

    def __init__(
        self, n_items: int, n_components: int, hidden_size: int, n_encoder_layers: int
    ) -> None:
        super().__init__()
        self.first = SparseLinear(n_items, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.rest = DenselyConnected(hidden_size, hidden_size, n_encoder_layers - 1)
        self.last = Dense(hidden_size, 2 * n_components)

    def forward(self, batch: SparseBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return two tensors of shape (n_rows, n_components)."""
        h = self.norm(F.silu(self.first(batch)))  # (n_rows, hidden_size)
        mu, logvar = self.last(self.rest(h, skipped=h)).float().chunk(2, dim=1)
        return mu, logvar


def of_row(layers: nn.Sequential, h: np.ndarray) -> np.ndarray:
    """Return the output of dense layers and activations for an input of shape (n_inputs,)."""
    for layer in layers:
        if isinstance(layer, Dense):
            h = layer.of_row(h)
        elif isinstance(layer, nn.Tanh):
            h = np.tanh(h)
        else:
            h = layer(torch.from_numpy(h)).numpy()
    return h


def normalized_row(values: np.ndarray) -> np.ndarray:
    """Return the entries of one row divided by their Euclidean norm."""
    return values / (np.sqrt(values @ values) or values.dtype.type(1))


def _arrays(layer: nn.Module) -> list[np.ndarray]:
    """Return the weight and the bias of a layer on the CPU as arrays that share their memory.

    To read them as attributes of the layer takes several times as long.
    """
    return [own.detach().numpy() for own in layer._parameters.values() if own is not None]


def hidden_layers(
    sizes: Sequence[int], gated: bool = False, nonlinearity: type[nn.Module] = nn.Tanh
) -> nn.Sequential:
    """Return hidden layers; the first of the sizes is that of the input.

    Each is a linear layer with an activation or, if gated, times the sigmoid of another one.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [Dense(n_in, (1 + gated) * n_out), activation(gated, nonlinearity)]
    return nn.Sequential(*layers)


def activation(gated: bool, nonlinearity: type[nn.Module] = nn.Tanh) -> nn.Module:
    """Return the activation after a linear layer; a gate multiplies the two halves of it."""
    return nn.GLU() if gated else nonlinearity()


def at_least_float32(output: torch.Tensor) -> torch.Tensor:
    """Convert to float32 or more: bfloat16 is too imprecise for KL terms."""
    return output.to(torch.promote_types(output.dtype, torch.float32))


@torch.compiler.disable  # generators are not traced
def sample(mu: torch.Tensor, logvar: torch.Tensor, batch: SparseBatch) -> torch.Tensor:
    """Draw from N(mu, exp(logvar)) for each row of a batch."""
    return mu + batch.standard_normal(mu) * (0.5 * logvar).exp()


def checked_sizes(
    sizes: Sequence[int], name: str, *, at_least_one: bool = False
) -> tuple[int, ...]:
    """Check that the sizes of layers are positive integers, and return them as a tuple."""
    if not all(isinstance(size, Integral) and size > 0 for size in sizes):
        raise ValueError(f"{name} must hold positive integers, got {sizes!r}.")
    if at_least_one and not len(sizes):
        raise ValueError(f"{name} must hold at least one size, got none.")
    return tuple(sizes)


def draw_weights(
    weight: torch.Tensor, bias: torch.Tensor | None, generator: torch.Generator | None
) -> None:
    """Draw weights by Glorot's method, and biases as in the code of Mult-VAE's authors."""
    nn.init.xavier_uniform_(weight, generator=generator)
    if bias is not None:
        nn.init.trunc_normal_(bias, std=0.001, a=-0.002, b=0.002, generator=generator)


def reset_parameters(module: nn.Module, generator: torch.Generator) -> None:
    """Initialize all weights of a module; layers come before the modules that contain them.

    Parameters
    ----------
    module : nn.Module
        Layers with random weights have ``reset_parameters(generator)``, as those of this file.
        A module that contains layers may have it too, to set some of their weights.
    generator : torch.Generator
        Generator on the CPU, so that a seed gives the same weights on every device.
    """
    for part in reversed(list(module.modules())):
        reset: Any = getattr(part, "reset_parameters", None)
        if reset is not None:
            takes_generator = "generator" in inspect.signature(reset).parameters
            reset(generator) if takes_generator else reset()
