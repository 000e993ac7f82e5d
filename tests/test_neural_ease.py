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

SMALL = {"max_epochs": 3, "batch_size": 50, "learning_rate": 1e-2, "random_state": 0}
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
        learning_rate=2e-2,
        callbacks=[falling],
        random_state=0,
    ).fit(X)
    print(relative_distance(model.coef_, ease))
    assert relative_distance(model.coef_, ease) < 1e-3


def test_squared_error_comes_nearer_to_ease_with_each_hundred_epochs(X):
    ease = EASE(lambda_=5.0).fit(X).coef_
    model = NeuralEASE("mse", lambda_=5.0, **SMALL, warm_start=True).set_params(batch_size=200)
    distances = [
        relative_distance(model.set_params(max_epochs=epochs).fit(X).coef_, ease)
        for epochs in (1, 100, 200, 300)
    ]
    print(distances)
    assert (np.diff(distances) < 0).all()


def test_penalty_is_that_of_ease_for_the_mean_loss():
    """Without interactions the first step of Adam is the learning rate along the penalty."""
    X = sp.csr_array((50, 20))
    before = NeuralEASE("mse", lambda_=0.0, **SMALL).set_params(max_epochs=1).fit(X).coef_
    after = NeuralEASE("mse", lambda_=5.0, **SMALL).set_params(max_epochs=1).fit(X).coef_
    assert_allclose(before[0, 1:], 1 / 20)
    assert_allclose(after[0, 1:], 1 / 20 - 1e-2, rtol=1e-6)
    group = NeuralEASE("mse", lambda_=5.0, **SMALL).fit(X).net_.optimizer_.param_groups[0]
    assert group["weight_decay"] == 5.0 / 50


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
    """At equal scores near 0 the loss is about n_items * alpha_t / 4 * log 2."""
    model = NeuralEASE("focal", alpha=0.5, gamma=2.0, **SMALL)
    model.set_params(max_epochs=1, batch_size=200).fit(X)
    logit = (X.sum(axis=1)[:, None] - X.toarray()) / 40
    p = 1 / (1 + np.exp(-logit))
    p_t = np.where(X.toarray() > 0, p, 1 - p)
    expected = -0.5 * (1 - p_t) ** 2 * np.log(p_t)
    assert_allclose(model.loss_curve_[0], expected.sum(axis=1).mean(), rtol=1e-5)


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
