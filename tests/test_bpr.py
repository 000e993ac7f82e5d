"""BPR against its written-out loss, numerical derivatives and answers by hand."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import approx_fprime, minimize
from sklearn.preprocessing import Binarizer

from sklrec.datasets import make_interactions
from sklrec.dummy import PopularityRecommender
from sklrec.factorization import BPR, _bpr
from sklrec.metrics import evaluate
from sklrec.model_selection import strong_generalization_split


def written_out(pairs, W, H, b, lambda_):
    """Return the loss of pairs (u, i, j) without and with the penalty, pair by pair."""
    loss = penalty = 0.0
    for u, i, j in pairs:
        x = W[u] @ H[i] + b[i] - W[u] @ H[j] - b[j]
        loss -= np.log(1 / (1 + np.exp(-x)))
        vectors = [W[u], H[i], H[j], b[[i]], b[[j]]]
        penalty += lambda_ / 2 * sum((vector**2).sum() for vector in vectors)
    return loss, loss + penalty


# Two users; an item that is met several times, on both sides, and one that is not met.
PAIRS = np.array([[0, 0, 1], [0, 3, 1], [0, 0, 2], [1, 1, 0], [1, 2, 0], [1, 1, 0]])


@pytest.mark.parametrize("lambda_", [0.0, 0.3])
@pytest.mark.parametrize("at_once", [4, 1024])
def test_loss_and_its_gradient_are_those_of_the_formula(lambda_, at_once, monkeypatch):
    monkeypatch.setattr(_bpr, "PAIRS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    W, H, b = rng.normal(size=(2, 3)), rng.normal(size=(5, 3)), rng.normal(size=5)

    def of(flat):
        return written_out(PAIRS, flat[:6].reshape(2, 3), flat[6:21].reshape(5, 3), flat[21:], 0.0)

    def penalised(flat):
        return written_out(
            PAIRS, flat[:6].reshape(2, 3), flat[6:21].reshape(5, 3), flat[21:], lambda_
        )[1]

    flat = np.concatenate([W.ravel(), H.ravel(), b])
    loss, *gradients = _bpr.loss_and_gradients(PAIRS[:, 0], PAIRS[:, 1:], W, H, b, lambda_)
    assert_allclose(loss, of(flat)[0], rtol=1e-12)
    found = np.concatenate([gradient.ravel() for gradient in gradients])
    assert_allclose(found, approx_fprime(flat, penalised, 1e-7), atol=1e-5)
    assert_array_equal(gradients[1][4], 0)


def test_first_step_by_hand():
    # One user who has the first of two items: Adagrad's first step is the learning rate, in the
    # direction against the gradient.
    parameters = {"lambda_": 0.0, "learning_rate": 0.5, "max_epochs": 1, "random_state": 0}
    X = sp.csr_array(np.array([[1.0, 0.0], [1.0, 1.0]]))
    model = BPR(1, negatives="uniform", **parameters).fit(X)
    assert_allclose(model.item_bias_, [0.5, -0.5], rtol=1e-6)
    seed = np.random.RandomState(0).randint(2**31 - 1)
    w = np.random.default_rng([seed, 0]).normal(scale=0.1, size=2)[0]
    h = np.random.default_rng([seed, 1]).normal(scale=0.1, size=2)
    assert_allclose(model.loss_curve_, [np.log1p(np.exp(-w * (h[0] - h[1])))], rtol=1e-10)
    expected = h + 0.5 * np.sign(w) * np.array([1, -1])
    assert_allclose(model.item_factors_[:, 0], expected, rtol=1e-6)


def test_adagrad_divides_by_the_root_of_the_sum_of_mean_squares():
    values = _bpr._Parameters(np.zeros((3, 2)), np.zeros(3))
    values.step(np.array([0, 2]), np.array([[3.0, 4.0], [1.0, 1.0]]), 0.1)
    values.step(np.array([0]), np.array([[0.0, 2.0]]), 0.1)
    first = -0.1 * np.array([3, 4]) / np.sqrt(12.5)
    second = -0.1 * np.array([0, 2]) / np.sqrt(14.5)
    assert_allclose(values.values, [first + second, [0, 0], [-0.1, -0.1]], rtol=1e-12)


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
def test_training_lowers_the_loss(X, negatives):
    loss = BPR(4, negatives=negatives, max_epochs=40, random_state=0).fit(X).loss_curve_
    assert len(loss) == 40
    assert abs(loss[0] - np.log(2)) < 0.05
    assert loss[-1] < 0.55


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
def test_negatives_are_drawn_as_the_parameter_says(X, negatives, monkeypatch):
    drawn = []

    def recorded(matrix, weights=None, draws=_bpr.NegativeSampler):
        drawn.append(weights)
        return draws(matrix, weights)

    monkeypatch.setattr(_bpr, "NegativeSampler", recorded)
    model = BPR(2, negatives=negatives, max_epochs=1).fit(X)
    assert_array_equal(drawn[0], None if negatives == "uniform" else X.sum(axis=0))
    model.transform(X)
    assert drawn[1:] == [None]


def folded_in_by_hand(model, x, n_steps):
    """Return the factors of one user, by a loop over the steps and the user's items."""
    H, b = model.item_factors_, model.item_bias_
    own, others = np.flatnonzero(x), np.flatnonzero(x == 0)
    numbers = _bpr.uniform_by_row(sp.csr_array(x[None]), n_steps, 0)
    u = H[own].mean(axis=0)
    for step in range(n_steps):
        gradient = np.zeros_like(u)
        for entry, i in enumerate(own):
            j = others[int(numbers[entry, step] * len(others))]
            gradient += (H[i] - H[j]) / (1 + np.exp(u @ (H[i] - H[j]) + b[i] - b[j]))
        u = (u + gradient / len(own)) / (1 + model.lambda_)
    return u


