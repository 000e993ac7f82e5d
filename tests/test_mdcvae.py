"""MD-CVAE against its paper: objectives, training, new items and limits written out."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
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

from skorch.callbacks import Callback  # noqa: E402

from sklrec.hybrid import MDCVAE  # noqa: E402
from sklrec.neural import MultVAE  # noqa: E402
from sklrec.persistence import load, save  # noqa: E402
from sklrec.pipeline import ItemFeatures  # noqa: E402

N_FEATURES = 7
SMALL = {
    "n_components": 4,
    "item_hidden_layer_sizes": (5,),
    "max_epochs": 2,
    "batch_size": 12,
    "learning_rate": 1e-2,
    "random_state": 0,
}


@pytest.fixture
def F():
    """Return counts of words of 12 items, one of which has none."""
    rng = np.random.default_rng(1)
    F = rng.integers(1, 4, (12, N_FEATURES)) * (rng.random((12, N_FEATURES)) < 0.5)
    F[5] = 0
    return F.astype(float)


@pytest.fixture
def groups(X):
    """Return the features of the items of ``X``: their group, and words that mean nothing."""
    noise = np.random.default_rng(0).random((20, 4)) < 0.3
    return np.hstack([np.arange(20)[:, None] % 3 == np.arange(3), noise]).astype(float)


# Training written out


def users_posterior(w, x, symmetric):
    """Return mean and log-variance of users, whose first weights are V if `symmetric`."""
    if not symmetric:
        return encoder(w, "users.encoder", x).chunk(2, dim=1)
    h = x @ w["users.item_layer.weight"] + w["users.bias"]  # equation 9
    if "users.logvar.weight" in w:
        return h, x @ w["users.logvar.weight"] + w["users.logvar.bias"]
    layer = 0
    h = h.tanh()
    while f"users.rest.1.{layer}.weight" in w:
        h = linear(w, f"users.rest.1.{layer}", h).tanh()
        layer += 2
    return linear(w, "users.rest.2", h).chunk(2, dim=1)


@torch.no_grad()
def adapt_items(w, features, nll):
    """Set the weights of the items' autoencoder that depend on the features."""
    n_items, n_features = features.shape
    count = (features != 0).sum(dim=0)
    if "items.encoder.first.weight" in w:
        first = w["items.encoder.first.weight"]
        n_outputs = first.shape[1]
        first *= ((n_features + n_outputs) / (count.sum() / n_items + n_outputs)) ** 0.5
    bias = w["items.item_layer.bias"]
    if nll is logistic_nll:
        bias[:] = ((count + 0.5) / (n_items - count + 0.5)).log()
    elif nll is multinomial_nll:
        bias[:] = ((features.sum(dim=0) + 0.5) / (features.sum() + 1)).log()
    else:
        bias[:] = features.mean(dim=0)


