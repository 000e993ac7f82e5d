"""Layers that two models or more share."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ._data import SparseBatch
from ._losses import ItemScores


class SparseLinear(nn.Module):
    """A linear layer of sparse rows: ``x @ weight + bias``, one multiplication a stored entry."""

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


@torch.compiler.disable  # sizes differ from batch to batch
def sparse_product(batch: SparseBatch, weight: torch.Tensor) -> torch.Tensor:
    """Return ``x @ weight`` for sparse rows x, a tensor of shape (n_rows, n_outputs)."""
    if weight.device.type == "cpu":
        return _SparseProduct.apply(batch, weight)
    return F.embedding_bag(
        batch.items, weight, batch.offsets, mode="sum", per_sample_weights=batch.values
    )


class _SparseProduct(torch.autograd.Function):
    """Product of sparse rows and dense weights by scipy.

    On a CPU its gradient takes a fifteenth of the time of that of torch's embedding_bag.
    """

    @staticmethod
    def forward(ctx: Any, batch: SparseBatch, weight: torch.Tensor) -> torch.Tensor:
        ctx.batch = batch
        return torch.from_numpy(batch.to_scipy() @ weight.detach().numpy())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:
        product = ctx.batch.to_scipy().T @ gradient.contiguous().numpy()
        return None, torch.from_numpy(product)


class Dense(nn.Linear):
    """A linear layer that takes the generator of its fit."""

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights."""
        draw_weights(self.weight, self.bias, generator)


class SparseEncoder(nn.Module):
    """Rows divided by their norm and thinned by dropout, through hidden layers to a linear output.

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
        Whether the hidden layers are gated instead of a tanh; see :func:`hidden_layers`.
    """

    def __init__(
        self,
        n_items: int,
        hidden_layer_sizes: Sequence[int],
        n_outputs: int,
        dropout: float,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        widths = [*((1 + gated) * size for size in hidden_layer_sizes), n_outputs]
        self.first = SparseLinear(n_items, widths[0])
        self.hidden = nn.Sequential(
            *(
                layer
                for n_in, width in zip(hidden_layer_sizes, widths[1:], strict=True)
                for layer in (activation(gated), Dense(n_in, width))
            )
        )

    def forward(self, batch: SparseBatch, given: torch.Tensor | None = None) -> torch.Tensor:
        """Return a tensor of shape (n_rows, n_outputs).

        Parameters
        ----------
        batch : SparseBatch
            The rows.
        given : Tensor of shape (n_rows, width) or None
            What else the first layer adds up.
        """
        batch = batch.normalized().dropout(self.dropout, training=self.training)
        h = self.first(batch)
        return self.hidden(h if given is None else h + given)


class ItemLayer(Dense):
    """A last layer with one output an item, whose rows of weights are item vectors."""

    def forward(self, hidden: torch.Tensor) -> ItemScores:  # type: ignore[override]
        """Return the scores as a product that is not yet multiplied out."""
        return ItemScores(hidden, self.weight, self.bias)


class DenselyConnected(nn.Module):
    """Layers of one width, each of which also gets the sum of the outputs of all before it.

    Each is linear, swish and layer norm, as in the encoder of RecVAE.

    Parameters
    ----------
    n_inputs : int
        Size of the input.
    width : int
        Size of each layer.
    n_layers : int
        Number of layers; none returns the input.
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
    """Sparse rows through densely connected layers to the mean and log-variance of a Gaussian."""

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


def hidden_layers(sizes: Sequence[int], gated: bool = False) -> nn.Sequential:
    """Return dense layers of these sizes; none for a single size.

    Each is a tanh of a linear layer or, where gated, one linear layer times the sigmoid of another.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [Dense(n_in, (1 + gated) * n_out), activation(gated)]
    return nn.Sequential(*layers)


def activation(gated: bool) -> nn.Module:
    """Return what comes after the linear layer: a gate takes its two halves."""
    return nn.GLU() if gated else nn.Tanh()


def at_least_float32(output: torch.Tensor) -> torch.Tensor:
    """Return what a KL term is computed from, which bfloat16 is too coarse for."""
    return output.to(torch.promote_types(output.dtype, torch.float32))


@torch.compiler.disable  # generators are not traced
def sample(
    mu: torch.Tensor, logvar: torch.Tensor, generator: torch.Generator | None
) -> torch.Tensor:
    """Draw from N(mu, exp(logvar))."""
    noise = torch.empty_like(mu).normal_(generator=generator)
    return mu + noise * (0.5 * logvar).exp()


def checked_sizes(sizes: Sequence[int], name: str) -> tuple[int, ...]:
    """Return the sizes of layers, which must be positive integers."""
    if not all(isinstance(size, Integral) and size > 0 for size in sizes):
        raise ValueError(f"{name} must hold positive integers, got {sizes!r}.")
    return tuple(sizes)


def draw_weights(
    weight: torch.Tensor, bias: torch.Tensor | None, generator: torch.Generator | None
) -> None:
    """Draw weights by Glorot's rule, and biases as the authors of Mult-VAE do."""
    nn.init.xavier_uniform_(weight, generator=generator)
    if bias is not None:
        nn.init.trunc_normal_(bias, std=0.001, a=-0.002, b=0.002, generator=generator)


def reset_parameters(module: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights of a module anew, those of a layer before those of what holds it.

    Parameters
    ----------
    module : nn.Module
        Layers that draw weights have ``reset_parameters(generator)``, as those of this file do;
        a module that holds layers may have it too, to set some of their weights.
    generator : torch.Generator
        In main memory, so that a seed gives the same weights on every device.
    """
    for part in reversed(list(module.modules())):
        reset: Any = getattr(part, "reset_parameters", None)
        if reset is not None:
            takes_generator = "generator" in inspect.signature(reset).parameters
            reset(generator) if takes_generator else reset()
