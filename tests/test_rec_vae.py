"""RecVAE against its paper: objective, training in turns and scores written out."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import norm
from written_out import (
    Draws,
    PassByHand,
    assert_trained_as_by_hand,
    densely_connected_encoder,
    gaussian_nll,
    linear,
    log_normal,
    logistic_nll,
    multinomial_nll,
    some_users,
    unit_rows,
    weights_of,
)

torch = pytest.importorskip("torch")

from skorch.callbacks import Callback  # noqa: E402

from sklrec.neural import RecVAE  # noqa: E402
from sklrec.neural._modules import reset_parameters  # noqa: E402
from sklrec.neural._rec_vae import RecVAEModule  # noqa: E402
from sklrec.neural._training._data import SparseRows  # noqa: E402

SMALL = {
    "n_components": 4,
    "hidden_size": 6,
    "n_encoder_layers": 3,
    "max_epochs": 2,
    "batch_size": 12,
    "learning_rate": 1e-2,
    "random_state": 0,
}


class WrittenOut:
    """The objective of section 3 of the paper and the passes that minimise it.

    Parameters
    ----------
    model : RecVAE
        Whose parameters are taken.
    nll : callable
        Negative log-likelihood of scores and rows, one number a user.
    """

    def __init__(self, model, nll=multinomial_nll):
        self.model, self.nll = model, nll
        self.old = None

    def passes(self):
        """Return the passes of an epoch."""
        if not self.model.alternating:
            return [PassByHand(self.with_kl, before=self.renew)]
        encoder = PassByHand(self.with_kl, "encoder.", before=self.begin)
        decoder = PassByHand(self.without_kl, "item_layer.", before=self.renew)
        return self.model.n_encoder_epochs * [encoder] + self.model.n_decoder_epochs * [decoder]

    def begin(self, w):
        """Make the untrained posterior the old one."""
        if self.old is None:
            self.renew(w)

    def renew(self, w):
        """Make the posterior the old one."""
        self.old = {name: weight.detach().clone() for name, weight in w.items()}

    def with_kl(self, w, given, learnt, draws):
        """Return the loss where the encoder is trained: of a thinned input, with the KL term."""
        z, mu, logvar = self.posterior(w, given, draws, self.model.dropout)
        kl = (log_normal(z, mu, logvar) - self.log_prior(z, given)).sum(dim=1)
        gamma, beta = self.model.gamma, self.model.beta
        weight = gamma * learnt.sum(dim=1) if beta is None else beta
        return (self.nll(linear(w, "item_layer", z), learnt) + weight * kl).mean()

    def without_kl(self, w, given, learnt, draws):
        """Return the loss where the decoder is trained: of a whole input, without KL term."""
        z = self.posterior(w, given, draws, dropout=0)[0]
        return self.nll(linear(w, "item_layer", z), learnt).mean()

    def posterior(self, w, given, draws, dropout):
        """Return a sample of the latent vector, its mean and its log-variance."""
        x = draws.thinned(unit_rows(given), dropout) if dropout else unit_rows(given)
        mu, logvar = densely_connected_encoder(w, "encoder", x)
        return mu + draws.normal(mu.shape) * (logvar / 2).exp(), mu, logvar

    def log_prior(self, z, given):
        """Return the log-density of the mixture in each dimension."""
        with torch.no_grad():
            mu, logvar = densely_connected_encoder(self.old, "encoder", unit_rows(given))
        standard, old, wide = self.model.prior_weights
        zero = torch.zeros_like(z)
        density = (
            standard * log_normal(z, zero, zero).exp()
            + old * log_normal(z, mu, logvar).exp()
            + wide * log_normal(z, zero, zero + 10).exp()
        )
        return density.log()


@pytest.mark.parametrize(
    ("setting", "nll"),
    [
        ({"gamma": 0.05, "n_encoder_epochs": 2, "n_decoder_epochs": 2}, multinomial_nll),
        ({"beta": 0.3, "dropout": 0.2, "prior_weights": (0.2, 0.5, 0.3)}, multinomial_nll),
        ({"alternating": False, "gamma": 0.05, "likelihood": "logistic"}, logistic_nll),
        (
            {
                "likelihood": "gaussian",
                "confidence": 3.0,
                "dropout": 0.0,
                "prior_weights": (1, 0, 0),
                "n_encoder_layers": 1,
                "n_encoder_epochs": 1,
            },
            gaussian_nll(3),
        ),
    ],
)
def test_each_step_of_training_is_that_of_the_paper(setting, nll):
    model = RecVAE(**{**SMALL, **setting})
    assert_trained_as_by_hand(model, some_users(), WrittenOut(model, nll).passes())


def small_module(weights=(0.2, 0.5, 0.3)):
    module = RecVAEModule(12, 4, 6, 3, weights)
    with torch.no_grad():
        reset_parameters(module, torch.Generator().manual_seed(0))
        reset_parameters(module.encoder, torch.Generator().manual_seed(1))  # not the old one
    return module


@pytest.fixture
def batch():
    return SparseRows(some_users())[torch.arange(30)]


def test_kl_is_that_of_the_mixture_in_each_dimension(batch):
    """By scipy: a second method beside the one that training is compared with."""
    weights = (0.2, 0.5, 0.3)
    module = small_module(weights)
    draws = Draws(0)
    batch = replace(batch, generator=draws.generator)
    draws.begin_epoch(1)
    kl = module(batch).kl.detach()
    draws.begin_epoch(1)
    mu, logvar = (t.detach().double().numpy() for t in module.encoder(batch))
    old_mu, old_logvar = (t.double().numpy() for t in module.prior.old_encoder(batch))
    z = mu + draws.normal((30, 4)).numpy() * np.exp(logvar / 2)
    prior = [
        norm.logpdf(z),
        norm.logpdf(z, old_mu, np.exp(old_logvar / 2)),
        norm.logpdf(z, 0, np.exp(5)),
    ]
    log_p = logsumexp(prior, axis=0, b=np.reshape(weights, (3, 1, 1)))
    expected = (norm.logpdf(z, mu, np.exp(logvar / 2)) - log_p).sum(axis=1)
    assert_allclose(kl, expected, rtol=1e-3, atol=1e-5)


def test_prior_of_the_standard_normal_alone_has_no_old_encoder(batch):
    module = small_module((1, 0, 0))
    assert module.prior.old_encoder is None
    z = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    assert_allclose(module.prior(z, batch), norm.logpdf(z), rtol=1e-5)
    module.prior.renew(module.encoder)  # there is nothing to renew


class Spy(Callback):
    """Keeps all that the module holds before the first step and after each."""

    def on_train_begin(self, net, **kwargs):
        self.states = [self.copy(net)]

    def on_batch_end(self, net, **kwargs):
        self.states.append(self.copy(net))

    @staticmethod
    def copy(net):
        return {name: t.clone() for name, t in net.module_.state_dict().items()}


def moved(before, after):
    return {
        "prior" if name.startswith("prior.") else name.split(".")[0]
        for name in before
        if not torch.equal(before[name], after[name])
    }


def is_old(state, encoder):
    prefix = "prior.old_encoder."
    names = [name.removeprefix(prefix) for name in state if name.startswith(prefix)]
    assert names
    return all(torch.equal(state[prefix + name], encoder["encoder." + name]) for name in names)


def test_old_posterior_is_bit_by_bit_the_encoder_after_its_passes():
    spy = Spy()
    RecVAE(**{**SMALL, "batch_size": 30}, callbacks=[spy]).fit(some_users())  # 4 steps an epoch
    steps = [moved(a, b) for a, b in zip(spy.states, spy.states[1:], strict=False)]
    first_of_decoder = {"item_layer", "prior"}
    assert steps == 2 * [*(3 * [{"encoder"}]), first_of_decoder]
    assert all(is_old(state, spy.states[0]) for state in spy.states[:4])  # the untrained one
    assert all(is_old(state, spy.states[3]) for state in spy.states[4:8])
    assert is_old(spy.states[8], spy.states[7])


@pytest.mark.parametrize("n_layers", [1, 3])
def test_scores_are_those_of_the_mean_through_the_network_written_out(n_layers):
    X = some_users()
    model = RecVAE(**SMALL).set_params(n_encoder_layers=n_layers).fit(X)
    w = weights_of(model.net_)
    mu = densely_connected_encoder(w, "encoder", unit_rows(torch.from_numpy(X.toarray())))[0]
    assert_allclose(model.transform(X), mu, atol=1e-4)
    known = np.diff(X.indptr) > 0
    assert_allclose(
        model.decision_function(X)[known], linear(w, "item_layer", mu)[known], atol=1e-4
    )


def test_batches_of_users_without_items_are_learnt_from():
    X = sp.vstack([some_users(), sp.csr_array((40, 12))], format="csr")
    model = RecVAE(**SMALL).fit(X)
    assert np.isfinite(model.loss_curve_).all()
    assert np.isfinite(model.decision_function(X)).all()


@pytest.mark.parametrize("alternating", [True, False])
def test_training_goes_on_from_a_pickle_as_without_it(alternating):
    X = some_users()
    half = RecVAE(**SMALL, alternating=alternating, warm_start=True).fit(X)
    loaded = pickle.loads(pickle.dumps(half))
    half.set_params(max_epochs=3).fit(X)
    loaded.set_params(max_epochs=3).fit(X)
    expected, found = (model.net_.module_.state_dict() for model in (half, loaded))
    assert expected.keys() == found.keys()
    for name in expected:
        assert_array_equal(expected[name], found[name], err_msg=name)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.5, 0.6, 0.1), (1.2, -0.2, 0.0), (1, np.nan, 0)])
def test_prior_weights_must_be_three_shares(weights):
    with pytest.raises(ValueError, match="three non-negative numbers with the sum 1, got"):
        RecVAE(**SMALL, prior_weights=weights).fit(some_users())