def by_hand(
    X,
    F,
    *,
    lambda_v,
    symmetric=False,
    coupled=None,
    nll=logistic_nll,
    beta=lambda n: min(n / 5000, 0.2),
    item_beta=lambda n: 0.1,
    item_dropout=0.0,
):
    """Return the passes of an epoch: equations 10 and 11, turned around, for means over batches.

    ``beta(step)`` and ``item_beta(step)`` are the weights of the KL terms.
    """
    n_users = X.shape[0]
    steps = {"users": 0, "items": 0}
    content = None
    features = torch.from_numpy(F)

    def coupled_weights(w):
        return w["users.item_layer.weight"] if coupled is None else coupled(w)

    def fix_content(w):
        nonlocal content
        if content is None:  # before the first step
            adapt_items(w, features, nll)
        mu, _ = encoder(w, "items.encoder", unit_rows(features)).chunk(2, dim=1)
        content = mu.detach()

    def of_users(w, given, learnt, draws):
        penalty = lambda_v / 2 * ((coupled_weights(w) - content) ** 2).sum()
        if item_dropout:
            kept = torch.empty(len(F), 1).bernoulli_(1 - item_dropout, generator=draws.generator)
            mixed = torch.where(kept > 0, w["users.item_layer.weight"], content)
            w = {**w, "users.item_layer.weight": mixed}
        x = draws.thinned(unit_rows(given), 0.5)
        mu, logvar = users_posterior(w, x, symmetric)
        u = mu + draws.normal(mu.shape) * (logvar / 2).exp()
        scores = linear(w, "users.item_layer", hidden_layers(w, "users.decoder", u))
        elbo = multinomial_nll(scores, learnt) + beta(steps["users"]) * kl_to_standard(mu, logvar)
        steps["users"] += 1
        return elbo.mean() + penalty / n_users

    def of_items(w, given, learnt, draws):
        x, items = given[:, :-1], given[:, -1].long()
        mu, logvar = encoder(w, "items.encoder", unit_rows(x)).chunk(2, dim=1)
        z = mu + draws.normal(mu.shape) * (logvar / 2).exp()
        scores = linear(w, "items.item_layer", hidden_layers(w, "items.decoder", z))
        v = coupled_weights(w)[items].detach()
        penalty = lambda_v / 2 * ((v - mu) ** 2 + logvar.exp()).sum(dim=1)
        loss = nll(scores, x) + item_beta(steps["items"]) * kl_to_standard(mu, logvar) + penalty
        steps["items"] += 1
        return loss.mean()

    numbered = torch.hstack([features, torch.arange(len(F))[:, None]])
    return [
        PassByHand(of_users, part="users.", before=fix_content),
        PassByHand(of_items, part="items.", data=numbered),
    ]


@pytest.mark.parametrize(
    ("setting", "options"),
    [
        ({}, {}),
        ({"symmetric": True}, {}),
        ({"symmetric": True, "hidden_layer_sizes": (6, 5)}, {}),
        ({"item_dropout": 0.4}, {"item_dropout": 0.4}),
        ({"symmetric": True, "item_dropout": 0.4}, {"item_dropout": 0.4}),
        ({"hidden_layer_sizes": (6,), "item_hidden_layer_sizes": ()}, {}),
        (
            {"item_likelihood": "gaussian", "n_item_annealing_steps": 0, "item_beta": 0.7},
            {"nll": gaussian_nll(1), "item_beta": lambda n: 0.7},
        ),
        (
            {"item_likelihood": "multinomial", "n_annealing_steps": 4, "beta": 0.6},
            {"nll": multinomial_nll, "beta": lambda n: min(n / 4, 0.6)},
        ),
        (
            {"coupling": "encoder"},
            {"coupled": lambda w: w["users.encoder.first.weight"][:, :4]},
        ),
        (
            {"coupling": "encoder", "hidden_layer_sizes": (6,)},
            {"coupled": lambda w: w["users.encoder.first.weight"]},
        ),
    ],
)
def test_each_step_of_training_is_that_of_equations_10_and_11(setting, options, F):
    X = some_users()
    model = MDCVAE(**{**SMALL, **setting}, lambda_v=3.0)
    passes = by_hand(X, F, lambda_v=3.0, symmetric=model.symmetric, **options)
    assert_trained_as_by_hand(model, X, passes, item_features=F)


def test_the_penalty_of_all_weights_is_added(F):
    X = some_users()
    model = MDCVAE(**SMALL, lambda_v=3.0, lambda_=0.1)
    passes = by_hand(X, F, lambda_v=3.0)
    assert_trained_as_by_hand(
        model,
        X,
        passes,
        item_features=F,
        penalty=lambda name: 0.1 * name.endswith("weight"),
    )


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("sizes", [(), (6,)])
def test_scores_are_those_of_the_mean_through_the_network_written_out(symmetric, sizes, F):
    X = some_users()
    model = MDCVAE(**SMALL, symmetric=symmetric, hidden_layer_sizes=sizes).fit(X, item_features=F)
    w = weights_of(model.net_)
    mu, _ = users_posterior(w, unit_rows(torch.from_numpy(X.toarray())), symmetric)
    assert_allclose(model.transform(X), mu, atol=1e-5)
    known = np.diff(X.indptr) > 0
    expected = linear(w, "users.item_layer", hidden_layers(w, "users.decoder", mu))
    assert_allclose(model.decision_function(X)[known], expected[known], atol=1e-5)


