"""What the networks of CVAE and CDL share: their output and criterion."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from ..neural._losses import ItemScores, Likelihood
from ..neural._training._data import SparseBatch


class ContentOutput(NamedTuple):
    """Output of a network for the content of a batch of items.

    Parameters
    ----------
    scores : ItemScores
        Scores of all features.
    distance : Tensor or None
        Squared distance of the content from the item factors, averaged over items; None in
        pretraining.
    kl : Tensor or None, default=None
        KL term of a variational autoencoder, averaged over items.
    """

    scores: ItemScores
    distance: torch.Tensor | None
    kl: torch.Tensor | None = None


class ContentLoss(nn.Module):
    """Loss of the content and of its distance from the item factors, averaged over items.

    Parameters
    ----------
    likelihood : Likelihood
        Negative log-likelihood of the features.
    weight : float
        Weight of the content.
    lambda_v : float
        Twice the weight of the distance.
    beta : float
        Weight of the KL term beside the likelihood.
    """

    def __init__(
        self, likelihood: Likelihood, weight: float, lambda_v: float, beta: float = 1.0
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.weight = weight
        self.lambda_v = lambda_v
        self.beta = beta

    def forward(self, output: ContentOutput, batch: SparseBatch) -> torch.Tensor:
        """Return the loss."""
        loss = output.scores.nll(batch, self.likelihood)
        if output.kl is not None:
            loss = loss + self.beta * output.kl
        loss = self.weight * loss
        if output.distance is not None:
            loss = loss + self.lambda_v / 2 * output.distance
        return loss
