"""ELSA against its equations on dense matrices in float64."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from written_out import LargestTensor, PassByHand, assert_trained_as_by_hand, nadam, some_users

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from sklrec import _memory  # noqa: E402
from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.neural import ELSA  # noqa: E402
from sklrec.neural._elsa import CosineDistance, ELSAModule  # noqa: E402
from sklrec.neural._training._data import SparseRows  # noqa: E402


@pytest.fixture(scope="module")
def X():
    return make_interactions(200, 60, random_state=0).data


def with_values(X):
    return sp.csr_array((np.random.default_rng(0).uniform(0.1, 5, X.nnz), X.indices, X.indptr))


def with_empty_rows(X):
    return sp.csr_array(X.toarray() * (np.arange(X.shape[0]) % 3 > 0)[:, None])


def with_one_item_each(X):
    return sp.csr_array(np.eye(X.shape[1])[np.arange(40) % 7])


def dense_loss(weight, x):
    """Return the squared distance of normalised prediction and target, as the paper has it."""
    A = F.normalize(weight, dim=1)
    scores = x @ A @ A.T - x
    return ((F.normalize(scores, dim=1) - F.normalize(x, dim=1)) ** 2).sum(dim=1).mean()


KINDS = [sp.csr_array, with_values, with_empty_rows, with_one_item_each]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_components", [3, 100])
def test_loss_and_gradient_are_those_of_the_dense_scores_in_float64(X, kind, n_components):
    X = kind(X)
    torch.manual_seed(0)
    module = ELSAModule(X.shape[1], n_components)
    batch = SparseRows(X)[torch.arange(X.shape[0])]
    loss = CosineDistance()(module(batch), batch)
    loss.backward()
    weight = module.weight.detach().double().requires_grad_()
    expected = dense_loss(weight, torch.from_numpy(X.toarray()).double())
    expected.backward()
    assert_allclose(loss.item(), expected.item(), rtol=1e-5)
    # Users of one item have a gradient of 0, whatever the weights.
    scale = weight.grad.abs().max() if kind is not with_one_item_each else 1
    assert_allclose(module.weight.grad / scale, weight.grad / scale, atol=2e-5)


def test_user_of_an_item_that_is_like_no_other_gives_a_finite_loss_and_gradient():
    module = ELSAModule(3, 3)
    module.weight.data = torch.eye(3)
    batch = SparseRows(sp.csr_array(np.eye(3)))[torch.arange(3)]  # all scores are 0
    loss = CosineDistance()(module(batch), batch)
    loss.backward()
    assert loss.item() == 2
    assert_array_equal(module.weight.grad, 0)


def test_each_step_of_training_is_that_of_the_paper():
    """On normalised predictions and targets, by NAdam."""
    model = ELSA(4, max_epochs=2, batch_size=12, learning_rate=0.05, random_state=0)
    objective = PassByHand(lambda w, given, learnt, draws: dense_loss(w["weight"], learnt))
    assert_trained_as_by_hand(model, some_users(), [objective], rule=nadam)


def test_scores_are_the_equation_written_out(X):
    X = with_values(X)
    model = ELSA(8, max_epochs=3, random_state=0).fit(X)
    A, x = model.item_embeddings_.astype(float), X.toarray()
    assert_allclose(model.decision_function(X), x @ A @ A.T - x, atol=1e-4)
    assert_allclose(model.transform(X), x @ A, atol=1e-4)


def test_item_vectors_have_length_one_and_say_which_items_are_similar(X):
    model = ELSA(8, max_epochs=3, random_state=0).fit(X)
    A = model.item_embeddings_
    assert_allclose(np.linalg.norm(A, axis=1), 1, rtol=1e-6)
    cosine = A @ A[7]
    cosine[7] = -np.inf
    assert_array_equal(model.similar_items(7, k=5), np.argsort(-cosine, kind="stable")[:5])


def test_a_gradient_step_holds_nothing_larger_than_the_item_vectors():
    X = make_interactions(100, 2000, random_state=0).data
    module = ELSAModule(2000, 4)
    batch = SparseRows(X)[torch.arange(100)]
    with LargestTensor() as largest:
        CosineDistance()(module(batch), batch).backward()
    assert largest.n_values == max(2000 * 4, X.nnz) < 100 * 2000


def test_memory_does_not_depend_on_the_batch_and_is_checked_before_the_fit(X, monkeypatch):
    setting = {"n_components": 8, "batch_size": 10**6, "max_epochs": 1}
    monkeypatch.setattr(_memory, "available_memory", lambda: 4 * 8 * 60 * 8)
    ELSA(**setting).fit(X)
    monkeypatch.setattr(_memory, "available_memory", lambda: 4 * 8 * 60 * 8 - 1)
    with pytest.raises(MemoryError, match="ELSA with 480 weights"):
        ELSA(**setting).fit(X)


def test_embeddings_are_named_after_the_model(X):
    model = ELSA(8, max_epochs=1, random_state=0).fit(X)
    assert list(model.get_feature_names_out())[:2] == ["elsa0", "elsa1"]
    assert model.transform(X.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("n_components", [0, -1, 2.5, "256", None])
def test_n_components_must_be_a_positive_integer(X, n_components):
    with pytest.raises(ValueError, match="n_components"):
        ELSA(n_components).fit(X)


def test_kept_unit_vectors_follow_weights_that_are_moved_or_cast(X):
    module = ELSAModule(20, 3).eval()
    assert module.item_vectors().dtype == torch.float32
    module.double()
    assert_array_equal(module.item_vectors().detach(), F.normalize(module.weight).detach())
    assert module.item_vectors().dtype == torch.float64
