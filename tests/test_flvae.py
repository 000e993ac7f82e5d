"""FLVAE against its network written out, and what it learns from what."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from skorch.callbacks import Callback  # noqa: E402

from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.neural import FLVAE  # noqa: E402
from sklrec.neural._criteria import AnnealedELBO  # noqa: E402
from sklrec.neural._data import SparseRows  # noqa: E402
from sklrec.neural._losses import FocalLoss  # noqa: E402

SMALL = {
    "n_components": 8,
    "hidden_size": 16,
    "max_epochs": 3,
    "batch_size": 50,
    "learning_rate": 1e-2,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def X():
    return make_interactions(200, 60, random_state=0).data


def flvae_logits(x, w, n_encoder_layers, n_decoder_layers):
    """Return the latent mean and the logits of dense rows, by numpy, from a state dict."""

    def swish_and_norm(a, name):
        h = a / (1 + np.exp(-a))
        h = (h - h.mean(axis=1, keepdims=True)) / np.sqrt(h.var(axis=1, keepdims=True) + 1e-5)
        return h * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(h, name):
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    h = swish_and_norm(x @ w["encoder.first.weight"] + w["encoder.first.bias"], "encoder.norm")
    skipped = h
    for k in range(n_encoder_layers - 1):
        h = swish_and_norm(
            linear(h, f"encoder.rest.linear.{k}") + skipped, f"encoder.rest.norm.{k}"
        )
        skipped = skipped + h
    mu = linear(h, "encoder.last")[:, : w["encoder.last.bias"].size // 2]
    h, skipped = mu, 0
    for k in range(n_decoder_layers):
        h = swish_and_norm(linear(h, f"decoder.linear.{k}") + skipped, f"decoder.norm.{k}")
        skipped = skipped + h
    return mu, linear(h, "item_layer")


def weights_of(module):
    return {name: weight.double().numpy() for name, weight in module.state_dict().items()}


@pytest.mark.parametrize(("n_encoder_layers", "n_decoder_layers"), [(1, 1), (3, 2), (2, 0)])
def test_scores_are_those_of_the_network_written_out(X, n_encoder_layers, n_decoder_layers):
    layers = {"n_encoder_layers": n_encoder_layers, "n_decoder_layers": n_decoder_layers}
    model = FLVAE(**SMALL, **layers).fit(X)
    mu, logits = flvae_logits(X.toarray(), weights_of(model.net_.module_), *layers.values())
    assert_allclose(model.transform(X), mu, atol=1e-5)
    assert_allclose(model.decision_function(X), logits, atol=1e-5)


class Batches(Callback):
    """Collects what is given and what is to be learnt in each step."""

    def on_train_begin(self, net, **kwargs):
        self.seen = []

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        self.seen.append([half.to_dense().numpy() for half in batch])


def test_each_half_is_learnt_from_the_other(X):
    batches = Batches()
    FLVAE(callbacks=[batches], **SMALL).fit(X)
    assert len(batches.seen) == 3 * 2 * 4  # epochs, halves, batches of 50 users
    for first, second in zip(batches.seen[::2], batches.seen[1::2], strict=True):
        assert_array_equal(first, second[::-1])
        assert not (first[0] * first[1]).any()


def test_halves_are_all_of_each_user_and_new_in_each_epoch(X):
    batches = Batches()
    FLVAE(callbacks=[batches], **{**SMALL, "batch_size": 200}).fit(X)
    in_order = np.lexsort(X.toarray().T)
    halves = []
    for first, second in batches.seen[::2]:  # one step of each epoch; users are shuffled
        order = np.lexsort((first + second).T)
        assert_array_equal((first + second)[order], X.toarray()[in_order])
        halves.append(first[order])
    assert len(halves) == 3
    for one, other in itertools.pairwise(halves):
        assert (one != other).any(axis=1).mean() > 0.5


def test_without_augmentation_all_is_learnt_from_all(X):
    batches = Batches()
    FLVAE(augmentation=False, callbacks=[batches], **SMALL).fit(X)
    assert len(batches.seen) == 3 * 4
    for given, learnt in batches.seen:
        assert_array_equal(given, learnt)


def test_loss_is_the_focal_loss_plus_the_weighted_kl_term(X):
    """With an immovable network, of which an epoch of one batch gives one loss."""

    def loss(**setting):
        model = FLVAE(**{**SMALL, "max_epochs": 1, "batch_size": 200, **setting}, alpha=0.5)
        model.set_params(augmentation=False, gamma=0.0).fit(X)
        return model.loss_curve_[0]

    without, once, twice = (loss(beta=beta) for beta in (0.0, 0.5, 1.0))
    assert once > without
    assert_allclose(twice - without, 2 * (once - without), rtol=1e-4)


def test_loss_is_equation_5_at_a_sample_written_out(X):
    module = FLVAE(**SMALL, n_decoder_layers=1).fit(X).net_.module_.train()
    given, learnt = SparseRows(X)[torch.arange(20)].halved()
    torch.manual_seed(1)
    loss = AnnealedELBO(FocalLoss(0.3, 1.5), 0.2, 0)(module(given), learnt)
    torch.manual_seed(1)
    mu, logvar = module.encoder(given)
    z = mu + torch.randn_like(mu) * (logvar / 2).exp()
    p = module.item_layer(module.decoder(z)).dense().sigmoid().detach().double().numpy()
    mu, logvar = (t.detach().double().numpy() for t in (mu, logvar))
    kl = (np.exp(logvar) + mu**2 - 1 - logvar).sum(axis=1) / 2
    has = learnt.to_dense().numpy() > 0
    p_t, alpha_t = np.where(has, p, 1 - p), np.where(has, 0.3, 0.7)
    focal = -(alpha_t * (1 - p_t) ** 1.5 * np.log(p_t)).sum(axis=1)
    assert_allclose(loss.item(), (focal + 0.2 * kl).mean(), rtol=1e-4)


@pytest.mark.parametrize("augmentation", [True, False])
def test_loss_goes_down(X, augmentation):
    model = FLVAE(**SMALL, augmentation=augmentation).set_params(max_epochs=15).fit(X)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize("augmentation", [True, False])
def test_users_without_items_and_with_one_are_learnt_from(augmentation):
    X = sp.csr_array(np.vstack([np.zeros((3, 6)), np.eye(6), np.ones((4, 6))]))
    model = FLVAE(**SMALL, augmentation=augmentation).fit(X)
    assert np.isfinite(model.decision_function(X)).all()


def test_embeddings_are_named_after_the_model(X):
    model = FLVAE(**SMALL).fit(X)
    assert list(model.get_feature_names_out())[:2] == ["flvae0", "flvae1"]
    assert model.item_embeddings_.shape == (60, 8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_components", 0),
        ("hidden_size", 0),
        ("n_encoder_layers", 0),
        ("n_decoder_layers", -1),
        ("augmentation", "half"),
        ("alpha", 1.5),
        ("gamma", -1.0),
        ("beta", -0.1),
    ],
)
def test_bad_parameters_are_refused(X, name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of FLVAE"):
        FLVAE(**{name: value}).fit(X)
