"""DAVE: the three objectives, training, embeddings and scores written out."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from written_out import (
    LargestTensor,
    PassByHand,
    assert_trained_as_by_hand,
    batches_of_pairs,
    encoder,
    gaussian_nll,
    hidden_layers,
    linear,
    logistic_nll,
    multinomial_nll,
    some_users,
    unit_rows,
    weights_of,
)

torch = pytest.importorskip("torch")

from sklrec.hybrid import DAVE  # noqa: E402
from sklrec.neural._training._data import SparseRows  # noqa: E402
from sklrec.persistence import load, save  # noqa: E402

N_USERS = 30
WITHOUT_USERS = 9
SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (6,),
    "pair_layer_sizes": (5, 4),
    "n_negatives": 2,
    "max_epochs": 2,
    "batch_size": 12,
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


# Training written out


def inference(w, name, x, features=None, noise=0):
    """Return the embeddings, and the first layer without noise."""
    name = f"{name}.inference"
    of_content = 0
    if features is not None and features.shape[1]:
        of_content = unit_rows(features) @ w[f"{name}.content.weight"]
    of_noise = noise if isinstance(noise, int) else noise @ w[f"{name}.noise.weight"].T
    first = x @ w[f"{name}.encoder.first.weight"] + w[f"{name}.encoder.first.bias"] + of_content
    return encoder(w, f"{name}.encoder", x, given=of_content + of_noise), first


def discriminator(w, name, h, z):
    name = f"{name}.discriminator"
    a = linear(w, f"{name}.of_row", h.tanh()) + z @ w[f"{name}.of_embedding.weight"].T
    return linear(w, f"{name}.last", torch.relu(a))


def adversarial_terms(w, name, h, z, draws, beta):
    """Return the term of the embeddings and that of the discriminator."""
    prior = draws.normal(z.shape)
    fixed = {name: weight.detach() for name, weight in w.items()}
    of_embeddings = discriminator(fixed, name, h.detach(), z).mean()
    p_rows = torch.sigmoid(discriminator(w, name, h.detach(), z.detach()))
    p_prior = torch.sigmoid(discriminator(w, name, h.detach(), prior))
    return beta * of_embeddings - p_rows.log().mean() - (1 - p_prior).log().mean()


def scores_of_pairs(w, users, items):
    """Return the scores of rows of both, by equations 8, 10 and 12 of NeuMF's paper."""
    first = torch.cat([w["pairs.mlp.of_user.weight"], w["pairs.mlp.of_item.weight"]], dim=1)
    h = torch.relu(torch.cat([users, items], dim=1) @ first.T + w["pairs.mlp.of_user.bias"])
    layer = 0
    while f"pairs.mlp.hidden.{layer}.weight" in w:
        h = torch.relu(linear(w, f"pairs.mlp.hidden.{layer}", h))
        layer += 1
    return linear(w, "pairs.last", torch.cat([users * items, h], dim=1)).squeeze(1)


