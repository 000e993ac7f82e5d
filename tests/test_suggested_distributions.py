"""Ranges to search in, which are those of the docstrings and of the benchmark."""

import inspect
import re

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import HalvingRandomSearchCV, ParameterSampler, RandomizedSearchCV
from sklearn.pipeline import Pipeline as PlainPipeline
from sklearn.preprocessing import Binarizer

from sklrec.dummy import PopularityRecommender
from sklrec.ensemble import HadamardEnsemble
from sklrec.linear import EASE
from sklrec.metrics import RankingScorer
from sklrec.model_selection import StrongGeneralizationSplit, suggested_distributions
from sklrec.pipeline import make_pipeline
from sklrec.preprocessing import BM25Transformer
from sklrec.utils import all_estimators

ESTIMATORS = dict(all_estimators())
NUMBER = r"([\d.,]*\d(?:e-\d)?)"
RANGE = rf"(?:typical range: {NUMBER} to|worth a search between {NUMBER} and) {NUMBER}(.{{30}})"


def ranges_of_docstring(cls):
    """Return the ends of the range named for each parameter, and what follows in its sentence."""
    section = (
        inspect.cleandoc(cls.__doc__).partition("\nAttributes\n")[0].partition("Parameters\n")[2]
    )
    found = {}
    for name, text in re.findall(r"(?m)^(\w+) : .*\n((?:    .*\n|\n)*)", section):
        match = re.search(RANGE, " ".join(text.split()) + " " * 30, re.IGNORECASE)
        if match:
            low, high = (float(end.replace(",", "")) for end in match.groups()[:-1] if end)
            found[name] = (low, high, match[4])
    return found


def ends(distribution):
    """Return the least and the largest value that can be drawn."""
    if isinstance(distribution, list):
        return min(distribution), max(distribution)
    return distribution.support()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_ranges_are_those_of_the_docstring(name):
    distributions = suggested_distributions(ESTIMATORS[name]())
    documented = ranges_of_docstring(ESTIMATORS[name])
    if name == "NeuralEASE":  # for two kinds of loss, tested below
        del distributions["lambda_"]
        documented.pop("lambda_", None)
    assert {key: ends(value) for key, value in distributions.items()} == {
        key: (pytest.approx(low), pytest.approx(high)) for key, (low, high, _) in documented.items()
    }
    for key, (_, _, rest) in documented.items():
        if rest.lstrip(", ").startswith("on a logarithmic scale"):
            assert distributions[key].dist.name == "loguniform"


def test_docstrings_are_read():
    ranges = ranges_of_docstring(EASE)
    assert ranges["lambda_"][:2] == (10, 10_000)
    assert ranges["dropout"][:2] == (0.1, 0.6)


def test_the_penalty_of_neural_ease_depends_on_the_loss():
    neural = pytest.importorskip("sklrec.neural")
    for loss, expected in (("mse", (10, 10_000)), ("cosine", (0.05, 10)), ("focal", (0.05, 10))):
        found = suggested_distributions(neural.NeuralEASE(loss))["lambda_"]
        assert found.support() == pytest.approx(expected)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_is_drawn_are_parameters_within_their_constraints(name):
    estimator = ESTIMATORS[name]()
    distributions = suggested_distributions(estimator)
    for params in ParameterSampler(distributions, 20, random_state=0) if distributions else ():
        clone(estimator).set_params(**params)._validate_params()


def test_names_of_steps_and_members_come_before_those_of_parameters():
    ensemble = HadamardEnsemble([("a", EASE()), ("b", make_pipeline(BM25Transformer(), EASE()))])
    model = make_pipeline(Binarizer(), ensemble)
    inner = "hadamardensemble__"
    found = suggested_distributions(model)
    assert set(found) == {
        f"{inner}a__lambda_",
        f"{inner}a__dropout",
        f"{inner}b__bm25transformer__k1",
        f"{inner}b__bm25transformer__b",
        f"{inner}b__ease__lambda_",
        f"{inner}b__ease__dropout",
    }
    for params in ParameterSampler(found, 3, random_state=0):
        assert clone(model).set_params(**params).get_params()[f"{inner}a__lambda_"] >= 10


@pytest.mark.parametrize(
    "estimator",
    [
        PopularityRecommender(),
        FrozenEstimator(EASE()),
        PlainPipeline([("nothing", "passthrough"), ("popularity", PopularityRecommender())]),
        HadamardEnsemble([("frozen", FrozenEstimator(EASE())), ("dropped", "drop")]),
    ],
)
def test_nothing_is_suggested_where_nothing_is_to_be_searched(estimator):
    assert suggested_distributions(estimator) == {}


@pytest.mark.parametrize("wrong", [EASE, None, "EASE", {"lambda_": 1}])
def test_what_is_no_estimator_is_an_error(wrong):
    with pytest.raises(TypeError, match="suggested_distributions needs an estimator, got"):
        suggested_distributions(wrong)


def test_a_class_may_have_its_own_and_a_changed_result_changes_nothing():
    class Mine(EASE):
        _suggested_distributions = {"lambda_": loguniform(1, 2)}

    suggested_distributions(Mine()).clear()
    assert set(suggested_distributions(Mine())) == {"lambda_"}


@pytest.mark.parametrize("Search", [RandomizedSearchCV, HalvingRandomSearchCV])
def test_random_searches_draw_from_them(Search, X):
    model = make_pipeline(BM25Transformer(), EASE())
    options = (
        {"n_iter": 4}
        if Search is RandomizedSearchCV
        else {"n_candidates": 4, "min_resources": 20, "factor": 2}
    )
    search = Search(
        model,
        suggested_distributions(model),
        scoring=RankingScorer("ndcg@5"),
        cv=StrongGeneralizationSplit(2, random_state=0),
        random_state=0,
        error_score="raise",
        **options,
    ).fit(X)
    drawn = search.cv_results_["param_ease__lambda_"].astype(float)
    assert len(set(drawn)) == 4
    assert ((drawn >= 10) & (drawn <= 10_000)).all()
    assert np.isfinite(search.best_score_)


def optuna_value(trial, name, distribution):
    """Draw as the user guide shows."""
    if isinstance(distribution, list):
        return trial.suggest_categorical(name, distribution)
    low, high = distribution.support()
    if distribution.dist.name == "randint":
        return trial.suggest_int(name, int(low), int(high))
    return trial.suggest_float(name, low, high, log=distribution.dist.name == "loguniform")


def test_optuna_draws_from_the_same_ranges():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    drawn = []
    for name in ("ELSA", "RecVAE", "EASE"):
        if name in ESTIMATORS:
            distributions = suggested_distributions(ESTIMATORS[name]())
            trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
            params = {key: optuna_value(trial, key, d) for key, d in distributions.items()}
            ESTIMATORS[name](**params)._validate_params()
            drawn.append(params)
    assert 10 <= drawn[-1]["lambda_"] <= 10_000
