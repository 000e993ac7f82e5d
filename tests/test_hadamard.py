"""The product of calibrated scores."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import Binarizer
from sklearn.utils import Bunch

from sklrec.base import BaseRecommender
from sklrec.datasets import make_interactions
from sklrec.dummy import PopularityRecommender
from sklrec.ensemble import HadamardEnsemble
from sklrec.ensemble._hadamard import _platt
from sklrec.factorization import LFM
from sklrec.linear import EASE
from sklrec.metrics import RankingScorer
from sklrec.model_selection import StrongGeneralizationSplit
from sklrec.pipeline import Pipeline
from sklrec.utils.estimator_checks import parametrize_with_checks


class Affine(BaseRecommender):
    """The scores of EASE, multiplied and shifted."""

    def __init__(self, factor=1.0, shift=0.0):
        self.factor = factor
        self.shift = shift

    def fit(self, X, y=None):
        X = self._check_X(X, reset=True)
        self.ease_ = EASE(lambda_=10).fit(X)
        return self

    def decision_function(self, X):
        X = self._check_X(X, reset=False)
        return self.factor * self.ease_.decision_function(X) + self.shift


def two_members():
    return [("popularity", PopularityRecommender()), ("ease", EASE(lambda_=10))]


REGIMES = [
    HadamardEnsemble(two_members()),
    HadamardEnsemble([("lfm", LFM()), ("ease", EASE(lambda_=10))]),
    HadamardEnsemble(
        [("inner", HadamardEnsemble(two_members(), random_state=0)), ("ease", EASE(dropout=0.3))]
    ),
]


@parametrize_with_checks(REGIMES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore:All .* stored values of X are:UserWarning")  # of one label
def test_recommender(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def X():
    return make_interactions(300, 50, random_state=0).data.astype(np.float64)


def test_scores_are_the_logarithm_of_the_product_of_probabilities(X):
    model = HadamardEnsemble(two_members(), random_state=0).fit(X)
    product = np.ones(X.shape)
    for member, a, b in zip(model.estimators_, model.slopes_, model.intercepts_, strict=True):
        product *= expit(a * member.decision_function(X) + b)
    assert (model.slopes_ > 0).all()
    assert_allclose(np.exp(model.decision_function(X)), product, rtol=1e-10)


def test_probabilities_of_a_member_tell_how_many_hidden_items_there_are():
    X = make_interactions(3000, 80, random_state=0).data
    model = HadamardEnsemble([("ease", EASE())], validation_fraction=0.4, random_state=0)
    model.fit(X[:2500])
    fold_in, held_out = RankingScorer(random_state=1).hide(X[2500:])
    unseen = fold_in.toarray() == 0
    probabilities = np.exp(model.decision_function(fold_in))[unseen]
    assert_allclose(probabilities.sum(), held_out.nnz, rtol=0.05)
    # Not in all alone, but among the likely and the unlikely too.
    hits = held_out.toarray()[unseen] > 0
    likely = probabilities > np.quantile(probabilities, 0.9)
    assert_allclose(probabilities[likely].sum(), hits[likely].sum(), rtol=0.25)


def test_calibration_is_the_logistic_regression_on_all_entries():
    """The drawn items stand for all others: the maps differ by the noise of the draw alone."""
    X = make_interactions(500, 80, random_state=0).data
    ease = EASE().fit(X[:300])
    model = HadamardEnsemble([("ease", FrozenEstimator(ease))], random_state=0).fit(X[300:])
    fold_in, held_out = RankingScorer(random_state=1).hide(X[300:])
    unseen = fold_in.toarray() == 0
    scores = ease.decision_function(fold_in)[unseen].astype(float)[:, None]
    whole = LogisticRegression(C=1e6).fit(scores / scores.std(), held_out.toarray()[unseen] > 0)
    assert_allclose(model.slopes_[0] * scores.std(), whole.coef_[0, 0], rtol=0.1)
    assert_allclose(model.intercepts_[0], whole.intercept_[0], rtol=0.1)


def test_members_that_processes_fit_are_those_of_one_process(X):
    model = HadamardEnsemble(two_members(), validation_fraction=0.3, random_state=0).fit(X)
    found = clone(model).set_params(n_jobs=2).fit(X)
    assert_array_equal(found.decision_function(X), model.decision_function(X))


def test_one_member_ranks_as_it_does_alone(X):
    model = HadamardEnsemble([("ease", EASE())], random_state=0).fit(X)
    alone = model.estimators_[0].predict_ranking(X, k=20)
    assert_array_equal(model.predict_ranking(X, k=20), alone)


def test_units_of_a_member_do_not_matter(X):
    def scores(factor, shift):
        members = [("popularity", PopularityRecommender()), ("affine", Affine(factor, shift))]
        return HadamardEnsemble(members, random_state=0).fit(X).decision_function(X)

    assert_allclose(scores(1000.0, -70.0), scores(1.0, 0.0), rtol=1e-4)


@pytest.mark.parametrize("factor", [0.0, -1.0], ids=["constant", "reversed"])
def test_member_whose_scores_tell_nothing_has_no_say(X, factor):
    members = [("bad", Affine(factor)), ("popularity", PopularityRecommender())]
    model = HadamardEnsemble(members, random_state=0).fit(X)
    assert model.slopes_[0] == 0 < model.slopes_[1]
    alone = model.named_estimators_.popularity.predict_ranking(X, k=20)
    assert_array_equal(model.predict_ranking(X, k=20), alone)


@pytest.mark.parametrize("n_items", [1e2, 1e5, 1e7])
def test_calibration_converges_however_many_items_there_are(n_items):
    """Few entries are hidden, and the scores of a sparse linear model are mostly zero."""
    rng = np.random.default_rng(0)
    hidden, others = rng.exponential(1, 200), rng.exponential(0.2, 2000)
    others[200:] = rng.normal(scale=1e-3, size=1800)
    scores, is_hidden = np.append(hidden, others), np.repeat([True, False], [200, 2000])
    weight = np.where(is_hidden, 1.0, n_items / 10)
    slope, intercept = _platt(scores, Bunch(is_hidden=is_hidden, weight=weight))
    z = (scores - scores.mean()) / scores.std()

    def loss(theta):
        logits = theta[0] * z + theta[1]
        return weight @ (np.logaddexp(0, logits) - is_hidden * logits) + theta[0] ** 2 / 2

    exact = minimize(loss, [1.0, -np.log(n_items)], method="Nelder-Mead", tol=1e-9).x
    assert_allclose(slope * scores.std(), exact[0], rtol=1e-3)
    assert_allclose(intercept + slope * scores.mean(), exact[1], rtol=1e-3)


def test_scores_far_from_the_calibrated_are_finite(X):
    model = HadamardEnsemble([("affine", Affine())], random_state=0).fit(X)
    model.estimators_[0].shift = -1e6
    assert np.isfinite(model.decision_function(X)).all()


def test_members_do_not_see_the_calibration_users(X):
    members = [("ease", EASE())]
    model = HadamardEnsemble(members, validation_fraction=0.2, random_state=0).fit(X)
    assert model.named_estimators_.ease.n_samples_seen_ == 243  # 300 less a fifth of 283
    assert not hasattr(members[0][1], "coef_")  # a clone was fitted


def test_frozen_members_are_taken_as_they_are_and_all_users_calibrate(X):
    members = [(name, member.fit(X[:200])) for name, member in two_members()]
    frozen = [(name, FrozenEstimator(member)) for name, member in members]
    model = HadamardEnsemble(frozen, random_state=0).fit(X[200:])
    coef = members[1][1].coef_
    assert model.named_estimators_.ease.coef_ is coef
    assert clone(model).fit(X[200:]).named_estimators_.ease.coef_ is coef
    one_user = HadamardEnsemble(frozen, random_state=0).fit(X[200:201])  # none is held out
    assert np.isfinite(one_user.decision_function(X)).all()


def test_frozen_member_that_is_not_fitted_is_an_error(X):
    with pytest.raises(NotFittedError):
        HadamardEnsemble([("ease", FrozenEstimator(EASE()))]).fit(X)


def test_frozen_and_other_members_together(X):
    members = [("frozen", FrozenEstimator(EASE().fit(X[:100]))), ("ease", EASE())]
    model = HadamardEnsemble(members, random_state=0).fit(X)
    assert [member.n_samples_seen_ for member in model.estimators_] == [
        100,
        271,
    ]  # 300 less a tenth of 283


def test_members_are_set_and_read_by_name():
    model = HadamardEnsemble(two_members()).set_params(ease__lambda_=7, popularity=EASE())
    assert model.get_params()["ease__lambda_"] == 7
    assert isinstance(model.estimators[0][1], EASE)


def test_search_through_a_pipeline_reaches_the_members(X):
    pipeline = Pipeline(
        [("binarize", Binarizer()), ("ensemble", HadamardEnsemble(two_members(), random_state=0))]
    )
    search = GridSearchCV(
        pipeline,
        {"ensemble__ease__lambda_": [1, 100]},
        scoring=RankingScorer("ndcg@10"),
        cv=StrongGeneralizationSplit(2, random_state=0),
        error_score="raise",
    ).fit(X)
    fitted = search.best_estimator_["ensemble"].named_estimators_.ease
    assert fitted.lambda_ == search.best_params_["ensemble__ease__lambda_"]
    assert len(set(search.cv_results_["mean_test_score"])) == 2
    assert search.best_estimator_.predict_ranking(X[:3], k=4).shape == (3, 4)


def test_dropped_members_leave_the_ensemble_as_if_they_were_not_there(X):
    members = two_members()
    model = HadamardEnsemble([("gone", "drop"), *members], random_state=0).fit(X)
    expected = HadamardEnsemble(members, random_state=0).fit(X).decision_function(X)
    assert_array_equal(model.decision_function(X), expected)
    assert len(model.estimators_) == len(model.slopes_) == 2
    assert model.named_estimators_.gone == "drop"
    assert model.named_estimators_.ease is model.estimators_[1]
    frozen = [("ease", FrozenEstimator(EASE().fit(X))), ("gone", "drop")]
    assert len(HadamardEnsemble(frozen, random_state=0).fit(X[:1]).estimators_) == 1


def test_a_search_drops_members(X):
    search = GridSearchCV(
        HadamardEnsemble(two_members(), random_state=0),
        [{"popularity": ["drop", PopularityRecommender()]}, {"ease": ["drop", EASE(lambda_=10)]}],
        scoring=RankingScorer("ndcg@10"),
        cv=StrongGeneralizationSplit(2, random_state=0),
        error_score="raise",
    ).fit(X)
    scores = search.cv_results_["mean_test_score"]
    both, ease, popularity = scores[1], scores[0], scores[2]
    assert popularity < ease
    assert both not in (ease, popularity)
    model = clone(search.estimator).set_params(ease="drop").fit(X)
    (alone,) = model.estimators_
    assert isinstance(alone, PopularityRecommender)
    assert_array_equal(model.predict_ranking(X, k=5), alone.predict_ranking(X, k=5))


def test_all_members_dropped_are_an_error(X):
    with pytest.raises(ValueError, match="at least one recommender that is not dropped, got"):
        HadamardEnsemble([("a", "drop"), ("b", "drop")]).fit(X)


def test_members_that_know_complementary_halves_are_better_together():
    X = make_interactions(1000, 60, random_state=0).data

    class Half(BaseRecommender):
        """Knows of the items of one parity alone what EASE knows."""

        def __init__(self, parity=0):
            self.parity = parity

        def fit(self, X, y=None):
            X = self._check_X(X, reset=True)
            self.coef_ = EASE(lambda_=50).fit(X).coef_ * (np.arange(60) % 2 == self.parity)[:, None]
            return self

        def decision_function(self, X):
            return self._check_X(X, reset=False) @ self.coef_

    model = HadamardEnsemble([("even", Half(0)), ("odd", Half(1))], random_state=0).fit(X[:800])
    together = model.score(X[800:])
    assert all(together > member.score(X[800:]) + 0.01 for member in model.estimators_)


def test_members_may_be_neural(X):
    pytest.importorskip("torch")
    from sklrec.neural import MultVAE

    vae = MultVAE(8, hidden_layer_sizes=(), max_epochs=2, random_state=0)
    model = HadamardEnsemble([("vae", vae), ("ease", EASE())], random_state=0).fit(X)
    assert np.isfinite(model.decision_function(X)).all()


@pytest.mark.parametrize(
    "estimators",
    [None, [], (("ease", EASE()),), [EASE()], [("ease",)], "ease"],
    ids=["None", "empty", "tuple", "no name", "no member", "string"],
)
def test_estimators_must_be_a_list_of_names_and_recommenders(X, estimators):
    with pytest.raises(ValueError, match="estimators"):
        HadamardEnsemble(estimators).fit(X)


def test_member_that_is_no_recommender_is_named(X):
    with pytest.raises(ValueError, match=r"but 'binarize' is Binarizer\(\)"):
        HadamardEnsemble([("ease", EASE()), ("binarize", Binarizer())]).fit(X)


@pytest.mark.parametrize("name", ["ease", "n_jobs", "a__b"])
def test_names_must_be_unique_and_no_parameters(X, name):
    with pytest.raises(ValueError, match=r"[Nn]ames"):
        HadamardEnsemble([("ease", EASE()), (name, EASE())]).fit(X)


@pytest.mark.parametrize("validation_fraction", [0, 1.0, -0.1, None, "0.1"])
def test_validation_fraction_must_be_between_0_and_1(X, validation_fraction):
    with pytest.raises(ValueError, match="validation_fraction"):
        HadamardEnsemble(two_members(), validation_fraction=validation_fraction).fit(X)


def test_too_few_users_with_something_to_hide_are_an_error(X):
    X = np.eye(20)
    with pytest.raises(
        ValueError, match=r"validation_fraction=0\.1 asks for 1 held-out users, but only 0"
    ):
        HadamardEnsemble(two_members()).fit(X)
    frozen = [("popularity", FrozenEstimator(PopularityRecommender().fit(X)))]
    with pytest.raises(ValueError, match="n_samples=20, n_features=20 has none"):
        HadamardEnsemble(frozen).fit(X)


def test_calibration_takes_its_share_of_the_users_with_something_to_hide():
    X = np.zeros((100, 5))
    X[:, 0] = 1
    X[::5, 1:] = np.tri(20, 4, 1)
    model = HadamardEnsemble([("ease", EASE())], validation_fraction=0.2, random_state=0).fit(X)
    assert model.named_estimators_.ease.n_samples_seen_ == 96  # of 20, not of 100, a fifth
