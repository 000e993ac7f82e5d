"""NeuMF against its paper: pairs, objective, training, pretraining and scores written out."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from written_out import (
    Draws,
    LargestTensor,
    Recorder,
    adam,
    batches_of_pairs,
    some_users,
    weights_of,
)

torch = pytest.importorskip("torch")


from sklrec import _memory  # noqa: E402
from sklrec._pairs import NegativeSampler, uniform_by_row  # noqa: E402
from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.neural import NeuMF, _neumf_module  # noqa: E402

SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (5, 4),
    "max_epochs": 2,
    "batch_size": 40,
    "learning_rate": 1e-2,
    "random_state": 0,
}
EVERY_MODEL = [
    {"model": model, "user_vector": user_vector}
    for model in ("gmf", "mlp", "neumf")
    for user_vector in ("items", "solve")
]


@pytest.fixture(scope="module")
def X():
    return make_interactions(60, 40, random_state=0).data


def parts_of(model):
    return ["gmf", "mlp"] if model.model == "neumf" else [model.model]


def user_vector(w, model, items):
    """Return the sum of the vectors of a user's items divided by the root of their number."""
    items = list(items)
    vectors = [
        w[f"{part}.members.weight"][items].sum(dim=0) / max(1, len(items)) ** 0.5
        for part in parts_of(model)
    ]
    return torch.cat(vectors)


def score(w, model, p, item):
    """Return the score of one user and one item by equations 8, 10 and 12 of the paper."""
    outputs = []
    for part, p_of_part in zip(parts_of(model), p.chunk(len(parts_of(model))), strict=True):
        q = w[f"{part}.items.weight"][item]
        if part == "gmf":
            outputs.append(p_of_part * q)
            continue
        first = torch.cat([w["mlp.of_user.weight"], w["mlp.of_item.weight"]], dim=1)
        z = torch.relu(first @ torch.cat([p_of_part, q]) + w["mlp.of_user.bias"])
        for layer in range(len(model.hidden_layer_sizes) - 1):
            weight, bias = (w[f"mlp.hidden.{layer}.{name}"] for name in ("weight", "bias"))
            z = torch.relu(weight @ z + bias)
        outputs.append(z)
    return (w["last.weight"] @ torch.cat(outputs) + w["last.bias"]).squeeze()


def log_loss(w, model, p, item, negatives):
    """Return equation 7 for an interaction and its negatives."""
    loss = -torch.sigmoid(score(w, model, p, item)).log()
    return loss - sum((1 - torch.sigmoid(score(w, model, p, j))).log() for j in negatives)


def train_by_hand(start, model, X):
    """Return the loss of each step, and the weights and the vectors of users after the last."""
    w = {name: weight.clone().requires_grad_() for name, weight in start.items()}
    states = {name: {} for name in w}
    n_vector = model.n_components * len(parts_of(model))
    own = torch.zeros(X.shape[0], n_vector, dtype=torch.float64, requires_grad=True)
    states_of_users = [{} for _ in range(X.shape[0])]
    draws, losses = Draws(model.random_state), []
    for epoch in range(1, model.max_epochs + 1):
        draws.begin_epoch(epoch)
        for batch in batches_of_pairs(model, X, draws):
            loss = 0
            for user, item, negatives in batch:
                others = set(X[[user]].indices) - {item}
                p = own[user] if model.user_vector == "solve" else user_vector(w, model, others)
                loss = loss + log_loss(w, model, p, item, negatives) / len(batch)
            *gradients, of_users = torch.autograd.grad(loss, [*w.values(), own], allow_unused=True)
            for name, gradient in zip(w, gradients, strict=True):
                w[name].data -= model.learning_rate * adam(gradient, states[name])
            if of_users is not None:
                users = {user for user, _, _ in batch}
                for user in users:
                    step = adam(len(users) * of_users[user], states_of_users[user])
                    own.data[user] -= model.learning_rate * step
            losses.append(loss.item())
    return losses, w, own.detach()


