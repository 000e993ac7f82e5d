"""Checks of recommenders, for the estimators of this package and of others.

:func:`parametrize_with_checks` runs scikit-learn's checks and those below with pytest,
:func:`check_recommender` without it. A check takes an unfitted estimator and raises an
AssertionError if the estimator fails.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import Any

import joblib
import numpy as np
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal, assert_equal
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

from ..base import BaseRecommender, ItemFeaturesMixin
from ..metrics import RankingScorer, evaluate
from ..model_selection import StrongGeneralizationSplit, split_interactions
from ..pipeline import make_pipeline
from ._check_data import (
    ByChance,
    CountTasks,
    assert_raises,
    by_popularity,
    change_parameters,
    fitted,
    fitted_once,
    planted_groups,
    seeded,
    tags_of,
    with_reversed_rows,
)
from ._content_checks import content_checks, takes_item_features, with_item_features

__all__ = ["check_recommender", "parametrize_with_checks", "recommender_checks"]

# Difference in NDCG@10 by which a model must be better than a random ranking on planted groups.
FLOOR = 0.1


def check_recommender(estimator: BaseEstimator) -> None:
    """Run scikit-learn's checks and those of this module on a recommender.

    Parameters
    ----------
    estimator : estimator
        An unfitted instance.

    Raises
    ------
    AssertionError
        If a check fails; a check may also raise other errors.

    Examples
    --------
    >>> from sklrec.dummy import PopularityRecommender
    >>> check_recommender(PopularityRecommender())
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of checks that it skips
        check_estimator(estimator)
    for check in recommender_checks(estimator):
        check(estimator)


def parametrize_with_checks(estimators: list[BaseEstimator]) -> Any:
    """Pytest decorator that runs a test for each estimator and each of its checks.

    Parameters
    ----------
    estimators : list of estimators
        Unfitted instances.

    Returns
    -------
    decorator : pytest.mark.parametrize
        Decorator of a function with the parameters ``estimator`` and ``check``.

    Examples
    --------
    >>> @parametrize_with_checks([MyRecommender()])            # doctest: +SKIP
    ... def test_my_recommender(estimator, check):
    ...     check(estimator)
    """
    import pytest

    pairs = [
        pair
        for estimator in estimators
        for pair in [
            *estimator_checks_generator(estimator),
            *((estimator, check) for check in recommender_checks(estimator)),
        ]
    ]
    return pytest.mark.parametrize(("estimator", "check"), pairs, ids=_ids_of(pairs))


def recommender_checks(estimator: BaseEstimator) -> Iterator[Callable[[BaseEstimator], None]]:
    """Yield the checks of this module that apply to an estimator.

    Parameters
    ----------
    estimator : estimator
        An instance; its ``recommender_tags`` determine which checks apply. If its ``fit`` takes
        ``item_features``, they are also run with features, and if it inherits from
        :class:`~sklrec.base.ItemFeaturesMixin`, there are checks of item features and new items.

    Yields
    ------
    check : callable
        ``check(estimator)``.
    """
    yield from (checks := list(_checks_of_any_recommender(estimator)))
    if isinstance(estimator, ItemFeaturesMixin):
        yield from content_checks()
    if takes_item_features(estimator):
        yield from map(with_item_features, checks)


def _checks_of_any_recommender(estimator: BaseEstimator) -> Iterator[Callable]:
    tags = tags_of(estimator)
    yield check_never_ranks_what_was_seen
    yield check_ends_with_minus_one
    yield check_ranking_follows_the_scores
    yield check_candidates
    if not tags.poor_score:
        yield check_beats_a_random_ranking
        if tags.personalized:
            yield check_checkerboard
    yield check_pickle_and_joblib_round_trip
    if not tags.keeps_users:
        yield check_pickle_holds_no_users
    yield check_input_types_agree
    yield check_precision_follows_X
    yield check_score_is_independent_of_the_batch
    yield check_clone_and_refit_agree
    yield check_set_params_after_fit_changes_no_score
    yield check_global_generator_is_untouched
    yield check_X_is_unchanged
    yield check_users_without_items
    yield check_one_user
    yield check_bad_input_is_refused
    yield check_score_is_the_scorer
    yield check_pipeline
    yield check_cross_validate
    yield check_grid_search
    if hasattr(estimator, "set_callbacks"):
        yield check_set_callbacks
    if hasattr(estimator, "similar_items"):
        yield check_similar_items
    if hasattr(estimator, "explain"):
        yield check_explain


