"""The list of estimators."""

import importlib
import inspect
import pkgutil

import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone

import sklrec
from sklrec.base import RecommenderMixin
from sklrec.ensemble import HadamardEnsemble
from sklrec.pipeline import Pipeline
from sklrec.utils import all_estimators

# Made of other estimators, without which they cannot be made; they have tests of their own.
OF_OTHERS = {HadamardEnsemble, Pipeline}


def public_classes():
    """Return every class in the ``__all__`` of every public module, at any depth."""
    found = {}
    for module in pkgutil.walk_packages(sklrec.__path__, "sklrec."):
        if any(part.startswith("_") for part in module.name.split(".")):
            continue
        loaded = importlib.import_module(module.name)
        for name in getattr(loaded, "__all__", ()):
            value = getattr(loaded, name)
            if inspect.isclass(value):
                found[name] = value
    return found


def test_every_public_estimator_is_listed():
    expected = {
        name: value
        for name, value in public_classes().items()
        if issubclass(value, BaseEstimator)
        and not name.startswith("Base")
        and value not in OF_OTHERS
    }
    assert dict(all_estimators()) == expected
    assert {"EASE", "PopularityRecommender", "RandomRecommender"} <= set(expected)


def test_no_estimator_hides_from_the_public_names():
    # One that is neither public nor a base would escape the common tests.
    listed = {estimator for _, estimator in all_estimators()}
    pending, seen = [RecommenderMixin, TransformerMixin], set()
    while pending:
        for subclass in pending.pop().__subclasses__():
            if subclass not in seen:
                seen.add(subclass)
                pending.append(subclass)
    ours = {
        c
        for c in seen
        if c.__module__.startswith("sklrec.")
        and issubclass(c, BaseEstimator)
        and not c.__name__.startswith(("Base", "_"))
        and "<locals>" not in c.__qualname__  # made by checks
    }
    assert ours <= listed | OF_OTHERS


def test_estimators_are_sorted_by_name_and_listed_once():
    names = [name for name, _ in all_estimators()]
    assert names == sorted(set(names))
    assert all(estimator.__name__ == name for name, estimator in all_estimators())


def test_every_estimator_can_be_made_without_arguments():
    for _, estimator in all_estimators():
        clone(estimator())


def test_recommenders_and_transformers_together_are_all():
    recommenders, transformers = all_estimators("recommender"), all_estimators("transformer")
    assert sorted(recommenders + transformers) == all_estimators()
    assert all(issubclass(estimator, RecommenderMixin) for _, estimator in recommenders)
    assert all(hasattr(estimator, "transform") for _, estimator in transformers)
    assert not any(issubclass(estimator, RecommenderMixin) for _, estimator in transformers)


@pytest.mark.parametrize("kind", ["classifier", "", 1, ["recommender"]])
def test_another_kind_is_refused(kind):
    with pytest.raises(ValueError, match="kind must be 'recommender', 'transformer' or None, got"):
        all_estimators(kind)