@pytest.mark.parametrize("setting", EVERY_MODEL, ids=str)
def test_each_step_of_training_is_that_of_the_paper(setting):
    """For user vectors made of items, the vector of a pair leaves the pair's item out."""
    recorder = Recorder()
    model = NeuMF(**{**SMALL, **setting, "n_negatives": 2, "warm_start": True})
    users = some_users()
    users = sp.vstack([users, sp.csr_array(np.ones((1, 12)))], format="csr")  # without negatives
    model.set_params(callbacks=[recorder]).fit(users)
    losses, weights, own = train_by_hand(recorder.weights[0], model, users)
    assert_allclose(recorder.losses, losses, rtol=1e-4)
    for name, expected in weights.items():
        assert_allclose(recorder.weights[-1][name], expected.detach(), atol=2e-4, err_msg=name)
    if setting["user_vector"] == "solve":
        found = model._user_state["vectors"]["values"]
        assert np.abs(found).max() > 0.01
        assert_allclose(found, own, atol=2e-4)


@pytest.mark.parametrize("model", ["gmf", "mlp", "neumf"])
@pytest.mark.parametrize("block", [1, 30, 10**6])
def test_scores_are_those_of_the_network_written_out(model, block, monkeypatch):
    """However many pairs are computed at a time."""
    monkeypatch.setattr(_neumf_module, "BLOCK", block)
    users = some_users()
    model = NeuMF(model, **SMALL).fit(users)
    w = weights_of(model.net_)
    vectors = [user_vector(w, model, users[[user]].indices) for user in range(30)]
    expected = [[score(w, model, p, item).item() for item in range(12)] for p in vectors]
    known = np.diff(users.indptr) > 0
    assert_allclose(model.transform(users), torch.stack(vectors), atol=1e-6)
    assert_allclose(model.decision_function(users)[known], np.array(expected)[known], atol=1e-5)


@pytest.mark.parametrize("model", ["gmf", "neumf"])
def test_vector_that_is_solved_for_takes_steps_on_the_loss_of_the_row(model, monkeypatch):
    monkeypatch.setattr(_neumf_module, "N_STEPS", 6)
    users = some_users()[:5]
    model = NeuMF(model, **SMALL, user_vector="solve", n_negatives=3).fit(some_users())
    w = weights_of(model.net_)
    rows = np.repeat(np.arange(5), np.diff(users.indptr))
    negatives = NegativeSampler(users).at(
        rows[:, None], uniform_by_row(users, 3, _neumf_module.SEED)
    )
    expected = []
    for user in range(5):
        p = torch.zeros(model.transform(users).shape[1], dtype=torch.float64, requires_grad=True)
        state = {}
        for _ in range(6 if user != 3 else 0):  # who has no items
            drawn = zip(users.indices[rows == user], negatives[rows == user], strict=True)
            loss = sum(log_loss(w, model, p, item, others) for item, others in drawn)
            (gradient,) = torch.autograd.grad(loss, p)
            p.data -= _neumf_module.RATE * adam(gradient, state)
        expected.append(p.detach().numpy())
    assert_allclose(model.transform(users), expected, atol=1e-4)