@pytest.mark.parametrize("n_steps", [0, 1, 7])
@pytest.mark.parametrize("entries_at_once", [1, 20, 8192])
def test_folding_in_is_gradient_descent_on_the_loss_of_a_row(
    X, n_steps, entries_at_once, monkeypatch
):
    monkeypatch.setattr(_bpr, "ENTRIES_AT_ONCE", entries_at_once)
    model = BPR(4, n_fold_in_steps=n_steps, lambda_=0.1, max_epochs=20, random_state=0).fit(X)
    expected = [folded_in_by_hand(model, x, n_steps) for x in X.toarray()]
    assert_allclose(model.transform(X), expected, rtol=1e-10)


def test_folding_in_comes_near_the_minimum_over_all_other_items(X):
    model = BPR(3, n_fold_in_steps=300, lambda_=0.02, max_epochs=20, random_state=0).fit(X)
    H, b = model.item_factors_, model.item_bias_
    factors = model.transform(X)

    for x, u in zip(X[:10].toarray(), factors, strict=False):

        def loss(u, own=x > 0):
            scores = H @ u + b
            differences = scores[own][:, None] - scores[~own]
            return np.log1p(np.exp(-differences)).mean() + model.lambda_ / 2 * u @ u

        best = minimize(loss, np.zeros(3)).fun
        start = loss(H[x > 0].mean(axis=0))
        assert loss(u) - best < 0.1 * (loss(np.zeros(3)) - best)
        assert loss(u) < start


def test_factors_of_a_user_are_the_same_in_any_batch_and_with_any_values(X):
    X = X.astype(np.float32)
    model = BPR(4, random_state=0).fit(X)
    together = model.transform(X)
    alone = np.vstack([model.transform(3 * X[[user]]) for user in range(60)])
    assert_array_equal(together, alone)
    assert_array_equal(model.transform(X[::-1])[::-1], together)


def test_values_do_not_matter(X):
    ones = BPR(3, random_state=0).fit(X)
    X.data = np.random.default_rng(0).uniform(0.1, 1e6, X.nnz)
    assert_array_equal(BPR(3, random_state=0).fit(X).item_factors_, ones.item_factors_)


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
def test_items_without_users_are_ranked_last(X, negatives):
    X = sp.hstack([X, sp.csr_array((60, 2))]).tocsr()
    model = BPR(4, negatives=negatives, random_state=0).fit(X)
    assert_array_equal(model.item_factors_[20:], 0)
    assert (model.item_bias_[20:] <= model.item_bias_.min()).all()
    asked = X[:1].tolil()
    asked[0, 21] = 1
    assert_array_equal(model.transform(sp.csr_array(asked)), model.transform(X[:1]))


def test_users_with_all_items_teach_nothing(X):
    everything = sp.csr_array(np.ones((3, 20)))
    model = BPR(3, max_epochs=2, negatives="uniform", random_state=0)
    alone = model.fit(X).item_factors_
    # The first factors of users and the order do not depend on those who come after them.
    loss = model.loss_curve_
    model.fit(sp.vstack([X, everything]).tocsr())
    assert_allclose(model.item_factors_, alone)
    assert_allclose(model.loss_curve_, loss)
    assert np.isfinite(model.decision_function(everything)).all()


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (1, 4), (3, 3)])
def test_where_everybody_has_everything_there_is_nothing_to_learn(shape, negatives):
    X = np.ones(shape)
    model = BPR(2, negatives=negatives, random_state=0).fit(X)
    assert model.loss_curve_ == [0.0] * 30
    assert np.isfinite(model.decision_function(X)).all()
    assert_array_equal(model.predict_ranking(X, k=1), np.full((shape[0], 1), -1))


