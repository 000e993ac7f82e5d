"""What the scorer refuses."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge

from sklrec.dummy import PopularityRecommender
from sklrec.linear import EASE
from sklrec.metrics import RankingScorer
from sklrec.model_selection import split_interactions


def latest(X, seed=0):
    """Return two entries of each row, as a held-out matrix to hand to a scorer as y."""
    return split_interactions(X, 2, random_state=seed)[1]


@pytest.mark.parametrize("seed", [None, np.random.RandomState(0), True, 1.0, "0"])
def test_only_an_int_is_a_seed(seed, X):
    with pytest.raises(ValueError, match="random_state must be an int, so that all candidates"):
        RankingScorer(random_state=seed)(PopularityRecommender().fit(X), X)


def test_y_of_which_X_lacks_some_entries_is_refused(X):
    y = latest(X)
    some = sp.csr_array(y.toarray() * (np.arange(20) < 10))
    message = f"y hides {some.nnz} interactions that are not in X, of {y.nnz}; all of them must"
    with pytest.raises(ValueError, match=message):
        RankingScorer()(PopularityRecommender().fit(X), X - some, y)


def test_y_of_which_X_lacks_all_entries_is_what_is_to_be_found(X):
    y = latest(X)
    model = PopularityRecommender().fit(X)
    assert RankingScorer()(model, X - y, y) == RankingScorer()(model, X, y) < 1


@pytest.mark.parametrize("shape", [(60, 19), (59, 20)])
def test_y_of_another_shape_is_refused(shape, X):
    with pytest.raises(ValueError, match=r"y must have the shape of X, \(60, 20\), got"):
        RankingScorer()(PopularityRecommender().fit(X), X, sp.csr_array(shape))


def test_labels_as_y_are_refused(X):
    with pytest.raises(ValueError, match="2D array"):
        RankingScorer()(PopularityRecommender().fit(X), X, np.zeros(60))


def test_y_with_nan_is_refused(X):
    with pytest.raises(ValueError, match="NaN"):
        RankingScorer()(PopularityRecommender().fit(X), X, X * np.nan)


def test_a_data_frame_with_other_names_is_refused(X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X.toarray(), columns=[f"item {j}" for j in range(20)])
    with pytest.raises(ValueError, match="feature names should match"):
        RankingScorer()(EASE().fit(frame), frame.add_prefix("new "))


@pytest.mark.parametrize(
    "metrics",
    [
        "ndcg",
        "ndcg@",
        "ndcg@0",
        "ndcg@-1",
        "ndcg@1.5",
        "@5",
        "map@5",
        "precision/n@5",
        "",
        5,
        None,
        ["ndcg@5", "recall"],
        [5],
    ],
)
def test_an_unknown_metric_is_refused(metrics, X):
    with pytest.raises(ValueError, match=r"A metric is one of ndcg, .* such as 'ndcg@100'; got"):
        RankingScorer(metrics)(PopularityRecommender().fit(X), X)


def test_no_metric_at_all_is_refused(X):
    with pytest.raises(ValueError, match="at least one metric, got none"):
        RankingScorer([])(PopularityRecommender().fit(X), X)


@pytest.mark.parametrize("test_size", [0, 0.0, 1.0, 1.5, -1, "0.2", None, True])
def test_a_bad_test_size_is_refused(test_size, X):
    with pytest.raises(ValueError, match="test_size must be a share between 0 and 1 or an integer"):
        RankingScorer(test_size=test_size)(PopularityRecommender().fit(X), X)


def test_an_estimator_without_scores_is_refused(X):
    model = Ridge().fit(X, np.zeros(60))
    with pytest.raises(TypeError, match="estimator with decision_function, got Ridge"):
        RankingScorer()(model, X)


def test_an_unfitted_estimator_is_refused(X):
    with pytest.raises(NotFittedError):
        RankingScorer()(EASE(), X)


def test_rows_of_another_catalogue_are_refused(X):
    with pytest.raises(ValueError, match="19 features"):
        RankingScorer()(EASE().fit(X), X[:, :19])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_X_that_is_not_finite_is_refused(bad, X):
    model = PopularityRecommender().fit(X)
    X.data[3] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        RankingScorer()(model, X)


@pytest.mark.parametrize(
    ("metric", "inputs", "message"),
    [
        ("intra_list_diversity@1", {"item_features": np.eye(4)}, "needs at least 2 ranks"),
        ("intra_list_diversity@5", {"item_features": np.full((4, 2), np.nan)}, "contains NaN"),
        ("novelty@5", {"interactions": [[1, np.inf]]}, "interactions contains infinity"),
        ("novelty@5", {"interactions": [1, 0]}, "Expected 2D array"),
    ],
)
def test_what_a_metric_cannot_take_is_refused_before_a_search(metric, inputs, message):
    with pytest.raises(ValueError, match=message):
        RankingScorer(metric, **inputs)
