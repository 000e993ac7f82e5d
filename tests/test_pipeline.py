"""Pipelines that rank."""

import io
import pickle

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
import sklearn.pipeline
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import Binarizer, FunctionTransformer, Normalizer

from sklrec.base import BaseRecommender
from sklrec.dummy import PopularityRecommender
from sklrec.linear import EASE
from sklrec.metrics import RankingScorer
from sklrec.model_selection import StrongGeneralizationSplit, split_interactions
from sklrec.pipeline import Pipeline, Unsliced, make_pipeline
from sklrec.preprocessing import InteractionEncoder


class Counts(TransformerMixin, BaseEstimator):
    """Changes nothing and counts its fits in a list that its clones share."""

    fits = []

    def fit(self, X, y=None):
        self.fits.append(X.shape)
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X


@pytest.fixture
def ratings(X):
    """Return 60 users of 20 items with ratings from 1 to 5."""
    X.data[:] = np.random.default_rng(1).integers(1, 6, X.nnz)
    return X


def test_a_ranking_is_that_of_the_last_step_on_transformed_rows_masked_by_the_raw_rows(ratings):
    pipeline = make_pipeline(Binarizer(threshold=3.5), EASE(lambda_=1.0)).fit(ratings)
    positive = Binarizer(threshold=3.5).transform(ratings)
    scores = EASE(lambda_=1.0).fit(positive).decision_function(positive)
    scores[ratings.toarray() > 0] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :4]
    assert_array_equal(pipeline.predict_ranking(ratings, k=4), expected)


def test_what_a_step_drops_is_still_seen(ratings):
    drop_all = FunctionTransformer(lambda X: X * 0, accept_sparse=True, check_inverse=False)
    pipeline = make_pipeline(drop_all, PopularityRecommender()).fit(ratings)
    ranking = pipeline.predict_ranking(ratings, k=20)
    seen = ratings.toarray() > 0
    for user in range(60):
        assert set(ranking[user]) - {-1} == set(np.flatnonzero(~seen[user]))


def test_seen_items_are_ranked_where_asked(ratings):
    pipeline = make_pipeline(Normalizer(), EASE(lambda_=1.0)).fit(ratings)
    ranking = pipeline.predict_ranking(ratings, k=20, exclude_seen=False)
    scores = pipeline.decision_function(ratings)
    assert_array_equal(ranking, np.argsort(-scores, axis=1, kind="stable"))


def test_without_transformers_a_pipeline_is_its_recommender(X):
    pipeline, model = make_pipeline(EASE(lambda_=1.0)).fit(X), EASE(lambda_=1.0).fit(X)
    assert_array_equal(pipeline.predict_ranking(X), model.predict_ranking(X))
    assert pipeline.score(X) == model.score(X)


def test_scikit_learns_pipeline_has_no_rankings(X):
    # Why there is a subclass; when this fails it may go.
    assert not hasattr(sklearn.pipeline.make_pipeline(EASE()).fit(X), "predict_ranking")


def test_scikit_learns_pipeline_gives_the_same_scores(ratings):
    steps = [("tfidf", TfidfTransformer()), ("ease", EASE(lambda_=1.0))]
    ours, theirs = (
        P(clone(steps, safe=False)).fit(ratings) for P in (Pipeline, sklearn.pipeline.Pipeline)
    )
    assert_array_equal(ours.decision_function(ratings), theirs.decision_function(ratings))
    scorer = RankingScorer("ndcg@5")
    assert scorer(ours, ratings) == scorer(theirs, ratings)


def test_the_score_is_that_of_the_scorer_with_and_without_y(ratings):
    pipeline = make_pipeline(TfidfTransformer(), EASE(lambda_=1.0)).fit(ratings)
    _, y = split_interactions(ratings, 1, random_state=5)
    assert pipeline.score(ratings) == RankingScorer()(pipeline, ratings)
    assert pipeline.score(ratings, y) == RankingScorer()(pipeline, ratings, y)
    assert pipeline.score(ratings, y) != pipeline.score(ratings)


@pytest.mark.parametrize(
    "last",
    [Ridge(), Binarizer(), "passthrough", None, LogisticRegression(), LocalOutlierFactor()],
    ids=str,
)
def test_a_pipeline_that_ends_in_no_recommender_has_no_rankings(last):
    pipeline = Pipeline([("scale", Normalizer()), ("last", last)])
    assert not hasattr(pipeline, "predict_ranking")
    with pytest.raises(AttributeError, match="has no attribute 'predict_ranking'") as error:
        pipeline.predict_ranking(np.ones((2, 3)))
    assert "The last step must be a recommender, got" in str(error.value.__cause__)


