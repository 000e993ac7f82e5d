"""The enhanced VAE against its equations, written out."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, logsumexp
from scipy.stats import kstest, norm
from written_out import (
    PassByHand,
    assert_trained_as_by_hand,
    encoder,
    gaussian_nll,
    hidden_layers,
    kl_to_standard,
    linear,
    log_normal,
    logistic_nll,
    multinomial_nll,
    some_users,
    unit_rows,
)

torch = pytest.importorskip("torch")

from sklrec.neural import HVampVAE, MultVAE  # noqa: E402
from sklrec.neural._criteria import log_mixture  # noqa: E402
from sklrec.neural._hvamp_vae import HVampVAEModule, gaussian  # noqa: E402
from sklrec.neural._modules import hidden_layers as made_hidden_layers  # noqa: E402
from sklrec.neural._modules import reset_parameters  # noqa: E402
from sklrec.neural._training._data import SparseRows  # noqa: E402

PRIORS = ["standard", "vamp", "hierarchical-vamp"]
SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (6,),
    "decoder_hidden_layer_sizes": None,
    "n_pseudo_inputs": 4,
    "max_epochs": 2,
    "batch_size": 12,
    "learning_rate": 1e-2,
    "random_state": 0,
}


class WrittenOut:
    """The objective of equations 18 to 21 of the paper with the sign turned.

    Parameters
    ----------
    model : HVampVAE
        Whose parameters are taken.
    nll : callable
        Negative log-likelihood of scores and rows, one number a user.
    """

    def __init__(self, model, nll=multinomial_nll):
        self.model, self.nll, self.gated = model, nll, model.gated
        self.n_steps = 0

    def loss(self, w, given, learnt, draws):
        """Return the mean over the users of a batch of reconstruction error and weighted KL."""
        x = self.thinned(given, draws)
        mu, logvar = split(encoder(w, "encoder", x, gated=self.gated))
        latent = z = mu + draws.normal(mu.shape) * (logvar / 2).exp()
        if self.model.prior == "standard":
            kl = kl_to_standard(mu, logvar)
        else:
            entropy = (0.5 + 0.5 * np.log(2 * np.pi) + logvar / 2).sum(dim=1)
            kl = -entropy - self.log_mixture(w, z)
        if self.model.prior == "hierarchical-vamp":
            given_z = z @ w["inner_given.weight"].T
            x = self.thinned(given, draws)  # anew
            mu_q, logvar_q = split(encoder(w, "inner_encoder", x, given_z, self.gated))
            mu_p, logvar_p = self.inner_prior(w, z)
            inner = mu_q + draws.normal(mu.shape) * (logvar_q / 2).exp()
            latent = torch.cat([inner, z], dim=1)
            kl = kl + (
                (logvar_p - logvar_q) / 2
                + (logvar_q.exp() + (mu_q - mu_p) ** 2) / (2 * logvar_p.exp())
                - 0.5
            ).sum(dim=1)
        beta = self.model.beta
        if self.model.n_annealing_steps:
            beta = min(self.n_steps / self.model.n_annealing_steps, beta)
        self.n_steps += 1
        return (self.nll(self.scores(w, latent), learnt) + beta * kl).mean()

    def thinned(self, given, draws):
        dropout = self.model.dropout
        return draws.thinned(unit_rows(given), dropout) if dropout else unit_rows(given)

    def log_mixture(self, w, z):
        """Return the log-density of the mixture of the posteriors of the pseudo-inputs."""
        u = unit_rows(w["pseudo_inputs"].clamp(0, 1))
        mu, logvar = split(encoder(w, "encoder", u, gated=self.gated))
        each = log_normal(z[:, None], mu, logvar).sum(dim=2)
        return each.exp().mean(dim=1).log()

    def inner_prior(self, w, z):
        """Return mean and log-variance of p(z1|z2), whose last layer is linear."""
        n_layers = sum(name.startswith("inner_prior.") for name in w) // 2
        last = f"inner_prior.{2 * (n_layers - 1)}"
        others = {name: weight for name, weight in w.items() if not name.startswith(last)}
        return split(linear(w, last, hidden_layers(others, "inner_prior", z, self.gated)))

    def scores(self, w, latent):
        return linear(w, "item_layer", hidden_layers(w, "decoder", latent, self.gated))

    def latent_means(self, w, x):
        """Return what the decoder reads at inference."""
        mu = split(encoder(w, "encoder", unit_rows(x), gated=self.gated))[0]
        if self.model.prior != "hierarchical-vamp":
            return mu
        given = mu @ w["inner_given.weight"].T
        inner = split(encoder(w, "inner_encoder", unit_rows(x), given, self.gated))[0]
        return torch.cat([inner, mu], dim=1)


def split(output):
    """Return mean and log-variance, which is kept between -12 and 4."""
    mu, logvar = output.chunk(2, dim=1)
    return mu, logvar.clamp(-12, 4)


@pytest.mark.parametrize(
    ("setting", "nll"),
    [
        ({"n_annealing_steps": 4, "dropout": 0.3}, multinomial_nll),
        ({"n_annealing_steps": 0, "dropout": 0.0, "gated": False}, multinomial_nll),
        ({"prior": "vamp", "n_annealing_steps": 0, "likelihood": "logistic"}, logistic_nll),
        (
            {
                "prior": "standard",
                "likelihood": "gaussian",
                "confidence": 3.0,
                "hidden_layer_sizes": (6, 5),
                "decoder_hidden_layer_sizes": (4,),
            },
            gaussian_nll(3),
        ),
    ],
)
def test_each_step_of_training_is_that_of_the_paper(setting, nll):
    model = HVampVAE(**{**SMALL, **setting})
    assert_trained_as_by_hand(model, some_users(), [PassByHand(WrittenOut(model, nll).loss)])


def test_gated_layer_is_a_linear_one_times_the_sigmoid_of_another():
    layer = made_hidden_layers([3, 2], gated=True)
    weight, bias = torch.arange(12.0).reshape(4, 3) / 10, torch.tensor([0.1, 0.2, 0.3, 0.4])
    layer.load_state_dict({"0.weight": weight, "0.bias": bias})
    # W = [[0, .1, .2], [.3, .4, .5]] and V = [[.6, .7, .8], [.9, 1, 1.1]] on x = (1, 2, -1).
    expected = [(0.0 + 0.1) * expit(1.2 + 0.3), (0.6 + 0.2) * expit(1.8 + 0.4)]
    found = layer(torch.tensor([[1.0, 2.0, -1.0]]))
    torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float32))


@pytest.mark.parametrize("offset", [0, 100])
def test_mixture_is_that_of_normal_densities_also_far_from_the_origin(offset):
    rng = np.random.default_rng(0)
    z, mu = rng.normal(offset, size=(5, 4)), rng.normal(offset, size=(7, 4))
    logvar = rng.normal(-1, size=(7, 4))
    each = norm.logpdf(z[:, None], mu, np.exp(logvar / 2)).sum(axis=2)
    expected = logsumexp(each, axis=1) - np.log(7)
    found = log_mixture(*(torch.tensor(array, dtype=torch.float32) for array in (z, mu, logvar)))
    assert_allclose(found, expected, rtol=1e-3 if offset else 1e-5)


def test_mixture_keeps_its_digits_under_autocast():
    z, mu, logvar = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = log_mixture(z, mu, logvar)
    torch.testing.assert_close(found, log_mixture(z, mu, logvar))


def test_log_variance_is_kept_between_its_limits():
    mu, logvar = gaussian(torch.tensor([[7.0, -20.0, -20.0, 9.0]]))
    assert mu.tolist() == [[7, -20]]
    assert logvar.tolist() == [[-12, 4]]


def small_module(*, prior="hierarchical-vamp", gated=True, sizes=(6, 5), decoder_sizes=(5, 6), n=4):
    """Return a module in float64, whose weights are far from the start, where terms are alike."""
    module = HVampVAEModule(
        n_items=12,
        n_components=3,
        hidden_layer_sizes=sizes,
        decoder_hidden_layer_sizes=decoder_sizes,
        dropout=0.0,
        gated=gated,
        n_pseudo_inputs=0 if prior == "standard" else n,
        hierarchical=prior == "hierarchical-vamp",
    ).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(0.1, 0.4, generator=generator)
    return module


@pytest.mark.parametrize("sizes", [((), ()), ((6,), (6,)), ((6, 5), (7,)), ((6, 5), ())])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("prior", PRIORS)
def test_scores_are_those_of_the_means_through_the_network_written_out(prior, gated, sizes):
    module = small_module(prior=prior, gated=gated, sizes=sizes[0], decoder_sizes=sizes[1]).eval()
    batch = SparseRows(some_users())[torch.arange(30)]
    batch = batch._map(lambda t: t.double() if t.is_floating_point() else t)
    net, w = WrittenOut(HVampVAE(prior=prior, gated=gated)), dict(module.named_parameters())
    with torch.no_grad():
        latent = net.latent_means(w, batch.to_dense())
        torch.testing.assert_close(module.encode(batch), latent)
        torch.testing.assert_close(module(batch).scores.dense(), net.scores(w, latent))


def test_kl_to_one_pseudo_input_is_the_mean_over_samples_of_that_of_two_gaussians():
    """Of a mixture of one, for which there is a closed form, by Monte Carlo."""
    module = small_module(prior="vamp", n=1)
    (mu_p,), (logvar_p,) = (tensor.detach() for tensor in module.pseudo_posteriors())
    mu, logvar = mu_p + 0.5, logvar_p - 1
    q, p = (
        torch.distributions.Normal(m, (v / 2).exp()) for m, v in ((mu, logvar), (mu_p, logvar_p))
    )
    expected = torch.distributions.kl_divergence(q, p).sum()
    noise = torch.randn(100_000, 3, generator=torch.Generator().manual_seed(0)).double()
    found = module.kl(
        mu + noise * (logvar / 2).exp(), *(t.expand(100_000, 3) for t in (mu, logvar))
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01)


@pytest.fixture(scope="module")
def X():
    return some_users()


@pytest.fixture(scope="module", params=PRIORS)
def model(request, X):
    return HVampVAE(**SMALL, prior=request.param).fit(X)


def test_scores_and_embeddings_of_a_fitted_model_are_those_of_its_network(model, X):
    net = WrittenOut(model)
    w = {name: weight.double() for name, weight in model.net_.module_.state_dict().items()}
    latent = net.latent_means(w, torch.from_numpy(X.toarray()))
    assert_allclose(model.transform(X), latent, atol=1e-5)
    known = np.diff(X.indptr) > 0
    assert_allclose(model.decision_function(X)[known], net.scores(w, latent)[known], atol=1e-5)


def test_features_are_named_and_two_latent_vectors_make_twice_as_many(model, X):
    n_features = 6 if model.prior == "hierarchical-vamp" else 3
    assert list(model.get_feature_names_out()) == [f"hvampvae{i}" for i in range(n_features)]
    assert model.transform(X).shape == (30, n_features)


def test_without_the_enhancements_the_network_is_that_of_mult_vae(X):
    setting = {**SMALL, "hidden_layer_sizes": (6, 5), "max_epochs": 1}
    plain = HVampVAE(**setting, prior="standard", gated=False).fit(X)
    for name in ("n_pseudo_inputs", "decoder_hidden_layer_sizes"):
        setting.pop(name)
    other = MultVAE(**setting).fit(X)
    plain.net_.module_.load_state_dict(other.net_.module_.state_dict())  # all names and shapes
    assert_array_equal(plain.decision_function(X), other.decision_function(X))


def test_pseudo_inputs_begin_as_normal_numbers_around_a_twentieth():
    module = small_module(prior="vamp", n=20)
    with torch.no_grad():
        reset_parameters(module, torch.Generator().manual_seed(0))
    u = module.pseudo_inputs.detach().numpy().ravel()
    assert kstest(u, norm(0.05, 0.01).cdf).pvalue > 0.01


def test_pseudo_inputs_below_0_count_as_0_and_above_1_as_1():
    module = small_module(prior="vamp")
    u = module.pseudo_inputs.data.mul_(2)
    assert u.min() < 0
    assert u.max() > 1
    torch.testing.assert_close(module.pseudo_users(), u.clip(0, 1))


def test_prediction_does_nothing_with_pseudo_inputs(X):
    model = HVampVAE(**SMALL).fit(X)
    scores = model.decision_function(X)
    model.net_.module_.pseudo_inputs.data.fill_(torch.nan)
    assert_array_equal(model.decision_function(X), scores)


def test_beta_of_each_epoch_is_in_the_history(X):
    model = HVampVAE(**SMALL, beta=0.25, n_annealing_steps=20).fit(X)  # 3 steps an epoch
    assert_allclose(model.net_.history[:, "beta"], [0.15, 0.25], rtol=1e-6)


def test_memory_check_counts_the_pseudo_inputs(X):
    huge = {**SMALL, "n_pseudo_inputs": 10**12}
    with pytest.raises(MemoryError, match="HVampVAE with 12,000,000,000,690 weights"):
        HVampVAE(**huge).fit(X)
    HVampVAE(**huge, prior="standard").fit(X)


@pytest.mark.parametrize(("decoder_sizes", "n_hidden"), [(None, 8), ((), 6), ([14, 12], 12)])
def test_decoder_has_its_own_sizes_or_mirrors_the_encoder(X, decoder_sizes, n_hidden):
    sizes = {"hidden_layer_sizes": (8, 9), "decoder_hidden_layer_sizes": decoder_sizes}
    model = HVampVAE(**{**SMALL, **sizes, "max_epochs": 1}).fit(X)
    assert model.item_embeddings_.shape == (12, n_hidden)


@pytest.mark.parametrize(
    "bad",
    [
        {"prior": "VampPrior"},
        {"gated": "yes"},
        {"n_pseudo_inputs": 0},
        {"n_pseudo_inputs": 1.5},
        {"likelihood": "bernoulli"},
        {"dropout": 1.0},
        {"beta": -0.1},
        {"beta": "peak"},
        {"n_annealing_steps": -1},
    ],
)
def test_bad_parameters_are_named(X, bad):
    (name,) = bad
    with pytest.raises(ValueError, match=f"The '{name}' parameter of HVampVAE"):
        HVampVAE(**{**SMALL, **bad}).fit(X)
