"""Neural EASE against EASE and against plain torch."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from skorch.callbacks import Callback, LRScheduler  # noqa: E402

from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.linear import EASE  # noqa: E402
from sklrec.neural import NeuralEASE  # noqa: E402

SMALL = {"max_epochs": 3, "batch_size": 50, "learning_rate": 0.5, "random_state": 0}
LOSSES = ["cosine", "mse", "focal"]


@pytest.fixture(scope="module")
def X():
    return make_interactions(200, 40, random_state=0).data


class Diagonals(Callback):
    """Collects the largest entry on the diagonal after each step."""

    def on_batch_end(self, net, training=False, **kwargs):
        self.largest.append(float(net.module_.weight.detach().diagonal().abs().max()))

    def on_train_begin(self, net, **kwargs):
        self.largest = []


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("lambda_", [0.0, 100.0])
def test_diagonal_is_zero_after_each_step(X, loss, lambda_):
    diagonals = Diagonals()
    model = NeuralEASE(loss, lambda_=lambda_, callbacks=[diagonals], **SMALL).fit(X)
    assert diagonals.largest == 12 * [0.0]
    assert np.abs(model.coef_).min(where=~np.eye(40, dtype=bool), initial=1) > 0


def relative_distance(coef, ease):
    return np.linalg.norm(coef - ease) / np.linalg.norm(ease)


@pytest.mark.parametrize("lambda_", [2.0, 20.0])
def test_squared_error_converges_to_ease(X, lambda_):
    ease = EASE(lambda_=lambda_).fit(X).coef_
    falling = LRScheduler("CosineAnnealingLR", T_max=400)
    model = NeuralEASE(
        "mse",
        lambda_=lambda_,
        max_epochs=400,
        batch_size=200,
        callbacks=[falling],
        random_state=0,
    ).fit(X)
    assert relative_distance(model.coef_, ease) < 1e-4


def test_squared_error_comes_nearer_to_ease_the_longer_it_trains(X):
    ease = EASE(lambda_=5.0).fit(X).coef_
    model = NeuralEASE("mse", lambda_=5.0, **SMALL, warm_start=True).set_params(batch_size=200)
    distances = [
        relative_distance(model.set_params(max_epochs=epochs).fit(X).coef_, ease)
        for epochs in (1, 20, 40, 60)
    ]
    assert (np.diff(distances) < 0).all()


def test_items_without_interactions_get_no_weights(X):
    X = X.tolil()
    X[:, 7] = 0
    model = NeuralEASE("mse", lambda_=5.0, **SMALL).fit(X.tocsr())
    assert not model.coef_[7].any()
    assert not model.coef_[:, 7].any()


def test_dropout_leaves_inputs_out_as_ease_does(X):
    """Of many epochs, at a falling rate, the weights are those of EASE in expectation."""
    ease = EASE(lambda_=20.0, dropout=0.4).fit(X).coef_
    falling = LRScheduler("CosineAnnealingLR", T_max=300)
    model = NeuralEASE("mse", lambda_=20.0, dropout=0.4, callbacks=[falling], **SMALL)
    model.set_params(max_epochs=300, batch_size=200).fit(X)
    plain = relative_distance(EASE(lambda_=20.0).fit(X).coef_, ease)
    assert relative_distance(model.coef_, ease) < 0.3 * plain


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_goes_down(X, loss):
    model = NeuralEASE(loss, **SMALL).set_params(max_epochs=15).fit(X)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize("loss", LOSSES)
def test_scores_are_rows_times_weights(X, loss):
    model = NeuralEASE(loss, **SMALL).fit(X)
    assert_allclose(model.decision_function(X), X @ model.coef_.astype(float), atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_users_without_items_and_with_one_are_learnt_from(loss):
    X = sp.csr_array(np.vstack([np.zeros((3, 6)), np.eye(6), np.ones((4, 6))]))
    model = NeuralEASE(loss, **SMALL).fit(X)
    assert np.isfinite(model.coef_).all()
    assert_array_equal(model.decision_function(X)[:3], 0)


def test_alpha_and_gamma_reach_the_focal_loss(X):
    """At weights of zero all probabilities are a half."""
    model = NeuralEASE("focal", alpha=0.3, gamma=1.5, **SMALL)
    model.set_params(max_epochs=1, batch_size=200).fit(X)
    items = X.sum(axis=1).mean()
    expected = (0.3 * items + 0.7 * (40 - items)) * 0.5**1.5 * np.log(2)
    assert_allclose(model.loss_curve_[0], expected, rtol=1e-5)


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
