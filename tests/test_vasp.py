"""VASP against its paper: objective, three ways of training and scores written out."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from written_out import (
    PassByHand,
    assert_trained_as_by_hand,
    densely_connected,
    densely_connected_encoder,
    focal_loss,
    kl_to_standard,
    linear,
    some_users,
    weights_of,
)

torch = pytest.importorskip("torch")

from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.neural import VASP  # noqa: E402
from sklrec.neural._vasp import most_popular  # noqa: E402

SMALL = {
    "n_components": 4,
    "hidden_size": 6,
    "n_encoder_layers": 2,
    "n_decoder_layers": 1,
    "max_epochs": 2,
    "batch_size": 12,
    "learning_rate": 1e-2,
    "random_state": 0,
}


class WrittenOut:
    """The objectives of the paper, means over the users of a batch.

    Parameters
    ----------
    model : VASP
        Whose parameters are taken.
    """

    def __init__(self, model):
        self.model = model

    def passes(self):
        """Return the passes of an epoch, of table 2."""
        ways = {
            "joint": [(self.product, "")],
            "alternating": [(self.product, "flvae."), (self.product, "ease.")],
            "pretrained": [(self.deep, "flvae."), (self.shallow, "ease.")],
        }
        halved = self.model.augmentation
        return [PassByHand(*way, halved=halved) for way in ways[self.model.training]]

    def product(self, w, given, learnt, draws):
        """Return the loss of the product of both probabilities, equations 5, 9 and 10."""
        p, kl = self.p_deep(w, given, draws)
        return (self.focal(p * self.p_shallow(w, given), learnt) + self.model.beta * kl).mean()

    def deep(self, w, given, learnt, draws):
        """Return the loss of FLVAE by itself."""
        p, kl = self.p_deep(w, given, draws)
        return (self.focal(p, learnt) + self.model.beta * kl).mean()

    def shallow(self, w, given, learnt, draws):
        """Return the loss of Neural EASE by itself."""
        return self.focal(self.p_shallow(w, given), learnt).mean()

    def focal(self, p, learnt):
        return focal_loss(p, learnt, self.model.alpha, self.model.gamma)

    def p_deep(self, w, given, draws=None):
        """Return probabilities, at a sample or at the latent mean, and KL."""
        mu, logvar = densely_connected_encoder(w, "flvae.encoder", given)
        z = mu if draws is None else mu + draws.normal(mu.shape) * (logvar / 2).exp()
        hidden = densely_connected(w, "flvae.decoder", z)
        return linear(w, "flvae.item_layer", hidden).sigmoid(), kl_to_standard(mu, logvar)

    @staticmethod
    def p_shallow(w, given):
        """Return probabilities of a linear model whose diagonal is nothing."""
        weight = w["ease.weight"]
        return (given @ (weight * (1 - torch.eye(len(weight))))).sigmoid()


@pytest.mark.parametrize(
    "setting",
    [
        {"training": "joint", "item_share": 0.7, "lambda_": 5.0},
        {"training": "joint", "augmentation": False, "beta": 0.3, "alpha": 0.4, "gamma": 1.3},
        {"training": "alternating", "beta": 0.3},
        {"training": "pretrained", "lambda_": 5.0, "beta": 0.3},
    ],
)
def test_each_step_of_training_is_that_of_the_paper(setting):
    X = some_users()
    model = VASP(**SMALL, **setting)

    def penalty(name):
        """Return the factor of W in the derivative of ``lambda / (2 n_users) ||W||^2``."""
        return model.lambda_ / 30 if name == "ease.weight" else 0

    items = most_popular(X, model.item_share)
    assert_trained_as_by_hand(model, X, WrittenOut(model).passes(), penalty=penalty, modelled=items)
    assert_array_equal(model.net_.module_.ease.weight.detach().diagonal(), 0)


def test_partial_fit_goes_on_with_the_number_of_users_and_the_items_of_its_first_call(X):
    model = VASP(item_share=0.5, **SMALL)

    def penalties(users):
        return [
            group["weight_decay"] for group in model.partial_fit(users).net_.optimizer_.param_groups
        ]

    assert penalties(X) == penalties(X[:10]) == [16 / 60, 0]
    assert_array_equal(model.items_, most_popular(X, 0.5))


def test_scores_are_logarithms_of_the_product_of_the_two_models_written_out():
    X = some_users()
    model = VASP(**SMALL).fit(X)
    x, w, known = torch.from_numpy(X.toarray()), weights_of(model.net_), np.diff(X.indptr) > 0
    net = WrittenOut(model)
    deep, shallow = net.p_deep(w, x)[0], net.p_shallow(w, x)
    assert_allclose(model.decision_function(X)[known], (deep * shallow).log()[known], atol=1e-5)
    parts = model.decision_function_parts(X)
    assert_allclose(parts["flvae"], deep.log(), atol=1e-5)
    assert_allclose(parts["ease"], shallow.log(), atol=1e-5)


def test_most_popular_items_with_ties_to_the_lower_index():
    X = sp.csr_array([[1, 0, 1, 1, 0], [1, 0, 1, 0, 1], [1, 0, 0, 0, 0]])
    assert_array_equal(most_popular(X, 1.0), np.arange(5))
    assert_array_equal(most_popular(X, 0.6), [0, 2, 3])
    assert_array_equal(most_popular(X, 0.3), [0, 2])
    assert_array_equal(most_popular(X, 0.01), [0])


@pytest.fixture(scope="module")
def X():
    return make_interactions(60, 20, random_state=0).data


@pytest.fixture(scope="module")
def of_half(X):
    return VASP(item_share=0.5, **SMALL).fit(X)


def test_items_that_are_not_modelled_score_lowest_and_finite(X, of_half):
    assert_array_equal(of_half.items_, most_popular(X, 0.5))
    assert of_half.net_.module_.ease.weight.shape == (10, 10)
    others = np.setdiff1d(np.arange(20), of_half.items_)
    known = X[:, of_half.items_].sum(axis=1) > 0
    for scores in (of_half.decision_function(X), *of_half.decision_function_parts(X).values()):
        assert np.isfinite(scores).all()
        lowest = scores[:, of_half.items_].min(axis=1, keepdims=True)
        assert (scores[:, others] < lowest)[known].all()


def test_model_of_some_items_is_that_of_a_matrix_of_these(X, of_half):
    small = VASP(**SMALL).fit(X[:, of_half.items_])
    rows = X[:56]  # a multiple of 8: batches of so few items are filled up, and digits depend on it
    expected = small.decision_function(rows[:, of_half.items_])
    known = rows[:, of_half.items_].sum(axis=1) > 0
    found = of_half.decision_function(rows)[:, of_half.items_]
    assert_array_equal(found[known], expected[known])


def test_validation_is_on_all_items(X):
    """Where all that is hidden is of items which are not modelled, nothing is ranked well."""
    others = np.setdiff1d(np.arange(20), most_popular(X[:40], 0.5))
    hidden = sp.lil_array(X[40:].shape)
    hidden[:, others] = X[40:][:, others]
    model = VASP(item_share=0.5, **SMALL).fit(X[:40], X_val=X[40:], y_val=hidden.tocsr())
    assert max(model.validation_scores_) < 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("training", "apart"),
        ("n_components", 0),
        ("n_decoder_layers", -1),
        ("lambda_", -1.0),
        ("item_share", 0.0),
        ("item_share", 1.1),
        ("augmentation", "half"),
        ("alpha", 1.5),
        ("gamma", -1.0),
        ("beta", -0.1),
    ],
)
def test_bad_parameters_are_refused(X, name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of VASP"):
        VASP(**{name: value}).fit(X)


def test_items_in_read_only_memory_are_taken(X):
    model = VASP(**SMALL, item_share=0.5).fit(X)
    scores = model.decision_function(X)
    model.items_.flags.writeable = False
    assert_array_equal(model.decision_function(X), scores)