# Limits


@pytest.mark.parametrize("item_features", [None, "F"])
def test_without_features_or_coupling_it_is_mult_vae_bit_by_bit(item_features, F):
    X = some_users()
    setting = {**SMALL, "hidden_layer_sizes": (6,), "n_annealing_steps": 10, "max_epochs": 3}
    model = MDCVAE(**setting, lambda_v=0.0).fit(X, item_features=F if item_features else None)
    del setting["item_hidden_layer_sizes"]
    expected = MultVAE(**setting).fit(X)
    for name, weight in expected.net_.module_.state_dict().items():
        assert_array_equal(model.net_.module_.users.state_dict()[name], weight)
    assert_array_equal(model.decision_function(X), expected.decision_function(X))
    assert model.n_item_features_ == (N_FEATURES if item_features else 0)


class Noiseless(Callback):
    """Sets the variance of the users' latent vectors to next to 0 for good."""

    def on_batch_begin(self, net, **kwargs):
        with torch.no_grad():
            net.module_.users.logvar.weight.zero_()
            net.module_.users.logvar.bias.fill_(-80)


def test_symmetric_without_hidden_layers_noise_and_kl_is_a_tied_linear_autoencoder(X):
    setting = {**SMALL, "symmetric": True, "dropout": 0.0, "beta": 0.0, "batch_size": 60}
    start = MDCVAE(**{**setting, "learning_rate": 1e-30}).fit(X)
    model = MDCVAE(**{**setting, "max_epochs": 5}, callbacks=[Noiseless()]).fit(X)
    w = {
        name: v.requires_grad_() for name, v in weights_of(start.net_).items() if "log" not in name
    }
    V, bias, hidden_bias = (
        w[f"users.{name}"] for name in ("item_layer.weight", "item_layer.bias", "bias")
    )
    adam = torch.optim.Adam(w.values(), lr=1e-2)
    x = torch.from_numpy(X.toarray())

    def scores():
        return (unit_rows(x) @ V + hidden_bias) @ V.T + bias

    for _ in range(5):
        adam.zero_grad()
        multinomial_nll(scores(), x).mean().backward()
        adam.step()
    assert_allclose(model.decision_function(X), scores().detach(), atol=2e-4)
    assert np.abs(start.decision_function(X) - model.decision_function(X)).max() > 0.02


@pytest.mark.parametrize("coupling", ["decoder", "encoder"])
def test_a_strong_coupling_makes_item_vectors_functions_of_the_content(coupling, X, groups):
    def distance(lambda_v):
        model = MDCVAE(
            4, lambda_v=lambda_v, coupling=coupling, max_epochs=60, learning_rate=1e-2,
            batch_size=20, random_state=0,
        ).fit(X, item_features=groups)  # fmt: skip
        w = weights_of(model.net_)
        z = encoder(w, "items.encoder", unit_rows(torch.from_numpy(groups)))[:, :4]
        V = w["users.item_layer.weight"]
        if coupling == "encoder":
            V = w["users.encoder.first.weight"][:, :4]
        return ((V - z) ** 2).mean() / V.var()

    assert distance(1e4) < 0.05 < distance(0.0)


# New items


@pytest.fixture
def fitted(X, groups):
    def fit(**setting):
        setting = {**SMALL, "max_epochs": 30, "lambda_v": 100.0, **setting}
        return MDCVAE(**setting).fit(X, item_features=groups)

    return fit