def by_hand(X, F, model, *, nll=logistic_nll, beta=0.2, item_dropout=0.3):
    """Return the passes of an epoch."""
    x, features = torch.from_numpy(X.toarray()), torch.from_numpy(F)
    has_users = X.toarray().any(axis=0)

    def drop_users(rows, draws):
        if not (item_dropout and F.shape[1]):
            return torch.ones(len(rows), 1, dtype=torch.float64)
        kept = torch.empty(len(rows)).bernoulli_(1 - item_dropout, generator=draws.generator)
        return kept.double()[:, None]

    def of_users(w, given, learnt, draws):
        thinned = draws.thinned(unit_rows(given), 0.5)
        z, h = inference(w, "users", thinned, noise=draws.normal((len(given), 3)))
        logits = linear(w, "users.decoder.items", hidden_layers(w, "users.decoder.hidden", z))
        adversarial = adversarial_terms(w, "users", h, z, draws, beta)
        return multinomial_nll(logits, learnt).mean() + adversarial

    def of_items(w, given, learnt, draws):
        users, content = given[:, :N_USERS], given[:, N_USERS:]
        kept = drop_users(users, draws)
        thinned = draws.thinned(unit_rows(users), 0.5) * kept
        z, h = inference(w, "items", thinned, content, draws.normal((len(given), 3)))
        decoded = hidden_layers(w, "items.decoder.hidden", z)
        loss = logistic_nll(linear(w, "items.decoder.users", decoded), users)
        if F.shape[1]:
            loss = loss + nll(linear(w, "items.decoder.features", decoded), content)
        return loss.mean() + adversarial_terms(w, "items", h, z, draws, beta)

    def pairs_of_epoch(draws):
        return ((batch, None) for batch in batches_of_pairs(model, X, draws, has_users))

    def of_pairs(w, batch, _, draws):
        users = sorted({user for user, _, _ in batch})
        items = sorted({item for _, own, others in batch for item in (own, *others)})
        thinned = draws.thinned(unit_rows(x[users]), 0.5)
        z_users, _ = inference(w, "users", thinned, noise=draws.normal((len(users), 3)))
        rows = unit_rows(x.T[items])
        kept = drop_users(rows, draws)
        thinned = draws.thinned(rows, 0.5) * kept
        z_items, _ = inference(w, "items", thinned, features[items], draws.normal((len(items), 3)))
        loss = 0
        for user, item, negatives in batch:
            p = z_users[[users.index(user)]].expand(1 + len(negatives), -1)
            q = z_items[[items.index(one) for one in (item, *negatives)]]
            likelihood = torch.sigmoid(scores_of_pairs(w, p, q))
            loss = loss - likelihood[0].log() - (1 - likelihood[1:]).log().sum()
        return loss / len(batch)

    rows = torch.from_numpy(np.hstack([X.toarray().T, F])[has_users])
    return [
        PassByHand(of_users, part="users."),
        PassByHand(of_items, part="items.", data=rows),
        PassByHand(of_pairs, batches=pairs_of_epoch),
    ]


@pytest.mark.parametrize(
    ("setting", "options"),
    [
        ({}, {}),
        ({"hidden_layer_sizes": (6, 5), "item_dropout": 0.0}, {"item_dropout": 0}),
        (
            {"item_likelihood": "gaussian", "beta": 3.0, "pair_layer_sizes": (4,)},
            {"nll": gaussian_nll(1), "beta": 3.0},
        ),
    ],
)
def test_each_step_of_training_is_that_of_the_objectives(setting, options, X, F):
    """Items without users are not in them, nor is anything of the validation users."""
    model = DAVE(**{**SMALL, "beta": 0.2, **setting})
    assert_trained_as_by_hand(model, X, by_hand(X, F, model, **options), item_features=F)


def test_without_features_items_are_embedded_by_their_users(X):
    model = DAVE(**SMALL, beta=0.2)
    assert_trained_as_by_hand(model, X, by_hand(X, np.zeros((12, 0)), model))


def test_noise_makes_the_posterior_of_a_user_bimodal(X):
    """Where the noise is all that is read, its sign can decide on one of two embeddings."""
    net = DAVE(**SMALL).fit(X).net_
    network = net.module_.users.inference
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        network.noise.weight[0, 0] = 50.0
        network.encoder.hidden[1].weight[0, 0] = 1.0
    network.train()
    batch = _batch(X[:1], 500)
    z = network(batch)[0][:, 0].detach().numpy()
    assert (np.abs(np.abs(z) - 1) < 0.1).mean() > 0.9
    assert 0.4 < (z > 0).mean() < 0.6


def _batch(row, n_rows):
    rows = sp.vstack([row] * n_rows, format="csr")
    batch = SparseRows(rows)[torch.arange(n_rows)]
    return replace(batch, generator=torch.Generator().manual_seed(0))


# Embeddings and scores


@pytest.mark.parametrize("sizes", [(6,), (6, 5)])
def test_scores_are_those_without_noise_in_the_best_epoch(sizes, X, F):
    model = DAVE(**{**SMALL, "max_epochs": 5, "hidden_layer_sizes": sizes}, warm_start=True)
    model.fit(X, item_features=sp.csr_array(F), X_val=X[:9])
    w = weights_of(model.net_)
    x = torch.from_numpy(X.toarray())
    users, _ = inference(w, "users", unit_rows(x))
    items, _ = inference(w, "items", unit_rows(x.T), torch.from_numpy(F))
    assert_allclose(model.transform(X), users, atol=1e-5)
    assert_allclose(model.item_embeddings_, items, atol=1e-5)
    known = np.diff(X.indptr) > 0
    expected = np.array(
        [scores_of_pairs(w, user.expand(12, -1), items).numpy() for user in users[known]]
    )
    assert_allclose(model.decision_function(X)[known], expected, atol=1e-5)


