"""CondVAE: the condition, training and scores written out, and what is left without features."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from written_out import (
    PassByHand,
    assert_trained_as_by_hand,
    encoder,
    hidden_layers,
    kl_to_standard,
    linear,
    multinomial_nll,
    some_users,
    unit_rows,
    weights_of,
)

torch = pytest.importorskip("torch")

from sklrec.hybrid import CondVAE  # noqa: E402
from sklrec.neural import MultVAE  # noqa: E402
from sklrec.persistence import load, save  # noqa: E402

SMALL = {
    "n_components": 4,
    "hidden_layer_sizes": (6,),
    "max_epochs": 2,
    "batch_size": 12,
    "learning_rate": 1e-2,
    "random_state": 0,
}


@pytest.fixture
def F():
    """Return features of 12 items, of either sign, one without any."""
    rng = np.random.default_rng(1)
    F = rng.normal(size=(12, 7)) * (rng.random((12, 7)) < 0.6)
    F[5] = 0
    return F


def through_the_network(w, x, F):
    """Return mean and log-variance of users, and a function from latent vectors to scores."""
    features = unit_rows(torch.from_numpy(F))
    owned = (x != 0).double()
    c = owned @ features / owned.sum(dim=1, keepdim=True).clamp(min=1)
    mapped = c @ w["map.weight"]
    of_encoder, of_decoder = mapped[:, :-4], mapped[:, -4:]
    mu, logvar = encoder(w, "encoder", x, given=of_encoder).chunk(2, dim=1)

    def scores(z):
        h = hidden_layers(w, "decoder", torch.cat([z, of_decoder], dim=1))
        return linear(w, "item_layer", h)

    return mu, logvar, scores


@pytest.mark.parametrize("sizes", [(), (6,), (6, 5)])
def test_each_step_of_training_is_that_of_the_conditional_elbo(sizes, F):
    steps = 0

    def objective(w, given, learnt, draws):
        nonlocal steps
        x = draws.thinned(unit_rows(given), 0.5)
        mu, logvar, scores = through_the_network(w, x, F)
        z = mu + draws.normal(mu.shape) * (logvar / 2).exp()
        steps += 1
        beta = min((steps - 1) / 5, 0.6)
        return (multinomial_nll(scores(z), learnt) + beta * kl_to_standard(mu, logvar)).mean()

    model = CondVAE(**{**SMALL, "hidden_layer_sizes": sizes}, beta=0.6, n_annealing_steps=5)
    assert_trained_as_by_hand(model, some_users(), [PassByHand(objective)], item_features=F)


@pytest.mark.parametrize("sizes", [(), (6,)])
def test_scores_are_those_of_the_mean_through_the_network_written_out(sizes, F):
    X = some_users()
    model = CondVAE(**{**SMALL, "hidden_layer_sizes": sizes}).fit(X, item_features=sp.csr_array(F))
    mu, _, scores = through_the_network(
        weights_of(model.net_), unit_rows(torch.from_numpy(X.toarray())), F
    )
    known = np.diff(X.indptr) > 0
    assert_allclose(model.transform(X), mu, atol=1e-5)
    assert_allclose(model.decision_function(X)[known], scores(mu)[known], atol=1e-5)


def test_without_features_it_is_mult_vae_bit_by_bit():
    X = some_users()
    expected = MultVAE(**SMALL).fit(X).decision_function(X)
    assert_array_equal(CondVAE(**SMALL).fit(X).decision_function(X), expected)


def test_items_without_interactions_are_read_by_their_features(F):
    X = some_users().toarray()
    X[:, 9] = X[:, 5] = 0
    model = CondVAE(**SMALL).fit(X, item_features=F)
    described, unknown = np.eye(12)[[9]], np.eye(12)[[5]]
    assert not np.array_equal(model.decision_function(described)[0], model._popularity)
    assert_array_equal(model.decision_function(unknown)[0], model._popularity)


def test_features_of_the_last_call_are_those_of_the_model(F, tmp_path):
    X = some_users()
    model = CondVAE(**SMALL)
    for features in (F, F[::-1]):
        model.partial_fit(X, item_features=features)
    mu, *_ = through_the_network(
        weights_of(model.net_), unit_rows(torch.from_numpy(X.toarray())), F[::-1].copy()
    )
    assert_allclose(model.transform(X), mu, atol=1e-5)
    save(model, tmp_path / "model.safetensors")
    for loaded in (pickle.loads(pickle.dumps(model)), load(tmp_path / "model.safetensors")):
        assert_array_equal(loaded.decision_function(X), model.decision_function(X))


def test_new_items_cannot_be_added(F):
    assert not hasattr(CondVAE(**SMALL).fit(some_users(), item_features=F), "with_items")


def test_features_that_are_zero_everywhere_are_an_error():
    with pytest.raises(ValueError, match="zero everywhere"):
        CondVAE(**SMALL).fit(some_users(), item_features=np.zeros((12, 3)))