@pytest.mark.parametrize("sizes", [(), (6,)])
@pytest.mark.parametrize("symmetric", [False, True])
def test_new_items_have_the_latent_mean_as_vector_and_the_mean_bias(symmetric, sizes, fitted, X):
    model = fitted(symmetric=symmetric, hidden_layer_sizes=sizes)
    before = model.decision_function(X)
    F_new = np.array([[1, 0, 0, 1, 0, 0, 1], [0, 0, 2, 0, 0, 0, 0]])
    wide = sp.csr_array((X.data, X.indices, X.indptr), shape=(60, 22))
    new = model.with_items(F_new)
    scores = new.decision_function(wide)
    assert new.n_features_in_ == 22
    assert_array_equal(model.decision_function(X), before)  # the original
    assert_allclose(scores[:, :20], before, rtol=1e-5, atol=1e-6)
    w = weights_of(model.net_)
    V = encoder(w, "items.encoder", unit_rows(torch.from_numpy(F_new * 1.0))).chunk(2, dim=1)[0]
    h = hidden_layers(w, "users.decoder", torch.from_numpy(model.transform(X)))
    expected = h @ V.T + w["users.item_layer.bias"].mean()  # equations 5 and 13
    assert_allclose(scores[:, 20:], expected, atol=1e-5)
    assert_array_equal(new.item_embeddings_[:20], model.item_embeddings_)
    ranking = new.predict_ranking(wide, k=2, items=[20, 21])
    assert_array_equal(np.sort(ranking, axis=1), np.tile([20, 21], (60, 1)))


def test_new_items_are_read_by_a_symmetric_model_and_ignored_by_another(fitted):
    only_new = sp.csr_array(([1.0], ([0], [20])), shape=(1, 21))
    F_new = np.array([[1, 0, 0, 0, 0, 0, 0]])
    symmetric = fitted(symmetric=True).with_items(F_new)
    scores = symmetric.decision_function(only_new)[0]
    w = weights_of(symmetric.net_)
    V = w["users.item_layer.weight"]
    expected = V @ (V[20] + w["users.bias"]) + w["users.item_layer.bias"]  # equation 9
    assert_allclose(scores, expected, atol=1e-5)
    other = fitted(symmetric=False).with_items(F_new)
    assert_array_equal(other.decision_function(only_new)[0], other._popularity)
    X = sp.csr_array(([1.0, 1.0], ([0, 0], [3, 20])), shape=(1, 21))
    w = weights_of(other.net_)
    first = w["users.encoder.first.weight"][3, :4] / 2**0.5 + w["users.encoder.first.bias"][:4]
    assert_allclose(other.transform(X)[0], first, atol=1e-6)


def test_an_item_without_features_is_unknown_as_one_without_interactions(fitted):
    X = sp.csr_array(([1.0], ([0], [20])), shape=(1, 21))
    model = fitted(symmetric=True).with_items(np.zeros((1, 7)))
    assert_array_equal(model.decision_function(X)[0], model._popularity)


@pytest.mark.parametrize("symmetric", [False, True])
def test_items_with_the_features_of_an_old_one_rank_beside_it(symmetric, fitted, X, groups):
    model = fitted(symmetric=symmetric, lambda_v=1e4, max_epochs=60)
    new = model.with_items(groups[:6])
    V = new.item_embeddings_
    distance = np.linalg.norm(V[20:, None] - V[None, :20], axis=2)
    own = distance[np.arange(6), np.arange(6)]
    assert (own < np.median(distance, axis=1)).all()
    assert own.mean() < 0.2 * distance.mean()


def test_an_offline_item_without_interactions_ranks_beside_its_twin(X, groups):
    """Item 20 has the features of item 0, and nobody has it (section 3.7.1)."""
    wide = sp.csr_array((X.data, X.indices, X.indptr), shape=(60, 21))
    F = np.vstack([groups, groups[:1]])

    def cosine(**setting):
        setting = {**SMALL, "max_epochs": 60, "symmetric": True, **setting}
        V = MDCVAE(**setting).fit(wide, item_features=F).item_embeddings_
        unit = V / np.linalg.norm(V, axis=1, keepdims=True)
        return unit[20] @ unit[0]

    assert cosine(lambda_v=1e3) > 0.95
    assert cosine(lambda_v=0.0) < 0.5


