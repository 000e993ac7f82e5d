"""The checks of recommenders: what they accept from outside the package, and what they catch."""

import multiprocessing
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_is_fitted, check_non_negative, validate_data

from sklrec._sklearn import SUPPORTS_CALLBACKS
from sklrec.base import (
    BaseRecommender,
    ExplainMixin,
    RecommenderMixin,
    RecommenderTags,
    SimilarItemsMixin,
)
from sklrec.dummy import PopularityRecommender, RandomRecommender
from sklrec.factorization import LFM
from sklrec.linear import EASE
from sklrec.utils._check_data import change_parameters, fitted_once, planted_groups
from sklrec.utils.estimator_checks import (
    check_recommender,
    parametrize_with_checks,
    recommender_checks,
)


class ItemCosine(RecommenderMixin, BaseEstimator):
    """What a third party writes: similarity of items by shared users, from public names alone."""

    def fit(self, X, y=None):
        X = self._validate(X, reset=True)
        norm = np.sqrt(X.multiply(X).sum(axis=0)) + 1
        self.coef_ = ((X.T @ X).toarray() / np.outer(norm, norm)).astype(X.dtype)
        np.fill_diagonal(self.coef_, 0)
        self.popularity_ = X.sum(axis=0).astype(X.dtype)
        return self

    def decision_function(self, X):
        check_is_fitted(self)
        scores = self._validate(X, reset=False) @ self.coef_
        scores[~scores.any(axis=1)] = self.popularity_
        return scores

    def _validate(self, X, *, reset):
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float32, np.float64], reset=reset)
        check_non_negative(X, "ItemCosine")
        return sp.csr_array(X)


class WithSimilarItems(SimilarItemsMixin, ItemCosine):
    """The same with similar items."""

    def _item_similarity(self, items):
        return self.coef_[items]


@parametrize_with_checks([ItemCosine(), WithSimilarItems()])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_a_recommender_of_a_third_party_passes(estimator, check):
    check(estimator)


def test_a_recommender_of_a_third_party_passes_without_pytest():
    check_recommender(ItemCosine())


# Recommenders that break one promise each


class RanksWhatWasSeen(ItemCosine):
    def predict_ranking(self, X, *, exclude_seen=True, **params):
        return super().predict_ranking(X, exclude_seen=False, **params)


class FillsWithTheFirstItem(ItemCosine):
    def predict_ranking(self, X, **params):
        found = super().predict_ranking(X, **params)
        if params.get("return_scores"):
            return found
        return np.maximum(found, 0)


class RanksAnything(ItemCosine):
    def predict_ranking(self, X, *, items=None, **params):
        return super().predict_ranking(X, **params)


class RanksUnknownUsersByIndex(ItemCosine):
    def decision_function(self, X):
        return self._validate(X, reset=False) @ self.coef_


class GivesTiesToTheHigherIndex(ItemCosine):
    def fit(self, X, y=None):
        super().fit(X)
        self.coef_ = np.round(8 * self.coef_) / 8  # sums are exact, so ties are
        return self

    def predict_ranking(self, X, **params):
        ranking = super().predict_ranking(X, **params)
        if params.get("return_scores"):
            return ranking
        scores = np.column_stack([self.decision_function(X), np.full(ranking.shape[0], -np.inf)])
        scores = np.take_along_axis(scores, ranking, axis=1)
        order = np.lexsort((-ranking, -scores), axis=1)
        return np.take_along_axis(ranking, order, axis=1)


class LearnsNothing(ItemCosine):
    def decision_function(self, X):
        return 0 * super().decision_function(X)


class IgnoresTheUser(ItemCosine):
    def decision_function(self, X):
        scores = super().decision_function(X)
        return np.tile(self.coef_.sum(axis=0), (scores.shape[0], 1))


class ForgetsInAPickle(ItemCosine):
    def __getstate__(self):
        state = super().__getstate__()
        return {**state, "coef_": np.round(state["coef_"], 3)} if "coef_" in state else state


class KeepsItsUsers(ItemCosine):
    def fit(self, X, y=None):
        super().fit(X)
        self.X_fit_ = self._validate(X, reset=False).copy()
        return self


class KeepsOneByteOfEachUser(ItemCosine):
    def fit(self, X, y=None):
        super().fit(X)
        self.is_active_ = np.diff(self._validate(X, reset=False).indptr) > 10
        return self


class CountsStoredZeros(ItemCosine):
    def decision_function(self, X):
        n_stored = np.diff(self._validate(X, reset=False).indptr) + 1
        return (super().decision_function(X) / n_stored[:, None]).astype(self.coef_.dtype)


class AlwaysGivesFloat64(ItemCosine):
    def decision_function(self, X):
        return super().decision_function(X).astype(np.float64)


class CentresOverTheUsersOfABatch(ItemCosine):
    def decision_function(self, X):
        scores = super().decision_function(X)
        return scores - scores.mean(axis=0) / 10


