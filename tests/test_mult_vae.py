"""Mult-VAE against its paper: objective, training and scores written out."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from written_out import (
    PassByHand,
    assert_trained_as_by_hand,
    encoder,
    gaussian_nll,
    hidden_layers,
    kl_to_standard,
    linear,
    logistic_nll,
    multinomial_nll,
    some_users,
    unit_rows,
    weights_of,
)

torch = pytest.importorskip("torch")

from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.neural import MultVAE  # noqa: E402

SMALL = {
    "n_components": 4,
    "hidden_layer_sizes": (6,),
    "max_epochs": 2,
    "batch_size": 12,
    "learning_rate": 1e-2,
    "random_state": 0,
}


def negative_elbo(nll, *, dropout, beta):
    """Return equation 6 of the paper, with the sign turned: a mean over the users of a batch.

    ``beta(step)`` is the weight of the KL term; the steps are counted from 0.
    """
    n_steps = 0

    def objective(w, given, learnt, draws):
        nonlocal n_steps
        x = draws.thinned(unit_rows(given), dropout) if dropout else unit_rows(given)
        mu, logvar = encoder(w, "encoder", x).chunk(2, dim=1)
        z = mu + draws.normal(mu.shape) * (logvar / 2).exp()
        scores = linear(w, "item_layer", hidden_layers(w, "decoder", z))
        loss = nll(scores, learnt) + beta(n_steps) * kl_to_standard(mu, logvar)
        n_steps += 1
        return loss.mean()

    return objective


@pytest.mark.parametrize(
    ("setting", "nll", "beta"),
    [
        (
            {"beta": 0.6, "n_annealing_steps": 4, "dropout": 0.3},
            multinomial_nll,
            lambda n: min(n / 4, 0.6),
        ),
        ({"beta": 0.5, "n_annealing_steps": 0, "dropout": 0.0}, multinomial_nll, lambda n: 0.5),
        (
            {"likelihood": "logistic", "n_annealing_steps": 10},
            logistic_nll,
            lambda n: min(n / 10, 0.2),
        ),
        (
            {"likelihood": "gaussian", "confidence": 3.0, "hidden_layer_sizes": (6, 5)},
            gaussian_nll(3),
            lambda n: n / 20_000,
        ),
    ],
)
def test_each_step_of_training_is_that_of_equation_6(setting, nll, beta):
    model = MultVAE(**{**SMALL, **setting})
    objective = negative_elbo(nll, dropout=model.dropout, beta=beta)
    assert_trained_as_by_hand(model, some_users(), [PassByHand(objective)])


@pytest.mark.parametrize("sizes", [(), (6,), (6, 5)])
def test_scores_are_those_of_the_mean_through_the_network_written_out(sizes):
    X = some_users()
    model = MultVAE(**SMALL).set_params(hidden_layer_sizes=sizes).fit(X)
    w = weights_of(model.net_)
    mu = encoder(w, "encoder", unit_rows(torch.from_numpy(X.toarray())))[:, :4]
    assert_allclose(model.transform(X), mu, atol=1e-5)
    known = np.diff(X.indptr) > 0
    expected = linear(w, "item_layer", hidden_layers(w, "decoder", mu))
    assert_allclose(model.decision_function(X)[known], expected[known], atol=1e-5)


@pytest.fixture(scope="module")
def X():
    return make_interactions(60, 30, random_state=0).data


def test_beta_of_each_epoch_is_in_the_history():
    model = MultVAE(**SMALL, beta=0.25, n_annealing_steps=20).fit(some_users())  # 3 steps an epoch
    assert_allclose(model.net_.history[:, "beta"], [0.15, 0.25], rtol=1e-6)


def test_peak_trains_again_with_the_beta_of_the_best_epoch(X):
    held_out = X[40:].tolil()
    held_out[:, 15:] = 0
    validation = {"X_val": X[40:], "y_val": held_out.tocsr()}
    setting = {**SMALL, "max_epochs": 4, "n_annealing_steps": 30}
    seed = np.random.RandomState(0).randint(2**31 - 1)  # what the fit with `random_state=0` draws
    annealed = MultVAE(**{**setting, "random_state": seed}, beta=1.0).fit(X[:40], **validation)
    assert annealed.best_beta_ == annealed.net_.history[annealed.best_epoch_ - 1, "beta"]
    peak = MultVAE(**setting, beta="peak").fit(X[:40], **validation)
    assert peak.beta_ == annealed.best_beta_
    again = MultVAE(**setting, beta=annealed.best_beta_).fit(X[:40], **validation)
    assert_array_equal(peak.decision_function(X), again.decision_function(X))


def test_peak_without_validation_users_is_an_error(X):
    with pytest.raises(ValueError, match="beta='peak' needs validation users"):
        MultVAE(**SMALL, beta="peak").fit(X)


def test_embeddings_are_named_after_the_model(X):
    model = MultVAE(**SMALL).fit(X)
    assert list(model.get_feature_names_out()) == ["multvae0", "multvae1", "multvae2", "multvae3"]
    assert model.transform(X.astype(np.float32)).dtype == np.float32
