"""FactorizationMachine against the sum over all pairs of its inputs, and training written out."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from written_out import (
    PassByHand,
    assert_trained_as_by_hand,
    multinomial_nll,
    some_users,
    unit_rows,
)

torch = pytest.importorskip("torch")

from sklrec import _memory  # noqa: E402
from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.hybrid import FactorizationMachine  # noqa: E402
from sklrec.hybrid._factorization_machine import FactorizationMachineModule  # noqa: E402
from sklrec.hybrid._feature_map import Content  # noqa: E402

N_OLD, N_NEW, N_FEATURES = 40, 5, 9
SMALL = {"n_components": 4, "max_epochs": 5, "batch_size": 50, "learning_rate": 0.02}
SMALL["random_state"] = 0
KINDS = [np.asarray, sp.csr_array]


@pytest.fixture(scope="module")
def X():
    return make_interactions(150, N_OLD, random_state=0).data


@pytest.fixture(scope="module")
def F():
    return some_features(N_OLD + N_NEW)


def some_features(n_items):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n_items, N_FEATURES)) * (rng.random((n_items, N_FEATURES)) < 0.5)


def weights_of(model):
    return {name: w.detach().double().numpy() for name, w in model.net_.module_.named_parameters()}


def sum_over_pairs(w, x, item, f, q, b):
    """Return the machine's output for the inputs x / |x|, the item and its features."""
    inputs = np.concatenate([x / np.linalg.norm(x), [1.0], f])
    factors = np.vstack([w["history.weight"], q[None], w["factors.weight"]])
    linear = np.concatenate([np.zeros(len(x)), [b], w["linear.weight"][:, 0]])
    pairs = 0.0
    for i in range(len(inputs)):
        for j in range(i):
            pairs += inputs[i] * inputs[j] * (factors[i] @ factors[j])
    return inputs @ linear + pairs


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_sum_over_pairs_up_to_a_constant_of_each_user(kind, X, F):
    model = FactorizationMachine(**SMALL).fit(X, item_features=kind(F[:N_OLD]))
    new = model.with_items(kind(F[N_OLD:]))
    w = weights_of(model)
    x = X[:2].toarray().astype(float)
    old_scores = model.decision_function(X[:2])
    scores = new.decision_function(np.hstack([x, np.zeros((2, N_NEW))]))
    assert_allclose(scores[:, :N_OLD], old_scores, atol=1e-5)
    for user in range(2):
        written_out = [
            sum_over_pairs(w, x[user], j, F[j], w["own.weight"][j], w["bias"][j])
            for j in range(N_OLD)
        ]
        for j in range(N_OLD, N_OLD + N_NEW):
            b = w["bias"].mean()
            written_out.append(sum_over_pairs(w, x[user], j, F[j], np.zeros(4), b))
        constant = scores[user] - written_out
        assert_allclose(constant, constant[0], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_each_step_of_training_is_the_objective_written_out(kind):
    X = some_users()
    X = sp.csr_array(X * (np.arange(12) != 5))  # an item without users has no weights of its own
    F = some_features(12)
    f = torch.from_numpy(F)
    has_users = torch.from_numpy((X.sum(axis=0) > 0) * 1.0)
    model = FactorizationMachine(
        4, dropout=0.4, lambda_=0.01, max_epochs=2, batch_size=12, random_state=0
    )

    def objective(w, given, learnt, draws):
        u = draws.thinned(unit_rows(given), 0.4) @ w["history.weight"]
        q, e = w["own.weight"] * has_users[:, None], w["factors.weight"]
        t = f @ e
        pairs = ((t**2).sum(dim=1) - f**2 @ (e**2).sum(dim=1)) / 2
        bias = w["bias"] * has_users + f @ w["linear.weight"][:, 0] + (q * t).sum(dim=1) + pairs
        return multinomial_nll(u @ (q + t).T + bias, learnt).mean()

    assert_trained_as_by_hand(
        model,
        X,
        [PassByHand(objective)],
        penalty=lambda name: 0.02 if name.endswith("weight") else 0.0,
        item_features=kind(F),
    )


def test_without_features_it_is_a_factorization_of_items_and_history(X):
    model = FactorizationMachine(**SMALL).fit(X)
    w = weights_of(model)
    x = X.toarray() / np.linalg.norm(X.toarray(), axis=1, keepdims=True)
    expected = x @ w["history.weight"] @ w["own.weight"].T + w["bias"]
    assert_allclose(model.decision_function(X), expected, atol=1e-5)
    assert_allclose(model.transform(X), x @ w["history.weight"], atol=1e-5)
    assert not any("factors" in name or "linear" in name for name in w)


def test_items_known_at_fit_without_users_score_as_new_ones(X, F):
    wide = sp.csr_array((X.data, X.indices, X.indptr), shape=(X.shape[0], N_OLD + N_NEW))
    model = FactorizationMachine(**SMALL).fit(wide, item_features=F)
    added = model.with_items(F[N_OLD:])
    users = sp.csr_array((X.data, X.indices, X.indptr), shape=(X.shape[0], N_OLD + 2 * N_NEW))
    scores = added.decision_function(users)
    assert_allclose(scores[:, N_OLD : N_OLD + N_NEW], scores[:, -N_NEW:], atol=1e-5)


def test_new_items_with_the_same_features_score_the_same(X, F):
    model = FactorizationMachine(**SMALL).fit(X, item_features=F[:N_OLD])
    new = model.with_items(F[[N_OLD, N_OLD]])
    users = sp.csr_array((X.data, X.indices, X.indptr), shape=(X.shape[0], N_OLD + 2))
    scores = new.decision_function(users)
    assert_allclose(scores[:, N_OLD], scores[:, N_OLD + 1], atol=1e-6)


def test_training_goes_on_with_features_in_each_call(X, F):
    content = F[:N_OLD]
    whole = FactorizationMachine(**SMALL).fit(X, item_features=content)
    model = FactorizationMachine(**{**SMALL, "max_epochs": 2}, warm_start=True)
    model = pickle.loads(pickle.dumps(model.fit(X, item_features=content)))
    model.set_params(max_epochs=5).fit(X, item_features=content)
    assert_allclose(model.decision_function(X), whole.decision_function(X), atol=1e-4)
    with pytest.raises(ValueError, match="made for 9 item features, got item_features with 0"):
        model.set_params(max_epochs=6).fit(X)


def test_scores_of_validation_users_in_training_are_those_of_the_fitted_model(X, F):
    model = FactorizationMachine(**SMALL)
    model.fit(X[:100], item_features=F[:N_OLD], X_val=X[100:])
    best = FactorizationMachine(**{**SMALL, "max_epochs": model.best_epoch_})
    best.fit(X[:100], item_features=F[:N_OLD])
    assert_allclose(best.decision_function(X), model.decision_function(X), atol=1e-5)
    assert len(set(model.validation_scores_)) > 2  # not those of the first epoch again
    assert model.validation_scores_[model.best_epoch_ - 1] == max(model.validation_scores_)


def test_sparse_features_are_not_densified(X, monkeypatch):
    content = sp.csr_array(([1.0], ([0], [0])), shape=(N_OLD, 10**6))
    setting = {"n_components": 1, "max_epochs": 1, "random_state": 0}
    monkeypatch.setattr(_memory, "available_memory", lambda: 4 * 12 * 2 * 10**6)
    model = FactorizationMachine(**setting).fit(X, item_features=content)
    assert model.net_.module_.content is None
    monkeypatch.setattr(_memory, "available_memory", lambda: 4 * 10**6)
    with pytest.raises(MemoryError, match="FactorizationMachine with 2,000,120 weights"):
        FactorizationMachine(**setting).fit(X, item_features=content)


def test_similar_items_are_those_of_the_vectors(X, F):
    model = FactorizationMachine(**SMALL).fit(X, item_features=F[:N_OLD])
    w = weights_of(model)
    vectors = w["own.weight"] + F[:N_OLD] @ w["factors.weight"]
    assert_allclose(model.item_embeddings_, vectors, atol=1e-5)
    cosine = vectors @ vectors[7] / np.linalg.norm(vectors, axis=1)
    cosine[7] = -np.inf
    assert_array_equal(model.similar_items(7, k=5), np.argsort(-cosine, kind="stable")[:5])


@pytest.mark.parametrize("bad", [{"n_components": 0}, {"dropout": 1.0}, {"lambda_": -1.0}])
def test_parameters_out_of_range_are_an_error(bad, X):
    (name,) = bad
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        FactorizationMachine(**{**SMALL, **bad}).fit(X)


def test_what_is_computed_outside_of_training_follows_the_weights_of_training():
    module = FactorizationMachineModule(6, 2, N_FEATURES, 0.5)
    module.content = Content.of(some_features(6), np.ones(6), torch.device("cpu"))
    before = module.eval().items()[0]
    assert module.items()[0] is before  # computed once
    module.train().items()
    module.own.weight.data += 1
    assert_allclose(module.eval().items()[0].detach(), before.detach() + 1, atol=1e-6)