class GoesOnFromTheLastFit(ItemCosine):
    def fit(self, X, y=None):
        before = getattr(self, "coef_", 0)
        super().fit(X)
        self.coef_ = self.coef_ + before
        return self


class DrawsFromTheGlobalGenerator(ItemCosine):
    def fit(self, X, y=None):
        np.random.random_sample()  # noqa: NPY002 - what is forbidden
        return super().fit(X)


class SeedsTheGlobalGenerator(ItemCosine):
    def fit(self, X, y=None):
        np.random.seed(0)  # noqa: NPY002 - what is forbidden
        return super().fit(X)


class SortsXInPlace(ItemCosine):
    def fit(self, X, y=None):
        if sp.issparse(X) and X.format == "csr":
            X.sort_indices()
        return super().fit(X)


class BinarizesXInPlace(ItemCosine):
    """Where the indices of X are sorted; others are copied first, as they often are."""

    def decision_function(self, X):
        scores = super().decision_function(X)
        if sp.issparse(X) and X.format == "csr" and X.has_sorted_indices:
            X.data[X.data > 0] = 1
        return scores


class DividesByTheLengthOfTheRow(ItemCosine):
    def decision_function(self, X):
        length = self._validate(X, reset=False).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return super().decision_function(X) / length[:, None]


class FailsOnOneUser(ItemCosine):
    def fit(self, X, y=None):
        super().fit(X)
        if X.shape[0] == 1:
            raise IndexError("no second user")
        return self


class AcceptsNegativeValues(ItemCosine):
    def _validate(self, X, *, reset):
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float32, np.float64], reset=reset)
        return sp.csr_array(X)


class AcceptsAnyCatalogue(ItemCosine):
    def decision_function(self, X):
        X = check_array(X, accept_sparse="csr", dtype=[np.float32, np.float64])
        check_non_negative(X, "AcceptsAnyCatalogue")
        n_items = min(X.shape[1], self.coef_.shape[0])
        scores = sp.csr_array(X)[:, :n_items] @ self.coef_[:n_items]
        scores[~scores.any(axis=1)] = self.popularity_
        return scores


class ScoresItselfOtherwise(ItemCosine):
    def score(self, X, y=None):
        return 0.5


class NeedsAHundredUsers(ItemCosine):
    def fit(self, X, y=None):
        super().fit(X)
        if X.shape[0] < 100:
            raise ValueError("too few users")
        return self


class DependsOnTheProcess(ItemCosine):
    def decision_function(self, X):
        scores = super().decision_function(X)
        return scores if multiprocessing.current_process().name == "MainProcess" else -scores


class ReportsNoProgress(ItemCosine, BaseRecommender):
    pass


class ChangesItsParameters(ItemCosine):
    def __init__(self, n=1):
        self.n = n

    def fit(self, X, y=None):
        self.n = 2
        return super().fit(X)


class IsSimilarToItself(WithSimilarItems):
    def similar_items(self, item, k=10):
        ranking = super().similar_items(item, k=k)
        ranking[..., 0] = item
        return ranking


class ScoresByItsParameter(ItemCosine):
    def __init__(self, scale=1.0):
        self.scale = scale

    def decision_function(self, X):
        scores = super().decision_function(X)
        return scores * scores.dtype.type(self.scale)


class ExplainsHalfOfTheScore(ExplainMixin, ItemCosine):
    def _check_X(self, X, *, reset):
        return self._validate(X, reset=reset)

    def _contributions(self, X, item):
        return X.data * self.coef_[X.indices, item] / 2


RANKING, SCORE = "check_ranking_follows_the_scores", "check_score_is_the_scorer"
UNKNOWN = "check_users_without_items"
BROKEN = {
    RanksWhatWasSeen: {
        "check_never_ranks_what_was_seen", "check_ends_with_minus_one", RANKING, UNKNOWN,
        "check_candidates", "check_pipeline",
    },
    RanksAnything: {"check_candidates"},
    RanksUnknownUsersByIndex: {UNKNOWN},
    FillsWithTheFirstItem: {"check_ends_with_minus_one", UNKNOWN},
    GivesTiesToTheHigherIndex: {RANKING, UNKNOWN, "check_pipeline"},
    LearnsNothing: {"check_beats_a_random_ranking", "check_checkerboard", UNKNOWN},
    IgnoresTheUser: {"check_checkerboard", UNKNOWN},
    ForgetsInAPickle: {"check_pickle_and_joblib_round_trip"},
    KeepsItsUsers: {"check_pickle_holds_no_users"},
    KeepsOneByteOfEachUser: {"check_pickle_holds_no_users"},
    CountsStoredZeros: {"check_input_types_agree"},
    AlwaysGivesFloat64: {"check_precision_follows_X"},
    CentresOverTheUsersOfABatch: {"check_score_is_independent_of_the_batch"},
    GoesOnFromTheLastFit: {"check_clone_and_refit_agree"},
    DrawsFromTheGlobalGenerator: {"check_global_generator_is_untouched"},
    SeedsTheGlobalGenerator: {"check_global_generator_is_untouched"},
    SortsXInPlace: {"check_X_is_unchanged"},
    BinarizesXInPlace: {"check_X_is_unchanged"},
    DividesByTheLengthOfTheRow: {UNKNOWN},
    FailsOnOneUser: {"check_one_user"},
    AcceptsNegativeValues: {"check_bad_input_is_refused"},
    AcceptsAnyCatalogue: {"check_bad_input_is_refused"},
    ScoresItselfOtherwise: {SCORE, "check_pipeline"},
    NeedsAHundredUsers: {"check_checkerboard", "check_cross_validate", "check_grid_search"},
    DependsOnTheProcess: {"check_grid_search"},
    IsSimilarToItself: {"check_similar_items"},
    ScoresByItsParameter: {"check_set_params_after_fit_changes_no_score"},
    ExplainsHalfOfTheScore: {"check_explain"},
}  # fmt: skip
if SUPPORTS_CALLBACKS:
    BROKEN[ReportsNoProgress] = {"check_set_callbacks"}