def test_vectors_are_the_same_however_many_are_solved_for_together(X, monkeypatch):
    model = NeuMF(**SMALL, user_vector="solve").fit(X)
    together = model.transform(X)
    monkeypatch.setattr(_neumf_module, "BLOCK", 100)
    assert_allclose(model.transform(X), together, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_training_begins_with_the_weighted_scores_of_trained_parts(X, alpha):
    """Equation 13: the last layer of each part is multiplied by its share."""
    recorder = Recorder()
    fused = NeuMF(**SMALL, pretrain=True, alpha=alpha, callbacks=[recorder])
    fused.set_params(max_epochs=3).fit(X)
    gmf, mlp = (
        NeuMF(**SMALL).set_params(model=model, max_epochs=3, random_state=fused._seed).fit(X)
        for model in ("gmf", "mlp")
    )
    start = recorder.weights[0]
    state = {name: weight.float() for name, weight in start.items()}
    assert recorder.weights[-1]["gmf.items.weight"].sub(start["gmf.items.weight"]).abs().max() > 0
    fused.net_.plain_module.load_state_dict(state)
    expected = alpha * gmf.decision_function(X) + (1 - alpha) * mlp.decision_function(X)
    assert_allclose(fused.decision_function(X), expected, atol=1e-5)
    assert_allclose(start["gmf.members.weight"], weights_of(gmf.net_)["gmf.members.weight"])
    assert len(fused.loss_curve_) == 3
    assert not hasattr(fused, "_parts")


def test_parts_are_trained_with_the_validation_users(X, monkeypatch):
    seen = []
    fit = NeuMF.fit

    def spy(self, X, y=None, **params):
        seen.append((self.model, X.shape[0], params["X_val"], self.early_stopping))
        return fit(self, X, y, **params)

    model = NeuMF(**SMALL, pretrain=True, early_stopping=True, validation_fraction=0.2)
    monkeypatch.setattr(NeuMF, "fit", spy)
    fit(model, X)
    assert [name for name, *_ in seen] == ["gmf", "mlp"]
    assert all((n, X_val.shape[0], stops) == (121, 29, True) for _, n, X_val, stops in seen)


def test_training_that_is_interrupted_in_a_part_leaves_no_model(X, monkeypatch):
    from test_neural_training import PressCtrlC

    model = NeuMF(**SMALL, pretrain=True, callbacks=[PressCtrlC(1)])
    with pytest.warns(UserWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert not hasattr(model, "net_")


def test_scoring_holds_nothing_larger_than_scores_weights_and_a_block(X, monkeypatch):
    monkeypatch.setattr(_neumf_module, "BLOCK", 500)
    model = NeuMF(**SMALL).fit(X)
    with LargestTensor() as largest:
        model.decision_function(X[:64])
    assert largest.n_values == 64 * 60  # a hidden layer has five times as many values


def test_values_of_interactions_do_not_matter(X):
    other = sp.csr_array((np.random.default_rng(0).integers(1, 5, X.nnz), X.indices, X.indptr))
    scores = [NeuMF(**SMALL).fit(rows).decision_function(rows) for rows in (X, other.astype(float))]
    assert_allclose(*scores, atol=1e-6)


@pytest.mark.parametrize("setting", EVERY_MODEL, ids=str)
def test_where_no_negative_can_be_drawn_all_items_are_learnt(setting):
    model = NeuMF(**SMALL, **setting).fit(np.ones((4, 3)))
    assert model.loss_curve_[1] < model.loss_curve_[0] < 1
    assert np.isfinite(model.decision_function(np.ones((4, 3)))).all()


def test_users_without_items_alone_give_the_popularity():
    model = NeuMF(**SMALL).fit(np.zeros((4, 3)))
    assert model.loss_curve_ == [0, 0]
    assert_array_equal(model.decision_function(np.zeros((1, 3))), 0)


def test_vectors_of_users_are_kept_with_warm_start_only(X):
    model = NeuMF("gmf", **SMALL, user_vector="solve").fit(X)
    sizes = [w.size for w in model.__getstate__()["_net"]["module"].values()]
    assert sum(sizes) == 60 * 3 + 3 + 1
    assert len(pickle.dumps(model)) < 5000 < 4 * 3 * 150 * 3
    warm = NeuMF("gmf", **SMALL, user_vector="solve", warm_start=True).fit(X)
    assert warm._user_state["vectors"]["values"].shape == (150, 3)


def test_vectors_of_items_say_which_are_similar(X):
    model = NeuMF(**SMALL).fit(X)
    vectors = model.item_embeddings_
    assert vectors.shape == (60, 6)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit[7]
    cosine[7] = -np.inf
    assert_array_equal(model.similar_items(7, k=5), np.argsort(-cosine, kind="stable")[:5])


def test_memory_is_checked_before_the_fit(X, monkeypatch):
    monkeypatch.setattr(_memory, "available_memory", lambda: 10_000)
    with pytest.raises(MemoryError, match=r"NeuMF with 787 weights on batches of 40 needs"):
        NeuMF(**SMALL).fit(X)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"model": "svd"}, "The 'model' parameter of NeuMF"),
        ({"n_components": 0}, "The 'n_components' parameter of NeuMF"),
        ({"n_negatives": 0}, "The 'n_negatives' parameter of NeuMF"),
        ({"user_vector": None}, "The 'user_vector' parameter of NeuMF"),
        ({"alpha": 1.5}, "The 'alpha' parameter of NeuMF"),
        ({"pretrain": "yes"}, "The 'pretrain' parameter of NeuMF"),
        ({"hidden_layer_sizes": ()}, "hidden_layer_sizes must hold at least one size"),
        ({"hidden_layer_sizes": (4, 0)}, r"hidden_layer_sizes must hold positive integers, got"),
        ({"pretrain": True, "model": "gmf"}, "pretrain=True needs model='neumf', got 'gmf'"),
    ],
)
def test_bad_parameters_are_refused(X, params, message):
    with pytest.raises(ValueError, match=message):
        NeuMF(**{**SMALL, **params}).fit(X)
