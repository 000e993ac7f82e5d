"""FLVAE against its paper: objective, training and scores written out."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from written_out import (
    PassByHand,
    assert_trained_as_by_hand,
    densely_connected,
    densely_connected_encoder,
    focal_loss,
    kl_to_standard,
    linear,
    some_users,
    weights_of,
)

torch = pytest.importorskip("torch")

from skorch.callbacks import Callback  # noqa: E402

from sklrec.neural import FLVAE  # noqa: E402

SMALL = {
    "n_components": 4,
    "hidden_size": 6,
    "max_epochs": 2,
    "batch_size": 12,
    "learning_rate": 1e-2,
    "random_state": 0,
}


def logits(w, z):
    """Return the logit of each item at a latent vector."""
    return linear(w, "item_layer", densely_connected(w, "decoder", z))


@pytest.mark.parametrize(
    "setting",
    [
        {"beta": 0.3, "n_decoder_layers": 2},
        {"beta": 0.1, "alpha": 0.4, "gamma": 1.3, "augmentation": False, "n_encoder_layers": 1},
    ],
)
def test_each_step_of_training_is_that_of_equation_5(setting):
    """With halves both ways, equations 11 and 12, or without."""
    model = FLVAE(**SMALL, **setting)

    def objective(w, given, learnt, draws):
        mu, logvar = densely_connected_encoder(w, "encoder", given)
        z = mu + draws.normal(mu.shape) * (logvar / 2).exp()
        loss = focal_loss(logits(w, z).sigmoid(), learnt, model.alpha, model.gamma)
        return (loss + model.beta * kl_to_standard(mu, logvar)).mean()

    assert_trained_as_by_hand(
        model, some_users(), [PassByHand(objective, halved=model.augmentation)]
    )


@pytest.mark.parametrize(("n_encoder_layers", "n_decoder_layers"), [(1, 1), (3, 2), (2, 0)])
def test_scores_are_those_of_the_mean_through_the_network_written_out(
    n_encoder_layers, n_decoder_layers
):
    X = some_users()
    layers = {"n_encoder_layers": n_encoder_layers, "n_decoder_layers": n_decoder_layers}
    model = FLVAE(**SMALL, **layers).fit(X)
    w = weights_of(model.net_)
    mu = densely_connected_encoder(w, "encoder", torch.from_numpy(X.toarray()))[0]
    assert_allclose(model.transform(X), mu, atol=1e-5)
    known = np.diff(X.indptr) > 0
    assert_allclose(model.decision_function(X)[known], logits(w, mu)[known], atol=1e-5)


class Batches(Callback):
    """Collects what is given and what is to be learnt in each step."""

    def on_train_begin(self, net, **kwargs):
        self.seen = []

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        self.seen.append([half.to_dense().numpy() for half in batch])


def test_a_half_is_learnt_from_the_other_both_ways_and_halves_are_new_in_each_epoch():
    batches, X = Batches(), some_users().toarray()
    FLVAE(callbacks=[batches], **{**SMALL, "batch_size": 30}).fit(X)
    assert len(batches.seen) == 2 * 2  # epochs, halves
    first_halves = []
    for (given, learnt), swapped in zip(batches.seen[::2], batches.seen[1::2], strict=True):
        assert_array_equal(swapped, [learnt, given])
        assert not (given * learnt).any()
        order = np.lexsort((given + learnt).T)  # users are shuffled
        assert_array_equal((given + learnt)[order], X[np.lexsort(X.T)])
        first_halves.append(given[order])
    assert (first_halves[0] != first_halves[1]).any(axis=1).mean() > 0.5


def test_training_begins_at_a_probability_of_a_hundredth():
    model = FLVAE(**SMALL).set_params(max_epochs=1, learning_rate=1e-30).fit(some_users())
    bias = model.net_.module_.item_layer.bias.detach().numpy()
    assert_allclose(1 / (1 + np.exp(-bias)), 0.01, rtol=1e-5)


def test_embeddings_are_named_after_the_model():
    model = FLVAE(**SMALL).fit(some_users())
    assert list(model.get_feature_names_out())[:2] == ["flvae0", "flvae1"]
    assert model.item_embeddings_.shape == (12, 4)


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
def test_bad_parameters_are_refused(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of FLVAE"):
        FLVAE(**{name: value}).fit(some_users())
