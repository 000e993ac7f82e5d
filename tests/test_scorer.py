"""The scorer: what it hides, what it ranks, and what must not find anything."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.model_selection import GridSearchCV, ValidationCurveDisplay, cross_val_score
from sklearn.preprocessing import Binarizer, FunctionTransformer

from sklrec import _ranking
from sklrec.base import RecommenderMixin
from sklrec.dummy import PopularityRecommender, RandomRecommender
from sklrec.linear import EASE
from sklrec.metrics import (
    RankingScorer,
    evaluate,
    hit_rate_at_k,
    ndcg_at_k,
    recall_at_k,
)
from sklrec.model_selection import StrongGeneralizationSplit, split_interactions
from sklrec.pipeline import make_pipeline
from sklrec.preprocessing import BM25Transformer


class Scores(RecommenderMixin, BaseEstimator):
    """Gives every user the same scores, or those of a function of the rows, and keeps the rows."""

    def __init__(self, scores=None):
        self.scores = scores

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def decision_function(self, X):
        self.given_ = X
        if callable(self.scores):
            return self.scores(X)
        scores = np.zeros(X.shape[1]) if self.scores is None else np.asarray(self.scores)
        return np.tile(scores, (X.shape[0], 1))


@pytest.fixture
def ratings(X):
    """Return 60 users of 20 items with ratings from 1 to 5, as many high as low."""
    X.data[:] = np.random.default_rng(1).integers(1, 6, X.nnz)
    return X


def rank_slowly(scores, fold_in):
    """Return the stable order of the scores of what is not in the fold-in, -1 past the end."""
    scores = np.where(fold_in > 0, -np.inf, scores)
    ranking = np.argsort(-scores, axis=1, kind="stable")
    return np.where(np.isneginf(np.take_along_axis(scores, ranking, axis=1)), -1, ranking)


def latest(X, seed=0):
    """Return two entries of each row, as a held-out matrix to hand to a scorer as y."""
    return split_interactions(X, 2, random_state=seed)[1]


# What is hidden


def test_without_y_a_fifth_of_each_row_rounded_up_is_hidden(X):
    model = Scores().fit(X)
    RankingScorer()(model, X)
    n, left = X.toarray().sum(axis=1), model.given_.toarray().sum(axis=1)
    assert_array_equal(n - left, np.where(n < 2, 0, np.ceil(n / 5)))


def test_a_count_of_entries_can_be_hidden(X):
    model = Scores().fit(X)
    RankingScorer(test_size=3)(model, X)
    n, left = X.toarray().sum(axis=1), model.given_.toarray().sum(axis=1)
    assert_array_equal(n - left, np.minimum(3, np.maximum(n - 1, 0)))


def test_the_score_equals_evaluate_on_the_split_of_the_same_seed(X):
    model = EASE(lambda_=1.0).fit(X)
    fold_in, held_out = split_interactions(X, 0.3, random_state=7)
    scorer = RankingScorer(["ndcg@5", "recall@3"], test_size=0.3, random_state=7)
    assert scorer(model, X) == evaluate(model, fold_in, held_out, ["ndcg@5", "recall@3"]).mean


def test_the_score_equals_a_dense_ranking_of_all_items(X):
    model = EASE(lambda_=1.0).fit(X)
    y = latest(X)
    fold_in = (X - y).toarray()
    ranking = rank_slowly(model.decision_function(fold_in), fold_in)
    assert RankingScorer("ndcg@7")(model, X, y) == ndcg_at_k(y, ranking, k=7)


def test_the_same_seed_hides_the_same_and_another_seed_other_entries(X):
    model = Scores().fit(X)
    given = []
    for seed in (3, 3, 4):
        RankingScorer(random_state=seed)(model, X)
        given.append(model.given_.toarray())
    assert_array_equal(given[0], given[1])
    assert (given[0] != given[2]).any()


def test_a_numpy_integer_is_a_seed(X):
    model = PopularityRecommender().fit(X)
    assert RankingScorer(random_state=np.int64(3))(model, X) == RankingScorer(random_state=3)(
        model, X
    )


def test_the_model_never_sees_a_hidden_entry(X):
    y = latest(X)
    model = Scores().fit(X)
    RankingScorer()(model, X, y)
    assert_array_equal(model.given_.toarray(), (X - y).toarray())


def test_neither_X_nor_y_is_changed(ratings):
    y = latest(ratings)
    before = [part.copy() for M in (ratings, y) for part in (M.data, M.indices, M.indptr)]
    RankingScorer(threshold=2)(PopularityRecommender().fit(ratings), ratings, y)
    RankingScorer(threshold=2)(PopularityRecommender().fit(ratings), ratings)
    for part, copy in zip(
        [part for M in (ratings, y) for part in (M.data, M.indices, M.indptr)], before, strict=True
    ):
        assert_array_equal(part, copy)


# y says what to hide


@pytest.mark.parametrize(
    "convert",
    [
        lambda y: y.toarray(),
        lambda y: y.toarray() > 0,
        lambda y: y.astype(bool),
        sp.csr_matrix,
        sp.csc_array,
        sp.coo_array,
        lambda y: y * 17,
    ],
    ids=["dense", "dense bool", "bool", "csr_matrix", "csc", "coo", "other values"],
)
def test_y_hides_exactly_its_entries_whatever_its_type(convert, X):
    y = latest(X)
    model = Scores().fit(X)
    score = RankingScorer("recall@5")(model, X, convert(y))
    assert_array_equal(model.given_.toarray(), (X - y).toarray())
    assert score == recall_at_k(y, rank_slowly(np.zeros(X.shape), (X - y).toarray()), k=5)


def test_stored_zeros_of_y_hide_nothing(X):
    y = latest(X)
    with_zeros = X.copy()
    with_zeros.data[:] = (y[X.nonzero()] != 0).astype(float)
    assert with_zeros.nnz > y.nnz
    model = PopularityRecommender().fit(X)
    assert RankingScorer()(model, X, with_zeros) == RankingScorer()(model, X, y)


def test_hiding_the_whole_row_leaves_a_user_without_fold_in(X):
    model = PopularityRecommender().fit(X)
    ranking = np.tile(rank_slowly(model.popularity_[None], np.zeros((1, 20))), (60, 1))
    assert RankingScorer("ndcg@5")(model, X, X) == ndcg_at_k(X, ranking, k=5)


# The threshold


def test_only_entries_above_the_threshold_are_hidden_and_low_ratings_stay(ratings):
    model = Scores().fit(ratings)
    RankingScorer(threshold=3.5)(model, ratings)
    hidden = (ratings - model.given_).toarray()
    assert set(np.unique(hidden)) == {0, 4, 5}
    low = ratings.toarray() * (ratings.toarray() <= 3.5)
    assert_array_equal(np.where(low > 0, model.given_.toarray(), 0), low)


def test_the_same_entries_are_hidden_whether_X_is_binarized_before_or_in_the_pipeline(ratings):
    inside, before = Scores().fit(ratings), Scores().fit(ratings)
    RankingScorer(threshold=3.5)(inside, ratings)
    RankingScorer()(before, Binarizer(threshold=3.5).transform(ratings))
    assert_array_equal(inside.given_.toarray() > 3.5, before.given_.toarray() > 0)
    assert before.given_.nnz > 0


def test_low_ratings_are_seen_and_so_never_ranked():
    # Item 0 has the best score and one star: item 2, which is hidden, must come first.
    X = sp.csr_array([[1.0, 5.0, 5.0, 0.0]])
    y = sp.csr_array([[0, 0, 1, 0]])
    assert RankingScorer("ndcg@1", threshold=3.5)(Scores([4, 3, 2, 1]).fit(X), X, y) == 1


def test_a_hidden_low_rating_is_neither_seen_nor_found():
    # Items 0 and 2 are hidden. Item 0 comes first and is no hit, item 2 comes second.
    X = sp.csr_array([[1.0, 5.0, 5.0, 0.0]])
    y = sp.csr_array([[1, 0, 1, 0]])
    scorer = RankingScorer(["reciprocal_rank@4", "recall@2"], threshold=3.5)
    scores = scorer(Scores([4, 3, 2, 1]).fit(X), X, y)
    assert scores == {"reciprocal_rank@4": 0.5, "recall@2": 1.0}


def test_where_only_low_ratings_are_hidden_the_score_is_undefined():
    X = sp.csr_array([[1.0, 5.0, 5.0, 0.0]])
    with pytest.warns(UndefinedMetricWarning):
        score = RankingScorer(threshold=3.5)(Scores().fit(X), X, sp.csr_array([[1, 0, 0, 0]]))
    assert np.isnan(score)


def test_users_with_fewer_than_two_relevant_entries_do_not_count(ratings):
    model = PopularityRecommender().fit(ratings)
    counts = (ratings.toarray() > 3.5).sum(axis=1) >= 2
    assert 0 < counts.sum() < 60
    fold_in, held_out = split_interactions(ratings, threshold=3.5, random_state=0)
    assert_array_equal(np.diff(held_out.indptr) > 0, counts)
    assert RankingScorer("ndcg@5", threshold=3.5)(model, ratings) == pytest.approx(
        evaluate(model, fold_in[counts], held_out[counts], "ndcg@5").mean["ndcg@5"], rel=1e-12
    )


# Controls: who must find nothing, and who must find everything


def second_half(n_users=50, n_items=40):
    """Return random interactions with the items of higher index alone."""
    X = np.zeros((n_users, n_items))
    X[:, n_items // 2 :] = np.random.default_rng(0).random((n_users, n_items // 2)) < 0.4
    return sp.csr_array(X)


def test_a_model_that_returns_its_input_finds_nothing():
    # Hidden items have the same score, 0, as the first 20 items, which nobody has.
    X = second_half()
    echo = Scores(lambda rows: rows.toarray()).fit(X)
    assert RankingScorer("hit_rate@20")(echo, X) == 0
    assert RankingScorer("hit_rate@20")(echo, X, latest(X)) == 0


def test_a_model_that_returns_its_input_finds_nothing_in_a_search_with_y():
    X = second_half()
    search = GridSearchCV(
        Scores(lambda rows: rows.toarray()),
        {},
        scoring=RankingScorer("hit_rate@20"),
        cv=StrongGeneralizationSplit(2, random_state=0),
        error_score="raise",
    ).fit(X, latest(X))
    assert search.best_score_ == 0


def test_a_model_that_returns_its_input_does_no_better_than_the_lowest_index(X):
    echo, constant = Scores(lambda rows: rows.toarray()).fit(X), Scores().fit(X)
    assert RankingScorer("ndcg@5")(echo, X) == RankingScorer("ndcg@5")(constant, X)


def test_a_random_ranking_finds_its_share():
    # Of 100 unseen items 10 ranks find a tenth.
    rng = np.random.default_rng(0)
    X = sp.csr_array((np.argsort(rng.random((3000, 105)), axis=1) < 6).astype(float))
    model = RandomRecommender(random_state=0).fit(X)
    # 6 entries, ceil(1.2) hidden: 4 seen, 101 unseen.
    assert RankingScorer("recall/n@10")(model, X) == pytest.approx(10 / 101, abs=0.01)


def test_a_model_that_knows_what_is_hidden_scores_one(X):
    y = latest(X)[:50]
    oracle = Scores(lambda rows: y.toarray()).fit(X)
    names = ["ndcg@9", "recall@2", "average_precision@4", "reciprocal_rank@1", "hit_rate@1"]
    scores = RankingScorer(names)(oracle, X[:50], y)
    assert scores == dict.fromkeys(names, 1.0)


def test_equal_scores_go_to_the_lower_index():
    # Seen: 3. Hidden: 5. Unseen in order: 0, 1, 2, 4, 5, 6.
    X = sp.csr_array([[0, 0, 0, 1, 0, 1, 0]])
    y = sp.csr_array([[0, 0, 0, 0, 0, 1, 0]])
    assert RankingScorer("reciprocal_rank@7")(Scores().fit(X), X, y) == 1 / 5
    assert RankingScorer("hit_rate@4")(Scores().fit(X), X, y) == 0
    assert RankingScorer("hit_rate@5")(Scores().fit(X), X, y) == 1


# Pipelines


@pytest.mark.parametrize("weighting", [TfidfTransformer, BM25Transformer])
def test_a_weighted_pipeline_scores_as_weighting_and_masking_by_hand(weighting, X):
    y = latest(X)
    fold_in = X - y
    weights = weighting().fit(X)
    ease = EASE(lambda_=1.0).fit(weights.transform(X))
    scores = ease.decision_function(weights.transform(fold_in))
    expected = ndcg_at_k(y, rank_slowly(scores, fold_in.toarray()), k=10)
    pipeline = make_pipeline(weighting(), EASE(lambda_=1.0)).fit(X)
    assert RankingScorer("ndcg@10")(pipeline, X, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "change",
    [lambda X: X * 0, lambda X: X[:, ::-1], lambda X: abs(X - 1) if not sp.issparse(X) else X * 0],
    ids=["drops all", "reverses the items", "drops or fills"],
)
def test_a_step_that_changes_which_entries_are_stored_cannot_unmask_what_was_seen(change, X):
    # Popularity does not read the row, so only the mask could make a difference.
    plain = PopularityRecommender().fit(X)
    step = FunctionTransformer(change, accept_sparse=True, check_inverse=False).fit(X)
    pipeline = make_pipeline(step, Scores(plain.popularity_)).fit(X)
    assert RankingScorer("ndcg@10")(pipeline, X) == RankingScorer("ndcg@10")(plain, X)


def test_binarizing_inside_the_pipeline_still_masks_low_ratings(ratings):
    pipeline = make_pipeline(Binarizer(threshold=3.5), EASE(lambda_=1.0)).fit(ratings)
    fold_in, held_out = split_interactions(ratings, threshold=3.5, random_state=0)
    scores = pipeline.decision_function(fold_in)
    expected = ndcg_at_k(held_out, rank_slowly(scores, fold_in.toarray()), k=10)
    unmasked = ndcg_at_k(held_out, rank_slowly(scores, fold_in.toarray() > 3.5), k=10)
    assert RankingScorer("ndcg@10", threshold=3.5)(pipeline, ratings) == expected != unmasked


# DataFrames


def test_a_data_frame_with_names_scores_like_a_sparse_array_and_without_a_warning(X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X.toarray(), columns=[f"item {j}" for j in range(20)])
    expected = RankingScorer("ndcg@5")(EASE(lambda_=1.0).fit(X), X)
    model = EASE(lambda_=1.0).fit(frame)
    pipeline = make_pipeline(TfidfTransformer(use_idf=False, norm=None), EASE(lambda_=1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RankingScorer("ndcg@5")(model, frame) == pytest.approx(expected, rel=1e-12)
        assert model.score(frame) > 0
        assert RankingScorer("ndcg@5")(pipeline.fit(frame), frame) == pytest.approx(expected)


# The rest of the contract


def test_several_metrics_cost_one_prediction(X):
    calls = []
    model = Scores(lambda rows: calls.append(rows.shape) or np.zeros(rows.shape)).fit(X)
    RankingScorer(["ndcg@100", "recall@20", "recall/n@5"])(model, X)
    assert calls == [(60, 20)]


@pytest.mark.parametrize("metrics", [["ndcg@5"], ("ndcg@5",), ["ndcg@5", "hit_rate@2"]])
def test_a_list_of_metrics_gives_a_dict_with_what_each_gives_alone(metrics, X):
    model = PopularityRecommender().fit(X)
    scores = RankingScorer(metrics)(model, X)
    assert scores == {name: RankingScorer(name)(model, X) for name in metrics}


def test_each_metric_looks_at_its_own_number_of_ranks(X):
    model = PopularityRecommender().fit(X)
    y = latest(X)
    ranking = rank_slowly(model.decision_function(X), (X - y).toarray())
    scores = RankingScorer(["hit_rate@1", "hit_rate@9", "recall/n@3"])(model, X, y)
    assert scores["hit_rate@1"] == hit_rate_at_k(y, ranking, k=1)
    assert scores["hit_rate@9"] == hit_rate_at_k(y, ranking, k=9)
    assert scores["recall/n@3"] == recall_at_k(y, ranking, k=3, denominator="n")


def test_the_score_does_not_depend_on_the_size_of_the_batches(X, monkeypatch):
    model = EASE(lambda_=1.0).fit(X)
    whole = RankingScorer("ndcg@5")(model, X)
    monkeypatch.setattr(_ranking, "BATCH_BYTES", 7 * 20 * 8)
    monkeypatch.setattr(_ranking, "FEW_ROWS", 1)
    assert RankingScorer("ndcg@5")(model, X) == pytest.approx(whole, rel=1e-12)


def test_more_ranks_than_items_look_at_all_of_them(X):
    assert RankingScorer("recall@100")(PopularityRecommender().fit(X), X) == 1


@pytest.mark.parametrize(
    "convert", [lambda X: X.toarray(), sp.csr_matrix, sp.csc_array, sp.coo_array, sp.lil_array]
)
def test_X_may_be_of_any_type(convert, X):
    model = PopularityRecommender().fit(X)
    assert RankingScorer()(model, convert(X)) == RankingScorer()(model, X)


def test_users_without_anything_to_hide_leave_the_score_undefined(X):
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(RankingScorer()(PopularityRecommender().fit(X), sp.csr_array((3, 20))))


def test_a_scorer_can_be_pickled_cloned_and_read(X):
    scorer = RankingScorer(["ndcg@5"], threshold=0.5, test_size=2, random_state=3)
    model = PopularityRecommender().fit(X)
    assert pickle.loads(pickle.dumps(scorer))(model, X) == scorer(model, X)
    assert repr(clone(scorer, safe=False)) == repr(scorer)
    assert repr(scorer) == ("RankingScorer(['ndcg@5'], threshold=0.5, test_size=2, random_state=3)")


@pytest.mark.parametrize("metric", ["ndgc@10", "novelty@10", "gini@10"])
def test_metric_that_cannot_be_had_is_refused_before_a_search_takes_it_for_nan(metric):
    with pytest.raises(ValueError, match=metric):
        RankingScorer(metric)


# Candidates, repeats, names, and a dense y


def test_the_scorer_ranks_candidates_as_evaluate_does(X):
    model = EASE(lambda_=5).fit(X)
    for setting in ({"items": [0, 3, 4]}, {"exclude_seen": False}):
        fold_in, held_out = RankingScorer().hide(X)
        expected = evaluate(model, fold_in, held_out, "ndcg@2", **setting).mean["ndcg@2"]
        assert RankingScorer("ndcg@2", **setting)(model, X) == expected
        assert expected != RankingScorer("ndcg@2")(model, X)


def test_the_representation_tells_of_candidates_and_repeats():
    scorer = RankingScorer(items=[1], exclude_seen=False)
    assert repr(scorer).endswith("random_state=0, items=..., exclude_seen=False)")


def test_scikit_learns_displays_find_a_name():
    assert RankingScorer("ndcg@10").__name__ == "ndcg@10"
    assert RankingScorer(["ndcg@10", "recall@5"]).__name__ == "ndcg@10, recall@5"
    assert RankingScorer.__name__ == "RankingScorer"


def test_a_validation_curve_is_drawn(X):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    display = ValidationCurveDisplay.from_estimator(
        EASE(), X, None, param_name="lambda_", param_range=[1, 10], cv=2,
        scoring=RankingScorer("ndcg@5"),
    )  # fmt: skip
    assert display.ax_.get_ylabel() == "Ndcg@5"
    plt.close("all")


def test_a_dense_y_of_the_shape_of_X_is_hidden_in_score_and_cross_validation(X):
    y = X.multiply(np.arange(20) < 5).toarray()
    model = EASE(lambda_=5).fit(X)
    expected = RankingScorer()(model, X, sp.csr_array(y))
    assert expected != model.score(X)
    assert model.score(X, y) == model.score(X, sp.csr_array(y)) == expected
    scores = cross_val_score(EASE(lambda_=5), X, y, cv=2)
    search = GridSearchCV(EASE(lambda_=5), {}, cv=2).fit(X, sp.csr_array(y))
    assert_array_equal(scores, [search.cv_results_[f"split{i}_test_score"][0] for i in range(2)])
    assert model.score(X, np.zeros(60)) == model.score(X)  # a target of scikit-learn's checks
