"""CDAE against its paper: objective, training, users' vectors and scores written out."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from written_out import (
    PassByHand,
    adam,
    assert_trained_as_by_hand,
    linear,
    some_users,
    unit_rows,
    weights_of,
)

torch = pytest.importorskip("torch")

from sklrec import _memory  # noqa: E402
from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.neural import CDAE, _cdae  # noqa: E402
from sklrec.neural._training._data import SparseRows  # noqa: E402
from sklrec.neural._user_vectors import UserBatch  # noqa: E402

SMALL = {"max_epochs": 3, "batch_size": 12, "learning_rate": 1e-2, "random_state": 0}
ACTIVATIONS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "identity": lambda a: a}


@pytest.fixture(scope="module")
def X():
    return make_interactions(150, 60, random_state=0).data


def losses(loss, scores, x):
    """Return the loss of each pair: of an item of the user, or of another."""
    if loss == "square":
        return (x - scores) ** 2
    p = torch.sigmoid(scores)
    return -torch.where(x > 0, p, 1 - p).log()


class Objective:
    """The objective on a batch, with all that is drawn and the vectors of users."""

    def __init__(self, model, X):
        self.model, self.x = model, torch.from_numpy(X.toarray())
        self.vectors = torch.zeros(X.shape[0], model.n_components, dtype=torch.float64)
        self.states = [{} for _ in range(X.shape[0])]
        self.n_seen = 0

    def __call__(self, w, given, learnt, draws):
        model = self.model
        if model.n_negatives is not None and self.n_seen % len(self.x) == 0:
            seed = torch.randint(2**63 - 1, (), generator=draws.generator)
            self.rng = np.random.default_rng(int(seed))
        self.n_seen += len(given)
        weights = torch.where(learnt > 0, 1.0, model.unobserved_weight * self.negatives(learnt))
        rows = unit_rows(given) if model.normalize else given
        rows = draws.thinned(rows, model.dropout) if model.dropout else rows
        users = [int((self.x == row).all(dim=1).nonzero()) for row in given]
        own = self.vectors[users].requires_grad_()
        a = rows @ w["first.weight"] + w["first.bias"] + own
        scores = linear(w, "item_layer", ACTIVATIONS[model.activation](a))
        of_users = (weights * losses(model.loss, scores, learnt)).sum(dim=1)
        if model.user_vector is not None:
            penalized = of_users.sum() + model.lambda_ * (own**2).sum()
            (gradient,) = torch.autograd.grad(penalized, own, retain_graph=True)
            for user, row in zip(users, gradient, strict=True):
                self.vectors[user] -= model.learning_rate * adam(row, self.states[user])
        return of_users.mean()

    def negatives(self, learnt):
        """Return how often each item is drawn for each user, or 1."""
        if self.model.n_negatives is None:
            return torch.ones_like(learnt)
        n_drawn = torch.zeros_like(learnt)
        n_entries = (learnt > 0).sum(dim=1)
        uniform = iter(self.rng.random((int(n_entries.sum()), self.model.n_negatives)))
        for row, n in enumerate(n_entries):
            others = (learnt[row] == 0).nonzero()[:, 0]
            for _ in range(n):
                for place in (next(uniform) * len(others)).astype(int):
                    n_drawn[row, others[place]] += 1
        return n_drawn


@pytest.mark.parametrize(
    "setting",
    [
        {"user_vector": None, "n_negatives": None, "lambda_": 0.1, "unobserved_weight": 0.3},
        {"user_vector": None, "n_negatives": None, "loss": "logistic", "dropout": 0.0},
        {"n_negatives": None, "activation": "sigmoid", "lambda_": 0.2, "normalize": False},
        {"n_negatives": 3, "activation": "identity", "unobserved_weight": 0.7, "dropout": 0.3},
        {"n_negatives": 2, "loss": "logistic", "user_vector": None},
        {"n_negatives": 2, "loss": "logistic", "user_vector": "solve", "lambda_": 0.1},
    ],
    ids=str,
)
def test_each_step_of_training_is_that_of_the_paper(setting):
    model, users = CDAE(4, **{**SMALL, **setting}), some_users()
    objective = Objective(model, users)

    def penalty(name):
        return 2 * model.lambda_ if name.endswith("weight") else 0

    assert_trained_as_by_hand(model, users, [PassByHand(objective)], penalty=penalty)


def test_vectors_of_users_are_trained_as_by_hand():
    model, users = CDAE(4, **SMALL, lambda_=0.1, warm_start=True), some_users()
    objective = Objective(model, users)
    assert_trained_as_by_hand(
        model,
        users,
        [PassByHand(objective)],
        penalty=lambda name: 2 * 0.1 * name.endswith("weight"),
    )
    found = model._user_state["vectors"]["values"]
    assert np.abs(found).max() > 0.01
    assert_allclose(found, objective.vectors, atol=1e-4)


def hidden_and_scores(model, X, own=0.0):
    w = weights_of(model.net_)
    a = unit_rows(torch.from_numpy(X.toarray())) @ w["first.weight"] + w["first.bias"] + own
    hidden = ACTIVATIONS[model.activation](a)
    return hidden, linear(w, "item_layer", hidden)


@pytest.mark.parametrize("user_vector", ["zero", None])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_scores_are_those_of_the_network_written_out(user_vector, activation):
    X = some_users()
    model = CDAE(4, **SMALL, user_vector=user_vector, activation=activation).fit(X)
    hidden, scores = hidden_and_scores(model, X)
    known = np.diff(X.indptr) > 0
    assert_allclose(model.transform(X), hidden, atol=1e-5)
    assert_allclose(model.decision_function(X)[known], scores[known], atol=1e-5)


def test_vector_that_is_solved_for_is_a_ridge_regression_where_the_network_is_linear(monkeypatch):
    """Of a user's row minus its scores without a vector, on the weights of the last layer."""
    monkeypatch.setattr(_cdae, "N_STEPS", 800)
    X = some_users()
    model = CDAE(4, **SMALL, user_vector="solve", activation="identity", lambda_=0.2)
    model.set_params(n_negatives=None, unobserved_weight=0.3).fit(X)
    W = weights_of(model.net_)["item_layer.weight"].numpy()
    rest = X.toarray() - hidden_and_scores(model, X)[1].numpy()
    own = []
    for x, t in zip(X.toarray(), rest, strict=True):
        c = np.where(x > 0, 1, 0.3)[:, None]
        own.append(np.linalg.solve(W.T @ (c * W) + 0.2 * np.eye(4), W.T @ (c[:, 0] * t)))
    hidden, scores = hidden_and_scores(model, X, torch.from_numpy(np.array(own)))
    known = np.diff(X.indptr) > 0
    assert_allclose(model.transform(X), hidden, atol=1e-4)
    assert_allclose(model.decision_function(X)[known], scores[known], atol=1e-4)


