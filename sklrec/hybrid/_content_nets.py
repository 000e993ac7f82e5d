"""What the networks of CVAE and CDL share: their output and criterion."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from ..neural._losses import ItemScores, Likelihood
from ..neural._training._data import SparseBatch

# Glorot's weights for a tanh are multiplied by this for a sigmoid; see X. Glorot and Y. Bengio,
# "Understanding the Difficulty of Training Deep Feedforward Neural Networks", AISTATS 2010.
SIGMOID_GAIN = 4.0


@torch.no_grad()
def draw_for_sigmoids(*layers: Any) -> None:
    """Multiply the weights of layers before or after a sigmoid, which were drawn for a tanh.

    With the weights of a tanh, signals fade from layer to layer and latent dimensions collapse.
    """
    for layer in layers:
        layer.weight.mul_(SIGMOID_GAIN)


@torch.no_grad()
def adapt_to_content(first: Any, bias: torch.Tensor, F: sp.csr_array, likelihood: str) -> None:
    """Set weights of an autoencoder that depend on the content, before training.

    Parameters
    ----------
    first : SparseLinear
        The first layer. Its weights are multiplied as if an item had all the features that it has
        on average, and no others: of thousands of words, a title has a few.
    bias : Tensor of shape (n_features,)
        Biases of the features, which are set to what fits best without latent vector.
    F : CSR array of shape (n_items, n_features)
        The content.
    likelihood : {"logistic", "gaussian", "multinomial"}
        Likelihood of the features.
    """
    n_items, n_features = F.shape
    n_outputs = first.weight.shape[1]
    first.weight.mul_(np.sqrt((n_features + n_outputs) / (F.nnz / n_items + n_outputs)))
    count = np.bincount(F.indices, minlength=n_features)
    total = F.sum(axis=0)
    found = {
        "logistic": np.log((count + 0.5) / (n_items - count + 0.5)),
        "multinomial": np.log((total.clip(min=0) + 0.5) / (total.clip(min=0).sum() + 1)),
        "gaussian": total / n_items,
    }[likelihood]
    bias.copy_(torch.from_numpy(found))


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