def names(checks):
    return {check.__name__ for check in checks}


def failed_checks(estimator):
    failed = set()
    for check in recommender_checks(estimator):
        try:
            check(estimator)
        except Exception:
            failed.add(check.__name__)
    return failed


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_recommender_fails_the_checks_of_what_it_breaks_and_no_others(broken):
    assert failed_checks(broken()) == BROKEN[broken]


def test_every_check_is_failed_by_some_broken_recommender():
    every = names(recommender_checks(WithSimilarItems())) | names(recommender_checks(EASE()))
    assert set.union(*BROKEN.values()) == every


@pytest.mark.parametrize("broken", [LearnsNothing, KeepsItsUsers])
def test_all_checks_at_once_fail_too(broken):
    with pytest.raises(AssertionError):
        check_recommender(broken())


def test_checks_of_scikit_learn_are_among_all_checks():
    assert failed_checks(ChangesItsParameters()) == set()
    with pytest.raises(AssertionError, match="should not change or mutate"):
        check_recommender(ChangesItsParameters())


# Which checks apply


def test_a_baseline_need_not_be_personal():
    assert "check_checkerboard" not in names(recommender_checks(PopularityRecommender()))
    assert "check_beats_a_random_ranking" in names(recommender_checks(PopularityRecommender()))


def test_a_random_ranking_need_not_beat_a_random_ranking():
    found = names(recommender_checks(RandomRecommender()))
    assert not found & {"check_checkerboard", "check_beats_a_random_ranking"}


def test_only_what_has_similar_items_is_checked_for_them():
    assert "check_similar_items" in names(recommender_checks(EASE()))
    assert "check_similar_items" not in names(recommender_checks(ItemCosine()))


def test_only_what_takes_callbacks_is_checked_for_them():
    assert ("check_set_callbacks" in names(recommender_checks(EASE()))) == SUPPORTS_CALLBACKS
    assert "check_set_callbacks" not in names(recommender_checks(ItemCosine()))


def test_listing_the_checks_fits_nothing():
    class CannotBeFitted(WithSimilarItems):
        def fit(self, X, y=None):
            raise RuntimeError("listing the checks has fitted the estimator")

    assert "check_similar_items" in names(recommender_checks(CannotBeFitted()))


def test_only_what_explains_is_checked_for_it():
    assert "check_explain" in names(recommender_checks(EASE()))
    assert "check_explain" not in names(recommender_checks(ItemCosine()))


def test_changed_parameters_are_valid_and_others():
    model = LFM(2, random_state=0)
    before = model.get_params()
    change_parameters(model)
    after = model.get_params()
    assert all(repr(after[name]) != repr(before[name]) for name in before)
    model._validate_params()


def test_planted_groups_are_ones_or_ratings():
    ones = planted_groups(RecommenderTags())
    values = planted_groups(RecommenderTags(learns_from_values=True))
    assert set(ones.data) == {1}
    assert {1, 5} <= set(values.data) <= {1, 2, 3, 4, 5}
    assert ((ones != 0) != (values != 0)).nnz == 0
    # A user of group g has far more of the items j with j % 3 == g.
    dense = ones.toarray()
    own = np.arange(120)[:, None] % 3 == np.arange(30) % 3
    assert dense[own].mean() > 2.5 * dense[~own].mean()
    assert dense[:, 20:].mean() > 2 * dense[:, :10].mean()


def test_no_check_warns_for_a_sound_recommender():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for check in recommender_checks(ItemCosine()):
            check(ItemCosine())


def test_a_fitted_model_is_shared_until_a_parameter_is_set():
    estimator = EASE(lambda_=1)
    first, _ = fitted_once(estimator)
    assert fitted_once(estimator)[0] is first
    again, _ = fitted_once(estimator.set_params(lambda_=100))
    assert again is not first
    assert again.lambda_ == 100
    assert fitted_once(EASE(lambda_=100))[0] is not again
