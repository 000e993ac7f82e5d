"""Which users each neural model is trained on, and in which order."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from written_out import some_users

torch = pytest.importorskip("torch")

from skorch.callbacks import Callback  # noqa: E402

from sklrec.neural import (  # noqa: E402
    CDAE,
    ELSA,
    FLVAE,
    VASP,
    HVampVAE,
    MultDAE,
    MultVAE,
    NeuralEASE,
    RecVAE,
)

SETTING = {"max_epochs": 3, "batch_size": 7, "learning_rate": 1e-3, "random_state": 0}
MODELS = [
    MultVAE(3, hidden_layer_sizes=()),
    MultDAE(3, hidden_layer_sizes=()),
    RecVAE(3, hidden_size=4, n_encoder_epochs=1),
    HVampVAE(3, hidden_layer_sizes=(), n_pseudo_inputs=3),
    ELSA(3),
    CDAE(3),
    NeuralEASE(),
    FLVAE(3, hidden_size=4),
    VASP(3, hidden_size=4),
]
N_PASSES = {"RecVAE": 2}


class Users(Callback):
    """Collects the whole rows of all users in the order in which they are learnt from."""

    def on_train_begin(self, net, **kwargs):
        self.seen = []

    def on_batch_end(self, net, batch=None, **kwargs):
        given, learnt = (half.to_dense().numpy() for half in batch)
        self.seen.append(given if batch[0] is batch[1] else given + learnt)

    def of_each_pass(self, model):
        """Return an array of shape (n_passes, n_users, n_items)."""
        batches = self.seen
        if getattr(model, "augmentation", False):  # a batch comes twice
            batches = batches[::2]
        n_passes = model.max_epochs * N_PASSES.get(type(model).__name__, 1)
        return np.stack(np.array_split(np.vstack(batches), n_passes))


def sorted_rows(x):
    return x[np.lexsort(x.T)]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_each_pass_is_over_all_training_users_in_an_order_of_its_own(model):
    users, X = Users(), some_users()
    model.set_params(**SETTING, callbacks=[users], early_stopping=False)
    model.fit(X[:20], X_val=X[20:])
    passes = users.of_each_pass(model)
    for found in passes:
        assert_array_equal(sorted_rows(found), sorted_rows(X[:20].toarray()))
    orders = [X[:20].toarray(), *passes]
    for i, found in enumerate(orders):
        assert not any(np.array_equal(found, other) for other in orders[:i])


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_users_that_early_stopping_holds_out_are_not_learnt_from(model):
    users, X = Users(), some_users()
    model.set_params(**SETTING, callbacks=[users], early_stopping=True, validation_fraction=0.25)
    model.fit(X)
    trained_on = users.of_each_pass(model)
    assert trained_on.shape[1] == 30 - 7  # a quarter of the 28 users with two interactions or more
    assert len(np.unique(np.vstack(trained_on), axis=0)) == 30 - 7
    assert len(model.validation_scores_) == 3
