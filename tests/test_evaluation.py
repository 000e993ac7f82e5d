"""Values of each user, standard errors and paired tests, and the figures of published splits."""

import math
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import ttest_rel
from sklearn.linear_model import Ridge
from sklearn.preprocessing import Binarizer

from sklrec.dummy import PopularityRecommender, RandomRecommender
from sklrec.factorization import LFM
from sklrec.linear import EASE
from sklrec.metrics import RankingEvaluation, evaluate, ndcg_at_k, recall_at_k
from sklrec.model_selection import split_interactions, strong_generalization_split


@pytest.fixture
def parts(X):
    """Return training users, and the two parts of 20 others, one of whom has nothing held out."""
    fold_in, held_out = split_interactions(X[40:], random_state=0)
    held_out = held_out.tolil()
    held_out[3] = 0
    return X[:40], fold_in, sp.csr_array(held_out)


def test_each_user_has_the_value_of_a_dense_ranking(parts):
    train, fold_in, held_out = parts
    model = EASE(lambda_=1.0).fit(train)
    scores = np.where(fold_in.toarray() > 0, -np.inf, model.decision_function(fold_in))
    ranking = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    found = evaluate(model, fold_in, held_out, ["ndcg@5", "recall@3"]).per_user
    assert_array_equal(found["ndcg@5"], ndcg_at_k(held_out, ranking, average=None))
    assert_array_equal(found["recall@3"], recall_at_k(held_out, ranking, k=3, average=None))


def test_users_without_held_out_items_are_nan_and_do_not_count(parts):
    train, fold_in, held_out = parts
    evaluation = evaluate(PopularityRecommender().fit(train), fold_in, held_out, "ndcg@5")
    value = evaluation.per_user["ndcg@5"]
    assert_array_equal(np.isnan(value), np.diff(held_out.indptr) == 0)
    assert np.isnan(value).any()
    counts = value[~np.isnan(value)]
    assert evaluation.mean["ndcg@5"] == pytest.approx(counts.sum() / counts.size, rel=1e-12)


def test_the_standard_error_by_hand():
    # The mean of 0, 1, 1, 0 is 1/2, the sample variance 1/3, the error of the mean half its root.
    evaluation = RankingEvaluation({"m": np.array([0.0, 1.0, np.nan, 1.0, 0.0])})
    assert evaluation.mean == {"m": 0.5}
    assert evaluation.standard_error["m"] == pytest.approx(math.sqrt(1 / 3) / 2, rel=1e-12)


def test_a_single_user_has_no_standard_error():
    evaluation = RankingEvaluation({"m": np.array([0.25, np.nan])})
    assert evaluation.mean == {"m": 0.25}
    assert math.isnan(evaluation.standard_error["m"])


def test_the_representation_has_a_line_for_each_metric():
    evaluation = RankingEvaluation(
        {"ndcg@5": np.array([0.0, 1.0, 1.0, 0.0]), "recall@3": np.array([1.0, 1.0, 1.0, 1.0])}
    )
    assert repr(evaluation) == "ndcg@5: 0.5000 ± 0.2887\nrecall@3: 1.0000 ± 0.0000"


def test_the_default_metrics_are_the_published_ones(parts):
    train, fold_in, held_out = parts
    evaluation = evaluate(PopularityRecommender().fit(train), fold_in, held_out)
    assert list(evaluation.per_user) == ["ndcg@100", "recall@20", "recall@50"]


def test_an_evaluation_can_be_pickled(parts):
    train, fold_in, held_out = parts
    evaluation = evaluate(PopularityRecommender().fit(train), fold_in, held_out)
    assert pickle.loads(pickle.dumps(evaluation)).mean == evaluation.mean


# Comparisons


def test_two_models_are_compared_by_a_paired_t_test(parts):
    train, fold_in, held_out = parts
    ease = evaluate(EASE(lambda_=1.0).fit(train), fold_in, held_out, "ndcg@5")
    chance = evaluate(RandomRecommender(random_state=0).fit(train), fold_in, held_out, "ndcg@5")
    counts = ~np.isnan(ease.per_user["ndcg@5"])
    a, b = ease.per_user["ndcg@5"][counts], chance.per_user["ndcg@5"][counts]
    found = ease.compare(chance)["ndcg@5"]
    assert found.n_users == a.size == 18
    assert found.difference == pytest.approx(a.mean() - b.mean(), rel=1e-12)
    assert found.standard_error == pytest.approx((a - b).std(ddof=1) / math.sqrt(18), rel=1e-12)
    assert found.pvalue == pytest.approx(ttest_rel(a, b).pvalue, rel=1e-9)
    back = chance.compare(ease)["ndcg@5"]
    assert (back.difference, back.pvalue) == (-found.difference, found.pvalue)


