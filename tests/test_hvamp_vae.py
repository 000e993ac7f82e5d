"""The enhanced VAE against its equations, written out."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, log_softmax, logsumexp
from scipy.stats import norm

torch = pytest.importorskip("torch")

from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.neural import HVampVAE, MultVAE  # noqa: E402
from sklrec.neural._criteria import AnnealedELBO, log_mixture  # noqa: E402
from sklrec.neural._data import SparseRows  # noqa: E402
from sklrec.neural._hvamp_vae import HVampVAEModule, gaussian  # noqa: E402
from sklrec.neural._losses import multinomial_nll  # noqa: E402
from sklrec.neural._modules import hidden_layers  # noqa: E402

PRIORS = ["standard", "vamp", "hierarchical-vamp"]
SMALL = {
    "n_components": 8,
    "hidden_layer_sizes": (16,),
    "n_pseudo_inputs": 10,
    "max_epochs": 4,
    "batch_size": 50,
    "learning_rate": 1e-2,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def X():
    return make_interactions(200, 60, random_state=0).data


class WrittenOut:
    """The network of a module in numpy, in float64."""

    def __init__(self, module):
        state = module.state_dict()
        self.w = {name: weight.double().numpy() for name, weight in state.items()}

    def layers(self, name, h, gated, *, linear_at_end=False):
        n_layers = sum(key.startswith(f"{name}.") and key.endswith("weight") for key in self.w)
        for layer in range(n_layers):
            h = h @ self.w[f"{name}.{2 * layer}.weight"].T + self.w[f"{name}.{2 * layer}.bias"]
            if not linear_at_end or layer < n_layers - 1:
                h = activation(h, gated)
        return h

    def encoder(self, name, x, gated, given=0):
        h = x @ self.w[f"{name}.first.weight"] + self.w[f"{name}.first.bias"] + given
        layer = 1
        while f"{name}.hidden.{layer}.weight" in self.w:
            h = activation(h, gated) @ self.w[f"{name}.hidden.{layer}.weight"].T
            h += self.w[f"{name}.hidden.{layer}.bias"]
            layer += 2
        return np.split(h, 2, axis=1)

    def inner_encoder(self, x, z, gated):
        return self.encoder("inner_encoder", x, gated, z @ self.w["inner_given.weight"].T)

    def scores(self, latent, gated):
        h = self.layers("decoder", latent, gated)
        return h @ self.w["item_layer.weight"].T + self.w["item_layer.bias"]


def activation(h, gated):
    if not gated:
        return np.tanh(h)
    linear, gate = np.split(h, 2, axis=1)
    return linear * expit(gate)


def unit_rows(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def test_gated_layer_is_a_linear_one_times_the_sigmoid_of_another():
    layer = hidden_layers([3, 2], gated=True)
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


def small_module(*, prior="hierarchical-vamp", gated=True, sizes=(6, 5), n_pseudo_inputs=4):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = HVampVAEModule(
            n_items=12,
            n_components=3,
            hidden_layer_sizes=sizes,
            decoder_hidden_layer_sizes=sizes[::-1],
            dropout=0.0,
            gated=gated,
            n_pseudo_inputs=0 if prior == "standard" else n_pseudo_inputs,
            hierarchical=prior == "hierarchical-vamp",
        )
        for parameter in module.parameters():  # far from the start, where terms are alike
            parameter.data += 0.3 * torch.randn(parameter.shape)
    return module.double()


def batch_of(X):
    batch = SparseRows(sp.csr_array(X))[torch.arange(X.shape[0])]
    return batch._map(lambda t: t.double() if t.is_floating_point() else t)


@pytest.mark.parametrize("sizes", [(), (6,), (6, 5)])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("prior", PRIORS)
def test_loss_has_the_terms_of_equations_18_to_21(prior, gated, sizes):
    """Reconstruction, entropy and cross entropy, and p(z1|z2), at the same noise."""
    module = small_module(prior=prior, gated=gated, sizes=sizes)
    X = (np.random.default_rng(0).random((5, 12)) < 0.4).astype(float)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        output = module(batch_of(X))
        torch.manual_seed(1)
        noise, inner_noise = (torch.randn(5, 3, dtype=torch.float64).numpy() for _ in range(2))
    criterion = AnnealedELBO(multinomial_nll, beta=0.7, n_annealing_steps=0)
    loss = criterion(output, batch_of(X)).item()

    net, x = WrittenOut(module), unit_rows(X)
    mu, logvar = net.encoder("encoder", x, gated)
    scale = np.exp(logvar.clip(-12, 4) / 2)
    latent = z = mu + noise * scale
    if prior == "standard":
        kl = (-np.log(scale) + (scale**2 + mu**2 - 1) / 2).sum(axis=1)
    else:
        u = unit_rows(net.w["pseudo_inputs"].clip(0, 1))
        mu_k, logvar_k = net.encoder("encoder", u, gated)
        each = norm.logpdf(z[:, None], mu_k, np.exp(logvar_k.clip(-12, 4) / 2)).sum(axis=2)
        kl = -norm.entropy(mu, scale).sum(axis=1) - (logsumexp(each, axis=1) - np.log(4))
    if prior == "hierarchical-vamp":
        mu_q, logvar_q = net.inner_encoder(x, z, gated)
        mu_p, logvar_p = np.split(
            net.layers("inner_prior", z, gated, linear_at_end=True), 2, axis=1
        )
        q, p = np.exp(logvar_q.clip(-12, 4) / 2), np.exp(logvar_p.clip(-12, 4) / 2)
        kl += (np.log(p / q) + (q**2 + (mu_q - mu_p) ** 2) / (2 * p**2) - 0.5).sum(axis=1)
        latent = np.hstack([mu_q + inner_noise * q, z])
    nll = -(X * log_softmax(net.scores(latent, gated), axis=1)).sum(axis=1)
    assert_allclose(loss, (nll + 0.7 * kl).mean(), rtol=1e-5)


def test_kl_to_one_pseudo_input_is_the_mean_over_samples_of_that_of_two_gaussians():
    """Of a mixture of one, for which there is a closed form, by Monte Carlo."""
    module = small_module(prior="vamp", n_pseudo_inputs=1)
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


@pytest.mark.parametrize("decoder_sizes", [None, (), (12, 14)])
@pytest.mark.parametrize("sizes", [(), (16,), (16, 12)])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("prior", PRIORS)
def test_scores_and_embeddings_are_those_of_the_network_written_out(
    X, prior, gated, sizes, decoder_sizes
):
    setting = {**SMALL, "hidden_layer_sizes": sizes, "max_epochs": 1}
    setting["decoder_hidden_layer_sizes"] = decoder_sizes
    model = HVampVAE(**setting, prior=prior, gated=gated).fit(X)
    net, x = WrittenOut(model.net_.module_), unit_rows(X.toarray())
    latent = net.encoder("encoder", x, gated)[0]
    if prior == "hierarchical-vamp":
        latent = np.hstack([net.inner_encoder(x, latent, gated)[0], latent])
    assert_allclose(model.transform(X), latent, atol=1e-5)
    assert_allclose(model.decision_function(X), net.scores(latent, gated), atol=1e-5)


@pytest.mark.parametrize("sizes", [(), (16,), (16, 12)])
def test_without_the_enhancements_the_network_is_that_of_mult_vae(X, sizes):
    setting = {**SMALL, "hidden_layer_sizes": sizes, "max_epochs": 1}
    plain = HVampVAE(**setting, prior="standard", gated=False).fit(X)
    setting.pop("n_pseudo_inputs")
    other = MultVAE(**setting).fit(X)
    plain.net_.module_.load_state_dict(other.net_.module_.state_dict())  # all names and shapes
    assert_array_equal(plain.decision_function(X), other.decision_function(X))


@pytest.mark.parametrize("prior", ["vamp", "hierarchical-vamp"])
def test_pseudo_inputs_are_trained_and_stay_between_0_and_1(X, prior):
    model = HVampVAE(**{**SMALL, "learning_rate": 0.05}, prior=prior).fit(X)
    module = model.net_.module_
    users = module.pseudo_users().detach().numpy()
    assert users.min() >= 0
    assert users.max() <= 1
    assert module.pseudo_inputs.min() < 0  # where the limits did matter
    assert users.std() > 0.02  # the standard deviation of the start is .01


def test_prediction_does_nothing_with_pseudo_inputs(X):
    model = HVampVAE(**SMALL).fit(X)
    scores = model.decision_function(X)
    model.net_.module_.pseudo_inputs.data.fill_(torch.nan)
    assert_array_equal(model.decision_function(X), scores)


def test_beta_grows_by_one_over_the_steps_up_to_its_cap(X):
    model = HVampVAE(**SMALL, beta=0.1, n_annealing_steps=100).fit(X)  # 4 steps an epoch
    assert_allclose(model.net_.history[:, "beta"], [0.04, 0.08, 0.1, 0.1], rtol=1e-6)


@pytest.mark.parametrize("likelihood", ["multinomial", "gaussian", "logistic"])
@pytest.mark.parametrize("prior", PRIORS)
def test_loss_goes_down_with_every_prior_and_likelihood(X, prior, likelihood):
    model = HVampVAE(**{**SMALL, "max_epochs": 15}, prior=prior, likelihood=likelihood).fit(X)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize("prior", PRIORS)
def test_users_without_items_are_learnt_from_and_scored_without_nan(X, prior):
    X = sp.vstack([X[:50], sp.csr_array((10, 60))], format="csr")
    model = HVampVAE(**SMALL, prior=prior).fit(X)
    assert np.isfinite(model.loss_curve_).all()
    assert np.isfinite(model.decision_function(X)).all()


def test_two_latent_vectors_make_twice_the_features(X):
    model = HVampVAE(**SMALL).fit(X)
    names = model.get_feature_names_out()
    assert list(names[:2]) == ["hvampvae0", "hvampvae1"]
    assert len(names) == 16
    assert model.set_params(prior="vamp").fit(X).transform(X).shape == (200, 8)


def test_memory_check_counts_the_pseudo_inputs(X):
    huge = {**SMALL, "n_pseudo_inputs": 10**12}
    with pytest.raises(MemoryError, match="HVampVAE with 60,000,000,006,828 weights"):
        HVampVAE(**huge).fit(X)
    HVampVAE(**huge, prior="standard").fit(X)


@pytest.mark.parametrize(
    ("decoder_sizes", "n_hidden"), [(None, 18), ((), 16), ((12,), 12), ([14, 12], 12)]
)
def test_decoder_mirrors_the_encoder_unless_it_has_sizes_of_its_own(X, decoder_sizes, n_hidden):
    setting = {**SMALL, "hidden_layer_sizes": (18, 20), "max_epochs": 1}
    model = HVampVAE(**setting, decoder_hidden_layer_sizes=decoder_sizes).fit(X)
    assert model.item_embeddings_.shape == (60, n_hidden)


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
