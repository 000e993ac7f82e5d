"""Log-likelihoods of a user's interactions, computed without a dense target.

The last layer of every model has one output an item, so its outputs and their gradient are by far
the largest tensors of a training step. :class:`ItemScores` keeps the two factors of that product,
and a likelihood turns the product into its own gradient in place: one such tensor a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ._data import SparseBatch

LOG_2_PI = math.log(2 * math.pi)

# From scores of shape (n_rows, n_items), which it may overwrite, and a batch to the negative
# log-likelihood summed over items and averaged over users, and its gradient by the scores.
Likelihood = Callable[[torch.Tensor, SparseBatch], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class ItemScores:
    """The scores ``hidden @ weight.T + bias`` of all items, not yet multiplied out.

    Parameters
    ----------
    hidden : Tensor of shape (n_rows, n_hidden)
        Last hidden layer.
    weight : Tensor of shape (n_items, n_hidden)
        Item vectors.
    bias : Tensor of shape (n_items,)
        Item biases.
    """

    hidden: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor

    def dense(self) -> torch.Tensor:
        """Return the scores, of shape (n_rows, n_items)."""
        return F.linear(self.hidden, self.weight, self.bias)

    @torch.compiler.disable  # a kernel of its own
    def nll(self, batch: SparseBatch, likelihood: Likelihood) -> torch.Tensor:
        """Return the mean over users of the negative log-likelihood of a batch."""
        return _ItemLikelihood.apply(self.hidden, self.weight, self.bias, batch, likelihood)


class _ItemLikelihood(torch.autograd.Function):
    """Last layer and likelihood in one, with the gradient by the scores in place of the scores."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        batch: SparseBatch,
        likelihood: Likelihood,
    ) -> torch.Tensor:
        if torch.is_autocast_enabled(hidden.device.type):
            dtype = torch.get_autocast_dtype(hidden.device.type)
            with torch.autocast(hidden.device.type, enabled=False):
                scores = F.linear(hidden.to(dtype), weight.to(dtype), bias.to(dtype)).float()
        else:
            dtype = hidden.dtype
            scores = F.linear(hidden, weight, bias)
        loss, gradient = likelihood(scores, batch)
        ctx.dtypes = hidden.dtype, weight.dtype, bias.dtype
        ctx.save_for_backward(hidden.to(dtype), weight.to(dtype), gradient.to(dtype))
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, gradient = ctx.saved_tensors
        # grad_loss meets the small factors: the gradient of the weights is not gone through again.
        # Where only a part of the module is trained, the products of the others are not needed.
        of_hidden, of_weight, of_bias = ctx.needs_input_grad[:3]
        grads = (
            (gradient @ weight).mul_(grad_loss) if of_hidden else None,
            gradient.T @ (hidden * grad_loss) if of_weight else None,
            gradient.sum(dim=0).mul_(grad_loss) if of_bias else None,
        )
        return *(
            grad if grad is None else grad.to(dtype)
            for grad, dtype in zip(grads, ctx.dtypes, strict=True)
        ), None, None


def multinomial_nll(scores: torch.Tensor, batch: SparseBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Multinomial likelihood: ``-sum_i x_i log softmax(f)_i`` (equation 2 of [1]_).

    References
    ----------
    .. [1] D. Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018.
    """
    at = (batch.rows, batch.items)
    observed = batch.values @ scores[at]
    top = scores.amax(dim=1, keepdim=True)
    p = scores.sub_(top).exp_()
    mass = p.sum(dim=1, keepdim=True)
    loss = batch.total @ (mass.log() + top).squeeze(1) - observed
    p.mul_(batch.total[:, None] / (len(batch) * mass))
    p[at] -= batch.values / len(batch)
    return loss / len(batch), p


def logistic_nll(scores: torch.Tensor, batch: SparseBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logistic likelihood: ``-sum_i x_i log s(f_i) + (1 - x_i) log(1 - s(f_i))`` (equation 4).

    Interactions count as 1, whatever their value.
    """
    at = (batch.rows, batch.items)
    loss = F.softplus(scores).sum() - scores[at].sum()
    p = scores.sigmoid_().div_(len(batch))
    p[at] -= 1 / len(batch)
    return loss / len(batch), p


@dataclass(frozen=True)
class GaussianNLL:
    """Gaussian likelihood: ``sum_i c_i / 2 (x_i - f_i)^2`` (equation 3), with confidences c.

    Parameters
    ----------
    confidence : float
        Weight of a stored entry; that of any other is 1.
    """

    confidence: float = 1.0

    def __call__(
        self, scores: torch.Tensor, batch: SparseBatch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and its gradient."""
        at = (batch.rows, batch.items)
        observed = scores[at]
        error = observed - batch.values
        loss = scores.square().sum() - observed.square().sum()
        loss = (loss + self.confidence * error.square().sum()) / 2
        gradient = scores.div_(len(batch))
        gradient[at] = self.confidence * error / len(batch)
        return loss / len(batch), gradient


def likelihood_named(name: str, confidence: float) -> Likelihood:
    """Return the likelihood a model's parameters name."""
    if name == "gaussian":
        return GaussianNLL(confidence)
    return {"multinomial": multinomial_nll, "logistic": logistic_nll}[name]


def gaussian_kl(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """Return KL(N(mu, exp(logvar)) || N(0, I)), a sum over dimensions and a mean over rows."""
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(dim=1).mean()


def log_normal(z: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """Return the log-density of N(mu, exp(logvar)) at z, dimension by dimension."""
    return -0.5 * (logvar + (z - mu).square() / logvar.exp() + LOG_2_PI)