def test_one_user_learns_to_rank_their_items_first():
    X = np.array([[1.0, 0, 0, 1, 0]])
    model = BPR(2, negatives="uniform", random_state=0).fit(X)
    ranking = model.predict_ranking(X, k=2, exclude_seen=False)
    assert set(ranking[0]) == {0, 3}


def test_seed_decides_the_factors(X):
    def factors(seed):
        return BPR(3, random_state=seed).fit(X).item_factors_

    assert_array_equal(factors(0), factors(0))
    assert not np.array_equal(factors(0), factors(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_factors_have_the_precision_of_X(X, dtype):
    model = BPR(3, random_state=0).fit(X.astype(dtype))
    assert model.item_factors_.dtype == model.item_bias_.dtype == dtype
    assert model.transform(X.astype(dtype)).dtype == dtype


def test_parameters_set_after_fit_change_no_score(X):
    model = BPR(3, random_state=0).fit(X)
    before = model.decision_function(X)
    model.set_params(lambda_=5.0, n_fold_in_steps=0, negatives="uniform", n_components=9)
    assert_array_equal(model.decision_function(X), before)


def test_partial_fit_begins_as_fit_does(X):
    whole = BPR(3, max_epochs=1, random_state=0).fit(X)
    assert_array_equal(BPR(3, random_state=0).partial_fit(X).item_factors_, whole.item_factors_)


def test_partial_fit_learns_from_more_users():
    X = make_interactions(600, 80, random_state=0).data
    model = BPR(8, max_epochs=10, random_state=0).fit(X[:100])
    before = model.score(X[500:])
    for _ in range(15):
        model.partial_fit(X[100:500])
    assert model.n_iter_ == len(model.loss_curve_) == 25
    assert model.score(X[500:]) > before + 0.02
    assert model.loss_curve_[-1] < model.loss_curve_[10]


def test_partial_fit_refuses_what_it_cannot_continue(X):
    model = BPR(3, random_state=0).fit(X)
    with pytest.raises(ValueError, match="19 features"):
        model.partial_fit(X[:, :19])
    with pytest.raises(ValueError, match="n_components=4, but the model was fitted with 3"):
        model.set_params(n_components=4).partial_fit(X)


def test_a_learning_rate_that_is_too_large_is_named(X):
    with pytest.raises(ValueError, match=r"learning_rate=1e\+30: it must be smaller"):
        BPR(3, learning_rate=1e30).fit(X.astype(np.float32))


@pytest.mark.parametrize("lambda_", [0.0, 1e6])
def test_any_penalty_gives_finite_scores(X, lambda_):
    assert np.isfinite(BPR(3, lambda_=lambda_, random_state=0).fit(X).decision_function(X)).all()


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("n_components", 0),
        ("lambda_", -1.0),
        ("negatives", "all"),
        ("learning_rate", 0.0),
        ("batch_size", 0),
        ("max_epochs", 0),
        ("n_fold_in_steps", -1),
    ],
)
def test_parameters_out_of_range_are_named(X, parameter, value):
    with pytest.raises(ValueError, match=f"'{parameter}' parameter of BPR"):
        BPR(**{parameter: value}).fit(X)


def test_more_factors_than_items(X):
    assert BPR(50, random_state=0).fit(X).transform(X).shape == (60, 50)


def test_bpr_ranks_better_than_popularity():
    X = make_interactions(600, 100, random_state=0).data
    bpr = BPR(8, random_state=0).fit(X[:500]).score(X[500:])
    assert bpr > PopularityRecommender().fit(X[:500]).score(X[500:]) + 0.05


def test_bpr_of_few_factors_is_accurate_on_ml1m(ml1m):
    X = Binarizer(threshold=3.5).fit_transform(ml1m)
    split = strong_generalization_split(X, n_heldout=1000)
    model = BPR(32, max_epochs=10, random_state=0).fit(split.train)
    found = evaluate(model, split.test_fold_in, split.test_held_out, "ndcg@100")
    # 128 factors have more than .385 after 30 epochs, and implicit .387 after 100.
    assert_allclose(found.mean["ndcg@100"], 0.3626, atol=0.004)
