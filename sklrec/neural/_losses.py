"""Log-likelihoods of a user's interactions, computed without a dense target.

The last layer of every model has one output per item, so its outputs and their gradient are by far
the largest tensors of a training step. :class:`ItemScores` keeps the factors of this product, and
a likelihood overwrites the product with its gradient: a step allocates one such tensor only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from .._linalg import dot_of_vector
from ._huge_pages import mm_on_huge_pages
from ._training._data import SparseBatch, row_sums

# Takes scores of shape (n_rows, n_items), which it may overwrite, and a batch. Returns the negative
# log-likelihood, summed over items and averaged over users, and its gradient by the scores.
Likelihood = Callable[[torch.Tensor, SparseBatch], tuple[torch.Tensor, torch.Tensor]]


def products_with_items(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return ``hidden @ weight.T + bias``, of shape (n_rows, n_items).

    With `out` it is written there, which saves the time for new memory; this has no gradient.

    For a single row on a CPU, where there is no gradient, numpy computes it: the time is that of
    reading the weights, which it does up to four times as fast as torch.
    """
    if len(hidden) != 1 or hidden.device.type != "cpu" or torch.is_grad_enabled():
        if out is None:
            return F.linear(hidden, weight, bias)
        if bias is None:
            return torch.mm(hidden, weight.T, out=out)
        return torch.addmm(bias, hidden, weight.T, out=out)
    scores = dot_of_vector(weight.detach().numpy(), hidden.numpy()[0])
    if bias is not None:
        scores += bias.detach().numpy()
    return torch.from_numpy(scores)[None]


@dataclass(frozen=True)
class ItemScores:
    """Scores ``hidden @ weight.T + bias`` of all items, kept as factors.

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

    def dense(self, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the scores, of shape (n_rows, n_items), in `out` if it is given."""
        return products_with_items(self.hidden, self.weight, self.bias, out)

    @torch.compiler.disable  # a custom autograd function
    def nll(self, batch: SparseBatch, likelihood: Likelihood) -> torch.Tensor:
        """Return the mean over users of the negative log-likelihood of a batch."""
        return _ItemLikelihood.apply(self.hidden, self.weight, self.bias, batch, likelihood)


class _ItemLikelihood(torch.autograd.Function):
    """Last layer and likelihood in one, which keeps the gradient by the scores only."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        batch: SparseBatch,
        likelihood: Likelihood,
    ) -> torch.Tensor:
        device, dtype = hidden.device.type, hidden.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        ctx.dtypes = hidden.dtype, weight.dtype, bias.dtype
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        with torch.autocast(device, enabled=False):  # bfloat16 leaves a loss three digits
            scores = mm_on_huge_pages(hidden, weight.T, torch.promote_types(dtype, torch.float32))
            loss, gradient = likelihood(scores.add_(bias), batch)
        ctx.save_for_backward(hidden, weight, gradient.to(dtype))
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, gradient = ctx.saved_tensors
        # grad_loss multiplies the smaller factors, not the gradient of the weights. If only a part
        # of the module is trained, the other gradients are not needed.
        of_hidden, of_weight, of_bias = ctx.needs_input_grad[:3]
        grads = (
            (gradient @ weight).mul_(grad_loss) if of_hidden else None,
            mm_on_huge_pages(gradient.T, hidden * grad_loss, ctx.dtypes[1]) if of_weight else None,
            gradient.sum(dim=0).mul_(grad_loss) if of_bias else None,
        )
        return (
            *(
                grad if grad is None else grad.to(dtype)
                for grad, dtype in zip(grads, ctx.dtypes, strict=True)
            ),
            None,
            None,
        )


@dataclass(frozen=True)
class DenseScores:
    """Scores of all items as a tensor, from a layer whose gradient does not need them.

    Parameters
    ----------
    scores : Tensor of shape (n_rows, n_items)
        The scores; ``nll`` overwrites them.
    """

    scores: torch.Tensor

    def dense(self, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the scores, of shape (n_rows, n_items); `out` is not needed."""
        return self.scores

    @torch.compiler.disable  # a custom autograd function
    def nll(self, batch: SparseBatch, likelihood: Likelihood) -> torch.Tensor:
        """Return the mean over users of the negative log-likelihood of a batch."""
        return _DenseLikelihood.apply(batch, likelihood, self.scores)


