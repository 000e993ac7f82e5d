"""Mult-DAE against its paper: objective, training and scores written out."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from written_out import (
    PassByHand,
    assert_trained_as_by_hand,
    encoder,
    gaussian_nll,
    hidden_layers,
    linear,
    logistic_nll,
    multinomial_nll,
    some_users,
    unit_rows,
    weights_of,
)

torch = pytest.importorskip("torch")

from sklrec.neural import MultDAE  # noqa: E402

SMALL = {
    "n_components": 4,
    "hidden_layer_sizes": (6,),
    "max_epochs": 2,
    "batch_size": 12,
    "learning_rate": 1e-2,
    "random_state": 0,
}


def negative_log_likelihood(nll, dropout):
    """Return the objective of section 2.3 of the paper, a mean over the users of a batch."""

    def objective(w, given, learnt, draws):
        x = draws.thinned(unit_rows(given), dropout) if dropout else unit_rows(given)
        hidden = hidden_layers(w, "decoder", encoder(w, "encoder", x).tanh())
        return nll(linear(w, "item_layer", hidden), learnt).mean()

    return objective


@pytest.mark.parametrize(
    ("setting", "nll"),
    [
        ({"lambda_": 0.0, "dropout": 0.3}, multinomial_nll),
        ({"lambda_": 0.3, "hidden_layer_sizes": ()}, multinomial_nll),
        ({"likelihood": "logistic", "lambda_": 0.1, "dropout": 0.0}, logistic_nll),
        ({"likelihood": "gaussian", "confidence": 3.0, "dropout": 0.2}, gaussian_nll(3)),
    ],
)
def test_each_step_of_training_is_that_of_the_likelihood_and_the_penalty(setting, nll):
    model = MultDAE(**{**SMALL, **setting})

    def penalty(name):
        """Return the factor of W in the derivative of ``lambda ||W||^2``; none on biases."""
        return 2 * model.lambda_ if name.endswith("weight") else 0

    objective = negative_log_likelihood(nll, model.dropout)
    assert_trained_as_by_hand(model, some_users(), [PassByHand(objective)], penalty=penalty)


@pytest.fixture(scope="module")
def model():
    return MultDAE(**SMALL).set_params(hidden_layer_sizes=(6, 5)).fit(some_users())


def test_scores_are_those_of_the_network_written_out(model):
    X = some_users()
    w = weights_of(model.net_)
    bottleneck = encoder(w, "encoder", unit_rows(torch.from_numpy(X.toarray()))).tanh()
    assert_allclose(model.transform(X), bottleneck, atol=1e-5)
    known = np.diff(X.indptr) > 0
    expected = linear(w, "item_layer", hidden_layers(w, "decoder", bottleneck))
    assert_allclose(model.decision_function(X)[known], expected[known], atol=1e-5)


def test_similar_items_are_nearest_by_the_cosine_of_their_vectors(model):
    vectors = model.item_embeddings_
    assert vectors.shape == (12, 6)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit[7]
    cosine[7] = -np.inf
    assert_array_equal(model.similar_items(7, k=5), np.argsort(-cosine, kind="stable")[:5])
