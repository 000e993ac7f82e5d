import pickle
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.utils import get_tags

from sklrec import _memory
from sklrec._sklearn import SUPPORTS_CALLBACKS
from sklrec.factorization import LFM, _lfm_solvers, _ridge

N_USERS, N_ITEMS = 30, 12


@pytest.fixture
def ratings():
    """Return 30 users of 12 items with a user, an item and a taste effect; the last is unrated."""
    rng = np.random.default_rng(0)
    full = 5 + rng.normal(size=(N_USERS, 1)) + rng.normal(size=N_ITEMS)
    full += rng.normal(size=(N_USERS, 2)) @ rng.normal(size=(2, N_ITEMS))
    observed = rng.random(full.shape) < 0.6
    observed[:, -1] = False
    return sp.csr_array(np.where(observed, full.clip(0.5, 10), 0))


def observed_entries(X):
    """Return rows, columns and values of the stored entries."""
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    return rows, X.indices, X.data


def dense_solution(X, lambda_):
    """Return the minimum of the bias model by least squares on a dense design matrix."""
    n_users, n_items = X.shape
    rows, columns, values = observed_entries(X)
    A = np.zeros((X.nnz, 1 + n_users + n_items))
    A[:, 0] = A[np.arange(X.nnz), 1 + rows] = A[np.arange(X.nnz), 1 + n_users + columns] = 1
    penalty = np.sqrt(lambda_) * np.eye(A.shape[1])[1:]
    target = np.concatenate([values, np.zeros(len(penalty))])
    x, residual, *_ = np.linalg.lstsq(np.vstack([A, penalty]), target, rcond=None)
    return x[0], x[1 : 1 + n_users], x[1 + n_users :], residual[0]


def ridge_by_row(X, offset, Z, lambda_):
    """Return the ridge regression of each row's entries, less the offset, on rows of Z."""
    solutions = np.zeros((X.shape[0], Z.shape[1]))
    for u in range(X.shape[0]):
        seen = X.indices[X.indptr[u] : X.indptr[u + 1]]
        if seen.size:
            target = X.data[X.indptr[u] : X.indptr[u + 1]] - offset[seen]
            ridge = Ridge(alpha=lambda_, fit_intercept=False, solver="svd").fit(Z[seen], target)
            solutions[u] = ridge.coef_
    return solutions


def user_parameters(lfm, X):
    """Return each user's bias and factors by scikit-learn's ridge regression."""
    Z = np.vstack([np.ones(X.shape[1]), lfm.components_]).T
    return ridge_by_row(X, lfm.intercept_ + lfm.item_bias_, Z, lfm.lambda_)


# The bias model


def test_one_user_of_two_items_has_the_solution_by_hand():
    # By symmetry the intercept is the mean and each item takes half of its difference from it.
    lfm = LFM(lambda_=1.0).fit([[1.0, 3.0]])
    assert_allclose(lfm.intercept_, 2)
    assert_allclose(lfm.item_bias_, [-0.5, 0.5])
    assert_allclose(lfm.loss_curve_, [1.0])


@pytest.mark.parametrize("lambda_", [0.01, 5.4, 1e4])
def test_exact_solver_agrees_with_dense_least_squares(ratings, lambda_):
    lfm = LFM(lambda_=lambda_).fit(ratings)
    intercept, _, item_bias, loss = dense_solution(ratings, lambda_)
    assert_allclose(lfm.intercept_, intercept, rtol=1e-10)
    assert_allclose(lfm.item_bias_, item_bias, atol=1e-10)
    assert_allclose(lfm.loss_curve_, [loss], rtol=1e-10)


def test_gradient_descent_reaches_the_exact_minimum(ratings):
    exact = LFM().fit(ratings)
    gd = LFM(solver="gd", learning_rate=0.01, tol=1e-15).fit(ratings)
    assert_allclose(gd.loss_curve_[-1], exact.loss_curve_[-1], rtol=1e-12)
    assert_allclose(gd.item_bias_, exact.item_bias_, atol=1e-6)
    assert_allclose(gd.intercept_, exact.intercept_, atol=1e-6)