def check_never_ranks_what_was_seen(estimator: BaseEstimator) -> None:
    """Check that no item of a user's row is in the user's ranking."""
    model, X = fitted_once(estimator)
    ranking = model.predict_ranking(X, k=5)
    users = np.repeat(np.arange(X.shape[0]), 5)
    seen = X.toarray()[users, ranking.ravel()] > 0
    assert not seen[ranking.ravel() >= 0].any()
    assert (model.predict_ranking(X, k=X.shape[1], exclude_seen=False) >= 0).all()


def check_ends_with_minus_one(estimator: BaseEstimator) -> None:
    """Check that the ranking ends with -1 if there are fewer than k items to rank."""
    model, X = fitted_once(estimator)
    n_items = X.shape[1]
    ranking = model.predict_ranking(X, k=n_items + 3)
    assert ranking.shape == (X.shape[0], n_items + 3)
    n_left = n_items - np.diff(X.indptr)
    assert_array_equal(ranking >= 0, np.arange(n_items + 3) < n_left[:, None])


def check_ranking_follows_the_scores(estimator: BaseEstimator) -> None:
    """Check that items are ranked by their scores, and items with equal scores by index."""
    model, X = fitted_once(estimator)
    scores = model.decision_function(X)
    assert isinstance(scores, np.ndarray)
    assert scores.shape == X.shape
    scores = np.where(X.toarray() > 0, -np.inf, scores)
    n_left = X.shape[1] - np.diff(X.indptr).max()
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :n_left]
    assert_array_equal(model.predict_ranking(X, k=n_left), expected)


def check_candidates(estimator: BaseEstimator) -> None:
    """Check that candidates alone are ranked, without excluded items, and scores are returned."""
    model, X = fitted_once(estimator)
    n_users, n_items = X.shape
    shuffled = np.random.default_rng(0).permutation(n_items)
    items, exclude = shuffled[:12], shuffled[10:15]
    candidate = np.zeros(n_items, dtype=bool)
    candidate[items[:10]] = True
    scores = np.where(candidate & (X.toarray() == 0), model.decision_function(X), -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :12]
    best = np.take_along_axis(scores, order, axis=1)
    for given in (items, sp.csr_array(np.tile(np.isin(np.arange(n_items), items), (n_users, 1)))):
        ranking, found = model.predict_ranking(
            X, k=12, items=given, exclude=exclude, return_scores=True
        )
        assert_array_equal(ranking, np.where(np.isneginf(best), -1, order))
        assert_allclose(found, best, rtol=1e-6)


def check_beats_a_random_ranking(estimator: BaseEstimator) -> None:
    """Check that NDCG@10 on planted groups is clearly better than that of random rankings."""
    X = planted_groups(tags_of(estimator), n_users=360)  # 120 test users, for small errors
    threshold = 3.5 if tags_of(estimator).learns_from_values else 0
    fold_in, held_out = split_interactions(X[240:], threshold=threshold, random_state=0)
    model = seeded(estimator).fit(X[:240])
    found = evaluate(model, fold_in, held_out, "ndcg@10").mean["ndcg@10"]
    by_chance = evaluate(ByChance(), fold_in, held_out, "ndcg@10").mean["ndcg@10"]
    assert found > by_chance + FLOOR, f"NDCG@10 {found:.3f}, of a random ranking {by_chance:.3f}"


