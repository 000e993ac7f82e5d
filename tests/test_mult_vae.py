"""Mult-VAE and Mult-DAE against their papers' equations."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.neural import MultDAE, MultVAE  # noqa: E402

SMALL = {
    "n_components": 8,
    "hidden_layer_sizes": (16,),
    "max_epochs": 4,
    "batch_size": 50,
    "learning_rate": 1e-2,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def X():
    return make_interactions(200, 60, random_state=0).data


def weights_of(model):
    state = model.net_.module_.state_dict()
    return {name: weight.double().numpy() for name, weight in state.items()}


@pytest.mark.parametrize("sizes", [(), (16,), (16, 12)])
def test_vae_scores_are_those_of_the_network_written_out(X, sizes):
    model = MultVAE(**SMALL).set_params(hidden_layer_sizes=sizes).fit(X)
    w = weights_of(model)
    x = X.toarray()
    h = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    h = h @ w["encoder.first.weight"] + w["encoder.first.bias"]
    for layer in range(len(sizes)):
        h = np.tanh(h)
        h = h @ w[f"encoder.hidden.{2 * layer + 1}.weight"].T
        h += w[f"encoder.hidden.{2 * layer + 1}.bias"]
    mu = h[:, :8]
    assert_allclose(model.transform(X), mu, atol=1e-5)
    h = mu
    for layer in range(len(sizes)):
        h = np.tanh(h @ w[f"decoder.{2 * layer}.weight"].T + w[f"decoder.{2 * layer}.bias"])
    expected = h @ w["item_layer.weight"].T + w["item_layer.bias"]
    assert_allclose(model.decision_function(X), expected, atol=1e-5)


def test_beta_grows_by_one_over_the_steps_up_to_its_cap(X):
    model = MultVAE(**SMALL, beta=0.1, n_annealing_steps=100).fit(X)  # 4 steps an epoch
    assert_allclose(model.net_.history[:, "beta"], [0.04, 0.08, 0.1, 0.1], rtol=1e-6)


def test_without_annealing_beta_is_its_cap_from_the_start(X):
    model = MultVAE(**SMALL, beta=0.3, n_annealing_steps=0).fit(X)
    assert_allclose(model.net_.history[:, "beta"], 0.3, rtol=1e-6)


def test_peak_trains_again_with_the_beta_of_the_best_epoch(X):
    held_out = X[150:].tolil()
    held_out[:, 30:] = 0
    validation = {"X_val": X[150:], "y_val": held_out.tocsr()}
    setting = {**SMALL, "max_epochs": 6, "n_annealing_steps": 30}
    annealed = MultVAE(**setting, beta=1.0).fit(X[:150], **validation)
    assert annealed.best_beta_ == annealed.net_.history[annealed.best_epoch_ - 1, "beta"]
    peak = MultVAE(**setting, beta="peak").fit(X[:150], **validation)
    assert peak.beta_ == annealed.best_beta_
    again = MultVAE(**setting, beta=annealed.best_beta_).fit(X[:150], **validation)
    assert_array_equal(peak.decision_function(X), again.decision_function(X))


def test_peak_without_validation_users_is_an_error(X):
    with pytest.raises(ValueError, match="beta='peak' needs validation users"):
        MultVAE(**SMALL, beta="peak").fit(X)


@pytest.mark.parametrize("model", [MultVAE, MultDAE])
@pytest.mark.parametrize("likelihood", ["multinomial", "gaussian", "logistic"])
def test_loss_goes_down_with_every_likelihood(X, model, likelihood):
    fitted = model(**SMALL, likelihood=likelihood).set_params(max_epochs=20).fit(X)
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]


def test_dae_penalty_is_on_the_mean_loss_and_the_weights_alone():
    """Without items the loss has no gradient but the penalty's: one step of gradient descent."""
    X = sp.csr_array((50, 20))
    setting = {**SMALL, "max_epochs": 1, "learning_rate": 1e-3, "likelihood": "multinomial"}
    free, bound = (MultDAE(**setting, lambda_=lambda_).fit(X) for lambda_ in (0.0, 0.5))
    before, after = weights_of(free), weights_of(bound)
    for name, weight in before.items():
        # The first step of Adam is the learning rate along the sign of the gradient, 2 lambda W.
        moved = -1e-3 * np.sign(weight) if name.endswith("weight") else 0
        assert_allclose(after[name], weight + moved, atol=2e-6)


def test_embeddings_are_named_after_the_model(X):
    model = MultVAE(**SMALL).fit(X)
    assert list(model.get_feature_names_out())[:2] == ["multvae0", "multvae1"]
    assert model.transform(X).shape == (200, 8)
    assert model.transform(X.astype(np.float32)).dtype == np.float32


def test_similar_items_are_nearest_by_the_cosine_of_their_vectors(X):
    model = MultDAE(**SMALL).fit(X)
    vectors = model.item_embeddings_
    assert vectors.shape == (60, 16)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit[7]
    cosine[7] = -np.inf
    assert_array_equal(model.similar_items(7, k=5), np.argsort(-cosine, kind="stable")[:5])