def test_published_settings_come_close_to_the_exact_minimum_on_movielens(data_folder):
    archive = data_folder / "ml-latest-small.zip"
    if not archive.exists():
        pytest.skip(f"{archive.name} is not in the folder of data sets")
    with zipfile.ZipFile(archive).open("ml-latest-small/ratings.csv") as file:
        user, item, value, _ = np.loadtxt(file, delimiter=",", skiprows=1, unpack=True)
    item = np.unique(item, return_inverse=True)[1]
    X = sp.csr_array((value, (user.astype(int) - 1, item)))
    exact, gd = LFM().fit(X), LFM(solver="gd").fit(X)
    assert_allclose(gd.loss_curve_[-1], exact.loss_curve_[-1], rtol=5e-5)
    assert_allclose(gd.intercept_, exact.intercept_, atol=1e-4)
    assert_allclose(gd.item_bias_, exact.item_bias_, atol=0.05)


def test_biases_of_items_sum_to_zero(ratings):
    # The intercept takes what they have in common, as it is not penalised.
    assert_allclose(LFM().fit(ratings).item_bias_.sum(), 0, atol=1e-10)


def test_biases_of_users_sum_to_zero(ratings):
    lfm = LFM().fit(ratings)
    assert_allclose(user_parameters(lfm, ratings).sum(), 0, atol=1e-10)


@pytest.mark.parametrize("n_components", [0, 2])
def test_constant_added_to_all_values_moves_the_intercept_alone(ratings, n_components):
    moved = ratings.copy()
    moved.data += 100
    lfm = LFM(n_components, random_state=0)
    a, b = clone(lfm).fit(ratings), clone(lfm).fit(moved)
    assert_allclose(b.intercept_, a.intercept_ + 100)
    assert_allclose(b.item_bias_, a.item_bias_, atol=1e-9)
    assert_allclose(b.decision_function(moved), a.decision_function(ratings) + 100)


