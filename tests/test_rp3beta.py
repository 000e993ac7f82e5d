"""RP3beta against walks that are counted by hand and products of dense matrices."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import Binarizer

from sklrec import _memory
from sklrec.metrics import evaluate
from sklrec.model_selection import strong_generalization_split
from sklrec.neighbors import RP3beta


def dense_weights(X, k, alpha, beta):
    """Return the k largest weights of each column, from the matrices of single steps."""
    of_item, of_user = X.sum(axis=0), X.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        to_users = np.where(X > 0, (X / of_item) ** alpha, 0).T  # (n_items, n_users)
        to_items = np.where(X > 0, (X / of_user[:, None]) ** alpha, 0)  # (n_users, n_items)
        W = to_users @ to_items / np.where(of_item > 0, of_item, 1) ** beta
    np.fill_diagonal(W, 0)
    order = np.argsort(-W, axis=0, kind="stable")[k:]
    np.put_along_axis(W, order, 0, axis=0)
    return W


@pytest.fixture
def values(X):
    """Return 60 users of 20 items with values from .5 to 3."""
    X.data *= np.random.default_rng(0).uniform(0.5, 3, X.nnz)
    return X


@pytest.mark.parametrize("k", [1, 5, 1000])
@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (1, 0.4), (0.7, 1), (0, 0.2), (2, 1.5)])
def test_weights_are_those_of_dense_products(values, alpha, beta, k):
    B = RP3beta(k, alpha=alpha, beta=beta).fit(values).coef_
    assert_allclose(B.toarray(), dense_weights(values.toarray(), k, alpha, beta), rtol=1e-12)
    assert isinstance(B, sp.csr_array)


def test_walks_by_hand():
    # From item 0 to one of its users 0 and 1, each with probability 1/2. User 0 has two items,
    # user 1 has three, so that item 1 is reached with 1/2 * 1/2 + 1/2 * 1/3.
    X = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=float)
    B = RP3beta(beta=0).fit(X).coef_.toarray()
    assert_allclose(B[0], [0, 1 / 4 + 1 / 6, 1 / 6])
    # Item 1 has three users, item 2 one.
    B = RP3beta(beta=0.5).fit(X).coef_.toarray()
    assert_allclose(B[0], [0, (1 / 4 + 1 / 6) / np.sqrt(3), 1 / 6])


def test_scores_are_the_ends_of_walks_from_the_user(X):
    model = RP3beta(1000, beta=0.3).fit(X)
    first = X.toarray() / X.toarray().sum(axis=1, keepdims=True)
    walk = first @ dense_weights(X.toarray(), 1000, 1, 0.3)
    scores = model.decision_function(X)
    # The first step differs by a factor of each user.
    assert_allclose(scores / scores.sum(axis=1, keepdims=True), walk / walk.sum(1, keepdims=True))


def test_larger_beta_recommends_less_popular_items(X):
    # Item 19 becomes the most popular one.
    X = X.toarray()
    X[:50, 19] = 1
    popularity = X.sum(axis=0)
    means = [
        popularity[RP3beta(beta=beta).fit(X).predict_ranking(X, k=3)].mean() for beta in (0, 0.5, 1)
    ]
    assert means[0] > means[1] > means[2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_have_the_precision_of_X(values, dtype):
    B = RP3beta(5).fit(values.astype(dtype)).coef_
    assert B.dtype == dtype
    assert_allclose(B.toarray(), dense_weights(values.toarray(), 5, 1, 0.3), rtol=1e-5)


def test_explanations_add_up_to_the_score(values):
    model = RP3beta(5).fit(values)
    expected = model.decision_function(values)[:, 3]
    assert_allclose(model.explain(values, 3).sum(axis=1), expected, rtol=1e-12)


def test_items_without_users_get_no_weight():
    X = np.array([[1, 1, 0], [1, 1, 0]])
    B = RP3beta().fit(X).coef_.toarray()
    assert_array_equal(B[2], 0)
    assert_array_equal(B[:, 2], 0)


@pytest.mark.parametrize("X", [np.zeros((3, 4)), np.eye(4), np.ones((3, 1))])
def test_without_common_users_items_are_ranked_by_popularity(X):
    model = RP3beta().fit(X)
    assert model.coef_.nnz == 0
    n_items = X.shape[1]
    ranking = model.predict_ranking(np.zeros((1, n_items)), k=n_items)
    assert_array_equal(ranking, [np.arange(n_items)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_neighbors": 0},
        {"n_neighbors": 2.5},
        {"alpha": -1},
        {"alpha": np.nan},
        {"beta": -0.1},
        {"beta": None},
    ],
    ids=repr,
)
def test_parameters_out_of_range_are_refused(X, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RP3beta(**wrong).fit(X)


def test_fit_beyond_the_memory_is_refused(X, monkeypatch):
    monkeypatch.setattr(_memory, "available_memory", lambda: 1000)
    with pytest.raises(
        MemoryError, match=r"RP3beta\(n_neighbors=100\) of 20 items in float64 needs .* available"
    ):
        RP3beta().fit(X)


@pytest.mark.slow
def test_accuracy_on_ml1m_is_that_of_an_independent_implementation(ml1m):
    X = Binarizer(threshold=3.5).fit_transform(ml1m)
    split = strong_generalization_split(X, n_heldout=1000)
    model = RP3beta(800, beta=0.4).fit(split.train)
    found = evaluate(model, split.test_fold_in, split.test_held_out, "ndcg@100")
    assert_allclose(found.mean["ndcg@100"], 0.3790, atol=5e-4)
