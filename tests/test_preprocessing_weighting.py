"""BM25Transformer against its formula in plain loops, and scikit-learn's own transformers."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, Normalizer
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklrec.linear import EASE
from sklrec.preprocessing import BM25Transformer


@parametrize_with_checks([BM25Transformer(k1=0.0), BM25Transformer(k1=100.0)])
def test_scikit_learns_checks_pass_for_any_k1(estimator, check):
    check(estimator)


@pytest.fixture
def counts():
    """Return 30 users of 12 items with counts; one item that nobody has, one user without any."""
    X = np.random.default_rng(0).poisson(0.5, size=(30, 12)).astype(float)
    X[:, 3] = 0
    X[4] = 0
    return X


@pytest.mark.parametrize("k1", [0.0, 1.2, 50.0])
@pytest.mark.parametrize("b", [0.0, 0.75, 1.0])
def test_weights_are_those_of_the_formula(counts, k1, b):
    train, new = counts[:20], counts[20:]
    mean_length = sum(map(sum, train)) / 20
    expected = np.zeros(new.shape)
    for u, row in enumerate(new):
        for i, x in enumerate(row):
            if x:
                n = sum(other[i] > 0 for other in train)
                idf = math.log(1 + (20 - n + 0.5) / (n + 0.5))
                norm = 1 - b + b * sum(row) / mean_length
                expected[u, i] = (k1 + 1) * x / (k1 * norm + x) * idf
    bm25 = BM25Transformer(k1=k1, b=b).fit(sp.csr_array(train))
    assert_allclose(bm25.transform(sp.csr_array(new)).toarray(), expected, rtol=1e-14)


def test_a_value_of_one_in_a_row_of_average_length_weighs_its_item():
    X = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    for k1 in (0.5, 1.2, 90.0):
        bm25 = BM25Transformer(k1=k1).fit(X)
        assert_allclose(bm25.transform(X).toarray(), X * bm25.idf_, rtol=1e-14)


def test_weights_are_positive_where_x_is_even_for_an_item_everybody_has():
    X = np.array([[1.0, 3.0], [2.0, 0.0], [1.0, 0.0]])
    bm25 = BM25Transformer().fit(X)
    assert bm25.idf_[0] == pytest.approx(math.log(1 + 0.5 / 3.5))
    assert_array_equal(bm25.transform(X).toarray() > 0, X > 0)


def test_fitted_attributes_are_those_of_the_training_rows(counts):
    bm25 = BM25Transformer().fit(counts)
    assert bm25.average_length_ == pytest.approx(counts.sum() / 30)
    assert bm25.idf_.dtype == np.float64
    assert bm25.idf_[3] == bm25.idf_.max() == pytest.approx(math.log(1 + 30.5 / 0.5))


def test_a_weight_depends_on_its_row_alone(counts):
    bm25 = BM25Transformer().fit(counts)
    together = bm25.transform(counts).toarray()
    for u, row in enumerate(counts):
        assert_array_equal(bm25.transform(row[None]).toarray()[0], together[u])


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int64, np.float32),
        (np.uint8, np.float32),
        (np.bool_, np.float32),
    ],
)
def test_precision_follows_x(counts, dtype, expected):
    X = sp.csr_array((counts > 0).astype(dtype))
    weights = BM25Transformer().fit_transform(X)
    assert weights.dtype == expected
    reference = BM25Transformer().fit_transform(X.astype(np.float64))
    assert_allclose(weights.toarray(), reference.toarray(), rtol=1e-6)


def test_extreme_float32_values_stay_finite():
    X = np.array([[3e38, 1e-38], [1.0, 1.0]], dtype=np.float32)
    assert np.isfinite(BM25Transformer(k1=1e6).fit_transform(X).data).all()


@pytest.mark.parametrize("container", [sp.csr_matrix, sp.csc_array, sp.coo_array, np.asarray])
def test_every_container_gives_the_same_csr_array(counts, container):
    weights = BM25Transformer().fit_transform(container(counts))
    assert isinstance(weights, sp.csr_array)
    expected = BM25Transformer().fit_transform(sp.csr_array(counts))
    assert_array_equal(weights.toarray(), expected.toarray())


def test_stored_zeros_change_nothing():
    X = sp.csr_array(([1.0, 0.0, 2.0], [0, 1, 1], [0, 2, 3]), shape=(2, 2))
    weights = BM25Transformer().fit_transform(X)
    expected = BM25Transformer().fit_transform(X.toarray())
    assert weights.nnz == 2
    assert_array_equal(weights.toarray(), expected.toarray())
    assert X.nnz == 3


def test_x_is_left_as_it_was_and_shares_no_memory(counts):
    X = sp.csr_array(counts)
    weights = BM25Transformer().fit_transform(X)
    weights.data[:] = 0
    weights.indices[:] = 0
    weights.indptr[:] = 0
    assert_array_equal(X.toarray(), counts)


def test_a_fit_without_interactions_compares_lengths_with_one():
    bm25 = BM25Transformer(k1=1.0, b=1.0).fit(np.zeros((2, 2)))
    idf = math.log(1 + 2.5 / 0.5)
    assert_allclose(bm25.transform([[1.0, 2.0]]).toarray(), [[2 / 4 * idf, 4 / 5 * idf]])


def test_feature_names_are_those_of_the_items():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame({"tea": [1, 0], "jam": [1, 1]})
    assert BM25Transformer().fit(X).get_feature_names_out().tolist() == ["tea", "jam"]


def test_transform_before_fit_says_so():
    with pytest.raises(NotFittedError):
        BM25Transformer().transform([[1.0]])


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[1, np.nan]], "NaN"),
        ([[1, np.inf]], "infinity"),
        ([[1, -1]], "Negative values in data passed to BM25Transformer"),
        ([1, 2], "Expected 2D array"),
        (np.empty((0, 2)), "0 sample"),
        ([["a", "b"]], "could not convert string"),
    ],
)
def test_matrices_that_are_not_allowed_are_an_error(X, message):
    fitted = BM25Transformer().fit([[1, 2]])
    for method in (BM25Transformer().fit, fitted.transform):
        with pytest.raises(ValueError, match=message):
            method(X)


def test_another_number_of_items_is_an_error():
    with pytest.raises(ValueError, match="X has 3 features, but BM25Transformer is expecting 2"):
        BM25Transformer().fit([[1, 2]]).transform([[1, 2, 3]])


@pytest.mark.parametrize("wrong", [{"k1": -1}, {"k1": np.inf}, {"b": 1.1}, {"b": "x"}], ids=str)
def test_parameters_out_of_range_are_an_error(wrong):
    with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter"):
        BM25Transformer(**wrong).fit([[1, 2]])


def dense_tfidf(X):
    """Compute what TfidfTransformer documents, without it."""
    idf = np.log((1 + X.shape[0]) / (1 + (X > 0).sum(axis=0))) + 1
    return dense_l2(X * idf)


def dense_l2(X):
    norm = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(norm == 0, 1, norm)


@pytest.mark.parametrize(
    ("transformer", "dense"),
    [
        (TfidfTransformer(), dense_tfidf),
        (Binarizer(threshold=1.5), lambda X: (X > 1.5).astype(float)),
        (Normalizer(), dense_l2),
        (BM25Transformer(), lambda X: BM25Transformer().fit_transform(X).toarray()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_weighting_before_a_recommender_in_a_pipeline(counts, transformer, dense):
    """scikit-learn's transformers, and ours, take a CSR array and leave it sparse."""
    X = sp.csr_array(counts)
    model = make_pipeline(transformer, EASE(lambda_=2.0)).fit(X)
    weighted = dense(counts)
    assert sp.issparse(model[0].transform(X))
    assert_allclose(
        model.decision_function(X), EASE(lambda_=2.0).fit(weighted).decision_function(weighted)
    )
    assert_array_equal(X.toarray(), counts)