def test_the_p_value_by_hand():
    # Differences 1, 1, 0, 0: mean 1/2, error 1/sqrt(12), t = sqrt(3) with 3 degrees of freedom,
    # where the distribution is 1/2 + (u / (1 + u^2) + atan u) / pi with u = t / sqrt(3) = 1.
    first = RankingEvaluation({"m": np.array([1.0, 1.0, 0.0, 1.0])})
    second = RankingEvaluation({"m": np.array([0.0, 0.0, 0.0, 1.0])})
    expected = 2 * (1 - (1 / 2 + (1 / 2 + math.pi / 4) / math.pi))
    assert first.compare(second)["m"].pvalue == pytest.approx(expected, rel=1e-12)


def test_a_model_does_not_differ_from_itself(parts):
    train, fold_in, held_out = parts
    evaluation = evaluate(EASE(lambda_=1.0).fit(train), fold_in, held_out, "ndcg@5")
    found = evaluation.compare(evaluation)["ndcg@5"]
    assert (found.difference, found.standard_error, found.pvalue) == (0, 0, 1)


def test_the_same_difference_for_every_user_has_a_p_value_of_zero():
    found = RankingEvaluation({"m": np.ones(3)}).compare(RankingEvaluation({"m": np.zeros(3)}))
    assert (found["m"].difference, found["m"].standard_error, found["m"].pvalue) == (1, 0, 0)


def test_only_metrics_of_both_are_compared():
    first = RankingEvaluation({"a": np.array([0.0, 1.0]), "b": np.array([0.0, 1.0])})
    second = RankingEvaluation({"b": np.array([0.0, 1.0]), "c": np.array([0.0, 1.0])})
    assert list(first.compare(second)) == ["b"]


def test_evaluations_without_a_common_metric_are_not_compared():
    with pytest.raises(ValueError, match=r"No metric in common: a and b\."):
        RankingEvaluation({"a": np.zeros(2)}).compare(RankingEvaluation({"b": np.zeros(2)}))


@pytest.mark.parametrize("other", [[0.0, 1.0], [0.0, 1.0, np.nan], [np.nan, np.nan, 0.5]])
def test_evaluations_of_different_users_are_not_compared(other):
    first = RankingEvaluation({"m": np.array([0.0, np.nan, 1.0])})
    with pytest.raises(ValueError, match=r"m was evaluated on different users: 2 of 3 and"):
        first.compare(RankingEvaluation({"m": np.array(other)}))


def test_a_single_user_is_not_compared():
    first = RankingEvaluation({"m": np.array([0.5, np.nan])})
    with pytest.raises(ValueError, match=r"needs at least 2 users .* got 1"):
        first.compare(RankingEvaluation({"m": np.array([0.7, np.nan])}))


# Bad input


def test_parts_that_overlap_are_refused(parts):
    train, fold_in, held_out = parts
    given_away = fold_in + held_out.multiply(np.arange(20) < 10)
    n = (given_away - fold_in).nnz
    with pytest.raises(ValueError, match=f"^{n} held-out interactions are in the fold-in too"):
        evaluate(PopularityRecommender().fit(train), given_away, held_out)


def test_parts_of_different_shape_are_refused(parts):
    train, fold_in, held_out = parts
    with pytest.raises(ValueError, match=r"one shape, got \(20, 20\) and \(19, 20\)"):
        evaluate(PopularityRecommender().fit(train), fold_in, held_out[1:])


def test_nothing_held_out_is_refused(parts):
    train, fold_in, _ = parts
    with pytest.raises(ValueError, match="No user has an item held out"):
        evaluate(PopularityRecommender().fit(train), fold_in, sp.csr_array(fold_in.shape))


def test_an_estimator_without_scores_is_refused(parts):
    train, fold_in, held_out = parts
    with pytest.raises(TypeError, match="estimator with decision_function, got Ridge"):
        evaluate(Ridge().fit(train, np.zeros(40)), fold_in, held_out)


def test_an_unknown_metric_is_refused(parts):
    train, fold_in, held_out = parts
    with pytest.raises(ValueError, match="got 'auc@5'"):
        evaluate(PopularityRecommender().fit(train), fold_in, held_out, "auc@5")


def test_a_data_frame_is_evaluated_with_the_names_of_its_columns(parts):
    pd = pytest.importorskip("pandas")
    names = [f"item {j}" for j in range(20)]
    train, fold_in, held_out = parts
    expected = evaluate(EASE().fit(train), fold_in, held_out).mean
    frames = [pd.DataFrame(M.toarray(), columns=names) for M in parts]
    assert evaluate(EASE().fit(frames[0]), *frames[1:]).mean == expected