@pytest.mark.parametrize("setting", [{"coupling": "encoder"}])
def test_new_items_need_a_decoder_that_is_close_to_the_content(setting, fitted, groups):
    with pytest.raises(ValueError, match=r"coupling='decoder' or symmetric=True, got coupling"):
        fitted(**setting).with_items(groups[:2])
    assert fitted(symmetric=True, **setting).with_items(groups[:2]).n_features_in_ == 22


def test_item_dropout_needs_a_decoder_that_is_close_to_the_content(fitted):
    with pytest.raises(ValueError, match=r"item_dropout=0\.5 needs coupling='decoder' or symm"):
        fitted(coupling="encoder", item_dropout=0.5)


def test_parameters_set_after_fit_do_not_change_new_items(fitted, groups, X):
    model = fitted(symmetric=True)
    wide = sp.csr_array((X.data, X.indices, X.indptr), shape=(60, 22))
    expected = model.with_items(groups[:2]).decision_function(wide)
    model.set_params(symmetric=False, n_components=9, coupling="encoder", batch_size=1)
    assert_allclose(model.with_items(groups[:2]).decision_function(wide), expected, atol=1e-6)


def test_a_copy_with_new_items_is_pickled_saved_and_trained_further(fitted, groups, X, tmp_path):
    model = fitted(symmetric=True)
    before, losses = model.decision_function(X), list(model.loss_curve_)
    new = model.with_items(groups[:2]).with_items(groups[2:3])
    wide = sp.csr_array((X.data, X.indices, X.indptr), shape=(60, 23))
    scores = new.decision_function(wide)
    assert_array_equal(pickle.loads(pickle.dumps(new)).decision_function(wide), scores)
    save(new, tmp_path / "new.safetensors")
    assert_array_equal(load(tmp_path / "new.safetensors").decision_function(wide), scores)
    new.partial_fit(wide, item_features=np.vstack([groups, groups[:3]]))
    assert np.abs(new.decision_function(wide) - scores).max() > 0
    assert_array_equal(model.decision_function(X), before)
    assert model.loss_curve_ == losses


# Training and its state


def test_history_has_the_active_dimensions_of_the_items(X, groups):
    model = MDCVAE(**{**SMALL, "max_epochs": 40, "n_item_annealing_steps": 20}, item_beta=0.3)
    model.fit(X, item_features=groups)
    history = model.net_.history
    found = history[:, "active_dimensions"]
    assert len(found) == 40
    assert 0 < found[-1] <= 4
    assert_allclose(history[:3, "item_beta"], [0.1, 0.2, 0.3], rtol=1e-6)  # 2 batches of items
    w = weights_of(MDCVAE(**SMALL).set_params(max_epochs=39, n_item_annealing_steps=20,
                   item_beta=0.3).fit(X, item_features=groups).net_)  # fmt: skip
    z = encoder(w, "items.encoder", unit_rows(torch.from_numpy(groups)))[:, :4]
    assert found[-1] == (z.var(dim=0, correction=0) > 0.01).sum()
    collapsed = MDCVAE(**{**SMALL, "max_epochs": 40}, item_beta=100.0, n_item_annealing_steps=0,
                       lambda_v=0.0).fit(X, item_features=groups)  # fmt: skip
    assert collapsed.net_.history[-1, "active_dimensions"] == 0


def test_partial_fit_and_warm_starts_go_on_with_the_features(X, groups):
    setting = {**SMALL, "symmetric": True}
    whole = MDCVAE(**setting).fit(X, item_features=groups)
    parts = MDCVAE(**setting)
    for _ in range(2):
        parts.partial_fit(X, item_features=groups)
    assert_array_equal(parts.decision_function(X), whole.decision_function(X))
    warm = MDCVAE(**{**setting, "max_epochs": 1}, warm_start=True).fit(X, item_features=groups)
    warm.set_params(max_epochs=2).fit(X, item_features=groups)
    assert_array_equal(warm.decision_function(X), whole.decision_function(X))
    for wrong in (None, groups[:, :3]):
        with pytest.raises(ValueError, match="network that was made for 7 item features, got"):
            parts.partial_fit(X, item_features=wrong)
    assert parts.n_item_features_ == 7


