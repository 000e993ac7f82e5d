"""CVAE: its network step by step, its least squares by dense solves, and its limits."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from skorch.callbacks import Callback  # noqa: E402
from test_ctr import B, confidences_and_ratings  # noqa: E402
from written_out import Draws, adam, kl_to_standard, linear, logistic_nll, weights_of  # noqa: E402

from sklrec.factorization import WMF  # noqa: E402
from sklrec.hybrid import CVAE  # noqa: E402
from sklrec.persistence import load, save  # noqa: E402


@pytest.fixture
def X(X):
    """Return 60 users of 20 items, of which the last two have no users."""
    X = sp.csr_array(X.multiply(np.arange(20) < 18))
    X.eliminate_zeros()
    return X


@pytest.fixture
def F():
    """Return counts of 12 words, four for each group of items."""
    rng = np.random.default_rng(1)
    own = np.arange(20)[:, None] % 3 == np.arange(12) % 3
    return sp.csr_array(rng.poisson(np.where(own, 2, 0.1)) * 1.0)


def model(n_components=4, **params):
    small = {
        "hidden_layer_sizes": (10, 6),
        "unobserved_weight": B,
        "n_pretraining_epochs": 2,
        "max_epochs": 3,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "random_state": 0,
        "device": "cpu",
    }
    return CVAE(n_components, **{**small, **params})


def latent_means(fitted, F):
    return fitted._encoded(fitted.net_, sp.csr_array(F, dtype=np.float64))


# The network, by hand


def encoded(w, x):
    """Return the means and log-variances: three sigmoid layers of which the last is linear."""
    h = torch.sigmoid(x @ w["first.weight"] + w["first.bias"])
    h = torch.sigmoid(linear(w, "hidden.0", h))
    return linear(w, "to_latent", h).chunk(2, dim=1)


def decoded(w, z):
    """Return the logits of the features, by the weights of the encoder and their biases."""
    h = torch.sigmoid(linear(w, "from_latent", z))
    h = torch.sigmoid(h @ w["hidden.0.weight"] + w["first.bias"])
    return h @ w["first.weight"].T + w["feature_bias"]


class Recorder(Callback):
    """Keeps the weights before the first step, and after each, the losses and the factors."""

    def on_train_begin(self, net, **kwargs):
        self.start, self.weights, self.losses, self.factors = None, [], [], []

    def on_batch_begin(self, net, training=None, **kwargs):
        if self.start is None:
            self.start = weights_of(net)
        self.factors.append(net.module_.item_factors.double().clone())

    def on_batch_end(self, net, loss=None, **kwargs):
        self.weights.append(weights_of(net))
        self.losses.append(loss.item())


def test_each_step_is_that_of_the_objective_written_out(X, F):
    lambda_r, lambda_v, lambda_, beta = 0.7, 3.0, 5.0, 0.4
    recorder = Recorder()
    fitted = model(
        lambda_r=lambda_r, lambda_v=lambda_v, lambda_=lambda_, beta=beta, callbacks=[recorder]
    ).fit(X, item_features=F)
    x_all = torch.from_numpy(F.toarray())
    w = {name: weight.clone().requires_grad_() for name, weight in recorder.start.items()}
    states = {name: {} for name in w}
    draws, step = Draws(0), 0
    for epoch in range(1, fitted.max_epochs + 1):
        draws.begin_epoch(epoch)
        for coupled in [False, False, True] if epoch == 1 else [True]:
            for items in draws.order(20).split(8):
                x = x_all[items]
                mu, logvar = encoded(w, x)
                z = mu + draws.normal(mu.shape) * (logvar / 2).exp()
                terms = logistic_nll(decoded(w, z), x) + beta * kl_to_standard(mu, logvar)
                loss = lambda_r * terms.mean()
                if coupled:
                    v = recorder.factors[step][items]
                    square = ((v - mu) ** 2).sum(dim=1) + logvar.exp().sum(dim=1)
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


def test_item_factors_start_at_the_latent_means_after_pretraining(X, F):
    recorder = Recorder()
    fitted = model(max_epochs=1, learning_rate=1e-9, callbacks=[recorder]).fit(X, item_features=F)
    assert_array_equal([len(V) for V in recorder.factors[:6]], 0)
    assert_allclose(recorder.factors[6], latent_means(fitted, F), atol=1e-6)


# The least squares


@pytest.mark.parametrize("lambda_v", [0.3, 30.0])
def test_items_are_dense_ridge_regressions_around_their_latent_means(X, F, lambda_v):
    # At a rate of next to nothing, the means stay what they are before the only sweep.
    fitted = model(max_epochs=1, learning_rate=1e-9, lambda_u=0.2, lambda_v=lambda_v)
    fitted.fit(X, item_features=F)
    C, R = confidences_and_ratings(X)
    theta = latent_means(fitted, F)
    T, eye = theta[:18], np.eye(4)
    U = np.stack(
        [
            np.linalg.solve(T.T @ (c[:18, None] * T) + 0.2 * eye, T.T @ (c * r)[:18])
            for c, r in zip(C, R, strict=True)
        ]
    )
    for j in range(18):
        right = U.T @ (C * R)[:, j] + lambda_v * theta[j]
        expected = np.linalg.solve(U.T @ (C[:, [j]] * U) + lambda_v * eye, right)
        assert_allclose(fitted.item_factors_[j], expected, atol=1e-5)
    assert_allclose(fitted.item_factors_[18:], theta[18:], atol=1e-6)


def test_a_users_factors_are_the_dense_solution_for_their_row(X, F):
    fitted = model(lambda_u=0.2).fit(X, item_features=F)
    V = fitted.item_factors_
    row = np.zeros(20)
    row[[2, 5, 19]] = 1  # the last item has no users in fit
    inside = np.r_[np.arange(18), 19]
    c = np.where(row > 0, 1, B)[inside]
    A = V[inside].T @ (c[:, None] * V[inside]) + 0.2 * np.eye(4)
    expected = np.linalg.solve(A, V[inside].T @ (c * row[inside]))
    assert_allclose(fitted.transform(row[None])[0], expected, atol=1e-10)
    assert_allclose(fitted.decision_function(row[None])[0], V @ expected, atol=1e-10)


def test_a_large_coupling_leaves_items_at_their_latent_means(X, F):
    fitted = model(lambda_v=1e9, learning_rate=1e-9).fit(X, item_features=F)
    assert_allclose(fitted.item_factors_, latent_means(fitted, F), atol=1e-5)


@pytest.mark.parametrize("inference", ["map", "bayes"])
def test_with_fixed_content_no_sweep_makes_the_objective_worse(X, F, inference):
    fitted = model(inference=inference, learning_rate=1e-12, max_epochs=40, lambda_v=1.0)
    fitted.fit(X, item_features=F)
    loss = np.array(fitted.net_.history[:, "rating_loss"])
    assert (np.diff(loss) <= 1e-6 * abs(loss[0])).all()
    assert loss[-1] < loss[0]


# Without content


def test_without_content_it_is_weighted_matrix_factorization(X):
    X, t = X[:, :18], 1 - B
    fitted = model(3, max_epochs=300, lambda_u=0.3 / t, lambda_v=0.3 / t).fit(X)
    loss = np.array(fitted.loss_curve_)
    assert (np.diff(loss) <= 1e-6 * loss[0]).all()
    # See test_ctr for the factors.
    wmf = WMF(3, lambda_=0.3, unobserved_weight=B, frequency_exponent=0.0, random_state=0)
    wmf.set_params(max_iter=300).fit(t * X)
    some = X[X.sum(axis=1) > 0]
    found, expected = t * fitted.decision_function(some), wmf.decision_function(t * some)
    assert_allclose(found, expected, atol=1e-3)


# Bayesian inference


def bound_by_hand(X, fitted, items_before, theta):
    """Return the terms of the negative bound for both sides, by dense matrices of all users."""
    a = fitted.confidence
    C = np.where(X.toarray() > 0, a, fitted.unobserved_weight)
    R, eye = (X.toarray() > 0) * 1.0, np.eye(theta.shape[1])
    has = R.any(axis=0)
    second = items_before[0][:, :, None] * items_before[0][:, None] + items_before[1]
    covariance_u = np.stack(
        [
            np.linalg.inv((c[has, None, None] * second[has]).sum(0) + fitted.lambda_u * eye)
            for c in C
        ]
    )
    U = np.stack(
        [S @ ((c * r) @ items_before[0]) for S, c, r in zip(covariance_u, C, R, strict=True)]
    )
    second_u = U[:, :, None] * U[:, None] + covariance_u
    V, covariance_v = fitted.item_factors_, fitted.item_covariances_
    expected_v = []
    for j in range(len(V)):
        A = fitted.lambda_v * eye + has[j] * (C[:, j, None, None] * second_u).sum(0)
        right = fitted.lambda_v * theta[j] + (C * R)[:, j] @ U
        expected_v.append(np.linalg.solve(A, right))
        assert_allclose(covariance_v[j], np.linalg.inv(A), atol=1e-6)
    assert_allclose(V, expected_v, atol=1e-5)
    second_v = V[:, :, None] * V[:, None] + covariance_v
    error = R - 2 * R * (U @ V.T) + np.einsum("ikl,jkl->ij", second_u, second_v)
    loss = 0.5 * (C * error)[:, has].sum()
    loss += fitted.lambda_u / 2 * np.trace(second_u.sum(0))
    loss += fitted.lambda_v / 2 * (((V - theta) ** 2).sum() + np.trace(covariance_v.sum(0)))
    loss -= 0.5 * np.linalg.slogdet(covariance_u)[1].sum()
    loss -= 0.5 * np.linalg.slogdet(covariance_v)[1].sum()
    return loss - 0.5 * V.size  # the expectation of a constant


def test_bayesian_sweep_and_bound_are_those_by_hand(X, F):
    fitted = model(inference="bayes", max_epochs=1, learning_rate=1e-12, lambda_u=0.3, lambda_v=2.0)
    fitted.fit(X, item_features=F)
    theta = latent_means(fitted, F)
    before = theta, np.tile(np.eye(4) / 2.0, (20, 1, 1))
    expected = bound_by_hand(X, fitted, before, theta)
    assert_allclose(20 * fitted.net_.history[-1, "rating_loss"], expected, rtol=1e-5)


def test_bayesian_fold_in_is_the_dense_solution(X, F):
    fitted = model(inference="bayes", lambda_u=0.3).fit(X, item_features=F)
    V, S = fitted.item_factors_, fitted.item_covariances_
    second = V[:, :, None] * V[:, None] + S
    row = np.zeros(20)
    row[[2, 5, 19]] = 1  # the last item has no users in fit
    c = np.where(row > 0, 1, B) * ((np.arange(20) < 18) | (row > 0))
    A = (c[:, None, None] * second).sum(0) + 0.3 * np.eye(4)
    assert_allclose(fitted.transform(row[None])[0], np.linalg.solve(A, (c * row) @ V), atol=1e-8)


@pytest.mark.parametrize(("scale", "gap"), [(1e3, 0.1), (1e7, 1e-4)])
def test_certain_bayesian_inference_is_that_of_the_maximum(X, F, scale, gap):
    def scores(inference, by):
        return (
            model(
                inference=inference,
                lambda_u=0.3 * by,
                lambda_v=2.0 * by,
                confidence=by,
                unobserved_weight=B * by,
                learning_rate=1e-12,
            )
            .fit(X, item_features=F)
            .decision_function(X)
        )

    difference = abs(scores("bayes", scale) - scores("map", 1.0)).max()
    assert difference < gap
    assert abs(scores("bayes", 1.0) - scores("map", 1.0)).max() > 10 * difference


def test_bayesian_model_has_new_items_explains_nothing_and_pickles(tmp_path, X, F):
    old = model(inference="bayes").fit(X[:, :16], item_features=F[:16])
    new = old.with_items(F[16:])
    assert_allclose(new.item_covariances_[16:], np.tile(np.eye(4) / 10, (4, 1, 1)))
    assert not hasattr(old, "explain")
    save(new, tmp_path / "cvae.safetensors")
    for copy in (pickle.loads(pickle.dumps(new)), load(tmp_path / "cvae.safetensors")):
        assert_array_equal(copy.decision_function(X), new.decision_function(X))


# New items, the history, other input


def test_new_items_are_at_their_latent_means_and_old_scores_stay(X, F):
    old = model().fit(X[:, :15], item_features=F[:15])
    new = old.with_items(F[15:])
    assert_allclose(new.item_factors_[15:], latent_means(old, F[15:]), atol=1e-6)
    wide = sp.csr_array(np.hstack([X[:, :15].toarray(), np.zeros((60, 5))]))
    before = old.decision_function(X[:, :15])
    assert_allclose(new.decision_function(wide)[:, :15], before, rtol=1e-12)


@pytest.mark.parametrize("inference", ["map", "bayes"])
def test_a_user_of_a_new_item_alone_is_ranked_by_its_content(X, F, inference):
    old = model(inference=inference).fit(X[:, :15], item_features=F[:15])
    new = old.with_items(F[15:])
    row, v = np.eye(20)[[15]], new.item_factors_[15]
    A = new._gram + np.outer(v, v) + 0.1 * np.eye(4)
    if inference == "bayes":
        A += new.item_covariances_[15]
    assert_allclose(new.transform(row)[0], np.linalg.solve(A, v), atol=1e-8)
    assert_allclose(new.decision_function(row), new.transform(row) @ new.components_)


def test_history_has_the_active_dimensions_and_the_rating_loss(X, F):
    history = model().fit(X, item_features=F).net_.history
    assert all(0 <= n <= 4 for n in history[:, "active_dimensions"])
    assert all(loss > 0 for loss in history[:, "rating_loss"])


def test_the_best_epoch_keeps_its_factors(X, F):
    fitted = model(max_epochs=8, learning_rate=0.1)
    fitted.fit(X, item_features=F, X_val=X[::2])
    again = model(max_epochs=fitted.best_epoch_, learning_rate=0.1).fit(X, item_features=F)
    assert_allclose(fitted.item_factors_, again.item_factors_)
    assert_allclose(fitted.decision_function(X), again.decision_function(X))
    assert_allclose(latent_means(fitted, F), latent_means(again, F))


@pytest.mark.parametrize("inference", ["map", "bayes"])
@pytest.mark.parametrize("with_content", [True, False])
def test_a_warm_start_goes_on_as_if_never_stopped(X, F, inference, with_content):
    features = F if with_content else None
    whole = model(inference=inference, max_epochs=4).fit(X, item_features=features)
    part = model(inference=inference, max_epochs=2, warm_start=True)
    part.fit(X, item_features=features).set_params(max_epochs=4).fit(X, item_features=features)
    assert_allclose(part.item_factors_, whole.item_factors_, atol=1e-10)
    assert_array_equal(part.loss_curve_, whole.loss_curve_)


def test_a_copy_with_new_items_is_trained_further_alone(X, F):
    old = model(warm_start=True).fit(X[:, :15], item_features=F[:15])
    theta, scores = latent_means(old, F), old.decision_function(X[:, :15])
    copy = old.with_items(F[15:]).set_params(max_epochs=5).fit(X, item_features=F)
    assert copy.n_iter_ == len(copy.loss_curve_) == 5
    assert abs(latent_means(copy, F) - theta).max() > 1e-3
    assert_array_equal(latent_means(old, F), theta)
    assert_array_equal(old.decision_function(X[:, :15]), scores)
    assert old.n_iter_ == len(old.loss_curve_) == 3


def test_saved_models_encode_new_items(tmp_path, X, F):
    fitted = model().fit(X[:, :15], item_features=F[:15])
    save(fitted, tmp_path / "cvae.safetensors")
    expected = fitted.with_items(F[15:]).item_factors_
    assert_array_equal(
        load(tmp_path / "cvae.safetensors").with_items(F[15:]).item_factors_, expected
    )


def test_explanations_add_up_to_the_score(X, F):
    fitted = model().fit(X, item_features=F)
    found = fitted.explain(X, 7).sum(axis=1)
    some = X.sum(axis=1) > 0
    assert_allclose(found[some], fitted.decision_function(X)[some, 7], atol=1e-8)


def test_users_and_features_are_not_kept(X, F):
    fitted = model().fit(X, item_features=F)
    assert not {"_F", "_rows", "_given_features"} & set(vars(fitted))


def test_an_item_without_features_is_encoded_as_any_other(X, F):
    F = F.toarray()
    F[3] = 0
    fitted = model().fit(X, item_features=F)
    assert np.isfinite(fitted.item_factors_).all()
    assert_allclose(
        fitted.with_items(np.zeros((1, 12))).item_factors_[-1], latent_means(fitted, F[3:4])[0]
    )


@pytest.mark.parametrize(
    ("params", "F", "message"),
    [
        ({}, np.zeros((20, 3)), r"item_features of shape \(20, 3\) is zero everywhere"),
        ({}, np.ones((19, 3)), "a row for each of the 20 items"),
        ({"hidden_layer_sizes": ()}, np.ones((20, 3)), "at least one layer"),
        ({"unobserved_weight": 1}, np.ones((20, 3)), "smaller than confidence, got 1 and 1"),
    ],
)
def test_bad_input_is_an_error(X, params, F, message):
    with pytest.raises(ValueError, match=message):
        model(**params).fit(X, item_features=F)


def test_features_of_another_width_are_an_error_for_new_items_and_warm_starts(X, F):
    fitted = model(warm_start=True).fit(X, item_features=F)
    with pytest.raises(ValueError, match="must have 12 columns"):
        fitted.with_items(np.ones((1, 11)))
    with pytest.raises(ValueError, match="12 item features"):
        fitted.set_params(max_epochs=9).fit(X, item_features=F[:, :11])


def test_short_titles_keep_latent_dimensions_active(data_folder):
    with np.load(data_folder / "citeulike-a-titles.npz", allow_pickle=False) as packed:
        parts = [packed[f"title_bow_{name}"] for name in ("data", "indices", "indptr", "shape")]
    F = sp.csr_array(tuple(parts[:3]), shape=tuple(parts[3]))[:1000]
    F = F[:, np.flatnonzero(F.sum(axis=0))]
    X = sp.csr_array((np.random.default_rng(0).random((100, F.shape[0])) < 0.003) * 1.0)
    brief = {"n_pretraining_epochs": 10, "max_epochs": 1, "batch_size": 64, "learning_rate": 1e-2}
    fitted = CVAE(**brief, random_state=0).fit(X, item_features=F)
    assert fitted.net_.history[-1, "active_dimensions"] >= 25  # none with beta=1


def test_sparse_content_is_never_made_dense(X, F, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("made dense")

    for name in ("toarray", "todense"):
        monkeypatch.setattr(sp.csr_array, name, refuse)
    model().fit(X, item_features=F).with_items(F[:2])


def test_part_of_the_users_cannot_be_learnt_alone(X, F):
    assert not hasattr(model(), "partial_fit")


def test_covariances_that_do_not_fit_into_memory_are_an_error(X, F, monkeypatch):
    monkeypatch.setattr("sklrec._memory.available_memory", lambda: 5_000)
    with pytest.raises(MemoryError, match="inference='bayes' for 20 items"):
        model(inference="bayes").fit(X, item_features=F)