@pytest.mark.parametrize(
    ("activation", "n_negatives", "loss"),
    [("tanh", None, "logistic"), ("tanh", 3, "square"), ("sigmoid", 3, "logistic")],
)
def test_vector_that_is_solved_for_is_a_minimum(loss, n_negatives, activation, monkeypatch):
    """Of the loss of the row, for drawn negatives its mean over draws, and the penalty."""
    monkeypatch.setattr(_cdae, "N_STEPS", 800)
    X = some_users()[10:18]
    model = CDAE(4, **SMALL, user_vector="solve", activation=activation, lambda_=0.3, loss=loss)
    model.set_params(n_negatives=n_negatives, unobserved_weight=0.5).fit(X)
    x = torch.from_numpy(X.toarray())
    hidden = torch.from_numpy(model.transform(X)).double()
    a = torch.atanh(hidden) if activation == "tanh" else torch.logit(hidden)
    w = weights_of(model.net_)
    given = unit_rows(x) @ w["first.weight"] + w["first.bias"]
    own = (a - given).requires_grad_()
    n = (x > 0).sum(dim=1, keepdim=True)
    others = 0.5 if n_negatives is None else 0.5 * n_negatives * n / (12 - n)
    weights = torch.where(x > 0, 1.0, others)
    scores = linear(w, "item_layer", ACTIVATIONS[activation](given + own))
    objective = (weights * losses(loss, scores, x)).sum() + 0.3 * (own**2).sum()
    (gradient,) = torch.autograd.grad(objective, own)
    assert own.abs().max() > 0.01
    assert_allclose(gradient, 0, atol=1e-3)