def test_the_users_of_a_batch_do_not_change_each_others_values(parts):
    train, fold_in, held_out = parts
    model = EASE(lambda_=1.0).fit(train)
    together = evaluate(model, fold_in, held_out, "ndcg@5").per_user["ndcg@5"]
    alone = evaluate(model, fold_in[[7]], held_out[[7]], "ndcg@5").per_user["ndcg@5"]
    assert_allclose(alone, together[[7]], rtol=1e-12)


# Figures on the published split of MovieLens-1M, measured by other implementations


@pytest.fixture(scope="module")
def canonical(ml1m):
    X = Binarizer(threshold=3.5).transform(ml1m)
    return strong_generalization_split(X, n_heldout=1000)


def test_the_canonical_split_of_movielens_has_the_known_size(canonical):
    assert canonical.train.shape == (4034, 3468)
    assert canonical.train.nnz == 388_246
    assert canonical.train.dtype == np.float32


def test_EASE_reaches_the_known_figures_on_movielens(canonical):
    model = EASE(lambda_=500.0).fit(canonical.train)
    mean = evaluate(model, canonical.test_fold_in, canonical.test_held_out).mean
    assert mean["ndcg@100"] == pytest.approx(0.4178, abs=0.0005)
    assert mean["recall@20"] == pytest.approx(0.3559, abs=0.0005)
    assert mean["recall@50"] == pytest.approx(0.4637, abs=0.0005)


def test_popularity_reaches_the_known_figures_on_movielens(canonical):
    model = PopularityRecommender().fit(canonical.train)
    evaluation = evaluate(model, canonical.test_fold_in, canonical.test_held_out)
    assert evaluation.mean["ndcg@100"] == pytest.approx(0.2130, abs=0.0005)
    assert evaluation.mean["recall@20"] == pytest.approx(0.1664, abs=0.0005)
    assert evaluation.mean["recall@50"] == pytest.approx(0.2389, abs=0.0005)
    assert evaluation.standard_error["ndcg@100"] == pytest.approx(0.0046, abs=0.0001)


# Users that nothing is known of, candidates and repeats


def test_an_unknown_user_gains_nothing_from_an_item_that_sorts_first():
    X = sp.csr_array([[0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]])
    nothing, first = sp.csr_array((1, 4)), sp.csr_array([[1, 0, 0, 0]])
    for model in (EASE(lambda_=1), LFM(), PopularityRecommender()):
        X.data[:] = 1 + np.arange(X.nnz) % 2
        found = evaluate(model.fit(X), nothing, first, ["ndcg@1", "reciprocal_rank@4"])
        assert found.mean == {"ndcg@1": 0, "reciprocal_rank@4": 1 / 4}


def test_candidates_alone_are_ranked_and_count_as_held_out():
    X = sp.csr_array([[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]])
    model = PopularityRecommender().fit(X)
    fold_in = sp.csr_array([[0, 0, 0, 1], [0, 0, 0, 1]])
    held_out = sp.csr_array([[1, 0, 1, 0], [0, 0, 1, 0]])
    found = evaluate(model, fold_in, held_out, "ndcg@1", items=[0, 1])
    assert_array_equal(found.per_user["ndcg@1"], [0, np.nan])  # ranks 1, to find is 0
    mask = sp.csr_array([[1, 0, 0, 0], [1, 0, 1, 0]])
    found = evaluate(model, fold_in, held_out, "ndcg@1", items=mask)
    assert_array_equal(found.per_user["ndcg@1"], [1, 1])
    with pytest.raises(ValueError, match="No user has an item held out among the candidates"):
        evaluate(model, fold_in, held_out, items=[1])


def test_repeats_are_found_where_what_was_seen_may_be_ranked():
    X = sp.csr_array([[1, 1, 0], [1, 1, 0], [0, 1, 1]])
    model = PopularityRecommender().fit(X)
    again = sp.csr_array([[0, 1, 0]])
    with pytest.raises(ValueError, match=r"1 held-out .* use exclude_seen=False"):
        evaluate(model, X[:1], again)
    assert evaluate(model, X[:1], again, "ndcg@1", exclude_seen=False).mean == {"ndcg@1": 1}


def test_frames_are_ranked_among_candidates_too(X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X.toarray(), columns=[f"item {i}" for i in range(20)])
    fold_in, held_out = split_interactions(frame, random_state=0)
    told = pd.DataFrame(fold_in.toarray(), columns=frame.columns)
    model = EASE(lambda_=5).fit(frame)
    found = evaluate(model, told, held_out, "ndcg@5", items=[1, 2, 3])
    plain = evaluate(EASE(lambda_=5).fit(X), fold_in, held_out, "ndcg@5", items=[1, 2, 3])
    assert found.mean == plain.mean
