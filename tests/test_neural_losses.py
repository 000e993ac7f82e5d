"""Likelihoods and layers against dense torch and autograd."""

import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from sklrec.neural._data import SparseRows  # noqa: E402
from sklrec.neural._losses import (  # noqa: E402
    GaussianNLL,
    ItemScores,
    gaussian_kl,
    logistic_nll,
    multinomial_nll,
)
from sklrec.neural._modules import SparseLinear  # noqa: E402


def dense_multinomial(scores, x):
    return -(F.log_softmax(scores, dim=1) * x).sum(dim=1).mean()


def dense_logistic(scores, x):
    target = (x > 0).to(scores.dtype)
    return F.binary_cross_entropy_with_logits(scores, target, reduction="none").sum(dim=1).mean()


def dense_gaussian(scores, x):
    weight = torch.where(x > 0, 3.0, 1.0)
    return (weight / 2 * (x - scores) ** 2).sum(dim=1).mean()


@pytest.fixture
def batch():
    X = sp.random_array((6, 15), density=0.3, format="csr", rng=np.random.default_rng(0))
    X.data = np.ceil(4 * X.data)
    batch = SparseRows(sp.csr_array(X))[torch.arange(6)]
    return batch._map(lambda t: t.double() if t.is_floating_point() else t)


@pytest.mark.parametrize(
    ("likelihood", "dense"),
    [
        (multinomial_nll, dense_multinomial),
        (logistic_nll, dense_logistic),
        (GaussianNLL(3.0), dense_gaussian),
    ],
)
def test_likelihood_and_its_gradients_are_those_of_dense_torch(batch, likelihood, dense):
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in ((6, 4), (15, 4), (15,))
    )
    expected = dense(F.linear(hidden, weight, bias), batch.to_dense())
    found = ItemScores(hidden, weight, bias).nll(batch, likelihood)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(3 * found, (hidden, weight, bias)),
        torch.autograd.grad(3 * expected, (hidden, weight, bias)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_multinomial_likelihood_survives_scores_beyond_the_range_of_exp(batch):
    scores = torch.full((6, 15), 1e4, dtype=torch.float64)
    loss, gradient = multinomial_nll(scores, batch)
    torch.testing.assert_close(loss, np.log(15) * batch.total.mean())
    assert torch.isfinite(gradient).all()


def test_kl_is_that_of_torch_distributions():
    mu, logvar = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    q = torch.distributions.Normal(mu, (logvar / 2).exp())
    p = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
    expected = torch.distributions.kl_divergence(q, p).sum(dim=1).mean()
    torch.testing.assert_close(gaussian_kl(mu, logvar), expected)


def test_sparse_layer_and_its_gradients_are_those_of_a_dense_one(batch):
    layer = SparseLinear(15, 4).double()
    output = layer(batch)
    expected = batch.to_dense() @ layer.weight + layer.bias
    torch.testing.assert_close(output, expected)
    towards = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(
        torch.autograd.grad(output, (layer.weight, layer.bias), towards),
        torch.autograd.grad(expected, (layer.weight, layer.bias), towards),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