def test_new_items_are_embedded_by_their_features(X, F):
    model = DAVE(**SMALL).fit(X, item_features=F)
    new = model.with_items(F[[3, WITHOUT_USERS]])
    items = new.item_embeddings_
    # An item without users in fit is at the same place as a new one with its features.
    assert_allclose(items[-1], items[WITHOUT_USERS], atol=1e-6)
    assert np.abs(items[-2] - items[3]).max() > 1e-3
    assert_array_equal(items[:-2], model.item_embeddings_)
    users = sp.hstack([X, sp.csr_array((N_USERS, 2))], format="csr")
    assert_array_equal(new.transform(users), model.transform(X))
    with_new = sp.hstack([X, sp.csr_array(np.ones((N_USERS, 2)))], format="csr").toarray()
    only_new = np.where(np.arange(14) < 12, 0, with_new)
    assert_array_equal(new.decision_function(only_new), np.tile(new._popularity, (N_USERS, 1)))


# The history, training that goes on, and what is kept


def test_collapsed_dimensions_show_in_the_history(X, F):
    alive = DAVE(**{**SMALL, "max_epochs": 10}).fit(X, item_features=F).net_.history[-1]
    assert alive["active_dimensions"] == 3
    # Without features, and without users in the input, all items are at the same place.
    blind = DAVE(**SMALL).fit(X, item_features=np.ones((12, 1)))
    Xt = sp.csr_array((12, 0), dtype=np.float64)
    blind._rows = Xt, sp.csr_array(np.ones((12, 1)))
    blind._renew_items(blind.net_)
    assert blind.net_.history[-1]["active_dimensions"] == 0


def test_a_warm_start_goes_on_as_if_there_was_no_end(X, F, tmp_path):
    whole = DAVE(**{**SMALL, "max_epochs": 4}).fit(X, item_features=F)
    warm = DAVE(**SMALL, warm_start=True).fit(X, item_features=F)
    save(warm, tmp_path / "model.safetensors")
    for model in (pickle.loads(pickle.dumps(warm)), load(tmp_path / "model.safetensors"), warm):
        model.set_params(max_epochs=4).fit(X, item_features=F)
        assert_array_equal(model.decision_function(X), whole.decision_function(X))
    with pytest.raises(ValueError, match="weights of 30 users, got 29 users; pass the same"):
        warm.set_params(max_epochs=5).fit(X[1:], item_features=F)
    assert not hasattr(warm, "partial_fit")


def test_a_copy_with_new_items_is_trained_alone(X, F):
    model = DAVE(**SMALL, warm_start=True).fit(X, item_features=F)
    before = weights_of(model.net_)
    copy = model.with_items(F[:2]).set_params(max_epochs=3)
    wide = sp.hstack([X, X[:, :2]], format="csr")
    copy.fit(wide, item_features=np.vstack([F, F[:2]]))
    assert copy.item_embeddings_.shape[0] == 14
    for name, weight in weights_of(model.net_).items():
        assert_array_equal(weight, before[name])


def test_no_dense_matrix_of_items_and_features():
    rng = np.random.default_rng(0)
    X = sp.random_array((40, 300), density=0.05, format="csr", rng=rng)
    F = sp.random_array((300, 1500), density=0.004, format="csr", rng=rng)
    with LargestTensor() as largest:
        DAVE(**{**SMALL, "max_epochs": 1, "batch_size": 50}).fit(X, item_features=F)
    assert largest.n_values <= 50 * 1500


@pytest.mark.parametrize(
    ("setting", "features", "message"),
    [
        ({}, -np.ones((12, 2)), "DAVE needs features that are not negative, got -1; use item_l"),
        ({}, np.zeros((12, 2)), "zero everywhere"),
        ({"hidden_layer_sizes": ()}, None, "hidden_layer_sizes must hold at least one size"),
        ({"pair_layer_sizes": (4, 0)}, None, "pair_layer_sizes must hold positive integers"),
    ],
)
def test_bad_input_is_an_error(setting, features, message, X):
    with pytest.raises(ValueError, match=message):
        DAVE(**{**SMALL, **setting}).fit(X, item_features=features)