def check_checkerboard(estimator: BaseEstimator) -> None:
    """Check that a user with all items of one colour except one is recommended this one.

    Even users have the even items, odd users the odd ones. For a model that learns from values,
    half of the items of the other colour have low ratings.
    """
    n_users, n_items = 40, 20
    user, item = np.arange(n_users)[:, None], np.arange(n_items)
    same = (user + item) % 2 == 0
    missing = 2 * (user // 2 % (n_items // 2)) + user % 2  # of the user's own colour
    X = np.where(same & (item != missing), 5.0, 0.0)
    if tags_of(estimator).learns_from_values:
        X[~same & ((user // 2 + item // 2) % 2 == 0)] = 1
    else:
        X[X > 0] = 1
    ranking = seeded(estimator).fit(sp.csr_array(X)).predict_ranking(sp.csr_array(X), k=1)
    assert_array_equal(ranking, missing)


def check_pickle_and_joblib_round_trip(estimator: BaseEstimator) -> None:
    """Check that scores are the same after pickling a model and after dumping it with joblib."""
    model, X = fitted_once(estimator)
    scores = model.decision_function(X)
    assert_array_equal(pickle.loads(pickle.dumps(model)).decision_function(X), scores)
    file = io.BytesIO()
    joblib.dump(model, file)
    assert_array_equal(joblib.load(file).decision_function(X), scores)


def check_pickle_holds_no_users(estimator: BaseEstimator) -> None:
    """Check that a pickle grows by less than a byte for each user that is added."""
    X = planted_groups(tags_of(estimator))
    n_bytes = []
    for users in (X, sp.vstack([X] * 5, format="csr")):
        model = seeded(estimator).fit(users)
        model.__dict__.pop("loss_curve_", None)  # its length depends on the number of iterations
        n_bytes.append(len(pickle.dumps(model)))
    few, many = n_bytes
    n_added = 4 * X.shape[0]
    assert many < few + n_added, f"{few} bytes for {X.shape[0]} users, {many} for 5 times as many"


def check_input_types_agree(estimator: BaseEstimator) -> None:
    """Check that dense, all sparse formats, unsorted indices and DataFrames score the same."""
    model, X = fitted_once(estimator)
    scores = model.decision_function(X)
    unseen = np.argwhere(X.toarray() == 0)[0]
    stored_zero = sp.csr_array(sp.coo_array(
        (np.append(X.data, 0.0), np.column_stack([X.nonzero(), unseen])), X.shape
    ))  # fmt: skip
    for other in [
        X.toarray(), sp.csr_matrix(X), sp.csc_array(X), sp.coo_array(X), sp.lil_array(X),
        with_reversed_rows(X), stored_zero,
    ]:  # fmt: skip
        refitted = seeded(estimator).fit(other)
        assert_allclose(refitted.decision_function(other), scores, rtol=1e-6, atol=1e-9)
        assert_array_equal(refitted.predict_ranking(other), refitted.predict_ranking(X))
    half = X.toarray().astype(np.float16)
    ranking = seeded(estimator).fit(half).predict_ranking(half)
    assert_array_equal(ranking, seeded(estimator).fit(X.astype(np.float32)).predict_ranking(X))
    if find_spec("pandas"):
        import pandas as pd

        frame = pd.DataFrame(X.toarray(), columns=[f"item {i}" for i in range(X.shape[1])])
        refitted = seeded(estimator).fit(frame)
        assert_array_equal(refitted.feature_names_in_, frame.columns)
        assert_allclose(refitted.decision_function(frame), scores, rtol=1e-6, atol=1e-9)
        assert_array_equal(refitted.predict_ranking(frame), model.predict_ranking(X))


def check_precision_follows_X(estimator: BaseEstimator) -> None:
    """Check that float32 scores like float64, and that integers and booleans become float32."""
    model, X = fitted_once(estimator)
    scores = model.decision_function(X)
    assert scores.dtype in (np.float64, np.float32)
    narrow = seeded(estimator).fit(X.astype(np.float32)).decision_function(X.astype(np.float32))
    assert narrow.dtype == np.float32
    assert_allclose(narrow, scores, rtol=1e-3, atol=1e-3 * np.abs(scores).max())
    for dtype in (np.int64, np.uint8):
        whole = seeded(estimator).fit(X.astype(dtype)).decision_function(X.astype(dtype))
        assert whole.dtype == np.float32
        assert_array_equal(whole, narrow)
    if not tags_of(estimator).learns_from_values:
        truth = seeded(estimator).fit(X.astype(bool)).decision_function(X.astype(bool))
        assert_array_equal(truth, narrow)


def check_score_is_independent_of_the_batch(estimator: BaseEstimator) -> None:
    """Check that a user's scores and ranking do not depend on the other users or their order."""
    model, X = fitted_once(estimator)
    scores = model.decision_function(X)
    alone = np.vstack([model.decision_function(X[[user]]) for user in range(10)])
    size = np.abs(scores).max()  # float32 has seven digits
    assert_allclose(alone, scores[:10], rtol=1e-5, atol=1e-5 * size)
    for user, ranking in enumerate(model.predict_ranking(X[:10], k=5)):
        of_one = model.predict_ranking(X[[user]], k=5)[0]
        # Rounding may swap items whose scores are the same but for it.
        assert_allclose(scores[user][of_one], scores[user][ranking], rtol=1e-5, atol=1e-5 * size)
    backwards = np.arange(X.shape[0])[::-1]
    assert_allclose(
        model.decision_function(X[backwards]), scores[::-1], rtol=1e-5, atol=1e-5 * size
    )


def check_clone_and_refit_agree(estimator: BaseEstimator) -> None:
    """Check that a clone is unfitted, has the same parameters and the same scores after a fit."""
    model, X = fitted(estimator)
    copy = clone(model)
    assert not hasattr(copy, "n_features_in_")
    assert copy.get_params().keys() == model.get_params().keys()
    scores = model.decision_function(X)
    assert_array_equal(copy.fit(X).decision_function(X), scores)
    assert_array_equal(model.fit(X).decision_function(X), scores)


def check_set_params_after_fit_changes_no_score(estimator: BaseEstimator) -> None:
    """Check that scores only depend on the parameters of the fit."""
    model, X = fitted(estimator)
    scores = model.decision_function(X)
    change_parameters(model)
    assert_array_equal(model.decision_function(X), scores)
    if hasattr(estimator, "partial_fit"):  # which may postpone computations
        model = seeded(estimator).partial_fit(X)
        scores = pickle.loads(pickle.dumps(model)).decision_function(X)
        change_parameters(model)
        assert_array_equal(model.decision_function(X), scores)


def check_global_generator_is_untouched(estimator: BaseEstimator) -> None:
    """Check that neither fit nor prediction draws from numpy's global generator."""
    kept = np.random.get_state(legacy=False)  # noqa: NPY002 - the global generator is the point
    # Not the current state, which may already be the result of a model that seeds the generator.
    before = np.random.RandomState(813).get_state(legacy=False)
    np.random.set_state(before)  # noqa: NPY002
    try:
        model, X = fitted(estimator)
        model.predict_ranking(X)
        assert_equal(np.random.get_state(legacy=False), before)  # noqa: NPY002
    finally:
        np.random.set_state(kept)  # noqa: NPY002


def check_X_is_unchanged(estimator: BaseEstimator) -> None:
    """Check that neither fit nor prediction changes X, not even the order of its indices."""
    in_order = planted_groups(tags_of(estimator))
    in_order.data[::2] /= 2  # with ones alone, replacing values by ones would not be noticed
    # With sorted indices as well, as unsorted ones are often copied before a model changes them.
    for X in (in_order, with_reversed_rows(in_order)):
        before = [part.copy() for part in (X.data, X.indices, X.indptr)]
        model = seeded(estimator).fit(X)
        model.decision_function(X)
        model.predict_ranking(X)
        for part, copy in zip((X.data, X.indices, X.indptr), before, strict=True):
            assert_array_equal(part, copy)


def check_users_without_items(estimator: BaseEstimator) -> None:
    """Check that users without known items are ranked by popularity among the training users.

    One of them has no items, and one has an item that no training user has.
    """
    X = planted_groups(tags_of(estimator)).toarray()
    X[5] = 0
    X[:, 7] = 0
    model = seeded(estimator).fit(sp.csr_array(X))
    assert np.isfinite(model.decision_function(sp.csr_array(X[:6]))).all()
    unknown = np.zeros((2, X.shape[1]))
    unknown[1, 7] = X.max()
    assert np.isfinite(model.decision_function(sp.csr_array(unknown))).all()
    if not tags_of(estimator).poor_score:
        popular = by_popularity(X)
        ranking = model.predict_ranking(sp.csr_array(unknown), k=X.shape[1])
        assert_array_equal(ranking[0], popular)
        assert_array_equal(ranking[1], [*popular[popular != 7], -1])


def check_one_user(estimator: BaseEstimator) -> None:
    """Check that fit on one user works or raises a ValueError, and that one user can be ranked."""
    X = planted_groups(tags_of(estimator))
    with suppress(ValueError):
        seeded(estimator).fit(X[:1]).predict_ranking(X)
    assert seeded(estimator).fit(X).predict_ranking(X[:1]).shape == (1, 10)


def check_bad_input_is_refused(estimator: BaseEstimator) -> None:
    """Check that X with NaN, infinite or negative values or a wrong shape raises a ValueError."""
    model, X = fitted_once(estimator)
    dense = X.toarray()
    for value in (np.nan, np.inf, -1.0):
        bad = dense.copy()
        bad[3, 2] = value
        for method in (seeded(estimator).fit, model.decision_function, model.predict_ranking):
            assert_raises(ValueError, method, bad)
            assert_raises(ValueError, method, sp.csr_array(bad))
    for bad in (dense[0], dense[:0], dense[:, :0], [["a"] * dense.shape[1]]):
        for method in (seeded(estimator).fit, model.decision_function, model.predict_ranking):
            assert_raises(ValueError, method, bad)
    for bad in (dense[:, :-1], np.hstack([dense, dense])):
        for method in (model.decision_function, model.predict_ranking):
            assert_raises(ValueError, method, bad)
    for k in (0, -1, 2.5, "ten", None):
        assert_raises(ValueError, partial(model.predict_ranking, k=k), X)


def check_score_is_the_scorer(estimator: BaseEstimator) -> None:
    """Check that ``score`` is the default RankingScorer."""
    model, X = fitted_once(estimator)
    assert model.score(X) == RankingScorer()(model, X)


def check_pipeline(estimator: BaseEstimator) -> None:
    """Check that a pipeline with an identity step has the same rankings and scores."""
    model, X = fitted_once(estimator)
    step = FunctionTransformer(accept_sparse=True, check_inverse=False)
    pipeline = make_pipeline(step, seeded(estimator)).fit(X)
    assert_array_equal(pipeline.predict_ranking(X, k=4), model.predict_ranking(X, k=4))
    assert pipeline.score(X) == model.score(X)


def check_cross_validate(estimator: BaseEstimator) -> None:
    """Check that cross_validate with several metrics returns finite scores."""
    X = planted_groups(tags_of(estimator))
    scores = cross_validate(
        seeded(estimator), X, scoring=RankingScorer(["ndcg@10", "recall@5"]),
        cv=StrongGeneralizationSplit(2, random_state=0), error_score="raise",
    )  # fmt: skip
    assert np.isfinite(scores["test_ndcg@10"]).all()
    assert np.isfinite(scores["test_recall@5"]).all()


def check_grid_search(estimator: BaseEstimator) -> None:
    """Check that GridSearchCV computes the same scores in one process and in two."""
    X = planted_groups(tags_of(estimator))
    alone, together = (
        GridSearchCV(
            seeded(estimator), {}, scoring=RankingScorer("ndcg@10"), n_jobs=n_jobs, refit=False,
            cv=StrongGeneralizationSplit(2, random_state=0), error_score="raise",
        ).fit(X).cv_results_["mean_test_score"]
        for n_jobs in (1, 2)
    )  # fmt: skip
    assert_allclose(alone, together, rtol=1e-6)


def check_set_callbacks(estimator: BaseEstimator) -> None:
    """Check that callbacks are called at the beginning and end of each task, and are removed."""
    callback = CountTasks()
    model = seeded(estimator).set_callbacks(callback)
    model.fit(planted_groups(tags_of(estimator)))
    assert callback.n_begun == callback.n_ended > 1
    assert callback.is_torn_down
    assert not hasattr(model, "_callback_fit_ctx")


def check_similar_items(estimator: BaseEstimator) -> None:
    """Check that an item is not among its similar items.

    Items without users have the most popular items as similar ones. An invalid index is an error.
    """
    model, X = fitted_once(estimator)
    n_items = X.shape[1]
    if isinstance(model, BaseRecommender):
        without = X.toarray()
        without[:, 7] = 0
        popular = by_popularity(without)
        ranking = seeded(estimator).fit(sp.csr_array(without)).similar_items(7, k=n_items)
        assert_array_equal(ranking, [*popular[popular != 7], -1])
    ranking = model.similar_items([4, 0], k=n_items)
    assert_array_equal(np.sort(ranking[0, :-1]), np.delete(np.arange(n_items), 4))
    assert_array_equal(ranking[:, -1], -1)
    assert_array_equal(model.similar_items(4, k=n_items), ranking[0])
    for bad in (-1, n_items, 1.5, "4", [[0]]):
        assert_raises(ValueError, model.similar_items, bad)


def check_explain(estimator: BaseEstimator) -> None:
    """Check that contributions add up to the score, except for a constant of each item."""
    model, X = fitted_once(estimator)
    scores = model.decision_function(X)
    n_items = X.shape[1]
    for item in (0, n_items - 1):
        contributions = model.explain(X, item)
        assert contributions.shape == X.shape
        assert contributions.dtype == X.dtype
        assert_array_equal(contributions.toarray()[X.toarray() == 0], 0)
        constant = scores[:, item] - contributions.sum(axis=1)
        assert_allclose(constant, constant[0], atol=1e-5 * np.abs(scores).max())
    for bad in (-1, n_items, 1.5, "4", [0]):
        assert_raises(ValueError, partial(model.explain, X), bad)
    assert_raises(ValueError, partial(model.explain, item=0), X[:, 1:])


def _ids_of(pairs: list[tuple[BaseEstimator, Callable]]) -> list[str]:
    """Return names of pairs of an estimator, with its parameters, and a check."""
    # An estimator is named once, for all its checks: its repr takes some ms.
    estimators = {id(estimator): estimator for estimator, _ in pairs}
    names = {key: repr(estimator) for key, estimator in estimators.items()}
    return [
        f"{names[id(estimator)]}-{_name_of(check)}".replace("\n", "").replace(" ", "")
        for estimator, check in pairs
    ]


def _name_of(check: Callable) -> str:
    function = check.func if isinstance(check, partial) else check
    name: str = function.__name__
    return name
