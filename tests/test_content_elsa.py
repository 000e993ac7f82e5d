"""ContentELSA against its equations on dense matrices in float64, and ELSA."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from written_out import PassByHand, assert_trained_as_by_hand, nadam, some_users

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from sklrec import _memory  # noqa: E402
from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.hybrid import ContentELSA  # noqa: E402
from sklrec.neural import ELSA  # noqa: E402

N_OLD, N_NEW, N_FEATURES = 60, 6, 9
SMALL = {"n_components": 8, "max_epochs": 3, "batch_size": 50, "random_state": 0}
KINDS = [np.asarray, sp.csr_array]
PARTS = [True, False]


@pytest.fixture(scope="module")
def X():
    return make_interactions(200, N_OLD, random_state=0).data


@pytest.fixture(scope="module")
def features():
    return some_features(N_OLD + N_NEW)


def some_features(n_items):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n_items, N_FEATURES)) * (rng.random((n_items, N_FEATURES)) < 0.5)


def dense_loss(raw, x):
    A = F.normalize(raw, dim=1)
    scores = x @ A @ A.T - x
    return ((F.normalize(scores, dim=1) - F.normalize(x, dim=1)) ** 2).sum(dim=1).mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("free_part", PARTS)
def test_each_step_of_training_is_the_objective_written_out(free_part, kind):
    X = some_users()
    X = sp.csr_array(X * (np.arange(12) != 5))  # an item without users has no free vector
    content = some_features(12)
    has_users = torch.from_numpy((X.sum(axis=0) > 0) * 1.0)[:, None]
    model = ContentELSA(
        4, free_part=free_part, item_dropout=0.4, max_epochs=2, batch_size=12, random_state=0
    )

    def objective(w, given, learnt, draws):
        raw = torch.from_numpy(content) @ w["map.weight"]
        if free_part:
            kept = torch.empty(12, 1).bernoulli_(0.6, generator=draws.generator).double()
            raw = raw + has_users * kept * w["free"]
        return dense_loss(raw, learnt)

    assert_trained_as_by_hand(
        model, X, [PassByHand(objective)], rule=nadam, item_features=kind(content)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("free_part", PARTS)
def test_item_vectors_are_the_equation_written_out(free_part, kind, X, features):
    model = ContentELSA(free_part=free_part, **SMALL)
    model.fit(X, item_features=kind(features[:N_OLD]))
    weights = {name: w.detach().numpy() for name, w in model.net_.module_.named_parameters()}
    raw = features[:N_OLD] @ weights["map.weight"] + weights.get("free", 0)
    A = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert_allclose(model.item_embeddings_, A, atol=1e-5)
    x = X.toarray()
    assert_allclose(model.decision_function(X), x @ A @ A.T - x, atol=1e-4)
    new = model.with_items(kind(features[N_OLD:])).item_embeddings_
    raw = features[N_OLD:] @ weights["map.weight"]
    assert_allclose(new[:N_OLD], A, atol=1e-5)
    assert_allclose(new[N_OLD:], raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("free_part", PARTS)
def test_without_features_it_is_elsa(free_part, X):
    model = ContentELSA(free_part=free_part, **SMALL).fit(X)
    elsa = ELSA(learning_rate=0.01, **SMALL).fit(X)
    assert_array_equal(model.decision_function(X), elsa.decision_function(X))
    assert model.n_item_features_ == 0


def test_features_of_one_item_each_without_a_free_part_are_elsa(X):
    """F W is W then, drawn as ELSA draws its vectors."""
    model = ContentELSA(free_part=False, **SMALL).fit(X, item_features=sp.eye_array(N_OLD))
    elsa = ELSA(learning_rate=0.01, **SMALL).fit(X)
    assert_allclose(model.item_embeddings_, elsa.item_embeddings_, atol=1e-6)


def test_new_items_have_the_vectors_of_known_items_without_users(X, features):
    """The offline case: features given to fit, and empty columns of X."""
    wide = sp.csr_array((X.data, X.indices, X.indptr), shape=(X.shape[0], N_OLD + N_NEW))
    model = ContentELSA(**SMALL).fit(wide, item_features=features)
    added = model.with_items(features[N_OLD:])
    assert_allclose(
        added.item_embeddings_[-N_NEW:], added.item_embeddings_[N_OLD : N_OLD + N_NEW], atol=1e-6
    )


def test_a_new_item_with_the_features_of_an_old_one_ranks_beside_it(X, features):
    model = ContentELSA(free_part=False, **SMALL).fit(X, item_features=features[:N_OLD])
    new = model.with_items(features[:3])
    wide = sp.csr_array((X.data, X.indices, X.indptr), shape=(X.shape[0], N_OLD + 3))
    scores = new.decision_function(wide)
    unseen = X[:, [0, 1, 2]].toarray() == 0
    assert_allclose(scores[:, :3][unseen], scores[:, N_OLD:][unseen], atol=1e-5)


@pytest.mark.parametrize("free_part", PARTS)
def test_training_goes_on_with_features_in_each_call(free_part, X, features):
    content = features[:N_OLD]
    setting = {**SMALL, "free_part": free_part}
    whole = ContentELSA(**setting).fit(X, item_features=content)
    model = ContentELSA(**{**setting, "max_epochs": 1}, warm_start=True)
    model.fit(X, item_features=content)
    model = pickle.loads(pickle.dumps(model))
    model.set_params(max_epochs=3).fit(X, item_features=content)
    assert_allclose(model.item_embeddings_, whole.item_embeddings_, atol=1e-5)
    partial = ContentELSA(**setting)
    for _ in range(3):
        partial.partial_fit(X, item_features=content)
    assert_allclose(partial.item_embeddings_, whole.item_embeddings_, atol=1e-5)
    with pytest.raises(ValueError, match="made for 9 item features, got item_features with 0"):
        model.set_params(max_epochs=4).fit(X)
    assert_array_equal(model.item_embeddings_, pickle.loads(pickle.dumps(model)).item_embeddings_)


def test_a_copy_with_new_items_can_be_trained_on(X, features):
    model = ContentELSA(**SMALL, warm_start=True).fit(X, item_features=features[:N_OLD])
    vectors = model.item_embeddings_
    new = model.with_items(features[N_OLD:])
    wide = sp.csr_array((X.data, X.indices, X.indptr), shape=(X.shape[0], N_OLD + N_NEW))
    new.set_params(max_epochs=4).fit(wide, item_features=features)
    assert new.n_iter_ == 4
    assert model.n_iter_ == 3
    assert_array_equal(model.item_embeddings_, vectors)
    assert np.abs(new.item_embeddings_[:N_OLD] - vectors).max() > 1e-4


def test_the_best_epoch_is_that_of_the_validation_users(X, features):
    model = ContentELSA(**{**SMALL, "max_epochs": 8, "learning_rate": 0.3})
    model.fit(X[:150], item_features=features[:N_OLD], X_val=X[150:])
    score = model.validation_scores_[model.best_epoch_ - 1]
    assert score == max(model.validation_scores_)
    assert_allclose(model.score(X[150:]), score, atol=0.05)
    best = ContentELSA(**{**SMALL, "max_epochs": model.best_epoch_, "learning_rate": 0.3})
    best.fit(X[:150], item_features=features[:N_OLD])
    assert_allclose(model.item_embeddings_, best.item_embeddings_, atol=1e-6)


def test_users_of_new_items_alone_are_ranked_by_their_features(X, features):
    model = ContentELSA(**SMALL).fit(X, item_features=features[:N_OLD])
    new = model.with_items(np.vstack([features[:1], np.zeros((1, N_FEATURES))]))
    users = np.zeros((2, N_OLD + 2))
    users[0, N_OLD] = users[1, N_OLD + 1] = 1
    ranking = new.predict_ranking(users, k=N_OLD, items=np.arange(N_OLD))
    A = new.item_embeddings_
    assert_array_equal(ranking[0], np.argsort(-(A @ A[N_OLD])[:N_OLD], kind="stable"))
    popular = np.argsort(-X.sum(axis=0), kind="stable")
    assert_array_equal(ranking[1], popular)


def test_without_free_vectors_items_without_features_are_unknown(X, features):
    content = features[:N_OLD].copy()
    content[4] = 0
    model = ContentELSA(free_part=False, **SMALL).fit(X, item_features=content)
    user = np.eye(N_OLD)[[4]]
    popular = np.argsort(-X.sum(axis=0), kind="stable")
    assert_array_equal(model.predict_ranking(user, k=5)[0], popular[popular != 4][:5])


def test_memory_is_checked_before_the_fit_and_not_that_of_dense_features(X, monkeypatch):
    content = sp.csr_array(([1.0], ([0], [0])), shape=(N_OLD, 10**5))
    setting = {"n_components": 1, "max_epochs": 1, "free_part": False, "random_state": 0}
    n_bytes = 4 * 10 * (10**5 + N_OLD)
    monkeypatch.setattr(_memory, "available_memory", lambda: n_bytes)
    ContentELSA(**setting).fit(X, item_features=content)
    monkeypatch.setattr(_memory, "available_memory", lambda: 4 * 10**5)
    with pytest.raises(MemoryError, match="ContentELSA with 100,000 weights"):
        ContentELSA(**setting).fit(X, item_features=content)


def test_the_fitted_model_has_no_features(X, features):
    content = sp.hstack([sp.csr_array(features[:N_OLD])] * 200, format="csr")
    model = ContentELSA(**{**SMALL, "free_part": False}).fit(X, item_features=content)
    n_weights = sum(weight.numel() for weight in model.net_.module_.state_dict().values())
    assert n_weights == (N_OLD + content.shape[1]) * 8
    assert model.net_.module_.content is None
    assert len(pickle.dumps(model)) < 5 * n_weights + 20_000


@pytest.mark.parametrize("bad", [{"item_dropout": 1.0}, {"item_dropout": -0.1}, {"free_part": 2}])
def test_parameters_out_of_range_are_an_error(bad, X):
    (name,) = bad
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        ContentELSA(**SMALL, **bad).fit(X)