def test_biases_under_a_huge_penalty_follow_the_sums_of_the_centred_values(ratings):
    lambda_ = 1e9
    centred = ratings.copy()
    centred.data -= centred.data.mean()
    lfm = LFM(lambda_=lambda_).fit(ratings)
    assert_allclose(lambda_ * lfm.item_bias_, centred.sum(axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("solver", ["exact", "gd"])
def test_item_that_nobody_has_rated_has_no_bias(ratings, solver):
    assert LFM(solver=solver).fit(ratings).item_bias_[-1] == 0


def test_exact_bias_model_is_one_iteration(ratings):
    lfm = LFM(max_iter=1).fit(ratings)
    assert lfm.n_iter_ == len(lfm.loss_curve_) == 1


def test_balanced_table_leaves_nothing_for_the_item_biases():
    assert_array_equal(LFM().fit([[1.0, 2.0], [2.0, 1.0]]).item_bias_, [0, 0])


# Factors


def test_factors_stay_put_when_users_and_items_are_solved_again_by_ridge_regression(ratings):
    lfm = LFM(2, lambda_=1.0, tol=1e-14, random_state=0).fit(ratings)
    P = user_parameters(lfm, ratings)
    Z = np.hstack([np.ones((N_USERS, 1)), P[:, 1:]])
    Q = ridge_by_row(ratings.T.tocsr(), lfm.intercept_ + P[:, 0], Z, lfm.lambda_)
    assert_allclose(Q[:, 0], lfm.item_bias_, atol=1e-5)
    assert_allclose(Q[:, 1:], lfm.components_.T, atol=1e-5)
    assert_allclose(P[:, 0].sum(), 0, atol=1e-5)  # the derivative by the intercept


@pytest.mark.parametrize("solver", ["exact", "gd"])
def test_loss_is_the_objective_of_the_fitted_model(ratings, solver):
    lfm = LFM(2, solver=solver, learning_rate=0.005, tol=1e-13, max_iter=50_000, random_state=0)
    lfm.fit(ratings)
    P = user_parameters(lfm, ratings)
    rows, columns, values = observed_entries(ratings)
    residual = values - lfm.decision_function(ratings)[rows, columns]
    penalty = (P**2).sum() + (lfm.item_bias_**2).sum() + (lfm.components_**2).sum()
    assert_allclose(lfm.loss_curve_[-1], residual @ residual + lfm.lambda_ * penalty, rtol=1e-7)


@pytest.mark.parametrize("n_components", [1, 3])
def test_alternating_solver_never_raises_the_loss(ratings, n_components):
    loss = LFM(n_components, lambda_=0.1, tol=1e-10, random_state=0).fit(ratings).loss_curve_
    assert len(loss) > 3
    assert np.all(np.diff(loss) <= 1e-12 * loss[0])


def test_factors_never_fit_worse_than_biases_alone(ratings):
    biases = LFM().fit(ratings).loss_curve_[-1]
    assert LFM(2, random_state=0).fit(ratings).loss_curve_[0] <= biases


def test_factors_vanish_under_a_huge_penalty(ratings):
    lfm = LFM(2, lambda_=1e4, random_state=0).fit(ratings)
    assert_allclose(lfm.components_, 0, atol=1e-6)


def test_planted_factors_predict_the_values_that_were_not_seen():
    rng = np.random.default_rng(0)
    full = 20 + rng.normal(size=(200, 2)) @ rng.normal(size=(2, 40))
    observed = rng.random(full.shape) < 0.5
    X = sp.csr_array(np.where(observed, full, 0))
    lfm = LFM(2, lambda_=0.01, tol=1e-3, random_state=0).fit(X)
    assert lfm.n_iter_ < 20  # thousands, were the norms of users and items left to even out
    assert_allclose(lfm.decision_function(X)[~observed], full[~observed], atol=0.05)


def test_alternating_solver_orders_orthogonal_factors_by_their_norm(ratings):
    Q = LFM(3, lambda_=0.5, random_state=0).fit(ratings).components_
    gram = Q @ Q.T
    assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-10)
    assert np.all(np.diff(np.diag(gram)) < 0)


def test_users_and_items_share_the_norm_of_the_factors_evenly(ratings):
    lfm = LFM(2, lambda_=0.5, tol=1e-14, random_state=0).fit(ratings)
    P = user_parameters(lfm, ratings)[:, 1:]
    assert_allclose(np.linalg.norm(P), np.linalg.norm(lfm.components_), rtol=1e-5)


def test_more_factors_than_users_and_items_are_left_at_zero():
    X = np.array([[5.0, 3.0, 1.0], [1.0, 3.0, 5.0]])
    lfm = LFM(4, lambda_=0.1, random_state=0).fit(X)
    assert_array_equal(lfm.components_[2:], np.zeros((2, 3)))
    assert_allclose(lfm.decision_function(X), X, atol=0.5)


def test_gradient_descent_finds_factors_as_good_as_the_alternating_solver(ratings):
    exact = LFM(1, lambda_=1.0, tol=1e-12, random_state=0).fit(ratings)
    gd = LFM(1, lambda_=1.0, tol=1e-12, solver="gd", learning_rate=0.005, random_state=0)
    assert_allclose(gd.fit(ratings).loss_curve_[-1], exact.loss_curve_[-1], rtol=1e-6)


@pytest.mark.parametrize("solver", ["exact", "gd"])
def test_seed_decides_the_factors(ratings, solver):
    def factors(seed):
        lfm = LFM(2, solver=solver, learning_rate=0.005, random_state=seed)
        return lfm.fit(ratings).components_

    assert_array_equal(factors(0), factors(0))
    assert not np.array_equal(factors(0), factors(1))


# New users


def test_bias_of_a_new_user_is_shrunk_as_by_hand(ratings):
    lfm = LFM(lambda_=3.0).fit(ratings)
    base = lfm.intercept_ + lfm.item_bias_
    row = np.zeros(N_ITEMS)
    row[[2, 5]] = 9.0, 4.0
    bias = (9 - base[2] + 4 - base[5]) / (2 + 3)
    assert_allclose(lfm.decision_function([row]), [base + bias])


def test_new_users_are_folded_in_by_ridge_regression(ratings):
    lfm = LFM(3, random_state=0).fit(ratings[:20])
    P = user_parameters(lfm, ratings[20:])
    expected = lfm.intercept_ + P[:, :1] + lfm.item_bias_ + P[:, 1:] @ lfm.components_
    assert_allclose(lfm.decision_function(ratings[20:]), expected, rtol=1e-10)


@pytest.mark.parametrize("n_components", [0, 2])
def test_empty_row_gets_the_popularity_of_the_items(ratings, n_components):
    lfm = LFM(n_components, random_state=0).fit(ratings)
    scores = lfm.decision_function(np.zeros((1, N_ITEMS)))
    assert_allclose(scores, [ratings.sum(axis=0)], rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_components", [0, 3])
def test_scores_of_a_row_are_the_same_in_every_batch(ratings, dtype, n_components, monkeypatch):
    X = ratings.astype(dtype)
    lfm = LFM(n_components, random_state=0).fit(X)
    together = lfm.decision_function(X)
    monkeypatch.setattr(_ridge, "CHUNK_BYTES", 1)  # systems are solved one by one, too
    alone = np.concatenate([lfm.decision_function(X[[u]]) for u in range(N_USERS)])
    assert_allclose(together, alone, rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("n_components", [0, 2])
def test_small_batches_do_not_change_the_fit(ratings, n_components, monkeypatch):
    a = LFM(n_components, random_state=0).fit(ratings)
    monkeypatch.setattr(_lfm_solvers, "BATCH_BYTES", 500)
    monkeypatch.setattr(_ridge, "CHUNK_BYTES", 500)
    b = LFM(n_components, random_state=0).fit(ratings)
    assert_allclose(b.components_, a.components_, rtol=1e-9)


@pytest.mark.parametrize("n_components", [0, 2])
def test_float32_stays_float32_and_close_to_float64(ratings, n_components):
    wide = LFM(n_components, tol=1e-12, random_state=0).fit(ratings)
    X = ratings.astype(np.float32)
    narrow = LFM(n_components, tol=1e-12, random_state=0).fit(X)
    scores = narrow.decision_function(X)
    assert scores.dtype == narrow.item_bias_.dtype == narrow.components_.dtype == np.float32
    assert_allclose(scores, wide.decision_function(ratings), rtol=1e-4)


@pytest.mark.parametrize("n_components", [0, 2])
def test_fitted_model_keeps_nothing_of_the_users(ratings, n_components):
    lfm = LFM(n_components, random_state=0).fit(ratings)
    arrays = [value for value in vars(lfm).values() if isinstance(value, np.ndarray)]
    assert all(N_USERS not in array.shape for array in arrays)
    restored = pickle.loads(pickle.dumps(lfm))
    assert_array_equal(restored.decision_function(ratings), lfm.decision_function(ratings))


# Labels


@pytest.mark.parametrize("n_components", [0, 2])
def test_threshold_learns_from_labels(ratings, n_components):
    # 1 and 2 instead of 0 and 1, which would not be stored: the intercept takes the difference.
    labels = ratings.copy()
    labels.data = 1.0 + (ratings.data > 5)
    lfm = LFM(n_components, lambda_=1.0, random_state=0)
    by_threshold = clone(lfm).set_params(threshold=5).fit(ratings)
    by_hand = lfm.fit(labels)
    assert_allclose(by_threshold.item_bias_, by_hand.item_bias_, atol=1e-9)
    assert_allclose(
        by_threshold.decision_function(ratings), by_hand.decision_function(labels) - 1, atol=1e-9
    )


def test_threshold_is_compared_in_the_precision_of_the_values():
    X = np.array([[0.1, 0.2, 0.1]], dtype=np.float32)  # float32 0.1 is above float64 0.1
    assert_array_equal(LFM(threshold=np.float64(0.1)).fit(X).item_bias_.argmax(), 1)


@pytest.mark.parametrize("solver", ["exact", "gd"])
@pytest.mark.parametrize("n_components", [0, 2])
def test_threshold_that_leaves_one_label_warns_and_ranks_by_popularity(
    ratings, n_components, solver
):
    lfm = LFM(n_components, solver=solver, threshold=20)
    with pytest.warns(UserWarning, match=r"at most threshold=20.*all labels are 0"):
        lfm.fit(ratings)
    popularity = np.tile(ratings.sum(axis=0), (N_USERS, 1))
    assert_allclose(lfm.decision_function(ratings), popularity, rtol=1e-15)


# Similar items


def test_similar_items_rank_by_the_cosine_of_the_factors(ratings):
    lfm = LFM(2, random_state=0).fit(ratings)
    Q = lfm.components_[:, :-1].T  # without the item that nobody has rated
    cosine = (Q @ Q[3]) / np.linalg.norm(Q, axis=1) / np.linalg.norm(Q[3])
    cosine[3] = -np.inf
    ranking = lfm.similar_items(3, k=4)
    expected = np.argsort(-np.append(cosine, 0.0))[:4]
    assert_array_equal(ranking, expected)


def test_bias_model_has_no_similar_items(ratings):
    lfm = LFM().fit(ratings)
    assert not hasattr(lfm, "similar_items")
    with pytest.raises(AttributeError, match="similar_items"):
        lfm.similar_items(0)


# Progress


class Recorder:
    """Callback that scores with the model of each iteration, and asks to stop after some."""

    def __init__(self, X, stop_after):
        self.X, self.stop_after, self.scores = X, stop_after, []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if fitted_estimator is not None:
            self.scores.append(fitted_estimator.decision_function(self.X))
        return len(self.scores) >= self.stop_after


@pytest.mark.skipif(not SUPPORTS_CALLBACKS, reason="needs scikit-learn 1.9")
@pytest.mark.parametrize("params", [{"n_components": 2}, {"solver": "gd"}])
def test_callback_sees_a_model_after_each_iteration_and_may_stop_the_fit(ratings, params):
    recorder = Recorder(ratings, stop_after=3)
    lfm = LFM(**params, random_state=0).set_callbacks(recorder).fit(ratings)
    assert lfm.n_iter_ == len(lfm.loss_curve_) == len(recorder.scores) == 3
    assert_array_equal(recorder.scores[-1], lfm.decision_function(ratings))


# What cannot be fitted


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_equal_values_are_refused_with_advice(X, threshold):
    with pytest.raises(ValueError, match=rf"All {X.nnz} stored values of X are 1,.*EASE"):
        LFM(threshold=threshold).fit(X)


def test_matrix_without_stored_values_is_refused():
    with pytest.raises(ValueError, match=r"X of shape \(3, 4\) has no stored values"):
        LFM().fit(np.zeros((3, 4)))


@pytest.mark.parametrize("learning_rate", [0.2, 1e200, 1e308])
def test_learning_rate_that_diverges_is_named(ratings, learning_rate):
    with pytest.raises(ValueError, match=r"learning_rate=.* is too large: a step took the loss"):
        LFM(solver="gd", learning_rate=learning_rate).fit(ratings)


@pytest.mark.parametrize("params", [{"n_components": 2}, {"solver": "gd"}])
def test_too_few_iterations_warn(ratings, params):
    lfm = LFM(**params, max_iter=2, random_state=0)
    with pytest.warns(ConvergenceWarning, match="not converged after max_iter=2 iterations"):
        lfm.fit(ratings)
    assert lfm.n_iter_ == 2


@pytest.mark.parametrize("lambda_", [0, -1.0])
def test_penalty_must_be_positive(ratings, lambda_):
    with pytest.raises(ValueError, match="'lambda_' parameter of LFM must be"):
        LFM(lambda_=lambda_).fit(ratings)


def test_penalty_that_is_lost_beside_the_factors_is_named(ratings):
    lfm = LFM(2, lambda_=1e-300, random_state=0)
    # Five users who rated the same two items alike: exact in binary, so exactly singular.
    X = np.tile([[2.0, 4.0, 0.0]], (5, 1))
    X[:, 2] = [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"lambda_=1e-300 is too small|penalty 1e-300"):
        lfm.fit(X)


def test_scores_follow_what_the_model_was_fitted_with(ratings):
    lfm = LFM(2, threshold=5, random_state=0).fit(ratings)
    scores = lfm.decision_function(ratings)
    lfm.set_params(n_components=0, lambda_=100.0, threshold=None)
    assert_array_equal(lfm.decision_function(ratings), scores)
    assert hasattr(lfm, "similar_items")


def test_transform_returns_the_factors_of_the_users(ratings):
    lfm = LFM(3, random_state=0).fit(ratings)
    assert_allclose(lfm.transform(ratings), user_parameters(lfm, ratings)[:, 1:], atol=1e-10)
    assert_array_equal(lfm.components_, lfm.item_factors_.T)
    assert_array_equal(lfm.get_feature_names_out(), ["lfm0", "lfm1", "lfm2"])


@pytest.mark.parametrize("n_components", [0, 3])
def test_explanations_add_up_to_the_score_without_intercept_and_item_bias(ratings, n_components):
    lfm = LFM(n_components, random_state=0).fit(ratings)
    contributions = lfm.explain(ratings, 4)
    expected = lfm.decision_function(ratings)[:, 4] - lfm.intercept_ - lfm.item_bias_[4]
    assert_allclose(contributions.sum(axis=1), expected, atol=1e-10)


def test_explanation_is_what_the_score_loses_when_a_rating_moves(ratings):
    # The fold-in is linear in the ratings: by finite differences, exact but for rounding.
    lfm = LFM(2, random_state=0).fit(ratings)
    row, target = ratings[[3]], lfm.intercept_ + lfm.item_bias_
    before = lfm.decision_function(row)[0, 4]
    for entry, item in enumerate(row.indices):
        moved = row.copy()
        moved.data[entry] = target[item]  # as if the rating said nothing
        loss = before - lfm.decision_function(moved)[0, 4]
        assert_allclose(lfm.explain(row, 4)[0, item], loss, atol=1e-10)


def test_penalty_too_small_for_the_conjugate_gradients_is_named():
    # A chain, in which each user shares one item with the next: nearly singular without penalty.
    n = 5000
    values = np.random.default_rng(0).uniform(1, 5, size=(2, n))
    chain = sp.diags_array(list(values), offsets=[0, 1], shape=(n, n + 1))
    with pytest.raises(ValueError, match="lambda_=1e-12 is too small: the conjugate gradients"):
        LFM(lambda_=1e-12).fit(chain)


@pytest.mark.parametrize("n_components", [0, 2])
def test_fit_beyond_the_memory_is_refused_before_it_starts(ratings, n_components, monkeypatch):
    monkeypatch.setattr(_memory, "available_memory", lambda: 1000)
    with pytest.raises(MemoryError, match=rf"n_components={n_components} on .* values needs"):
        LFM(n_components).fit(ratings)


def test_new_users_must_have_the_items_of_fit(ratings):
    with pytest.raises(ValueError, match="X has 11 features, but LFM is expecting 12"):
        LFM().fit(ratings).decision_function(ratings[:, 1:])


def test_tags_say_that_only_factors_make_it_personal():
    assert not get_tags(LFM()).recommender_tags.personalized
    assert get_tags(LFM(2)).recommender_tags.personalized
    assert get_tags(LFM()).recommender_tags.learns_from_values
