"""Data, models and helpers for the checks of recommenders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, clone

from .._sklearn import Options, generate_valid_param, make_constraint
from ..base import RecommenderTags


def planted_groups(tags: RecommenderTags, n_users: int = 120, n_items: int = 30) -> sp.csr_array:
    """Return interactions of three groups of users, each with its own items, some more popular.

    Values are 1 or, for a model that learns from values, ratings from 1 to 5: high for the items of
    the user's group, low for others, and lowest for the least popular items. Popular items have
    high indices, so that constant scores, which rank items by index, are not better than chance.
    """
    rng = np.random.default_rng(0)
    item = np.arange(n_items)
    own = np.arange(n_users)[:, None] % 3 == item % 3
    chance = np.where(own, 0.9, 0.25) * np.linspace(0.1, 1, n_items)
    X = (rng.random((n_users, n_items)) < chance).astype(np.float64)
    if tags.learns_from_values:
        X *= np.clip(np.where(own, 5, 2) - 2 * (item < 0.3 * n_items), 1, 5)
    return sp.csr_array(X)


class ByChance:
    """Random scores."""

    def decision_function(self, X: sp.csr_array) -> np.ndarray:
        return np.random.default_rng(0).random(X.shape)


class CountTasks:
    """A callback that counts the tasks of a fit."""

    def __init__(self) -> None:
        self.n_begun = self.n_ended = 0
        self.is_torn_down = False

    def setup(self, estimator: BaseEstimator, context: Any) -> None:
        pass

    def on_fit_task_begin(self, estimator: BaseEstimator, context: Any) -> None:
        self.n_begun += 1

    def on_fit_task_end(self, estimator: BaseEstimator, context: Any) -> None:
        self.n_ended += 1

    def teardown(self, estimator: BaseEstimator, context: Any) -> None:
        self.is_torn_down = True


def tags_of(estimator: BaseEstimator) -> RecommenderTags:
    return estimator.__sklearn_tags__().recommender_tags


def seeded(estimator: BaseEstimator) -> BaseEstimator:
    """Return an unfitted copy with a fixed seed."""
    copy = clone(estimator)
    if "random_state" in copy.get_params():
        copy.set_params(random_state=0)
    return copy


def fitted(estimator: BaseEstimator) -> tuple[Any, sp.csr_array]:
    """Return a model and what it was fitted on."""
    X = planted_groups(tags_of(estimator))
    return seeded(estimator).fit(X), X


def kept_for_the_last(function: Callable) -> Callable:
    """Decorate a function of an estimator: called again for the same one, it has the same result.

    Most checks of an estimator begin with a model fitted on the same X. Those that change neither
    share one, and only the last one is kept, until a parameter of the estimator is set.
    """
    last: tuple[Any, dict, Any] = (None, {}, None)

    @wraps(function)
    def kept(estimator: BaseEstimator) -> Any:
        nonlocal last
        params = estimator.get_params()
        is_last = last[0] is estimator and params.keys() == last[1].keys()
        if not is_last or any(last[1][name] is not value for name, value in params.items()):
            last = estimator, params, function(estimator)
        return last[2]

    return kept


fitted_once = kept_for_the_last(fitted)


def with_reversed_rows(X: sp.csr_array) -> sp.csr_array:
    """Return the same matrix with the indices of each row in descending order."""
    row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    order = np.lexsort((-X.indices, row))
    return sp.csr_array((X.data[order], X.indices[order], X.indptr.copy()), shape=X.shape)


def by_popularity(X: np.ndarray) -> np.ndarray:
    """Return all items of dense interactions, the most popular first, ties to the lower index."""
    return np.argsort(-X.sum(axis=0), kind="stable")


def assert_raises(error: type[Exception], function: Callable, argument: Any) -> None:
    try:
        function(argument)
    except error:
        return
    raise AssertionError(f"{function} must raise {error.__name__} for {argument!r}")


def change_parameters(estimator: BaseEstimator) -> None:
    """Set each parameter to another value that its constraints allow, if one is found."""
    constraints = getattr(estimator, "_parameter_constraints", {})
    for name, value in estimator.get_params(deep=False).items():
        given = constraints.get(name, "no_validation")
        given = [] if given == "no_validation" else given
        allowed = [make_constraint(constraint) for constraint in given]
        for other in _other_values(name, value, allowed):
            valid = not allowed or any(constraint.is_satisfied_by(other) for constraint in allowed)
            if valid and repr(other) != repr(value):
                estimator.set_params(**{name: other})
                break


def _other_values(name: str, value: Any, allowed: list) -> Iterator[Any]:
    if name == "device":
        yield from ("cpu", "auto")
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (2 * value, value + 1, value / 2)
    for constraint in allowed:
        if isinstance(constraint, Options):
            yield from constraint.options
        else:
            with suppress(TypeError):  # a type without a default instance
                yield generate_valid_param(constraint)
