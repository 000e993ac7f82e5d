"""RecVAE against its paper, written out in numpy: what moves when, the prior, the weights."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import norm

torch = pytest.importorskip("torch")

from skorch.callbacks import Callback  # noqa: E402

from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.neural import RecVAE  # noqa: E402
from sklrec.neural._criteria import Output  # noqa: E402
from sklrec.neural._data import SparseRows  # noqa: E402
from sklrec.neural._losses import multinomial_nll  # noqa: E402
from sklrec.neural._rec_vae import RecVAEModule, UserWeightedELBO  # noqa: E402

SMALL = {
    "n_components": 8,
    "hidden_size": 16,
    "n_encoder_layers": 3,
    "max_epochs": 2,
    "batch_size": 50,
    "learning_rate": 1e-2,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def X():
    return make_interactions(150, 40, random_state=0).data


@pytest.fixture
def batch(X):
    return SparseRows(X)[torch.arange(10)]


def small_module(weights=(0.2, 0.5, 0.3)):
    torch.manual_seed(0)
    module = RecVAEModule(40, 8, 16, 3, weights)
    other = RecVAEModule(40, 8, 16, 3, weights)
    if weights[1]:
        module.prior.renew(other.encoder)  # else old and new posterior are the same
    return module


def copied(state):
    return {name: weight.clone() for name, weight in state.items()}


class Spy(Callback):
    """Keeps the weights before each pass and after the last, and what the modules put out."""

    def __init__(self):
        self.passes, self.states = [], []

    def on_pass_begin(self, net, part, **kwargs):
        self.passes.append(part)
        self.states.append(copied(net.module_.state_dict()))

    def on_epoch_end(self, net, **kwargs):
        self.states.append(copied(net.module_.state_dict()))


def moved(before, after):
    return {
        "prior" if name.startswith("prior.") else name.split(".")[0]
        for name in before
        if not torch.equal(before[name], after[name])
    }


def same(state, prefix, other, other_prefix):
    names = [name.removeprefix(prefix) for name in state if name.startswith(prefix)]
    assert names
    return all(torch.equal(state[prefix + name], other[other_prefix + name]) for name in names)


@pytest.mark.parametrize("n_layers", [1, 2, 5])
def test_scores_are_those_of_the_network_written_out(X, n_layers):
    model = RecVAE(**SMALL).set_params(n_encoder_layers=n_layers).fit(X)
    w = {name: t.double().numpy() for name, t in model.net_.module_.state_dict().items()}

    def swish_norm(a, name):
        a = a / (1 + np.exp(-a))
        a = (a - a.mean(axis=1, keepdims=True)) / np.sqrt(a.var(axis=1, keepdims=True) + 1e-5)
        return a * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = X.toarray()
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    hs = [swish_norm(x @ w["encoder.first.weight"] + w["encoder.first.bias"], "encoder.norm")]
    for i in range(n_layers - 1):
        linear = f"encoder.rest.linear.{i}"
        a = hs[-1] @ w[f"{linear}.weight"].T + w[f"{linear}.bias"] + sum(hs)
        hs.append(swish_norm(a, f"encoder.rest.norm.{i}"))
    mu = (hs[-1] @ w["encoder.last.weight"].T + w["encoder.last.bias"])[:, :8]
    assert_allclose(model.transform(X), mu, atol=1e-4)
    expected = mu @ w["item_layer.weight"].T + w["item_layer.bias"]
    assert_allclose(model.decision_function(X), expected, atol=1e-4)


def test_passes_train_the_encoder_and_then_the_decoder(X):
    spy = Spy()
    RecVAE(**SMALL, n_encoder_epochs=3, n_decoder_epochs=2, callbacks=[spy]).fit(X)
    epoch = ["encoder"] * 3 + ["decoder"] * 2
    assert spy.passes == 2 * epoch
    # Weights before each pass: between them lies that pass, and what happens before the next.
    steps = [moved(a, b) for a, b in zip(spy.states, spy.states[1:], strict=False)]
    first = [{"encoder"}, {"encoder"}, {"encoder", "prior"}, {"item_layer"}, {"item_layer"}]
    assert steps == [*first, set(), *first]  # nothing happens between the epochs


def test_old_posterior_is_the_encoder_after_its_passes_bit_by_bit(X):
    spy = Spy()
    RecVAE(**SMALL, callbacks=[spy]).fit(X)
    assert spy.passes[:4] == ["encoder"] * 3 + ["decoder"]
    for before_decoder in (spy.states[3], spy.states[8]):
        assert same(before_decoder, "prior.old_encoder.", before_decoder, "encoder.")
    for before_encoder in spy.states[5:8]:  # all passes of the second epoch
        assert same(before_encoder, "prior.old_encoder.", spy.states[3], "encoder.")


def test_old_posterior_is_at_first_the_untrained_encoder(X):
    spy = Spy()
    RecVAE(**SMALL, callbacks=[spy]).fit(X)
    untrained, *later = spy.states[:3]
    for state in (untrained, *later):
        assert same(state, "prior.old_encoder.", untrained, "encoder.")


def test_without_alternation_a_pass_trains_both_after_the_posterior_is_renewed(X):
    spy = Spy()
    RecVAE(**SMALL, alternating=False, callbacks=[spy]).fit(X)
    assert spy.passes == ["both", "both"]
    first, _, second, last = spy.states
    assert moved(first, second) == {"encoder", "item_layer", "prior"}
    for state in (first, second):
        assert same(state, "prior.old_encoder.", state, "encoder.")
    assert same(last, "prior.old_encoder.", second, "encoder.")


def test_kl_is_that_of_the_mixture_in_each_dimension(batch):
    weights = (0.2, 0.5, 0.3)
    module = small_module(weights)
    torch.manual_seed(1)
    kl = module(batch).kl.detach()
    torch.manual_seed(1)
    mu, logvar = (t.detach().double().numpy() for t in module.encoder(batch))
    noise = torch.randn(10, 8).double().numpy()
    old_mu, old_logvar = (t.double().numpy() for t in module.prior.old_encoder(batch))
    z = mu + noise * np.exp(logvar / 2)
    prior = [
        norm.logpdf(z),
        norm.logpdf(z, old_mu, np.exp(old_logvar / 2)),
        norm.logpdf(z, 0, np.exp(5)),
    ]
    log_p = logsumexp(prior, axis=0, b=np.reshape(weights, (3, 1, 1)))
    expected = (norm.logpdf(z, mu, np.exp(logvar / 2)) - log_p).sum(axis=1)
    assert_allclose(kl, expected, rtol=1e-4)


def test_prior_of_the_standard_normal_alone_has_no_old_encoder(batch):
    module = small_module((1, 0, 0))
    assert module.prior.old_encoder is None
    z = torch.randn(10, 8)
    assert_allclose(module.prior(z, batch), norm.logpdf(z), rtol=1e-5)
    module.prior.renew(module.encoder)  # there is nothing to renew


def test_old_posterior_is_of_the_whole_input_and_not_trained(batch):
    module = small_module()
    z = torch.randn(10, 8)
    assert torch.equal(module.prior(z, batch), module.prior(z, batch))  # no dropout
    assert not module.prior(z, batch).requires_grad
    assert all(name.startswith(("encoder.", "item_")) for name, _ in module.named_parameters())


@pytest.mark.parametrize("alternating", [True, False])
def test_only_passes_that_train_the_encoder_thin_its_input(X, alternating):
    net = RecVAE(**SMALL, alternating=alternating, dropout=0.3).fit(X).net_
    thinned = {one.part: one.options.get("dropout", 0) for one in net.passes}
    assert thinned == ({"encoder": 0.3, "item_layer": 0} if alternating else {"": 0.3})


@pytest.mark.parametrize("thinned", [True, False])
def test_the_input_of_the_encoder_is_thinned_and_that_of_the_old_one_is_not(batch, thinned):
    module = small_module()
    seen = []
    for encoder in (module.encoder, module.prior.old_encoder):
        encoder.first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].values))
    module(batch, dropout=0.5 if thinned else 0)
    whole = batch.normalized().values
    kept = seen[0] != 0
    assert kept.all() == (not thinned)
    assert_allclose(seen[0][kept], (2 if thinned else 1) * whole[kept], rtol=1e-6)
    assert all(torch.equal(values, whole) for values in seen[1:])  # of the old encoder


def test_decoder_passes_have_a_sample_of_the_whole_input_and_no_kl(batch):
    module = small_module()
    torch.manual_seed(1)
    output = module(batch, with_kl=False)
    torch.manual_seed(1)
    mu, logvar = module.encoder(batch)
    z = mu + torch.randn(10, 8) * (logvar / 2).exp()
    assert torch.equal(output.scores.hidden, z)
    assert output.kl is None


def test_kl_weighs_gamma_for_each_interaction_of_a_user(batch):
    output = Output(small_module()(batch).scores, torch.arange(10.0))
    loss = UserWeightedELBO(multinomial_nll, gamma=0.3, beta=None)(output, batch)
    alone = UserWeightedELBO(multinomial_nll, gamma=0.3, beta=None)(output._replace(kl=None), batch)
    total = batch.to_dense().sum(dim=1)
    assert len(set(total.tolist())) > 1
    assert_allclose((loss - alone).item(), 0.3 * (total @ torch.arange(10.0)) / 10, rtol=1e-4)


def test_beta_weighs_the_kl_of_all_users_alike(batch):
    output = Output(small_module()(batch).scores, torch.arange(10.0))
    loss = UserWeightedELBO(multinomial_nll, gamma=9.0, beta=0.3)(output, batch)
    alone = multinomial_nll(output.scores.dense(), batch)[0]
    assert_allclose((loss - alone).item(), 0.3 * 4.5, rtol=1e-4)


@pytest.mark.parametrize("setting", [{}, {"beta": 0.2}, {"alternating": False}])
def test_users_without_items_are_learned_from_and_scored_alike(X, setting):
    X = sp.vstack([X, sp.csr_array((60, 40))], format="csr")  # more than a batch of them
    model = RecVAE(**SMALL, **setting).fit(X)
    assert np.isfinite(model.loss_curve_).all()
    scores = model.decision_function(X[-2:])
    assert np.isfinite(scores).all()
    assert_array_equal(scores[0], scores[1])


@pytest.mark.parametrize("likelihood", ["multinomial", "gaussian", "logistic"])
def test_loss_goes_down_with_every_likelihood(X, likelihood):
    model = RecVAE(**SMALL, likelihood=likelihood).set_params(max_epochs=8).fit(X)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize("alternating", [True, False])
def test_training_goes_on_from_a_pickle_as_without_it(X, alternating):
    half = RecVAE(**SMALL, alternating=alternating, warm_start=True).fit(X)
    loaded = pickle.loads(pickle.dumps(half))
    half.set_params(max_epochs=3).fit(X)
    loaded.set_params(max_epochs=3).fit(X)
    expected, found = (model.net_.module_.state_dict() for model in (half, loaded))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.5, 0.6, 0.1), (1.2, -0.2, 0.0), (1, np.nan, 0)])
def test_prior_weights_must_be_three_shares(X, weights):
    with pytest.raises(ValueError, match="three non-negative numbers with the sum 1, got"):
        RecVAE(**SMALL, prior_weights=weights).fit(X)
