"""Criteria that training minimises, and their KL terms."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import nn

from ._losses import Likelihood
from ._training._data import SparseBatch

LOG_2_PI = math.log(2 * math.pi)


class Output(NamedTuple):
    """Output of a recommender's module for a batch.

    Parameters
    ----------
    scores : object
        Scores of all items, such as :class:`ItemScores`, with the methods ``dense()`` and
        ``nll(batch, likelihood)``.
    kl : Tensor or None, default=None
        KL term of a variational autoencoder.
    """

    scores: Any
    kl: torch.Tensor | None = None


class NegativeLogLikelihood(nn.Module):
    """Negative log-likelihood, averaged over users."""

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def forward(self, output: Output, batch: SparseBatch) -> torch.Tensor:
        """Return the loss."""
        return output.scores.nll(batch, self.likelihood)


class AnnealedELBO(nn.Module):
    """Negative log-likelihood plus a KL term, whose weight grows with the training steps.

    If the output has no KL term, this is the negative log-likelihood alone.
    """

    def __init__(self, likelihood: Likelihood, beta: float, n_annealing_steps: int) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.beta = beta
        self.n_annealing_steps = n_annealing_steps
        self.n_steps: torch.Tensor
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.float32))

    def annealed_beta(self) -> torch.Tensor:
        """Return the weight of the KL term at this step."""
        if self.n_annealing_steps == 0:
            return torch.full_like(self.n_steps, self.beta)
        return (self.n_steps / self.n_annealing_steps).clamp(max=self.beta)

    def epoch_values(self) -> dict[str, float]:
        """Return the values to record in the history of each epoch."""
        return {"beta": float(self.annealed_beta())}

    def forward(self, output: Output, batch: SparseBatch) -> torch.Tensor:
        """Return the loss, averaged over users."""
        loss = output.scores.nll(batch, self.likelihood)
        if output.kl is not None:
            loss = loss + self.annealed_beta() * output.kl
        if self.training:
            self.n_steps += 1
        return loss


def gaussian_kl(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """Return KL(N(mu, exp(logvar)) || N(0, I)), summed over dimensions, averaged over rows."""
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(dim=1).mean()


def log_normal(z: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """Return the log-density of N(mu, exp(logvar)) at z in each dimension."""
    return -0.5 * (logvar + (z - mu).square() / logvar.exp() + LOG_2_PI)


def log_mixture(z: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """Return the log-density of a mixture of N(mu_k, exp(logvar_k)) with equal weights.

    Parameters
    ----------
    z : Tensor of shape (n_rows, n_components)
        Points at which the density is evaluated.
    mu, logvar : Tensor of shape (n_normals, n_components)
        Means and log-variances.

    Returns
    -------
    log_density : Tensor of shape (n_rows,)
        In float32, also under autocast.
    """
    with torch.autocast(z.device.type, enabled=False):
        dtype = torch.promote_types(z.dtype, torch.float32)
        z, mu, logvar = (
            tensor.double()  # in float32 the error is several nats if the normals are narrow
            for tensor in (z, mu, logvar)
        )
        # The squares are expanded, to use a matrix product instead of a tensor of shape
        # (n_rows, n_normals, n_components). Centering keeps the rounding errors small.
        center = mu.mean(dim=0)
        z, mu = z - center, mu - center
        precision = (-logvar).exp()
        square = z.square() @ precision.T - 2 * z @ (mu * precision).T
        constant = (logvar + mu.square() * precision + LOG_2_PI).sum(dim=1)
        log_densities = -0.5 * (square + constant)  # (n_rows, n_normals)
        return (log_densities.logsumexp(dim=1) - math.log(mu.shape[0])).to(dtype)