def test_a_search_over_a_recommender_may_be_the_last_step(X):
    search = GridSearchCV(
        EASE(),
        {"lambda_": [1.0]},
        scoring=RankingScorer("ndcg@5"),
        cv=StrongGeneralizationSplit(2, random_state=0),
    )
    pipeline = make_pipeline(Binarizer(), search).fit(X)
    expected = EASE(lambda_=1.0).fit(X).predict_ranking(X, k=3)
    assert_array_equal(pipeline.predict_ranking(X, k=3), expected)


def test_an_unfitted_pipeline_ranks_nothing(X):
    with pytest.raises(NotFittedError):
        make_pipeline(Binarizer(), EASE()).predict_ranking(X)


@pytest.mark.parametrize("k", [0, -1, 2.5, None, "3"])
def test_a_bad_number_of_ranks_is_refused(k, X):
    with pytest.raises(ValueError, match=f"k must be a positive integer, got {k!r}"):
        make_pipeline(EASE()).fit(X).predict_ranking(X, k=k)


def test_rows_of_another_catalogue_are_refused(X):
    with pytest.raises(ValueError, match="19 features"):
        make_pipeline(Binarizer(), EASE()).fit(X).predict_ranking(X[:, :19])


@pytest.mark.parametrize(
    "convert", [lambda X: X.toarray(), sp.csr_matrix, sp.csc_array, sp.coo_array]
)
def test_the_type_of_X_does_not_change_a_ranking(convert, ratings):
    pipeline = make_pipeline(Binarizer(threshold=2), EASE(lambda_=1.0)).fit(ratings)
    assert_array_equal(
        pipeline.predict_ranking(convert(ratings)), pipeline.predict_ranking(ratings)
    )


def test_a_data_frame_keeps_its_names_through_a_pipeline(ratings):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(ratings.toarray(), columns=[f"item {j}" for j in range(20)])
    pipeline = make_pipeline(Binarizer(threshold=2), EASE(lambda_=1.0)).fit(frame)
    assert_array_equal(pipeline.feature_names_in_, frame.columns)
    expected = make_pipeline(Binarizer(threshold=2), EASE(lambda_=1.0)).fit(ratings)
    assert_array_equal(pipeline.predict_ranking(frame), expected.predict_ranking(ratings))


def test_a_clone_is_an_unfitted_pipeline_of_ours_with_the_same_parameters(X):
    pipeline = make_pipeline(Binarizer(threshold=0.5), EASE(lambda_=3.0)).fit(X)
    copy = clone(pipeline)
    assert type(copy) is Pipeline
    assert repr(copy) == repr(pipeline)
    with pytest.raises(NotFittedError):
        copy.predict_ranking(X)


def test_parameters_of_the_steps_can_be_set(X):
    pipeline = make_pipeline(Binarizer(), EASE()).set_params(ease__lambda_=2.0)
    expected = EASE(lambda_=2.0).fit(X).decision_function(X)
    assert_array_equal(pipeline.fit(X).decision_function(X), expected)
    assert pipeline.set_params(binarizer="passthrough").get_params()["binarizer"] == "passthrough"


def test_a_fitted_pipeline_can_be_pickled_and_dumped(X, tmp_path):
    pipeline = make_pipeline(Binarizer(), EASE(lambda_=1.0)).fit(X)
    joblib.dump(pipeline, tmp_path / "pipeline")
    for copy in (pickle.loads(pickle.dumps(pipeline)), joblib.load(tmp_path / "pipeline")):
        assert_array_equal(copy.predict_ranking(X), pipeline.predict_ranking(X))


def test_names_are_those_that_scikit_learn_gives():
    steps = [Binarizer(), Binarizer(), EASE()]
    ours, theirs = make_pipeline(*steps), sklearn.pipeline.make_pipeline(*steps)
    assert list(ours.named_steps) == list(theirs.named_steps)
    assert list(ours.named_steps) == ["binarizer-1", "binarizer-2", "ease"]


def test_every_option_reaches_the_pipeline(tmp_path):
    pipeline = make_pipeline(
        EASE(), memory=str(tmp_path), transform_input=["item_features"], verbose=True
    )
    assert pipeline.memory == str(tmp_path)
    assert pipeline.transform_input == ["item_features"]
    assert pipeline.verbose is True


def test_a_part_of_a_pipeline_is_a_pipeline_of_ours():
    assert type(make_pipeline(Binarizer(), Normalizer(), EASE())[1:]) is Pipeline


def test_with_memory_a_transformer_is_fitted_once(X, tmp_path):
    Counts.fits.clear()
    rankings = [
        make_pipeline(Counts(), EASE(lambda_=1.0), memory=str(tmp_path)).fit(X).predict_ranking(X)
        for _ in range(3)
    ]
    assert Counts.fits == [X.shape]
    assert_array_equal(rankings[0], rankings[2])


