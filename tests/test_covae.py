"""CoVAE against its paper: both phases written out, and what is left without the first."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from written_out import (
    PassByHand,
    assert_trained_as_by_hand,
    gaussian_nll,
    kl_to_standard,
    linear,
    some_users,
    unit_rows,
    weights_of,
)

torch = pytest.importorskip("torch")

from sklrec.hybrid import CoVAE  # noqa: E402
from sklrec.neural import MultVAE, _base  # noqa: E402

SMALL = {
    "n_components": 4,
    "hidden_layer_sizes": (6,),
    "dropout": 0.0,
    "alpha": 1.0,
    "beta": 1.0,
    "max_epochs": 2,
    "batch_size": 12,
    "learning_rate": 1e-2,
    "random_state": 0,
}


@pytest.fixture
def F():
    """Return counts of 15 words of 12 items; one word that none has, one item without words."""
    rng = np.random.default_rng(1)
    F = rng.integers(1, 4, (12, 15)) * (rng.random((12, 15)) < 0.5)
    F[5], F[:, 2] = 0, 0
    return F.astype(float)


def posterior(w, x):
    """Return mean and log-variance."""
    h = unit_rows(x) @ w["encoder.first.weight"] + w["encoder.first.bias"]
    return linear(w, "encoder.hidden.1", h.relu()).chunk(2, dim=1)


def scores_of(w, z):
    return linear(w, "item_layer", linear(w, "decoder.0", z).relu())


def weighted_logistic_nll(alpha):
    """Return ``-sum_i c_i log s(+-f_i)`` as a function, c_i being alpha where x has an entry."""

    def nll(scores, x):
        p = torch.sigmoid(scores)
        return -torch.where(x > 0, alpha * p.log(), (1 - p).log()).sum(dim=1)

    return nll


def negative_elbo(nll, beta):
    def objective(w, given, learnt, draws):
        mu, logvar = posterior(w, given)
        z = mu + draws.normal(mu.shape) * (logvar / 2).exp()
        return (nll(scores_of(w, z), learnt) + beta * kl_to_standard(mu, logvar)).mean()

    return objective


@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_users_are_learnt_by_a_weighted_bernoulli_likelihood(alpha):
    objective = negative_elbo(weighted_logistic_nll(alpha), beta=0.7)
    model = CoVAE(**{**SMALL, "alpha": alpha, "beta": 0.7})
    assert_trained_as_by_hand(model, some_users(), [PassByHand(objective)])


def test_features_are_learnt_first_by_a_weighted_gaussian_likelihood(F):
    of_features = negative_elbo(gaussian_nll(6), beta=0.1)
    first = PassByHand(of_features, data=torch.from_numpy((F.T > 0) * 1.0))
    then = PassByHand(negative_elbo(weighted_logistic_nll(2), beta=1.0))
    model = CoVAE(
        **{**SMALL, "max_epochs": 1, "alpha": 2.0},
        n_feature_epochs=2,
        feature_alpha=6.0,
        feature_beta=0.1,
    )
    assert_trained_as_by_hand(model, some_users(), [first, first, then], item_features=F)


def test_the_first_phase_is_over_after_the_first_epoch(F):
    X = some_users()
    model = CoVAE(**{**SMALL, "max_epochs": 3}, n_feature_epochs=4).fit(X, item_features=F)
    of_users = 3  # batches of 30 users
    assert model.net_.history[:, "train_batch_count"] == [4 * 2 + of_users, of_users, of_users]
    parts = CoVAE(**SMALL, n_feature_epochs=4)
    for _ in range(3):
        parts.partial_fit(X, item_features=F)
    assert_array_equal(parts.transform(X), model.transform(X))
    assert_array_equal(parts.item_embeddings_, model.item_embeddings_)


def test_without_the_first_phase_it_is_a_bernoulli_vae(F):
    X = some_users()
    expected = CoVAE(**SMALL).fit(X).decision_function(X)
    found = CoVAE(**SMALL, n_feature_epochs=0).fit(X, item_features=F).decision_function(X)
    assert_array_equal(found, expected)
    linear_setting = {**SMALL, "hidden_layer_sizes": ()}  # no activation
    of_vae = {name: value for name, value in linear_setting.items() if name != "alpha"}
    vae = MultVAE(**of_vae, likelihood="logistic", n_annealing_steps=0)
    found = CoVAE(**linear_setting).fit(X).decision_function(X)
    assert_allclose(found, vae.fit(X).decision_function(X), atol=1e-5)


def test_scores_are_the_logits_of_all_items_and_those_of_seen_ones_are_not_zero(F):
    X = some_users()
    model = CoVAE(**SMALL).fit(X, item_features=F)
    w = weights_of(model.net_)
    mu, _ = posterior(w, torch.from_numpy(X.toarray()))
    known = np.diff(X.indptr) > 0
    assert_allclose(model.decision_function(X)[known], scores_of(w, mu)[known], atol=1e-5)
    assert_allclose(model.transform(X), mu, atol=1e-5)


def test_an_item_without_interactions_is_learnt_from_its_features(X):
    """Item 20 has the words of group 0, and nobody has it."""
    wide = sp.csr_array((X.data, X.indices, X.indptr), shape=(60, 21))
    groups = np.tile(np.arange(21)[:, None] % 3 == np.arange(3), 4).astype(float)
    groups[20] = groups[0]
    setting = {**SMALL, "max_epochs": 3, "beta": 0.1}
    model = CoVAE(**setting, n_feature_epochs=150, feature_beta=0.01).fit(
        wide, item_features=groups
    )
    assert (model.similar_items([20], k=6)[0] % 3 == 0).mean() >= 5 / 6
    only_new = sp.csr_array(([1.0], ([0], [20])), shape=(1, 21))
    assert not np.array_equal(model.decision_function(only_new)[0], model._popularity)
    blind = CoVAE(**setting, n_feature_epochs=0).fit(wide, item_features=groups)
    assert_array_equal(blind.decision_function(only_new)[0], blind._popularity)


def test_new_items_cannot_be_added(F):
    model = CoVAE(**SMALL).fit(some_users(), item_features=F)
    assert not hasattr(model, "with_items")


def test_negative_features_are_an_error(F):
    with pytest.raises(
        ValueError, match=r"CoVAE needs features that are not negative, got -1; bin"
    ):
        CoVAE(**SMALL).fit(some_users(), item_features=F - 1)


def test_features_that_are_zero_everywhere_are_an_error():
    with pytest.raises(ValueError, match="zero everywhere"):
        CoVAE(**SMALL).fit(some_users(), item_features=np.zeros((12, 3)))


def test_memory_counts_batches_of_features_that_are_larger_than_those_of_users(F, monkeypatch):
    X, asked = sp.csr_array(np.eye(3, 12)), []
    monkeypatch.setattr(_base, "check_memory", lambda n_bytes, what: asked.append(n_bytes))
    for batch_size in (3, 12, 15, 10**9):  # 3 users, 15 features
        CoVAE(**{**SMALL, "batch_size": batch_size}).fit(X, item_features=F)
    assert asked[0] < asked[1] < asked[2] == asked[3]
