"""DeepMusic against WMF and the network that it is made of."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor

from sklrec.datasets import make_interactions
from sklrec.factorization import WMF
from sklrec.hybrid import DeepMusic, FactorsFromContent

N_OLD = 40


@pytest.fixture(scope="module")
def X():
    return make_interactions(150, N_OLD, random_state=0).data.astype(np.float64)


@pytest.fixture(scope="module")
def F():
    return np.random.default_rng(1).random((N_OLD + 6, 9))


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_it_is_wmf_and_a_network_from_content_to_its_factors(kind, X, F):
    model = DeepMusic(
        4, hidden_layer_sizes=(8, 5), lambda_=0.02, unobserved_weight=0.3, alpha=0.5,
        max_epochs=20, learning_rate=0.01, random_state=0,
    ).fit(X, item_features=kind(F[:N_OLD]))  # fmt: skip
    wmf = WMF(4, lambda_=0.02, unobserved_weight=0.3, random_state=0)
    net = MLPRegressor(
        hidden_layer_sizes=(8, 5), alpha=0.5, max_iter=20, learning_rate_init=0.01, random_state=0
    )
    V = wmf.fit(X).item_factors_
    net.fit(kind(F[:N_OLD]), V)
    new = model.with_items(kind(F[N_OLD:])).item_factors_
    assert_array_equal(new[:N_OLD], V)
    assert_allclose(new[N_OLD:], net.predict(kind(F[N_OLD:])), atol=1e-12)
    assert_array_equal(DeepMusic(4, random_state=0).fit(X).item_factors_.shape, (N_OLD, 4))


def test_a_network_without_layers_is_ridge_regression(X, F):
    """With one factor: loss and gradient of MLPRegressor differ by the number of outputs."""
    linear = MLPRegressor(
        hidden_layer_sizes=(), solver="lbfgs", alpha=2.0, max_iter=1000, tol=1e-7, random_state=0
    )
    factors = [
        FactorsFromContent(WMF(1, random_state=0), regressor=regressor)
        .fit(X, item_features=F[:N_OLD])
        .with_items(F[N_OLD:])
        .item_factors_
        for regressor in (linear, Ridge(2.0))
    ]
    assert_allclose(*factors, atol=1e-3)


def test_the_network_learns_to_predict_the_factors(X):
    """Of items whose content says what they are."""
    F = np.tile(np.eye(N_OLD), (1, 2))
    model = DeepMusic(4, alpha=0.0, max_epochs=300, learning_rate=0.01, random_state=0)
    model.fit(X, item_features=F)
    V = model.item_factors_
    predicted = model.with_items(F[:5]).item_factors_[N_OLD:]
    assert_allclose(predicted, V[:5], atol=0.2 * np.abs(V[:5]).max())
    assert np.abs(V[1:6] - V[:5]).max() > 0.8 * np.abs(V[:5]).max()  # of others


@pytest.mark.parametrize(
    "bad",
    [{"n_components": 0}, {"alpha": -1.0}, {"hidden_layer_sizes": 3.5}, {"max_epochs": 0}],
)
def test_parameters_out_of_range_are_an_error(bad, X, F):
    (name,) = bad
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        DeepMusic(**bad).fit(X, item_features=F[:N_OLD])


def test_layers_without_units_are_an_error(X, F):
    with pytest.raises(ValueError, match="hidden_layer_sizes must be > 0"):
        DeepMusic(4, hidden_layer_sizes=(0,)).fit(X, item_features=F[:N_OLD])
