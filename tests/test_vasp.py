"""VASP against its two models, and which weights move when."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from skorch.callbacks import Callback  # noqa: E402

from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.neural import FLVAE, VASP  # noqa: E402
from sklrec.neural._vasp import most_popular  # noqa: E402

SMALL = {
    "n_components": 8,
    "hidden_size": 16,
    "max_epochs": 2,
    "batch_size": 50,
    "learning_rate": 1e-2,
    "random_state": 0,
}
TRAINING = ["joint", "alternating", "pretrained"]


@pytest.fixture(scope="module")
def X():
    return make_interactions(200, 60, random_state=0).data


def sigmoid(scores):
    return 1 / (1 + np.exp(-scores))


def test_probabilities_are_the_product_of_those_of_the_two_models(X):
    model = VASP(**SMALL).fit(X)
    module = model.net_.module_
    linear = sigmoid(X @ module.ease.weight.detach().numpy())
    deep = FLVAE(**SMALL).fit(X)  # to be given the weights of the deep part
    deep.net_.module_.load_state_dict(module.flvae.state_dict())
    expected = sigmoid(deep.decision_function(X)) * linear
    assert_allclose(np.exp(model.decision_function(X)), expected, rtol=1e-4)
    parts = model.decision_function_parts(X)
    assert_allclose(np.exp(parts["ease"]), linear, rtol=1e-4)
    assert_allclose(parts["flvae"] + parts["ease"], model.decision_function(X), atol=1e-5)


class Movements(Callback):
    """Collects, for each pass or epoch, which of the two parts have moved in it."""

    def on_train_begin(self, net, **kwargs):
        self.moved = []
        self.before = self.copy(net)

    @staticmethod
    def copy(net):
        return {name: weight.clone() for name, weight in net.module_.state_dict().items()}

    def on_batch_end(self, net, **kwargs):
        after = self.copy(net)
        parts = {name.split(".")[0] for name in after if not after[name].equal(self.before[name])}
        self.before = after
        self.moved.append(parts)


@pytest.mark.parametrize("training", ["alternating", "pretrained"])
def test_each_pass_moves_one_part(X, training):
    movements = Movements()
    VASP(training=training, callbacks=[movements], **SMALL).fit(X)
    assert movements.moved == 2 * (8 * [{"flvae"}] + 8 * [{"ease"}])  # halves of 4 batches


def test_joint_training_moves_both_parts_in_each_step(X):
    movements = Movements()
    VASP(callbacks=[movements], **SMALL).fit(X)
    assert movements.moved == 2 * 8 * [{"flvae", "ease"}]


class Diagonals(Callback):
    """Collects the largest entry on the diagonal after each step."""

    def on_train_begin(self, net, **kwargs):
        self.largest = []

    def on_batch_end(self, net, **kwargs):
        weight = net.module_.ease.weight.detach()
        self.largest.append(float(weight.diagonal().abs().max()))


@pytest.mark.parametrize("training", TRAINING)
def test_diagonal_is_zero_after_each_step(X, training):
    diagonals = Diagonals()
    VASP(training=training, callbacks=[diagonals], **SMALL).fit(X)
    assert set(diagonals.largest) == {0.0}


def test_pretrained_linear_model_does_not_depend_on_the_deep_one(X):
    one, other = (
        VASP(training="pretrained", beta=beta, **SMALL).fit(X).net_.module_ for beta in (0.0, 1.0)
    )
    assert (one.flvae.encoder.first.weight != other.flvae.encoder.first.weight).any()
    assert one.ease.weight.equal(other.ease.weight)


@pytest.mark.parametrize("training", TRAINING)
def test_penalty_is_on_the_linear_weights_alone_and_shared_by_the_users(X, training):
    net = VASP(training=training, lambda_=30.0, **SMALL).fit(X).net_
    groups = [group for name in net._optimizers for group in getattr(net, f"{name}_").param_groups]
    penalties = {id(w): group["weight_decay"] for group in groups for w in group["params"]}
    found = {name: penalties[id(w)] for name, w in net.module_.named_parameters()}
    assert found.pop("ease.weight") == 30.0 / 200
    assert set(found.values()) == {0}


@pytest.mark.parametrize("training", TRAINING)
def test_loss_goes_down(X, training):
    model = VASP(training=training, **SMALL).set_params(max_epochs=12).fit(X)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


def test_most_popular_items_with_ties_to_the_lower_index():
    X = sp.csr_array([[1, 0, 1, 1, 0], [1, 0, 1, 0, 1], [1, 0, 0, 0, 0]])
    assert_array_equal(most_popular(X, 1.0), np.arange(5))
    assert_array_equal(most_popular(X, 0.6), [0, 2, 3])
    assert_array_equal(most_popular(X, 0.3), [0, 2])
    assert_array_equal(most_popular(X, 0.01), [0])


def test_items_that_are_not_modelled_score_lowest_and_finite(X):
    model = VASP(item_share=0.5, **SMALL).fit(X)
    assert_array_equal(model.items_, most_popular(X, 0.5))
    assert model.net_.module_.ease.weight.shape == (30, 30)
    others = np.setdiff1d(np.arange(60), model.items_)
    for scores in (model.decision_function(X), *model.decision_function_parts(X).values()):
        assert np.isfinite(scores).all()
        assert (scores[:, others] < scores[:, model.items_].min(axis=1, keepdims=True)).all()


def test_model_of_some_items_is_that_of_a_matrix_of_these(X):
    model = VASP(item_share=0.5, **SMALL).fit(X)
    small = VASP(**SMALL).fit(X[:, model.items_])
    expected = small.decision_function(X[:, model.items_])
    assert_array_equal(model.decision_function(X)[:, model.items_], expected)


def test_validation_is_on_all_items(X):
    """Where all that is hidden is of items which are not modelled, nothing is ranked well."""
    settings = {**SMALL, "item_share": 0.5, "max_epochs": 1}
    others = np.setdiff1d(np.arange(60), most_popular(X[:150], 0.5))
    hidden = sp.lil_array(X[150:].shape)
    hidden[:, others] = X[150:][:, others]
    model = VASP(**settings).fit(X[:150], X_val=X[150:], y_val=hidden.tocsr())
    assert model.validation_scores_[0] < 0.5
    held_out = VASP(**settings, early_stopping=True).fit(X)
    assert held_out.net_.module_.ease.weight.shape == (30, 30)


@pytest.mark.parametrize("training", TRAINING)
@pytest.mark.parametrize("augmentation", [True, False])
def test_users_without_items_and_with_one_are_learnt_from(training, augmentation):
    X = sp.csr_array(np.vstack([np.zeros((3, 6)), np.eye(6), np.ones((4, 6))]))
    model = VASP(training=training, augmentation=augmentation, **SMALL).fit(X)
    assert np.isfinite(model.decision_function(X)).all()


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
