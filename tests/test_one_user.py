"""Rankings of one user, for whom some work is done in another way than for many."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import FunctionTransformer

from sklrec.datasets import make_interactions
from sklrec.hybrid import ContentELSA
from sklrec.linear import EASE
from sklrec.neural import CDAE, ELSA, MultDAE, MultVAE, NeuMF, RecVAE
from sklrec.neural import _base as neural_base
from sklrec.neural._modules import hidden_layers, of_row, reset_parameters
from sklrec.neural._mult_vae import MultVAEModule
from sklrec.neural._training._data import SparseBatch, SparseRows
from sklrec.neural._training._prediction import outputs_of, scores_of_row
from sklrec.pipeline import make_pipeline

TRAINED_BRIEFLY = {"max_epochs": 2, "random_state": 0}


@pytest.fixture(scope="module")
def X():
    X = make_interactions(60, 40, n_interactions=500, random_state=0).data.astype(np.float32)
    X.data[::3] = 2.5  # not only ones
    return X


@pytest.fixture(scope="module")
def ease(X):
    return EASE(10.0).fit(X)


BY_NUMPY = [
    CDAE(8, **TRAINED_BRIEFLY),
    CDAE(8, activation="sigmoid", normalize=False, user_vector=None, **TRAINED_BRIEFLY),
    CDAE(8, activation="identity", **TRAINED_BRIEFLY),
    ELSA(8, **TRAINED_BRIEFLY),
    MultDAE(4, hidden_layer_sizes=(8,), **TRAINED_BRIEFLY),
    MultVAE(4, hidden_layer_sizes=(), **TRAINED_BRIEFLY),
    MultVAE(4, hidden_layer_sizes=(8, 6), **TRAINED_BRIEFLY),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("model", BY_NUMPY, ids=lambda model: str(model)[:40])
def test_numpy_scores_a_row_as_torch_scores_many(monkeypatch, X, model, dtype):
    rows = X.astype(dtype)
    scores = model.fit(X).decision_function(rows)
    monkeypatch.setattr(neural_base, "outputs_of", None)  # no row goes through torch
    for user in range(10):
        of_one = model.decision_function(rows[[user]])
        assert of_one.dtype == dtype
        assert_allclose(of_one[0], scores[user], rtol=1e-5, atol=1e-6)


def test_numpy_scores_new_items_as_torch_does(monkeypatch, X):
    F = np.random.RandomState(0).rand(42, 6).astype(np.float32)
    model = ContentELSA(8, **TRAINED_BRIEFLY).fit(X, item_features=F[:40]).with_items(F[40:])
    rows = sp.hstack([X, X[:, :2]], format="csr")
    scores = model.decision_function(rows)
    monkeypatch.setattr(neural_base, "outputs_of", None)
    assert_allclose(model.decision_function(rows[[3]])[0], scores[3], rtol=1e-5, atol=1e-6)


def test_vectors_that_are_solved_for_are_those_of_torch(X):
    model = CDAE(8, user_vector="solve", **TRAINED_BRIEFLY).fit(X)
    assert scores_of_row(model.net_, X[[0]]) is None
    assert_allclose(model.decision_function(X[[0]])[0], model.decision_function(X)[0], rtol=1e-4)


@pytest.mark.parametrize("gated", [False, True])
def test_layers_for_a_row_are_those_of_torch(gated):
    layers = hidden_layers([5, 4, 3], gated, torch.nn.Sigmoid)
    reset_parameters(layers, torch.Generator().manual_seed(0))
    h = np.arange(5, dtype=np.float32)
    with torch.no_grad():
        expected = layers(torch.from_numpy(h)[None])[0].numpy()
    assert_allclose(of_row(layers, h), expected, rtol=1e-6)


def test_a_subclass_that_scores_in_another_way_is_asked_by_torch(X):
    class Doubled(MultVAEModule):
        def forward(self, batch):
            output = super().forward(batch)
            return output._replace(scores=super().forward(batch).scores)

    model = MultVAE(4, hidden_layer_sizes=(8,), **TRAINED_BRIEFLY).fit(X)
    assert scores_of_row(model.net_, X[[0]]) is not None
    assert scores_of_row(model.net_, X[:2]) is None
    model.net_.module_.__class__ = Doubled
    assert scores_of_row(model.net_, X[[0]]) is None


@pytest.mark.parametrize(
    "model",
    [
        CDAE(8, **TRAINED_BRIEFLY),
        ELSA(8, **TRAINED_BRIEFLY),
        RecVAE(4, hidden_size=8, **TRAINED_BRIEFLY),
    ],
    ids=["numpy", "numpy, of vectors that are kept", "torch"],
)
def test_changed_weights_change_the_scores(X, model):
    model.fit(X).decision_function(X[[0]])
    with torch.no_grad():
        for weight in model.net_.module_.parameters():
            weight += torch.linspace(0, 1, weight.numel()).reshape(weight.shape)
    assert_allclose(
        model.decision_function(X[[0]])[0], model.decision_function(X)[0], rtol=1e-5, atol=1e-5
    )
    model.partial_fit(X)
    assert_allclose(
        model.decision_function(X[[0]])[0], model.decision_function(X)[0], rtol=1e-5, atol=1e-5
    )


def test_one_user_costs_the_work_of_one_user(X):
    model = NeuMF(n_components=4, hidden_layer_sizes=(4,), **TRAINED_BRIEFLY).fit(X)
    asked = []

    def scores(rows, out):
        asked.append(rows.shape[0])
        return torch.zeros(rows.shape)

    outputs_of(model.net_, X[[3]], scores, X.shape[1])
    assert asked == [1]


def test_a_batch_of_all_rows_is_that_of_the_dataset(X):
    rows = X.tolil()
    rows[[0, 7, 59]] = 0  # without entries
    rows = rows.tocsr()
    batch, expected = SparseBatch.of(rows), SparseRows(rows)[torch.arange(60)]
    for name in ("values", "items", "offsets", "n_entries", "total", "norm"):
        ours, theirs = getattr(batch, name), getattr(expected, name)
        assert ours.dtype == theirs.dtype
        assert_allclose(ours, theirs, rtol=1e-6, err_msg=name)
    assert_array_equal(batch.normalized().to_dense(), expected.normalized().to_dense())


WRONG = {
    "NaN": (lambda row: np.full_like(row.data, np.nan), "X contains NaN"),
    "infinite": (lambda row: np.full_like(row.data, np.inf), "X contains infinity"),
    "negative": (lambda row: -row.data, "Negative values in data passed to X"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_row_is_checked_in_each_call(X, ease, wrong):
    """Also if the same array was ranked before, and changed since."""
    values, message = WRONG[wrong]
    row = X[[0]]
    before = dict(vars(row))
    ease.predict_ranking(row)
    assert vars(row) == before
    row.data[:] = values(row)
    with pytest.raises(ValueError, match=message):
        ease.predict_ranking(row)


def test_a_row_of_another_width_or_model_is_an_error(X, ease):
    with pytest.raises(ValueError, match="X has 39 features, but EASE is expecting 40"):
        ease.predict_ranking(X[[0], :39])
    with pytest.raises(ValueError, match="not fitted"):
        EASE().predict_ranking(X[[0]])


def test_what_a_step_of_a_pipeline_makes_of_a_row_is_checked(X):
    """Also where the step changes the row in place."""

    def spoilt(X):
        if X.shape[0] == 1:
            X.data[:] = np.nan
        return X

    pipe = make_pipeline(FunctionTransformer(spoilt, accept_sparse=True), EASE(10.0)).fit(X)
    with pytest.raises(ValueError, match="X contains NaN"):
        pipe.predict_ranking(X[[0]])


@pytest.mark.parametrize("model", [EASE(10.0), BY_NUMPY[0]], ids=["EASE", "CDAE"])
def test_one_user_who_has_nothing_known_gets_the_popular_items(X, model):
    known = X.copy()
    known.data[np.isin(known.indices, (4, 5))] = 0
    known.eliminate_zeros()
    model.fit(known)
    row = sp.csr_array(([1.0], ([0], [4])), shape=(1, 40), dtype=np.float32)
    popularity = known.sum(axis=0)
    assert_allclose(model.decision_function(row)[0], popularity, rtol=1e-6)
    popularity[4] = -1
    assert model.predict_ranking(row, k=1)[0, 0] == popularity.argmax()
