"""Checks of recommenders that read the content of items."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import cache, wraps
from inspect import signature
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.utils import check_array

from ..metrics import RankingScorer
from ..model_selection import StrongGeneralizationSplit
from ..pipeline import ItemFeatures
from ._check_data import (
    assert_raises,
    fitted_once,
    kept_for_the_last,
    planted_groups,
    seeded,
    tags_of,
)

# Kinds of items of the planted features, each with two words of its own. They agree with the groups
# of planted_groups, of which there are three, and the colours of the checkerboard.
N_KINDS = 6
N_WORDS = 2 * N_KINDS
WITHOUT_FEATURES = 7


def content_checks() -> Iterator[Callable[[BaseEstimator], None]]:
    """Yield the checks of this module, for an estimator with item features."""
    yield check_no_new_items_change_nothing
    yield check_original_is_unchanged_by_new_items
    yield check_new_items_are_ranked
    yield check_new_items_pickle
    yield check_searches_pass_item_features_whole
    yield check_item_features_are_unchanged
    yield check_types_of_item_features_agree
    yield check_bad_item_features_are_refused
    yield check_new_items_need_item_features


def planted_features(n_items: int, described: np.ndarray | None = None) -> sp.csr_array:
    """Return counts of words, of which each kind of items has its own; the first rows are the same.

    Items that are not `described` have no words; by default item 7 has none.
    """
    rng = np.random.default_rng(0)
    item = np.arange(n_items)
    own = np.arange(N_WORDS) // 2 == item[:, None] % N_KINDS
    counts = own * (1.0 + rng.poisson(9.0, size=(n_items, N_WORDS)))
    counts[item == WITHOUT_FEATURES if described is None else ~described] = 0
    return sp.csr_array(counts)


def takes_item_features(estimator: BaseEstimator) -> bool:
    """Return whether ``fit`` has a parameter ``item_features``."""
    fit = getattr(estimator, "fit", None)
    return fit is not None and "item_features" in signature(fit).parameters


def with_item_features(
    check: Callable[[BaseEstimator], None],
) -> Callable[[BaseEstimator], None]:
    """Return a check that runs another one on the estimator with planted features of the items."""

    @wraps(check)
    def check_with_features(estimator: BaseEstimator) -> None:
        check(reading_content(estimator))

    check_with_features.__name__ += "_with_item_features"
    return check_with_features


@kept_for_the_last
def reading_content(estimator: BaseEstimator) -> BaseEstimator:
    """Return an unfitted copy whose ``fit(X)`` reads planted features of the items with users."""
    params = seeded(estimator).get_params(deep=False)
    return _reading_content(type(estimator))(**params)  # type: ignore[arg-type]


@cache
def _reading_content(model: Any) -> Any:
    class ReadingContent(model):
        __doc__ = model.__doc__

        def fit(self, X: Any, y: Any = None) -> Any:
            return super().fit(X, y, item_features=_features_of_known_items(X))

        if hasattr(model(), "partial_fit"):

            def partial_fit(self, X: Any, y: Any = None) -> Any:
                return super().partial_fit(X, y, item_features=_features_of_known_items(X))

        def __reduce_ex__(self, protocol: Any) -> Any:
            return _blank, (model,), self.__getstate__()

    ReadingContent.__name__ = f"{model.__name__}ReadingContent"
    return ReadingContent


def _features_of_known_items(X: Any) -> ItemFeatures | None:
    """Return features of the items with users: nothing is known of the others in the checks."""
    try:
        X = check_array(X, accept_sparse="csr", ensure_all_finite=False, copy=True)
    except (TypeError, ValueError):  # which is what fit must find
        return None
    known = np.asarray(abs(X).sum(axis=0)).ravel() != 0
    return ItemFeatures(planted_features(X.shape[1], known))


def _blank(model: Any) -> Any:
    subclass = _reading_content(model)
    return subclass.__new__(subclass)


@kept_for_the_last
def _fitted_on_old_items(estimator: BaseEstimator) -> tuple[Any, sp.csr_array]:
    X = planted_groups(tags_of(estimator))
    F = planted_features(X.shape[1])
    return seeded(estimator).fit(X, item_features=F), X


def _fitted_on_content(
    estimator: BaseEstimator, n_new: int = 0
) -> tuple[Any, sp.csr_array, sp.csr_array]:
    """Return a model, interactions of all items, and features of the old and `n_new` new items."""
    model, X = _fitted_on_old_items(estimator)
    F = planted_features(X.shape[1] + n_new)
    wide = sp.csr_array((X.data, X.indices, X.indptr), shape=(X.shape[0], F.shape[0]))
    return model, wide, F


def check_no_new_items_change_nothing(estimator: BaseEstimator) -> None:
    """Check that a copy without new items has the same scores."""
    model, X, F = _fitted_on_content(estimator)
    for none in (F[:0], F[:0].toarray()):
        copy = model.with_items(none)
        assert type(copy) is type(model)
        assert copy.n_features_in_ == model.n_features_in_
        assert_array_equal(copy.decision_function(X), model.decision_function(X))


def check_original_is_unchanged_by_new_items(estimator: BaseEstimator) -> None:
    """Check that neither ``with_items`` nor its result changes the model that it copies."""
    model, X, F = _fitted_on_content(estimator, n_new=4)
    old = X[:, :-4]
    scores = model.decision_function(old)
    params = repr(model.get_params())
    copy = model.with_items(F[-4:])
    copy.predict_ranking(X, k=3)
    assert model.n_features_in_ == old.shape[1]
    assert repr(model.get_params()) == repr(copy.get_params()) == params
    assert_array_equal(model.decision_function(old), scores)
    assert_array_equal(pickle.loads(pickle.dumps(model)).decision_function(old), scores)


def check_new_items_are_ranked(estimator: BaseEstimator) -> None:
    """Check that new items have scores, alone as candidates and among all, one by one or together.

    New items of the kinds that a group of users has are better than others, on average.
    """
    n_new = 2 * N_KINDS
    model, X, F = _fitted_on_content(estimator, n_new=n_new)
    n_old = X.shape[1] - n_new
    copy = model.with_items(F[n_old:])
    assert copy.n_features_in_ == X.shape[1]
    scores = copy.decision_function(X)
    assert scores.shape == X.shape
    assert np.isfinite(scores).all()
    assert scores.dtype == X.dtype
    new = np.arange(n_old, X.shape[1])
    ranking = copy.predict_ranking(X, k=n_new + 1, items=new)
    assert_array_equal(np.sort(ranking[:, :-1]), np.tile(new, (X.shape[0], 1)))
    assert_array_equal(ranking[:, -1], -1)
    everything = copy.predict_ranking(X, k=X.shape[1], exclude_seen=False)
    assert_array_equal(np.sort(everything), np.tile(np.arange(X.shape[1]), (X.shape[0], 1)))
    # A user with new items, and one with nothing else.
    of_new = sp.csr_array(np.vstack([np.ones(X.shape[1]), np.arange(X.shape[1]) >= n_old]) * 1.0)
    assert np.isfinite(copy.decision_function(of_new)).all()
    in_turn = model.with_items(F[n_old : n_old + 1]).with_items(F[n_old + 1 :])
    size = np.abs(scores).max()
    assert_allclose(in_turn.decision_function(X), scores, rtol=1e-5, atol=1e-5 * size)
    tags = tags_of(estimator)
    if tags.personalized and not tags.poor_score:
        own = np.arange(X.shape[0])[:, None] % 3 == new % 3
        assert scores[:, new][own].mean() > scores[:, new][~own].mean()


def check_new_items_pickle(estimator: BaseEstimator) -> None:
    """Check that a copy with new items has the same scores after it is pickled."""
    model, X, F = _fitted_on_content(estimator, n_new=4)
    for one in (model, model.with_items(F[-4:])):
        wide = X[:, : one.n_features_in_]
        loaded = pickle.loads(pickle.dumps(one))
        assert_array_equal(loaded.decision_function(wide), one.decision_function(wide))
    assert_array_equal(
        pickle.loads(pickle.dumps(model)).with_items(F[-4:]).decision_function(X),
        model.with_items(F[-4:]).decision_function(X),
    )


def check_searches_pass_item_features_whole(estimator: BaseEstimator) -> None:
    """Check that a search with as many users as items fits on all features in ItemFeatures."""
    X = planted_groups(tags_of(estimator))[:30]
    F = ItemFeatures(planted_features(30))
    scorer: Any = RankingScorer("ndcg@10")
    cv = StrongGeneralizationSplit(2, test_size=10, random_state=0)
    search = GridSearchCV(seeded(estimator), {}, scoring=scorer, cv=cv, error_score="raise")
    found = search.fit(X, item_features=F).cv_results_
    expected = [
        scorer(seeded(estimator).fit(X[train], item_features=F), X[test])
        for train, test in cv.split(X)
    ]
    assert_allclose([found["split0_test_score"][0], found["split1_test_score"][0]], expected)
    assert search.best_estimator_.n_item_features_ == F.value.shape[1]


def check_item_features_are_unchanged(estimator: BaseEstimator) -> None:
    """Check that neither ``fit`` nor ``with_items`` changes the features."""
    X = planted_groups(tags_of(estimator))
    for dtype in (np.float64, np.float32):
        F = planted_features(X.shape[1] + 4).astype(dtype)
        for features in (F, F.toarray()):
            before = features.copy()
            model = seeded(estimator).fit(X, item_features=features[: X.shape[1]])
            model.with_items(features[X.shape[1] :])
            changed = features != before
            assert not (changed.nnz if sp.issparse(changed) else changed.any())


def check_types_of_item_features_agree(estimator: BaseEstimator) -> None:
    """Check that dense and all sparse features, DataFrames and integers score the same."""
    model, X, F = _fitted_on_content(estimator, n_new=4)
    n_old = X.shape[1] - 4
    old, new = F[:n_old], F[n_old:]
    scores = model.with_items(new).decision_function(X)
    size = np.abs(scores).max()
    kinds = [
        lambda F: F.toarray(), sp.csr_matrix, sp.csc_array, sp.coo_array,
        lambda F: F.astype(np.int64), lambda F: F.toarray().astype(np.float32),
    ]  # fmt: skip
    for kind in kinds:
        other = seeded(estimator).fit(X[:, :n_old], item_features=kind(old))
        found = other.with_items(kind(new)).decision_function(X)
        assert_allclose(found, scores, rtol=1e-4, atol=1e-4 * size)
    # With X in float32 and features in float64, scores are in float32.
    narrow = seeded(estimator).fit(X[:, :n_old].astype(np.float32), item_features=old)
    found = narrow.with_items(new).decision_function(X.astype(np.float32))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def check_bad_item_features_are_refused(estimator: BaseEstimator) -> None:
    """Check that features with NaN, infinite values or a wrong shape raise a ValueError."""
    model, X, F = _fitted_on_content(estimator)
    dense = F.toarray()

    def fit(features: Any) -> None:
        seeded(estimator).fit(X, item_features=features)

    for function in (fit, model.with_items):
        for value in (np.nan, np.inf):
            bad = dense.copy()
            bad[3, 2] = value
            assert_raises(ValueError, function, bad)
            assert_raises(ValueError, function, sp.csr_array(bad))
        for bad in (dense[0], dense[:, :0], [["a"] * dense.shape[1]] * len(dense), "words"):
            assert_raises(ValueError, function, bad)
    for bad in (dense[:-1], np.vstack([dense, dense]), dense[:0]):
        assert_raises(ValueError, fit, bad)
    for bad in (dense[:, :-1], np.hstack([dense, dense])):
        assert_raises(ValueError, model.with_items, bad)


def check_new_items_need_item_features(estimator: BaseEstimator) -> None:
    """Check that ``with_items`` of a model without features, or unfitted, raises a ValueError."""
    model, X = fitted_once(estimator)
    F = planted_features(X.shape[1])
    assert_raises(ValueError, seeded(estimator).with_items, F)  # a NotFittedError is a ValueError
    assert model.n_item_features_ == 0
    assert_raises(ValueError, model.with_items, F)
