"""Neural EASE against its objectives written out, and against EASE."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from written_out import (
    PassByHand,
    assert_trained_as_by_hand,
    cosine_loss,
    focal_loss,
    gaussian_nll,
    nesterov,
    some_users,
)

torch = pytest.importorskip("torch")

from skorch.callbacks import LRScheduler  # noqa: E402

from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.linear import EASE  # noqa: E402
from sklrec.neural import NeuralEASE  # noqa: E402

SMALL = {"max_epochs": 3, "batch_size": 50, "learning_rate": 0.5, "random_state": 0}


@pytest.fixture(scope="module")
def X():
    return make_interactions(100, 20, random_state=0).data


@pytest.mark.parametrize(
    ("setting", "loss"),
    [
        ({"loss": "cosine", "lambda_": 3.0, "dropout": 0.4}, cosine_loss),
        ({"loss": "mse", "lambda_": 30.0, "dropout": 0.4}, gaussian_nll(1)),
        ({"loss": "mse", "lambda_": 0.0}, gaussian_nll(1)),
        (
            {"loss": "focal", "lambda_": 3.0, "alpha": 0.3, "gamma": 1.5},
            lambda scores, x: focal_loss(scores.sigmoid(), x, alpha=0.3, gamma=1.5),
        ),
    ],
)
def test_each_step_of_training_is_that_of_the_loss_and_the_penalty(setting, loss):
    """By Nesterov's gradient descent without the diagonal, in the units of the docstring."""
    X = some_users()
    model = NeuralEASE(**setting, max_epochs=2, batch_size=12, learning_rate=0.4, random_state=0)
    others = ~torch.eye(12, dtype=torch.bool)

    def objective(w, given, learnt, draws):
        x = draws.thinned(given, model.dropout) if model.dropout else given
        return loss(x @ (w["weight"] * others), learnt).mean()

    curvature = 1 if model.loss == "cosine" else (X.data**2).sum() / 30
    assert_trained_as_by_hand(
        model,
        X,
        [PassByHand(objective)],
        rule=nesterov,
        lr=0.4 / (curvature + model.lambda_ / 30),
        penalty=lambda name: model.lambda_ / 30,
    )
    assert_array_equal(model.coef_.diagonal(), 0)


def test_partial_fit_goes_on_in_the_units_of_its_first_call(X):
    model = NeuralEASE("mse", lambda_=5.0, random_state=0)

    def units(users):
        (group,) = model.partial_fit(users).net_.optimizer_.param_groups
        return group["lr"], group["weight_decay"]

    assert units(X) == units(2 * X[:10])


def test_training_begins_at_zero(X):
    model = NeuralEASE(max_epochs=1, learning_rate=1e-30).fit(X)
    assert_allclose(model.coef_, 0, atol=1e-25)


def relative_distance(coef, ease):
    return np.linalg.norm(coef - ease) / np.linalg.norm(ease)


def test_squared_error_converges_to_ease(X):
    ease = EASE(lambda_=20.0).fit(X).coef_
    falling = LRScheduler("CosineAnnealingLR", T_max=100)
    model = NeuralEASE("mse", lambda_=20.0, max_epochs=100, callbacks=[falling], random_state=0)
    assert relative_distance(model.fit(X).coef_, ease) < 1e-3


def test_dropout_leaves_inputs_out_as_ease_does(X):
    """Of many epochs, at a falling rate, the weights are those of EASE in expectation."""
    many = sp.vstack(10 * [X], format="csr")  # with ten times as many draws
    plain, ease = (EASE(lambda_=200, dropout=dropout).fit(many).coef_ for dropout in (0.0, 0.4))
    falling = LRScheduler("CosineAnnealingLR", T_max=100)
    model = NeuralEASE("mse", lambda_=200, dropout=0.4, callbacks=[falling], random_state=0)
    coef = model.set_params(max_epochs=100, batch_size=1000).fit(many).coef_
    assert relative_distance(coef, ease) < 0.3 * relative_distance(plain, ease)


def test_items_without_interactions_get_no_weights(X):
    X = X.tolil()
    X[:, 7] = 0
    model = NeuralEASE("mse", lambda_=5.0, **SMALL).fit(X.tocsr())
    assert not model.coef_[7].any()
    assert not model.coef_[:, 7].any()


def test_scores_are_rows_times_weights(X):
    model = NeuralEASE("mse", dropout=0.4, **SMALL).fit(X)
    assert_allclose(model.decision_function(X), X @ model.coef_.astype(float), atol=1e-5)


def test_similar_items_are_those_with_the_largest_weights(X):
    model = NeuralEASE(**SMALL).fit(X)
    weights = model.coef_[7].copy()
    weights[7] = -np.inf
    assert_array_equal(model.similar_items(7, k=5), np.argsort(-weights, kind="stable")[:5])


def test_weights_for_which_there_is_no_memory_are_refused():
    X = sp.csr_array(([1.0, 1.0], ([0, 1], [0, 1])), shape=(2, 2_000_000))
    with pytest.raises(MemoryError, match="NeuralEASE with 4,000,000,000,000 weights"):
        NeuralEASE().fit(X)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"loss": "hinge"}, "loss"),
        ({"lambda_": -1.0}, "lambda_"),
        ({"alpha": 1.5}, "alpha"),
        ({"gamma": -1.0}, "gamma"),
    ],
)
def test_bad_parameters_are_refused(X, setting, message):
    with pytest.raises(ValueError, match=f"The '{message}' parameter of NeuralEASE"):
        NeuralEASE(**setting).fit(X)
