"""Network and criterion of DICER."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from ..neural._criteria import LOG_2_PI, AnnealedELBO, Output, gaussian_kl, log_mixture
from ..neural._losses import Likelihood
from ..neural._modules import SparseEncoder, at_least_float32, sample
from ._item_autoencoder import CoDecoder, ItemBatch


class ItemOutput(NamedTuple):
    """Output of an autoencoder of items.

    Parameters
    ----------
    users, features : ItemScores
        Scores of the users and of the features; without features, the second is None.
    z, mu, logvar : Tensor of shape (n_rows, n_latent)
        Sample, means and log-variances of the latent vectors: n_components for the content, and
        n_components for the users.
    """

    users: Any
    features: Any
    z: torch.Tensor
    mu: torch.Tensor
    logvar: torch.Tensor


class DICERModule(nn.Module):
    """Encoders of users and of features of items, and one decoder of both latent vectors."""

    def __init__(
        self,
        n_users: int,
        n_features: int,
        n_components: int,
        hidden_layer_sizes: Sequence[int],
        dropout: float,
        item_dropout: float,
    ) -> None:
        super().__init__()
        sizes, n_outputs = hidden_layer_sizes, 2 * n_components
        self.collaborative = SparseEncoder(n_users, sizes, n_outputs, dropout)
        self.content = SparseEncoder(n_features, sizes, n_outputs, 0) if n_features else None
        self.n_content = n_components if n_features else 0
        self.decoder = CoDecoder(self.n_content + n_components, sizes, n_users, n_features)
        self.item_dropout = item_dropout if n_features else 0.0

    def item_layers(self) -> tuple[Any, Any, CoDecoder]:
        """Return the first layers of the encoders, and the decoder."""
        of_features = None if self.content is None else self.content.first
        return self.collaborative.first, of_features, self.decoder

    def weights_of_users(self) -> Iterator[nn.Parameter]:
        """Yield the weights with a row for each user."""
        yield self.collaborative.first.weight
        yield from self.decoder.users.parameters()

    def posterior(self, batch: ItemBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return latent means and log-variances, of shape (n_rows, n_latent) each."""
        parts = [self.collaborative(batch)]
        if self.content is not None:
            parts.insert(0, self.content(batch.features))
        means, logvars = zip(
            *(at_least_float32(part).chunk(2, dim=1) for part in parts), strict=True
        )
        return torch.cat(means, dim=1), torch.cat(logvars, dim=1)

    def item_vectors(self, batch: ItemBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the last hidden layer of the decoder for items, if they were new, and the means.

        The collaborative mean of an item without users is 0, that of the prior, as if it was new.
        """
        mu, _ = self.posterior(batch)
        has_users = batch.n_entries > 0
        mu = self._with_users(mu, has_users)
        as_new = self._with_users(mu, torch.zeros_like(has_users))
        return self.decoder.hidden(mu), self.decoder.hidden(as_new), mu

    def _with_users(self, z: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Set the collaborative latent vectors to 0 in the rows that are not `kept`."""
        content, collaborative = z[:, : self.n_content], z[:, self.n_content :]
        return torch.cat([content, collaborative * kept[:, None].to(z)], dim=1)

    def forward(self, batch: ItemBatch) -> ItemOutput:
        """Return the scores at a sample of the latent vectors, and their distributions."""
        mu, logvar = self.posterior(batch)
        z = h = sample(mu, logvar, batch)
        if self.item_dropout:
            kept = torch.empty_like(z[:, 0])
            kept.bernoulli_(1 - self.item_dropout, generator=batch.generator)
            h = self._with_users(z, kept)
        users, features = self.decoder(h)
        return ItemOutput(users, features, z, mu, logvar)


class DisentangledELBO(AnnealedELBO):
    """Negative ELBO of the users and the features of items, plus penalties on dependence.

    Parameters
    ----------
    likelihood, beta, n_annealing_steps
        As in :class:`AnnealedELBO`, of the users.
    item_likelihood : Likelihood
        Negative log-likelihood of the features.
    content_weight : float
        Weight of the features.
    between, within : float
        Weights of :func:`dependence_between` and :func:`dependence_within`.
    n_components : int
        Dimension of the collaborative latent vector, which is last.
    """

    def __init__(
        self,
        *,
        item_likelihood: Likelihood,
        content_weight: float,
        between: float,
        within: float,
        n_components: int,
        **annealed: Any,
    ) -> None:
        super().__init__(**annealed)
        self.item_likelihood = item_likelihood
        self.content_weight = content_weight
        self.between = between
        self.within = within
        self.n_components = n_components

    def forward(self, output: ItemOutput, batch: ItemBatch) -> torch.Tensor:  # type: ignore[override]
        """Return the loss, averaged over items."""
        loss = super().forward(Output(output.users, gaussian_kl(output.mu, output.logvar)), batch)
        if output.features is not None:
            nll = output.features.nll(batch.features, self.item_likelihood)
            loss = loss + self.content_weight * nll
        latent = output.z, output.mu, output.logvar
        n_content = output.z.shape[1] - self.n_components
        if self.between and n_content:
            loss = loss + self.between * dependence_between(*latent, n_content)
        if self.within:
            loss = loss + self.within * dependence_within(*latent, n_content)
        return loss


def dependence_between(
    z: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor, n_content: int
) -> torch.Tensor:
    """Estimate the mutual information of both latent vectors, in the mixture of a batch.

    Parameters
    ----------
    z : Tensor of shape (n_rows, n_latent)
        A sample of each row.
    mu, logvar : Tensor of shape (n_rows, n_latent)
        The normal distributions of the rows, whose mixture it is.
    n_content : int
        How many dimensions, the first ones, are of the content.

    Returns
    -------
    information : Tensor
        Mean of the logarithm of the ratio of the density and the product of both marginal ones.
    """
    return (log_mixture(z, mu, logvar) - _log_of_parts(z, mu, logvar, n_content)).mean()


def dependence_within(
    z: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor, n_content: int
) -> torch.Tensor:
    """Estimate the total correlations within both latent vectors in the same way, and add them."""
    marginals = _SumOfMarginals.apply(z, mu, logvar) / len(z)
    return _log_of_parts(z, mu, logvar, n_content).mean() - marginals


def _log_of_parts(
    z: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor, n_content: int
) -> torch.Tensor:
    """Return the log-density of the product of the mixtures of both latent vectors."""
    sizes = [size for size in (n_content, z.shape[1] - n_content) if size]
    parts = zip(*(one.split(sizes, dim=1) for one in (z, mu, logvar)), strict=True)
    return torch.stack([log_mixture(*part) for part in parts]).sum(dim=0)


class _SumOfMarginals(torch.autograd.Function):
    """Sum, over rows and dimensions, of the log-densities of a mixture in each dimension.

    Its gradients are computed in the forward pass, which needs one tensor of shape (n_latent,
    n_rows, n_rows) instead of the several that automatic differentiation would keep.
    """

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
        center = mu.mean(dim=0)
        z, mu, logvar = ((z - center).T, (mu - center).T, logvar.T)  # (n_latent, n_rows)
        precision = (-logvar).exp()
        width = precision.sqrt()
        r = torch.addcmul(-(mu * width)[:, None], z[:, :, None], width[:, None])
        r = r.square_().add_((logvar + LOG_2_PI)[:, None]).mul_(-0.5)  # log-densities
        top = r.amax(dim=2, keepdim=True)
        mass = r.sub_(top).exp_().sum(dim=2, keepdim=True)
        loss = (mass.log() + top).sum() - z.numel() * math.log(z.shape[1])
        r /= mass  # probability of each normal, given a point: (n_latent, points, normals)
        of_points = r @ torch.stack([precision, precision * mu], dim=2)
        of_normals = r.mT @ torch.stack([torch.ones_like(z), z, z.square()], dim=2)
        first, second = of_points.unbind(dim=2)
        s0, s1, s2 = of_normals.unbind(dim=2)
        deviation = s1 - mu * s0
        square = s2 - 2 * mu * s1 + mu.square() * s0
        ctx.save_for_backward(
            (second - z * first).T,
            (precision * deviation).T,
            (0.5 * (precision * square - s0)).T,
        )
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(gradient * grad_loss for gradient in ctx.saved_tensors)
