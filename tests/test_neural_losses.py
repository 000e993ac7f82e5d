"""Likelihoods and layers against dense torch and autograd."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import written_out
from scipy import stats

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from sklrec.neural._criteria import gaussian_kl  # noqa: E402
from sklrec.neural._elsa import OtherItemsScores  # noqa: E402
from sklrec.neural._huge_pages import mm_on_huge_pages  # noqa: E402
from sklrec.neural._losses import (  # noqa: E402
    DenseScores,
    FocalLoss,
    GaussianNLL,
    ItemScores,
    ProductScores,
    cosine_loss,
    logistic_nll,
    multinomial_nll,
)
from sklrec.neural._modules import Dense, SparseLinear, reset_parameters  # noqa: E402
from sklrec.neural._training._data import SparseRows  # noqa: E402


def dense_focal(scores, x):
    return written_out.focal_loss(scores.sigmoid(), x, 0.3, 1.7)


@pytest.fixture
def batch():
    X = sp.random_array((6, 15), density=0.3, format="csr", rng=np.random.default_rng(0))
    X.data = np.ceil(4 * X.data)
    batch = SparseRows(sp.csr_array(X))[torch.arange(6)]
    return batch._map(lambda t: t.double() if t.is_floating_point() else t)


@pytest.mark.parametrize(
    ("likelihood", "dense"),
    [
        (multinomial_nll, written_out.multinomial_nll),
        (logistic_nll, written_out.logistic_nll),
        (GaussianNLL(3.0), written_out.gaussian_nll(3)),
        (cosine_loss, written_out.cosine_loss),
        (FocalLoss(0.3, 1.7), dense_focal),
    ],
)
def test_likelihood_and_its_gradients_are_those_of_dense_torch(batch, likelihood, dense):
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in ((6, 4), (15, 4), (15,))
    )
    expected = dense(F.linear(hidden, weight, bias), batch.to_dense()).mean()
    found = ItemScores(hidden, weight, bias).nll(batch, likelihood)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(3 * found, (hidden, weight, bias)),
        torch.autograd.grad(3 * expected, (hidden, weight, bias)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("likelihood", "dense"),
    [
        (cosine_loss, written_out.cosine_loss),
        (FocalLoss(0.3, 1.7), dense_focal),
    ],
)
def test_gradient_by_dense_scores_is_that_of_dense_torch(batch, likelihood, dense):
    scores = torch.randn(6, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scores.requires_grad_()
    expected = 3 * dense(scores, batch.to_dense()).mean()
    found = 3 * DenseScores(scores.clone()).nll(batch, likelihood)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(expected, scores)
    torch.testing.assert_close(torch.autograd.grad(found, scores)[0], gradient)


def test_focal_loss_of_a_product_and_its_gradients_are_those_of_dense_torch(batch):
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias, others = (
        torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in ((6, 4), (15, 4), (15,), (6, 15))
    )
    p = F.linear(hidden, weight, bias).sigmoid() * others.sigmoid()
    expected = 3 * written_out.focal_loss(p, batch.to_dense(), 0.3, 1.7).mean()
    scores = ProductScores(ItemScores(hidden, weight, bias), DenseScores(others.clone()))
    torch.testing.assert_close(scores.dense(), p.log())
    found = 3 * scores.nll(batch, FocalLoss(0.3, 1.7))
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, (hidden, weight, bias, others)),
        torch.autograd.grad(expected, (hidden, weight, bias, others)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_focal_loss_without_focus_is_half_the_logistic_loss(batch):
    scores = torch.randn(6, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss, gradient = FocalLoss(alpha=0.5, gamma=0.0)(scores.clone(), batch)
    logistic, its_gradient = logistic_nll(scores, batch)
    torch.testing.assert_close(2 * loss, logistic)
    torch.testing.assert_close(2 * gradient, its_gradient)


@pytest.mark.parametrize("sign", [-1, 1])
def test_focal_losses_survive_scores_beyond_the_range_of_exp(batch, sign):
    def scores():
        return torch.full((6, 15), sign * 1e4, dtype=torch.float64)

    for outcome in (
        FocalLoss()(scores(), batch),
        FocalLoss().of_product(scores(), scores(), batch),
    ):
        assert all(torch.isfinite(values).all() for values in outcome)


def test_cosine_loss_of_long_scores_is_the_cosine_alone(batch):
    scores = torch.randn(6, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = 1 - F.cosine_similarity(scores, batch.to_dense()).mean()
    torch.testing.assert_close(cosine_loss(1e6 * scores, batch)[0], expected)


def test_cosine_loss_is_one_without_scores_or_items():
    x = SparseRows(sp.csr_array(np.eye(2, 5, k=1, dtype=np.float32)))[torch.arange(2)]
    loss, gradient = cosine_loss(torch.zeros(2, 5), x)
    assert loss == 1
    torch.testing.assert_close(gradient, -x.to_dense() / 2)
    empty = SparseRows(sp.csr_array((2, 5), dtype=np.float32))[torch.arange(2)]
    loss, gradient = cosine_loss(torch.zeros(2, 5), empty)
    assert loss == 1
    assert not gradient.any()


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


@pytest.mark.parametrize("dropout", [0, 0.5, 1 - 1e-9])
def test_sparse_layer_and_its_gradients_are_those_of_a_dense_one(batch, dropout):
    batch = replace(batch, generator=torch.Generator().manual_seed(0))
    batch = batch.dropout(dropout, training=True)
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


@pytest.mark.parametrize("layer", [SparseLinear(40, 60), Dense(40, 60)])
def test_weights_begin_uniform_by_the_rule_of_glorot_and_biases_next_to_zero(layer):
    with torch.no_grad():
        reset_parameters(layer, torch.Generator().manual_seed(0))
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    bound = np.sqrt(6 / (40 + 60))
    assert stats.kstest(weight.ravel(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.01
    assert stats.kstest(bias, stats.truncnorm(-2, 2, scale=0.001).cdf).pvalue > 0.01


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["with biases", "other items"])
def test_scores_are_written_where_they_are_wanted(kind, batch):
    rng = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 4, generator=rng, dtype=torch.float64) for n in (6, 15))
    if kind == "with biases":
        scores = ItemScores(hidden, weight, torch.randn(15, generator=rng, dtype=torch.float64))
    else:
        scores = OtherItemsScores(hidden, weight, batch)
    out = torch.full((6, 15), torch.nan, dtype=torch.float64)
    assert scores.dense(out) is out
    torch.testing.assert_close(out, scores.dense())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_on_huge_pages_are_those_of_torch_converted(dtype):
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=rng).to(dtype) for shape in ((30, 700), (700, 50)))
    product = mm_on_huge_pages(a, b, torch.float32)
    assert product.dtype == torch.float32
    assert product.is_contiguous()
    assert product.data_ptr() % 64 == 0
    torch.testing.assert_close(product, (a @ b).float(), rtol=1e-5, atol=1e-4)
    assert mm_on_huge_pages(a[:0], b, torch.float32).shape == (0, 50)
