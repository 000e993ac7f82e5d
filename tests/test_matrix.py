"""What enters beside X: validated, cast, canonical, and never cut by a search."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import Binarizer

from sklrec._holder import Unsliced, whole
from sklrec._matrix import check_matrix, take_entries, warn_of_heavy_tail
from sklrec.base import BaseRecommender
from sklrec.dummy import PopularityRecommender, RandomRecommender
from sklrec.factorization import LFM
from sklrec.linear import EASE
from sklrec.metrics import RankingScorer, evaluate, novelty_at_k
from sklrec.pipeline import make_pipeline
from sklrec.preprocessing import BM25Transformer

DENSE = np.array([[0, 2, 1], [1, 0, 0]])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "make", [np.array, sp.csr_array, sp.csc_matrix, sp.coo_array, np.ndarray.tolist]
)
def test_all_forms_and_types_become_one(make, dtype):
    if dtype is np.float16 and make not in (np.array, np.ndarray.tolist):
        pytest.skip("scipy has no sparse arrays of float16")
    given = make(DENSE.astype(dtype))
    M = check_matrix(given, "M")
    assert isinstance(M, sp.csr_array)
    assert M.dtype == (
        np.float64 if dtype is np.float64 and make is not np.ndarray.tolist else np.float32
    ) or isinstance(given, list)
    assert_array_equal(M.toarray(), DENSE.astype(dtype))


def test_duplicates_and_stored_zeros_are_gone_and_the_input_is_unchanged():
    given = sp.csr_array(([1.0, 2.0, 0.0], [2, 2, 0], [0, 3]), shape=(1, 3))
    M = check_matrix(given, "M")
    assert_array_equal(M.data, [3])
    assert_array_equal(given.data, [1, 2, 0])


def test_indices_changed_in_place_are_sorted_again():
    X = sp.csr_array([[1.0, 2.0, 0.0, 3.0]])
    assert X.has_canonical_format  # which the array notes
    X.indices[:] = [3, 0, 1]
    canonical = check_matrix(X, "X")
    assert canonical.indices.tolist() == [0, 1, 3]
    assert canonical.data.tolist() == [2, 3, 1]
    assert X.indices.tolist() == [3, 0, 1]


def test_room_behind_the_entries_is_cut_off():
    room = np.array([5.0, 6.0, 7.0]), np.array([0, 2, 1])
    X = sp.csr_array(np.eye(2, 3))
    X.data, X.indices = room
    canonical = check_matrix(X, "X")
    assert canonical.data.tolist() == [5, 6]
    assert len(X.data) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1, 2], "y_val is no matrix of numbers. Expected 2D"),
        (np.zeros((0, 3)), "y_val is no matrix of numbers. Found array with 0 sample"),
        ([["a", "b"]], "y_val is no matrix of numbers"),
        ([[1, np.nan]], "y_val contains NaN; a missing entry is a zero here"),
        (sp.csr_array([[1, np.inf]]), "y_val contains infinity"),
        ([[1, -2]], "Negative values in data passed to y_val, such as -2"),
        (sp.csr_array([[1.0, -2.0]]), "Negative values in data passed to y_val, such as -2"),
        ([[1, 2, 3]], r"y_val must have 2 columns, got shape \(1, 3\)"),
        ([[1, 2], [3, 4]], r"y_val must have 1 rows, got shape \(2, 2\)"),
    ],
)
def test_errors_name_the_argument_and_what_was_got(given, message):
    with pytest.raises(ValueError, match=message):
        check_matrix(given, "y_val", shape=(1, 2))


def test_features_may_be_negative_and_stay_dense_but_not_missing():
    F = np.array([[-1.0, 2.0]])
    assert_array_equal(check_matrix(F, "F", signed=True), F)
    with pytest.raises(ValueError, match=r"F contains NaN\.$"):
        check_matrix([[np.nan]], "F", signed=True)


def test_a_pivoted_table_with_nan_is_told_that_missing_entries_are_zeros(X):
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"user": [0, 0, 1], "item": ["a", "b", "a"], "value": [1, 2, 3]})
    pivoted = table.pivot(index="user", columns="item", values="value")
    for function in (EASE().fit, EASE().fit(pivoted.fillna(0)).predict_ranking):
        with pytest.raises(ValueError, match="a missing entry is a zero here") as error:
            function(pivoted)
        assert "impute" not in str(error.value)


def test_float16_is_ranked_as_float32(X):
    model = EASE(lambda_=5).fit(X.toarray().astype(np.float16))
    half = model.predict_ranking(X.toarray().astype(np.float16))
    assert_array_equal(half, model.predict_ranking(X.astype(np.float32)))


def test_index_arrays_stay_as_wide_as_they_are(X):
    assert X.indices.dtype == np.int32
    y = sp.csr_array(X.multiply(np.arange(20) < 5))
    y = sp.csr_array((y.data, y.indices.astype(np.int64), y.indptr.astype(np.int64)), shape=X.shape)
    for parts in (RankingScorer().hide(X), RankingScorer().hide(X, y)):
        for part in parts:
            assert part.indices.dtype == part.indptr.dtype == np.int32
    part = take_entries(X, X.data > 0)
    assert part.indices.dtype == part.indptr.dtype == np.int32


# What a search hands on


class Echo(BaseRecommender):
    """Keep what fit was given."""

    def fit(self, X, y=None, *, X_val=None):
        self._check_X(X, reset=True)
        self.X_val_ = X_val
        return self

    def decision_function(self, X):
        return np.zeros(X.shape)


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_search_hands_on_whole_what_is_held(X, in_pipeline):
    model = make_pipeline(Binarizer(), Echo()) if in_pipeline else Echo()
    name = "echo__X_val" if in_pipeline else "X_val"
    seen = []

    def scorer(estimator, X, y=None):
        seen.append(estimator[-1].X_val_ if in_pipeline else estimator.X_val_)
        return 0.0

    GridSearchCV(model, {}, scoring=scorer, cv=2).fit(X, **{name: Unsliced(X)})
    assert [value.value.shape for value in seen] == [X.shape] * 2
    GridSearchCV(model, {}, scoring=scorer, cv=2).fit(X, **{name: X})
    assert [value.shape[0] for value in seen[2:]] == [30, 30]  # the trap


def test_what_a_search_may_have_cut_is_warned_of(X):
    with pytest.warns(UserWarning, match=r"X_val has as many rows as X, 60\. If a search calls"):
        assert whole(X, "X_val", X) is X
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert whole(Unsliced(X), "X_val", X) is X
        assert whole(X[:9], "X_val", X).shape[0] == 9
        assert whole(None, "X_val", X) is None


def test_what_is_held_is_measured_with(X):
    fold_in, held_out = RankingScorer().hide(X)
    model = EASE(lambda_=5).fit(X)
    plain, held = (
        evaluate(model, fold_in, held_out, "novelty@5", interactions=given).mean["novelty@5"]
        for given in (X, Unsliced(X))
    )
    assert plain == held
    ranking = model.predict_ranking(X, k=3)
    assert novelty_at_k(ranking, Unsliced(X)) == novelty_at_k(ranking, X)


def test_held_matrices_show_their_shape(X):
    assert repr(Unsliced(X)) == "Unsliced(csr_array of shape (60, 20))"


# Counts


@pytest.fixture(scope="module")
def plays():
    rng = np.random.default_rng(0)
    X = sp.random_array((200, 50), density=0.3, format="csr", rng=rng)
    X.data = np.ceil(rng.lognormal(1, 2, X.nnz))
    return X


@pytest.mark.parametrize("model", [EASE(), PopularityRecommender()])
def test_counts_that_nothing_weighs_are_warned_of(plays, model):
    with pytest.warns(UserWarning, match=r"1% of the .* hold \d\d% of .*If they are counts"):
        model.fit(plays)


@pytest.mark.parametrize(
    "steps",
    [
        [Binarizer()],
        [BM25Transformer()],
        [TfidfTransformer()],
        [TfidfTransformer(sublinear_tf=True)],
    ],
    ids=str,
)
def test_weighted_counts_are_not_warned_of(plays, steps):
    make_pipeline(*steps, EASE()).fit(plays)
    EASE().fit(plays.log1p())


@pytest.mark.parametrize("model", [LFM(), RandomRecommender()])
def test_models_that_read_values_or_none_do_not_warn_of_counts(plays, model):
    model.fit(plays)


@pytest.mark.parametrize("rarest", [0.01, 0.1, 1])
def test_ratings_and_ones_are_never_heavy_tailed(rarest):
    """Whatever their distribution, up to one percent of tens among ones."""
    for highest in (1, 5, 10):
        data = np.ones(5000)
        data[: int(rarest * data.size)] = highest
        X = sp.csr_array(data.reshape(100, 50))
        warn_of_heavy_tail(X, "EASE")


def test_ratings_of_movielens_are_not_heavy_tailed(ml1m):
    warn_of_heavy_tail(ml1m, "EASE")
