"""DICER: objective, training, factors and new items written out."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from written_out import (
    LargestTensor,
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

from sklrec.hybrid import DICER  # noqa: E402
from sklrec.hybrid._dicer_net import dependence_between, dependence_within  # noqa: E402
from sklrec.neural import _base  # noqa: E402
from sklrec.persistence import load, save  # noqa: E402

N_USERS = 30
WITHOUT_USERS = 9
SMALL = {
    "n_components": 3,
    "max_epochs": 2,
    "batch_size": 5,
    "learning_rate": 1e-2,
    "random_state": 0,
}


@pytest.fixture
def X():
    """Return users of 12 items, of which one has none."""
    x = some_users(N_USERS).toarray()
    x[:, WITHOUT_USERS] = 0
    return sp.csr_array(x)


@pytest.fixture
def F():
    """Return counts of words of the items, of which one has none."""
    rng = np.random.default_rng(1)
    F = rng.integers(1, 4, (12, 7)) * (rng.random((12, 7)) < 0.5)
    F[5] = 0
    return F.astype(float)


@pytest.fixture
def groups():
    """Return features of 20 items: their group, and words that mean nothing."""
    noise = np.random.default_rng(0).random((20, 4)) < 0.3
    return np.hstack([np.arange(20)[:, None] % 3 == np.arange(3), noise]).astype(float)


# Training written out


def dependence_by_hand(z, mu, logvar, n_content):
    """Return the mutual information of both parts, and the total correlations, by densities."""
    variance = logvar.exp()
    p = (-((z[:, None] - mu) ** 2) / 2 / variance).exp() / (2 * np.pi * variance).sqrt()
    joint = p.prod(dim=2).mean(dim=1)
    content = p[:, :, :n_content].prod(dim=2).mean(dim=1)
    collaborative = p[:, :, n_content:].prod(dim=2).mean(dim=1)
    each = p.mean(dim=1).prod(dim=1)
    of_parts = content * collaborative
    return (joint / of_parts).log().mean(), (of_parts / each).log().mean()


def posterior(w, users, features):
    parts = [encoder(w, "collaborative", users).chunk(2, dim=1)]
    if features.shape[1]:
        parts.insert(0, encoder(w, "content", unit_rows(features)).chunk(2, dim=1))
    return (torch.cat(both, dim=1) for both in zip(*parts, strict=True))


def by_hand(
    X,
    F,
    *,
    nll=logistic_nll,
    content_weight=1.0,
    beta=lambda n: 0.2,
    between=0.1,
    within=0.1,
    item_dropout=0.3,
):
    """Return the pass of an epoch, over items with their users and features side by side."""
    steps = 0
    has_content = F.shape[1] > 0

    def objective(w, given, learnt, draws):
        nonlocal steps
        users, features = given[:, :N_USERS], given[:, N_USERS:]
        mu, logvar = posterior(w, draws.thinned(unit_rows(users), 0.5), features)
        z = h = mu + draws.normal(mu.shape) * (logvar / 2).exp()
        if item_dropout and has_content:
            kept = torch.empty(len(z)).bernoulli_(1 - item_dropout, generator=draws.generator)
            h = torch.cat([z[:, :3], z[:, 3:] * kept.double()[:, None]], dim=1)
        h = hidden_layers(w, "decoder.hidden", h)
        loss = logistic_nll(linear(w, "decoder.users", h), users)
        if has_content:
            loss = loss + content_weight * nll(linear(w, "decoder.features", h), features)
        loss = loss + beta(steps) * kl_to_standard(mu, logvar)
        steps += 1
        of_both, of_each = dependence_by_hand(z, mu, logvar, 3 * has_content)
        return loss.mean() + between * of_both + within * of_each

    trained = X.toarray().any(axis=0)
    rows = np.hstack([X.toarray().T, F])[trained]
    return [PassByHand(objective, data=torch.from_numpy(rows))]


@pytest.mark.parametrize(
    ("setting", "options"),
    [
        ({}, {}),
        ({"hidden_layer_sizes": (6, 5), "content_weight": 3.0}, {"content_weight": 3.0}),
        (
            {"beta_between": 2.0, "beta_within": 0.0, "item_dropout": 0.0},
            {"between": 2.0, "within": 0.0, "item_dropout": 0},
        ),
        ({"beta_between": 0.0, "beta_within": 2.0}, {"between": 0.0, "within": 2.0}),
        (
            {"item_likelihood": "gaussian", "n_annealing_steps": 4, "beta": 0.6},
            {"nll": gaussian_nll(1), "beta": lambda n: min(n / 4, 0.6)},
        ),
        (
            {"item_likelihood": "multinomial", "beta_between": 0.0, "beta_within": 0.0},
            {"nll": multinomial_nll, "between": 0, "within": 0},
        ),
    ],
)
def test_each_step_of_training_is_that_of_the_objective(setting, options, X, F):
    """Items without users are not in it, nor is anything of the validation users."""
    model = DICER(**{**SMALL, "beta": 0.2, "beta_between": 0.1, "beta_within": 0.1, **setting})
    assert_trained_as_by_hand(model, X, by_hand(X, F, **options), item_features=F)


def test_without_features_it_is_an_autoencoder_of_the_users_of_items(X):
    model = DICER(**SMALL, hidden_layer_sizes=(6,), beta=0.2, beta_between=9.0, beta_within=0.1)
    assert_trained_as_by_hand(model, X, by_hand(X, np.zeros((12, 0))))


def test_dependence_of_two_distant_modes_and_of_one():
    ends = torch.tensor([[-10.0, -10, -10, -10], [10, 10, 10, 10]], dtype=torch.float64)
    narrow = torch.full_like(ends, -6)
    assert_allclose(dependence_between(ends, ends, narrow, 2), np.log(2))  # a bit is in both,
    assert_allclose(dependence_within(ends, ends, narrow, 2), 2 * np.log(2))  # twice in each
    one = torch.zeros(5, 4, dtype=torch.float64)
    z = torch.linspace(-1, 1, 20, dtype=torch.float64).view(5, 4)
    for dependence in (dependence_between, dependence_within):
        assert_allclose(dependence(z, one, one, 2), 0, atol=1e-12)


# Factors of items and users


def factors_by_hand(w, X, F):
    users = torch.from_numpy(X.toarray().T)
    mu, _ = posterior(w, unit_rows(users), torch.from_numpy(F))
    mu[WITHOUT_USERS, -3:] = 0  # the mean of the prior
    return hidden_layers(w, "decoder.hidden", mu).numpy()


@pytest.mark.parametrize("sizes", [(), (6,)])
def test_factors_are_those_of_the_latent_means_in_the_best_epoch(sizes, X, F):
    model = DICER(**{**SMALL, "max_epochs": 6}, hidden_layer_sizes=sizes, warm_start=True)
    model.fit(X, item_features=sp.csr_array(F), X_val=X[:9])
    V = factors_by_hand(weights_of(model.net_), X, F)
    assert_allclose(model.item_factors_, V, atol=1e-5)


@pytest.mark.parametrize("item_dropout", [0.0, 0.3])
def test_users_are_solved_for_by_weighted_least_squares(item_dropout, X, F):
    """The squares are those expected if an item is a new one with the probability of dropout."""
    setting = {"lambda_u": 0.7, "unobserved_weight": 0.1, "item_dropout": item_dropout}
    model = DICER(**SMALL, **setting).fit(X, item_features=F)
    V, known = model.item_factors_, X.toarray().any(axis=0)
    as_new = np.hstack([V[:, :3], np.zeros((12, 3))])
    rows = np.vstack([X.toarray()[:4], np.ones(12)])  # one user has the item without users
    for row, found in zip(rows, model.transform(rows), strict=True):
        A, b = 0.7 * np.eye(6), 0
        c = np.where(known | (row > 0), 0.1 + 0.9 * row, 0)
        for share, factors in ((1 - item_dropout, V), (item_dropout, as_new)):
            A = A + share * factors.T @ (c[:, None] * factors)
            b = b + share * factors.T @ (c * (row > 0))
        assert_allclose(found, np.linalg.solve(A, b), atol=1e-6)
    assert_allclose(model.decision_function(rows[:3]), model.transform(rows[:3]) @ V.T)


def test_new_items_are_those_without_users_in_fit(X, F):
    """Bit by bit: a fit does not learn from items without users."""
    offline = DICER(**SMALL).fit(X, item_features=F)
    old = np.arange(12) != WITHOUT_USERS
    order = [*np.flatnonzero(old), WITHOUT_USERS]
    online = DICER(**SMALL).fit(X[:, old], item_features=F[old]).with_items(F[[WITHOUT_USERS]])
    assert_array_equal(online.item_factors_, offline.item_factors_[order])
    assert_array_equal(online.transform(X[:, order]), offline.transform(X))


def test_new_items_are_ranked_by_their_content():
    group = np.arange(60) % 3
    liked = np.arange(90)[:, None] % 3 == group
    X = sp.csr_array(1.0 * (np.random.default_rng(0).random((90, 60)) < np.where(liked, 0.4, 0.03)))
    model = DICER(8, max_epochs=40, batch_size=20, learning_rate=2e-2, random_state=0)
    new = model.fit(X, item_features=np.eye(3)[group]).with_items(np.eye(3))
    users = sp.hstack([X, sp.csr_array((90, 3))], format="csr")
    best = new.predict_ranking(users, k=1, items=[60, 61, 62])[:, 0] - 60
    assert (best == np.arange(90) % 3).mean() > 0.9


# The history, training that goes on, and what is kept


def test_collapsed_dimensions_show_in_the_history(X, F):
    setting = {**SMALL, "max_epochs": 40, "batch_size": 12, "learning_rate": 5e-2}
    alive = DICER(**setting, beta=0.01).fit(X, item_features=F).net_.history[-1]
    assert alive["active_dimensions"] == alive["active_collaborative_dimensions"] == 3
    collapsed = DICER(**setting, beta=100.0).fit(X, item_features=F).net_.history[-1]
    assert collapsed["active_dimensions"] == collapsed["active_collaborative_dimensions"] == 0
    assert "active_dimensions" not in DICER(**SMALL).fit(X).net_.history[-1]


def test_a_warm_start_goes_on_as_if_there_was_no_end(X, F, tmp_path):
    whole = DICER(**{**SMALL, "max_epochs": 4}).fit(X, item_features=F)
    warm = DICER(**SMALL, warm_start=True).fit(X, item_features=F)
    save(warm, tmp_path / "model.safetensors")
    for model in (pickle.loads(pickle.dumps(warm)), load(tmp_path / "model.safetensors"), warm):
        model.set_params(max_epochs=4).fit(X, item_features=F)
        assert_array_equal(model.item_factors_, whole.item_factors_)


def test_a_warm_start_needs_the_weights_of_the_same_users(X, F):
    warm = DICER(**SMALL, warm_start=True).fit(X, item_features=F).set_params(max_epochs=4)
    with pytest.raises(ValueError, match="weights of 30 users, got 29 users; pass the same"):
        warm.fit(X[1:], item_features=F)
    dropped = DICER(**SMALL).fit(X, item_features=F).set_params(max_epochs=4, warm_start=True)
    with pytest.raises(ValueError, match="weights of 0 users, got 30 users"):
        dropped.fit(X, item_features=F)
    assert not hasattr(dropped, "partial_fit")


def test_a_copy_with_new_items_is_trained_alone(X, F):
    model = DICER(**SMALL, warm_start=True).fit(X, item_features=F)
    before = {name: w.clone() for name, w in weights_of(model.net_).items()}
    copy = model.with_items(F[:2]).set_params(max_epochs=3)
    wide = sp.hstack([X, X[:, :2]], format="csr")
    copy.fit(wide, item_features=np.vstack([F, F[:2]]))
    assert copy.item_factors_.shape[0] == 14
    for name, weight in weights_of(model.net_).items():
        assert_array_equal(weight, before[name])


def test_no_dense_matrix_of_items_and_features():
    rng = np.random.default_rng(0)
    X = sp.random_array((40, 300), density=0.05, format="csr", rng=rng)
    F = sp.random_array((300, 1500), density=0.004, format="csr", rng=rng)
    with LargestTensor() as largest:
        DICER(**{**SMALL, "max_epochs": 1, "batch_size": 20}).fit(X, item_features=F)
    assert largest.n_values <= 20 * 1500


@pytest.mark.parametrize(
    ("setting", "features", "message"),
    [
        ({}, -np.ones((12, 2)), "DICER needs features that are not negative, got -1; use item_l"),
        ({}, np.zeros((12, 2)), "zero everywhere"),
        ({"hidden_layer_sizes": (4, 0)}, None, "hidden_layer_sizes must hold positive integers"),
        ({"unobserved_weight": 1.0}, None, "unobserved_weight"),
    ],
)
def test_bad_input_is_an_error(setting, features, message, X):
    with pytest.raises(ValueError, match=message):
        DICER(**SMALL, **setting).fit(X, item_features=features)


def test_memory_counts_batches_of_items_that_are_larger_than_those_of_users(monkeypatch):
    X, asked = sp.csr_array(np.eye(3, 12)), []
    monkeypatch.setattr(_base, "check_memory", lambda n_bytes, what: asked.append(n_bytes))
    for batch_size in (3, 12):  # 3 users, 12 items
        DICER(**{**SMALL, "batch_size": batch_size}).fit(X)
    n_outputs = 12
    densities = 2 * (12**2 - 3**2) * SMALL["n_components"]
    assert asked[1] - asked[0] == 4 * (2 * (12 - 3) * n_outputs + densities)