@dataclass(frozen=True)
class ProductScores:
    """Logarithms of the product of two probabilities, which are the sigmoids of two scores.

    Parameters
    ----------
    first : ItemScores
        Scores of one model.
    second : DenseScores
        Scores of the other.
    """

    first: ItemScores
    second: DenseScores

    def dense(self, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the scores, of shape (n_rows, n_items); `out` is not needed."""
        return F.logsigmoid(self.first.dense()) + F.logsigmoid(self.second.dense())

    @torch.compiler.disable  # a custom autograd function
    def nll(self, batch: SparseBatch, likelihood: FocalLoss) -> torch.Tensor:
        """Return the mean over users of the negative log-likelihood of a batch."""
        second = self.second.dense()
        first = self.first.dense().to(second.dtype)  # bfloat16 under autocast
        return _DenseLikelihood.apply(batch, likelihood.of_product, first, second)


class _DenseLikelihood(torch.autograd.Function):
    """Likelihood of dense scores, computed with its gradients in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        batch: SparseBatch,
        likelihood: Callable[..., tuple[torch.Tensor, ...]],
        *scores: torch.Tensor,
    ) -> torch.Tensor:
        with torch.autocast(scores[0].device.type, enabled=False):
            loss, *gradients = likelihood(*scores, batch)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, None, *(gradient * grad_loss for gradient in ctx.saved_tensors)


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


def cosine_loss(scores: torch.Tensor, batch: SparseBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine loss: ``1 - cos((f, |x|), (x, 0))``; 1 for a user without items.

    The appended constant |x| sets the scale of the scores. Without it the loss would not depend on
    their length, and a penalty on the weights would only shrink them.
    """
    at = (batch.rows, batch.items)
    unit = batch.norm[:, None]
    length = (scores.square().sum(dim=1, keepdim=True) + unit.square()).sqrt_()
    scores /= length
    target = batch.normalized().values
    cosine = row_sums(scores[at] * target, batch.n_entries)
    gradient = scores.mul_(cosine[:, None])
    gradient[at] -= target
    return 1 - cosine.mean(), gradient.div_(length * len(batch))


@dataclass(frozen=True)
class FocalLoss:
    """Focal loss of the sigmoid of the scores: ``-alpha_t (1 - p_t)^gamma log p_t`` [1]_.

    With p the sigmoid, p_t is p and alpha_t is alpha at a stored entry, whatever its value; they
    are 1 - p and 1 - alpha elsewhere.

    Parameters
    ----------
    alpha : float
        Weight of the stored entries; that of all others is ``1 - alpha``.
    gamma : float
        Focusing parameter: with a larger one, well predicted entries count less.

    References
    ----------
    .. [1] V. Vančura and P. Kordík, "Deep Variational Autoencoder with Shallow Parallel Path for
       Top-N Recommendation (VASP)", ICANN 2021, equations 3 and 4.
    """

    alpha: float = 0.25
    gamma: float = 2.0

    def __call__(
        self, scores: torch.Tensor, batch: SparseBatch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and its gradient."""
        at = (batch.rows, batch.items)
        # For an entry with p_t = 1 - s(f) = s(-f), -log p_t = softplus(f).
        found, d_found = self._of_sign(-scores[at], self.alpha)
        wrong = self._of_sign(scores[at], 1 - self.alpha)[0]
        loss, gradient = self._of_sign(scores, 1 - self.alpha)
        gradient[at] = -d_found
        total = loss.sum() - wrong.sum() + found.sum()
        return total / len(batch), gradient.div_(len(batch))

    def of_product(
        self, f: torch.Tensor, e: torch.Tensor, batch: SparseBatch
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the loss for p = s(f) s(e), and its gradients by f and e."""
        at = (batch.rows, batch.items)
        f_found, e_found = f[at], e[at]
        p, q = self._product(f_found, e_found)
        surprise = F.softplus(-f_found) + F.softplus(-e_found)
        weight = q.pow(self.gamma).mul_(self.alpha)
        total = surprise @ weight
        at_found = (self.gamma * p * surprise / q).add_(1).mul_(-weight)

        p, q = self._product(f, e)
        surprise = -q.log()
        weight = p.pow(self.gamma).mul_(1 - self.alpha)
        weight[at] = 0
        total = total + (surprise * weight).sum()
        common = surprise.mul_(self.gamma).add_(p.div_(q)).mul_(weight)
        common[at] = at_found
        common /= len(batch)
        return (
            total / len(batch),
            f.neg_().sigmoid_().mul_(common),
            e.neg_().sigmoid_().mul_(common),
        )

    @staticmethod
    def _product(f: torch.Tensor, e: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return p = s(f) s(e) and 1 - p, computed without a difference that may round to 0."""
        p = f.sigmoid()
        q = (-f).sigmoid_().add_(p * (-e).sigmoid_())
        return p.mul_(e.sigmoid()), q.clamp_(min=torch.finfo(q.dtype).tiny)

    def _of_sign(self, f: torch.Tensor, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``-alpha p^gamma log(1 - p)`` for p = s(f), and its derivative by f."""
        p = f.sigmoid()
        surprise = F.softplus(f)
        weight = p.pow(self.gamma).mul_(alpha)
        derivative = (1 - p).mul_(surprise).mul_(self.gamma).add_(p).mul_(weight)
        return surprise.mul_(weight), derivative


def likelihood_named(name: str, confidence: float) -> Likelihood:
    """Return the likelihood with a given name."""
    if name == "gaussian":
        return GaussianNLL(confidence)
    return {"multinomial": multinomial_nll, "logistic": logistic_nll}[name]
