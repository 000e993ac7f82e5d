"""Passes of an epoch, with a toy of two networks."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from sklearn.base import clone  # noqa: E402
from skorch.callbacks import Callback  # noqa: E402
from torch import nn  # noqa: E402

from sklrec._ranking import Excluded, top_k  # noqa: E402
from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.neural import ELSA, MultDAE, MultVAE, NeuralEASE  # noqa: E402
from sklrec.neural._modules import Dense, SparseLinear  # noqa: E402
from sklrec.neural._training._data import SparseRows  # noqa: E402
from sklrec.neural._training._net import Pass, TorchNet  # noqa: E402
from sklrec.neural._training._prediction import best_columns, mask_excluded, rows_in_memory  # noqa: E402
from sklrec.neural._training._validation import _InTraining  # noqa: E402
from sklrec.pipeline import make_pipeline  # noqa: E402
from sklrec.preprocessing import BM25Transformer  # noqa: E402


class TwoNetworks(nn.Module):
    """A network of users and a network of items, which share a table of item vectors."""

    def __init__(self, n_items, n_features):
        super().__init__()
        self.user = SparseLinear(n_items, 3)
        self.item = Dense(n_features, 3)
        self.shared = nn.Parameter(torch.empty(3))

    def reset_parameters(self):
        nn.init.zeros_(self.shared)

    def forward(self, batch, of="user"):
        return (self.user(batch) if of == "user" else self.item(batch)) + self.shared


class Losses(nn.Module):
    def __init__(self):
        super().__init__()
        self.squares, self.distance = Squares(), Distance()


class Squares(nn.Module):
    def forward(self, output, batch):
        return output.square().sum(dim=1).mean()


class Distance(nn.Module):
    def forward(self, output, target):
        return (output - target).abs().mean()


def item_batches(features, batch_size, *, generators, device):
    """Go over items in their order, with dense content and a target."""
    return [(part, torch.ones(len(part), 3)) for part in features.split(batch_size)]


class Recorder(Callback):
    """A skorch callback that notes which weights each step changes, and the loss."""

    def __init__(self):
        self.changed, self.n_rows = [], []

    def on_batch_begin(self, net, batch=None, **kwargs):
        self.n_rows.append(len(batch[0]))
        self.before = {n: w.detach().clone() for n, w in net.module_.named_parameters()}

    def on_batch_end(self, net, **kwargs):
        changed = {
            name.split(".")[0]
            for name, weight in net.module_.named_parameters()
            if not torch.equal(weight, self.before[name])
        }
        self.changed.append(changed)


@pytest.fixture(scope="module")
def X():
    return make_interactions(50, 20, random_state=0).data.astype(np.float32)


def make_toy(passes, recorder, **settings):
    return TorchNet(
        TwoNetworks,
        Losses,
        module__n_items=20,
        module__n_features=4,
        passes=passes,
        seed=3,
        optimizer=torch.optim.Adam,
        lr=0.1,
        batch_size=50,
        train_split=None,
        callbacks=[recorder],
        verbose=0,
        **settings,
    )


def test_passes_have_their_own_data_part_forward_criterion_and_work_before(X):
    sweeps = []
    recorder = Recorder()
    passes = [
        Pass("user", criterion="squares", n_times=2),
        Pass(
            "item",
            data="items",
            batches=item_batches,
            options={"of": "item"},
            criterion="distance",
            before=lambda net: sweeps.append(net.plain_module.user.weight.norm().item()),
        ),
    ]
    features = torch.rand(70, 4, generator=torch.Generator().manual_seed(0))
    net = make_toy(passes, recorder).partial_fit(
        {"users": SparseRows(X), "items": features}, None, epochs=2
    )
    assert recorder.changed == [{"user"}, {"user"}, {"item"}, {"item"}] * 2
    assert recorder.n_rows == [50, 50, 50, 20] * 2
    assert len(sweeps) == 2  # work that is no gradient step, between the passes
    assert sweeps[0] != sweeps[1]
    losses = [step["train_loss"] for step in net.history[-1]["batches"]]
    assert all(isinstance(loss, float) for loss in losses)
    assert len(net.history) == 2


def test_losses_of_a_cpu_do_not_stay_in_memory_as_tensors(X):
    """Each would keep the memory of larger tensors around it from being used again."""

    kinds = []

    class Kinds(Callback):
        def on_batch_end(self, net, **kwargs):
            kinds.append(type(net.history[-1, "batches", -1, "train_loss"]))

    passes = [Pass("user", criterion="squares", n_times=3)]
    make_toy(passes, Kinds()).partial_fit({"users": SparseRows(X)}, None, epochs=1)
    assert kinds == [float] * 3


def test_optimizer_settings_of_a_part_are_param_groups(X):
    recorder = Recorder()
    net = make_toy(
        [Pass(criterion="squares")],
        recorder,
        optimizer__param_groups=[("user.*", {"lr": 0.0}), ("shared", {"lr": 0.5})],
    )
    net.partial_fit({"users": SparseRows(X)}, None, epochs=1)
    assert recorder.changed == [{"shared"}]
    assert [group["lr"] for group in net.optimizer_.param_groups] == [0.0, 0.5, 0.1]


def test_a_part_held_still_keeps_its_moments_too(X):
    """One optimizer of two parts does what an optimizer of each part does."""
    data = {"users": SparseRows(X), "items": torch.ones(30, 4)}
    items = {"data": "items", "batches": item_batches, "options": {"of": "item"}}
    both = make_toy(
        [Pass("user", criterion="squares"), Pass("item", criterion="distance", **items)], Recorder()
    )
    one = make_toy([Pass("user", criterion="squares")], Recorder())
    for net in (both, one):
        net.partial_fit(data, None, epochs=3)
    assert_array_equal(both.module_.user.weight.detach(), one.module_.user.weight.detach())


def test_weights_that_nobody_sets_are_an_error(monkeypatch):
    monkeypatch.delattr(TwoNetworks, "reset_parameters")
    with pytest.raises(TypeError, match="TwoNetworks does not set 'shared' in reset_parameters"):
        make_toy([Pass()], Recorder()).initialize()


def test_networks_of_one_seed_are_alike_and_of_two_are_not(X):
    nets = [make_toy([Pass()], Recorder()) for _ in range(3)]
    nets[2].seed = 4
    first, second, other = (net.initialize().module_.user.weight.detach() for net in nets)
    assert_array_equal(first, second)
    assert (first != other).all()


@pytest.mark.parametrize("k", [1, 3, 40])
def test_ranking_on_the_device_is_that_of_numpy_ties_and_exclusions_included(k):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, size=(30, 40)).astype(np.float32)
    scores[3] = 1
    scores[4, ::2] = -np.inf
    seen, candidates = (
        sp.random_array((30, 40), density=share, format="csr", rng=rng) for share in (0.2, 0.6)
    )
    for excluded in (
        Excluded(),
        Excluded(entries=seen),
        Excluded(entries=seen, items=rng.random(40) < 0.3),
        Excluded(all_but=candidates, entries=seen),
    ):
        expected, values = top_k(scores.copy(), k, excluded=excluded)
        masked = torch.from_numpy(scores.copy())
        mask_excluded(masked, excluded)
        best, ranking = best_columns(masked, k)
        assert_array_equal(ranking, expected)
        assert_array_equal(best, values)


def test_nan_on_the_device_is_an_error():
    with pytest.raises(ValueError, match="NaN"):
        best_columns(torch.tensor([[0.0, torch.nan]]), 1)


@pytest.mark.parametrize("with_unknown", [False, True])
def test_a_model_on_a_device_ranks_as_on_a_cpu(X, with_unknown):
    """What runs on CUDA, run on the CPU."""
    model = MultVAE(4, hidden_layer_sizes=(8,), max_epochs=2, random_state=0).fit(X)
    rows = sp.csr_array(sp.vstack([X[:5], sp.csr_array((2, 20))])) if with_unknown else X[:5]
    expected = model.predict_ranking(rows, k=6, return_scores=True)
    found = model._rank_on_device(model.net_, rows, 6, Excluded(entries=rows))
    assert_array_equal(found[0], expected[0])
    assert_allclose(found[1], expected[1], rtol=1e-5)


def test_scores_that_are_all_equal_are_no_ranking_on_a_device_either(X):
    X = sp.csr_array(sp.block_diag([X, np.ones((1, 1))]))  # an item that goes with no other
    model = NeuralEASE(max_epochs=2, random_state=0).fit(X)
    row = X[[-1]]
    assert (model._score_rows(model.net_, row) == 0).all()
    found = model._rank_on_device(model.net_, row, 6, Excluded(entries=row))
    assert_array_equal(found[0], model.predict_ranking(row, k=6))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_of_a_ranking_on_a_device_have_the_precision_of_X(X, dtype):
    model = MultDAE(4, hidden_layer_sizes=(8,), max_epochs=1, random_state=0).fit(X)
    assert model._rank_on_device(model.net_, X[:3].astype(dtype), 2, Excluded())[1].dtype == dtype


@pytest.mark.parametrize(
    ("n_free", "n_items", "expected"),
    [
        (1_000_000, 1_000, 31),  # half of the memory, four float32 tensors
        (80_000_000_000, 20_000, 2**29 // 20_000),
        (0, 1_000, 15),  # what torch holds and does not use
        (0, 1_000_000, 1),
    ],
)
def test_rows_on_a_gpu_are_as_many_as_memory_and_kernels_allow(
    n_free, n_items, expected, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (n_free, 2**37))
    held = (0, 0) if n_free else (700_000, 200_000)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: held[0])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: held[1])
    assert rows_in_memory(torch.device("cuda"), n_items) == expected
    assert rows_in_memory(torch.device("cpu"), n_items) is None


def test_validation_and_pipelines_go_in_the_batches_of_the_model(X, monkeypatch):
    model = MultDAE(4, hidden_layer_sizes=(8,), max_epochs=1).fit(X)
    pipeline = make_pipeline(BM25Transformer(), model)
    assert pipeline._rows_at_once() is None
    monkeypatch.setattr(MultDAE, "_rows_at_once", lambda self: 7)
    monkeypatch.setattr(
        "sklrec.neural._training._validation.rows_in_memory", lambda device, n_items: n_items
    )
    assert pipeline._rows_at_once() == 7
    assert _InTraining(model, model.net_)._rows_at_once() == X.shape[1]


@pytest.mark.parametrize("model", [MultDAE(4, hidden_layer_sizes=(8,)), ELSA(4), NeuralEASE()])
def test_training_on_a_cpu_does_not_ask_for_a_gpu(model, X, monkeypatch):
    def asks(*args, **kwargs):
        raise AssertionError("asks for a GPU")

    monkeypatch.setattr(torch.accelerator, "current_accelerator", asks)
    monkeypatch.setattr(torch.cuda, "is_available", asks)
    model = clone(model).set_params(max_epochs=2, device="cpu", warm_start=True)
    model.fit(X, X_val=X[:5]).partial_fit(X).predict_ranking(X, k=3)
    pickle.loads(pickle.dumps(model)).decision_function(X)


def test_a_gpu_beyond_the_last_is_an_error_and_its_model_loads_on_the_cpu(X, monkeypatch):
    model = MultDAE(4, hidden_layer_sizes=(8,), max_epochs=1, random_state=0).fit(X)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"device='cuda:2' .* not there: torch finds 2"):
        MultDAE(device="cuda:2").fit(X)
    copy = MultDAE.__new__(MultDAE)
    copy.__setstate__({**model.__getstate__(), "device": "cuda:2"})
    assert copy.net_.device == "cpu"


@pytest.mark.parametrize("likelihood", ["multinomial", "gaussian"])
def test_products_in_bfloat16_give_nearly_the_loss_of_float32(X, likelihood, monkeypatch):
    setting = {"max_epochs": 2, "batch_size": 25, "likelihood": likelihood, "random_state": 0}
    plain = MultDAE(16, hidden_layer_sizes=(32,), **setting).fit(X)
    unchanged = MultDAE(16, hidden_layer_sizes=(32,), mixed_precision=True, **setting)
    monkeypatch.setattr("sklrec.neural._training._net.cpu_multiplies_bfloat16", lambda: False)
    assert unchanged.fit(X).loss_curve_ == plain.loss_curve_  # no effect without the units
    monkeypatch.setattr("sklrec.neural._training._net.cpu_multiplies_bfloat16", lambda: True)
    mixed = unchanged.fit(X)
    assert mixed.loss_curve_ != plain.loss_curve_
    assert_allclose(mixed.loss_curve_, plain.loss_curve_, rtol=5e-4)  # bfloat16 has three digits
    assert mixed.decision_function(X).dtype == np.float32