@pytest.mark.parametrize("loss", ["square", "logistic"])
def test_loss_of_all_items_is_the_mean_over_draws(loss):
    X = some_users()[:6]
    sampled = _cdae.PointwiseLoss(loss, 0.5, 2)
    rows = SparseRows(X)[torch.arange(6)]
    scores = torch.randn(6, 12, generator=torch.Generator().manual_seed(0))
    rng = np.random.default_rng(0)
    found = []
    for _ in range(700):
        negatives = [
            rng.choice(np.flatnonzero(x == 0), 2) for x in X.toarray() for _ in range((x > 0).sum())
        ]
        batch = UserBatch(**vars(rows), negatives=torch.tensor(np.array(negatives)))
        found.append([part.numpy() for part in sampled(scores.clone(), batch)])
    loss_of_all, gradient = sampled.of_all_items(rows)(scores.clone(), rows)
    assert_allclose(np.mean([loss for loss, _ in found]), loss_of_all, rtol=0.02)
    assert_allclose(np.mean([g for _, g in found], axis=0), gradient, atol=0.03)


def test_users_with_all_items_have_no_negatives():
    X = sp.csr_array(np.ones((5, 4)))
    model = CDAE(2, **SMALL, user_vector="solve").fit(X)
    assert np.isfinite(model.decision_function(X)).all()


def n_values(model):
    return sum(w.size for w in model.__getstate__()["_net"]["module"].values())


def test_vectors_of_users_are_kept_with_warm_start_only(X):
    model = CDAE(4, **SMALL).fit(X)
    assert n_values(model) == 2 * 4 * 60 + 4 + 60
    assert not hasattr(model, "_user_state")
    assert len(pickle.dumps(model)) < 2 * 4 * n_values(model)
    warm = CDAE(4, **SMALL, warm_start=True).fit(X)
    assert warm._user_state["vectors"]["values"].shape == (150, 4)
    assert not hasattr(warm.set_params(warm_start=False).partial_fit(X), "_user_state")


def test_new_fit_of_other_users_forgets_vectors(X):
    warm = CDAE(4, **SMALL, warm_start=True).fit(X)
    warm.set_params(warm_start=False).fit(X)
    assert_array_equal(warm.decision_function(X), CDAE(4, **SMALL).fit(X).decision_function(X))


def test_training_that_continues_on_other_rows_begins_with_vectors_of_zeros(X):
    first, second = X[:70], X[70:]
    warm = CDAE(4, **SMALL, warm_start=True).fit(first)
    warm.partial_fit(second)
    cold = CDAE(4, **SMALL, warm_start=True).fit(first)
    del cold._user_state
    cold.partial_fit(second)
    assert_array_equal(warm.decision_function(X), cold.decision_function(X))
    same = CDAE(4, **SMALL, warm_start=True).fit(first)
    forgotten = pickle.loads(pickle.dumps(same))
    del forgotten._user_state
    assert (
        same.partial_fit(first).decision_function(X)
        != forgotten.partial_fit(first).decision_function(X)
    ).any()


def test_a_user_s_vector_takes_part_in_training_and_solving_changes_scores(X):
    scores = {
        choice: CDAE(4, **SMALL, user_vector=choice).fit(X).decision_function(X)
        for choice in ("zero", "solve", None)
    }
    assert np.abs(scores["zero"] - scores[None]).max() > 1e-3
    assert np.abs(scores["zero"] - scores["solve"]).max() > 1e-3


def test_memory_of_the_vectors_is_checked_before_the_fit(X, monkeypatch):
    needed = []
    monkeypatch.setattr("sklrec.neural._base.check_memory", lambda n, what: needed.append(n))
    CDAE(8, **SMALL).fit(X)
    CDAE(8, **SMALL, user_vector=None).fit(X)
    assert needed[0] - needed[1] == 4 * 3 * 150 * 8
    monkeypatch.undo()
    monkeypatch.setattr(_memory, "available_memory", lambda: needed[0] - 1)
    with pytest.raises(MemoryError, match="CDAE with 1,028 weights"):
        CDAE(8, **SMALL).fit(X)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_components", 0),
        ("activation", "relu"),
        ("normalize", "yes"),
        ("dropout", 1.0),
        ("user_vector", "mean"),
        ("loss", "hinge"),
        ("n_negatives", 0),
        ("n_negatives", 2.5),
        ("unobserved_weight", -1),
        ("lambda_", -0.1),
    ],
)
def test_bad_parameters_are_refused(X, name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of CDAE"):
        CDAE(**{**SMALL, name: value}).fit(X)
