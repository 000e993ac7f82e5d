"""CDL: its network step by step, its limits, and what it shares with CVAE."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from test_ctr import B  # noqa: E402
from test_cvae import F, Recorder, X, latent_means  # noqa: E402, F401
from written_out import Draws, adam, gaussian_nll, linear  # noqa: E402

from sklrec.hybrid import CDL, CVAE  # noqa: E402
from sklrec.persistence import load, save  # noqa: E402


def model(n_components=4, **params):
    small = {
        "hidden_layer_sizes": (10,),
        "lambda_n": 10.0,
        "unobserved_weight": B,
        "n_pretraining_epochs": 2,
        "max_epochs": 3,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "random_state": 0,
        "device": "cpu",
    }
    return CDL(n_components, **{**small, **params})


def encoded(w, x):
    h = torch.sigmoid(x @ w["first.weight"] + w["first.bias"])
    return torch.sigmoid(linear(w, "encoder.0", h))


def decoded(w, h):
    return linear(w, "feature_layer", torch.sigmoid(linear(w, "decoder.0", h)))


def test_each_step_is_that_of_the_objective_written_out(X, F):  # noqa: F811
    lambda_n, lambda_v, lambda_ = 0.7, 3.0, 5.0
    recorder = Recorder()
    fitted = model(lambda_n=lambda_n, lambda_v=lambda_v, lambda_=lambda_, callbacks=[recorder])
    fitted.fit(X, item_features=F)
    x_all = torch.from_numpy(F.toarray())
    w = {name: weight.clone().requires_grad_() for name, weight in recorder.start.items()}
    states = {name: {} for name in w}
    draws, step = Draws(0), 0
    for epoch in range(1, fitted.max_epochs + 1):
        draws.begin_epoch(epoch)
        for coupled in [False, False, True] if epoch == 1 else [True]:
            for items in draws.order(20).split(8):
                x = x_all[items]
                h = encoded(w, draws.thinned(x, 0.3))
                loss = lambda_n * gaussian_nll(1.0)(decoded(w, h), x).mean()
                if coupled:
                    v = recorder.factors[step][items]
                    square = ((v - encoded(w, x)) ** 2).sum(dim=1)
                    loss = loss + lambda_v / 2 * square.mean()
                gradients = torch.autograd.grad(loss, list(w.values()))
                for name, gradient in zip(w, gradients, strict=True):
                    gradient = gradient + lambda_ / 20 * w[name].detach()
                    w[name].data -= 1e-2 * adam(gradient, states[name])
                assert_allclose(recorder.losses[step], loss.item(), rtol=1e-4)
                for name, weight in w.items():
                    found = recorder.weights[step][name]
                    assert_allclose(found, weight.detach(), atol=3e-4, err_msg=name)
                step += 1
    assert step == len(recorder.losses)


def test_items_without_users_and_new_ones_are_at_the_bottleneck(X, F):  # noqa: F811
    fitted = model(max_epochs=1, learning_rate=1e-9).fit(X, item_features=F)
    assert_allclose(fitted.item_factors_[18:], latent_means(fitted, F)[18:], atol=1e-6)
    new = fitted.with_items(F[:2])
    assert_allclose(new.item_factors_[20:], latent_means(fitted, F[:2]), atol=1e-6)
    assert (new.item_factors_[20:] > 0).all()


def test_a_large_coupling_leaves_items_at_the_bottleneck(X, F):  # noqa: F811
    fitted = model(lambda_v=1e9, learning_rate=1e-9).fit(X, item_features=F)
    assert_allclose(fitted.item_factors_, latent_means(fitted, F), atol=1e-5)


def test_content_of_infinite_weight_is_learnt_as_if_there_were_no_users(X, F):  # noqa: F811
    # Adam takes the same steps whatever the scale of the loss.
    alone = model(lambda_n=1e9, lambda_=0.0).fit(X, item_features=F)
    others = model(lambda_n=1e9, lambda_=0.0).fit(X[::-1][:30], item_features=F)
    assert_allclose(latent_means(alone, F), latent_means(others, F), atol=1e-4)
    coupled = model(lambda_n=1.0, lambda_=0.0).fit(X, item_features=F)
    assert abs(latent_means(coupled, F) - latent_means(alone, F)).max() > 1e-3


def test_without_content_it_is_cvae_without_content(X):  # noqa: F811
    cvae = CVAE(4, lambda_u=1.0, unobserved_weight=B, max_epochs=3, random_state=0, device="cpu")
    assert_allclose(model().fit(X).item_factors_, cvae.fit(X).item_factors_, atol=1e-12)


def test_saved_models_encode_new_items(tmp_path, X, F):  # noqa: F811
    fitted = model().fit(X[:, :15], item_features=F[:15])
    save(fitted, tmp_path / "cdl.safetensors")
    expected = fitted.with_items(F[15:]).item_factors_
    assert_array_equal(
        load(tmp_path / "cdl.safetensors").with_items(F[15:]).item_factors_, expected
    )


@pytest.mark.parametrize("likelihood", ["logistic", "gaussian", "multinomial"])
def test_dense_features_are_learnt_by_every_likelihood(X, likelihood):  # noqa: F811
    dense = np.random.default_rng(0).random((20, 5))
    curve = model(likelihood=likelihood, max_epochs=20, lambda_v=1e-3).fit(X, item_features=dense)
    assert curve.loss_curve_[-1] < curve.loss_curve_[0]
    assert np.isfinite(curve.decision_function(X)).all()


def test_no_hidden_layers(X, F):  # noqa: F811
    fitted = model(hidden_layer_sizes=()).fit(X, item_features=sp.csc_array(F))
    assert fitted.item_factors_.shape == (20, 4)