def test_a_search_over_a_step_and_its_parameters_refits_a_pipeline_that_ranks(ratings):
    search = GridSearchCV(
        make_pipeline(Binarizer(threshold=3.5), EASE()),
        {"binarizer": [Binarizer(threshold=3.5), TfidfTransformer()], "ease__lambda_": [1.0, 9.0]},
        scoring=RankingScorer("ndcg@5", threshold=3.5),
        cv=StrongGeneralizationSplit(2, random_state=0),
        error_score="raise",
    ).fit(ratings)
    best = search.best_estimator_
    assert search.cv_results_["mean_test_score"].size == 4
    seen = ratings.toarray() > 0
    ranking = best.predict_ranking(ratings, k=5)
    assert not np.take_along_axis(seen, ranking, axis=1).any()


@pytest.mark.filterwarnings("ignore:The estimator Binarizer does not support callbacks")
def test_a_pipeline_shows_the_progress_of_its_recommender(X):
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9 and later")
    rich = pytest.importorskip("rich")
    shown = io.StringIO()
    rich.reconfigure(file=shown, width=200)
    try:
        make_pipeline(Binarizer(), EASE()).set_callbacks(callback.ProgressBar()).fit(X)
    finally:
        rich.reconfigure()
    bars = [line for line in shown.getvalue().splitlines() if "%" in line]
    assert any("Pipeline - fit" in bar for bar in bars)
    assert any("EASE - fit" in bar for bar in bars)
    assert [bar for bar in bars if " 100%" not in bar] == []


# Validation users, and steps that read tables


class KeepsValidationUsers(BaseRecommender):
    def fit(self, X, y=None, *, X_val=None):
        self._check_X(X, reset=True)
        self.X_val_ = X_val
        return self

    def decision_function(self, X):
        return np.zeros(X.shape)


@pytest.mark.parametrize("hold", [lambda rows: rows, Unsliced], ids=["plain", "held"])
def test_validation_users_are_transformed_by_the_fitted_steps(ratings, hold):
    steps = [Binarizer(threshold=3.5), TfidfTransformer(), KeepsValidationUsers()]
    pipeline = make_pipeline(*steps)
    pipeline.fit(ratings[:40], keepsvalidationusers__X_val=hold(ratings[40:]))
    kept = pipeline[-1].X_val_
    kept = kept.value if isinstance(kept, Unsliced) else kept
    assert isinstance(pipeline[-1].X_val_, Unsliced) == (hold is Unsliced)
    expected = pipeline[:-1].transform(ratings[40:])
    assert_array_equal(kept.toarray(), expected.toarray())


@pytest.mark.parametrize("transform_input", [None, ["X_val"]])
def test_validation_users_are_transformed_once_with_metadata_routing(ratings, transform_input):
    with sklearn.config_context(enable_metadata_routing=True):
        model = KeepsValidationUsers().set_fit_request(X_val=True)
        halve = FunctionTransformer(lambda X: X / 2, accept_sparse=True)
        pipeline = make_pipeline(halve, model, transform_input=transform_input)
        pipeline.fit(ratings[:40], X_val=ratings[40:])
    assert_array_equal(pipeline[-1].X_val_.toarray(), ratings[40:].toarray() / 2)


def test_without_validation_users_there_are_none(ratings):
    pipeline = make_pipeline(Binarizer(), KeepsValidationUsers()).fit(ratings)
    assert pipeline[-1].X_val_ is None


def test_tables_are_encoded_before_a_pipeline():
    table = (["ann", "bob"], ["tea", "milk"])
    pipeline = make_pipeline(InteractionEncoder(), EASE())
    with pytest.raises(
        ValueError, match=r"encode first, X = InteractionEncoder\(\)\.fit_transform"
    ):
        pipeline.fit(table)


def test_a_pipeline_ranks_among_candidates_and_returns_scores(ratings):
    pipeline = make_pipeline(Binarizer(threshold=3.5), EASE(lambda_=5)).fit(ratings)
    ranking, scores = pipeline.predict_ranking(ratings, k=3, items=[1, 5, 9], return_scores=True)
    assert set(ranking.ravel()) <= {-1, 1, 5, 9}
    expected = np.take_along_axis(
        pipeline.decision_function(ratings), np.maximum(ranking, 0), axis=1
    )
    assert_array_equal(scores, np.where(ranking < 0, -np.inf, expected))
    assert (pipeline.predict_ranking(ratings, k=20, exclude=[1]) != 1).all()


def test_a_model_that_ranks_by_itself_is_asked_to_in_a_pipeline(ratings):
    class Ranks(EASE):
        def _rank_rows(self, X, k, excluded):
            assert X.max() == 1
            return np.full((X.shape[0], k), 7), np.zeros((X.shape[0], k))

    pipeline = make_pipeline(Binarizer(threshold=3.5), Ranks()).fit(ratings)
    assert (pipeline.predict_ranking(ratings, k=1) == 7).all()