def test_features_are_not_kept(X, groups):
    model = MDCVAE(**SMALL).fit(X, item_features=sp.csr_array(groups))
    assert not {"_F", "_given_features"} & set(vars(model))
    assert model.net_.datasets is None
    assert model.net_.module_.content is None
    with pytest.raises(ValueError, match="a row for each of the 20 items"):
        model.fit(X, item_features=groups[:5])
    assert not {"_F", "_given_features"} & set(vars(model))


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_matrix, ItemFeatures, np.float32])
def test_forms_of_features_agree(kind, X, groups):
    expected = MDCVAE(**SMALL, symmetric=True).fit(X, item_features=groups)
    found = MDCVAE(**SMALL, symmetric=True).fit(X, item_features=kind(groups))
    assert_array_equal(found.decision_function(X), expected.decision_function(X))


def test_validation_users_are_scored_with_the_content(X, groups):
    model = MDCVAE(**SMALL, symmetric=True, early_stopping=True, validation_fraction=0.2)
    model.fit(X, item_features=groups)
    assert len(model.validation_scores_) == 2
    assert model.best_active_dimensions_ in range(5)
    assert model.best_item_beta_ > 0


def test_negative_features_need_the_gaussian_likelihood(X, groups):
    signed = groups - 0.5
    for likelihood in ("logistic", "multinomial"):
        with pytest.raises(ValueError, match=r"needs features that are not negative, got -0\.5"):
            MDCVAE(**SMALL, item_likelihood=likelihood).fit(X, item_features=signed)
    model = MDCVAE(**SMALL, item_likelihood="gaussian").fit(X, item_features=signed)
    assert np.isfinite(model.with_items(signed[:2]).item_embeddings_).all()


def test_features_that_are_zero_everywhere_are_an_error(X):
    with pytest.raises(ValueError, match="zero everywhere"):
        MDCVAE(**SMALL).fit(X, item_features=np.zeros((20, 3)))


@pytest.mark.parametrize("name", ["hidden_layer_sizes", "item_hidden_layer_sizes"])
def test_sizes_of_layers_are_checked(name, X):
    with pytest.raises(ValueError, match=f"{name} must hold positive integers"):
        MDCVAE(**{**SMALL, name: (4, 0)}).fit(X)


def test_content_finds_the_groups_of_new_items(X, groups):
    """Each user of a group is recommended the new items of the group."""
    model = MDCVAE(
        8, symmetric=True, lambda_v=100.0, max_epochs=150, batch_size=20, learning_rate=1e-2,
        random_state=0,
    ).fit(X, item_features=groups)  # fmt: skip
    new = model.with_items(groups[:9])
    wide = sp.csr_array((X.data, X.indices, X.indptr), shape=(60, 29))
    ranking = new.predict_ranking(wide, k=3, items=np.arange(20, 29)) - 20
    assert (ranking % 3 == np.arange(60)[:, None] % 3).mean() > 0.9


def test_memory_that_is_missing_is_asked_for_first(monkeypatch, X, groups):
    asked = []
    monkeypatch.setattr(
        "sklrec.neural._base.check_memory", lambda n_bytes, what: asked.append(n_bytes)
    )
    MDCVAE(**SMALL).fit(X)
    MDCVAE(**SMALL).fit(X, item_features=groups)
    wide = sp.csr_array((np.ones(1), ([0], [99_999])), shape=(20, 100_000))
    MDCVAE(**SMALL).fit(X, item_features=wide)
    assert asked[0] < asked[1] < asked[2]
    assert asked[2] > 4 * 12 * 100_000  # the features of a batch of items, decoded
