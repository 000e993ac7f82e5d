"""What must hold on a GPU: every model that computes there. Skipped without a CUDA device."""

import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

import in_processes  # noqa: E402
from sklearn.base import clone  # noqa: E402
from skorch.callbacks import Callback  # noqa: E402

from sklrec._ranking import Excluded, top_k  # noqa: E402
from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.factorization import WMF  # noqa: E402
from sklrec.hybrid import (  # noqa: E402
    CDL,
    CVAE,
    DAVE,
    DICER,
    MDCVAE,
    CondVAE,
    ContentELSA,
    CoVAE,
    FactorizationMachine,
)
from sklrec.linear import EASE  # noqa: E402
from sklrec.linear import _ease_on_device as ease_on_device  # noqa: E402
from sklrec.metrics import RankingScorer, evaluate  # noqa: E402
from sklrec.neural import (  # noqa: E402
    CDAE,
    ELSA,
    FLVAE,
    VASP,
    HVampVAE,
    MultDAE,
    MultVAE,
    NeuMF,
    NeuralEASE,
    RecVAE,
)
from sklrec.neural._training._data import HalvedBatches, SparseBatches, SparseRows  # noqa: E402
from sklrec.persistence import save  # noqa: E402

DEVICE = "cuda"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

MODELS = [
    MultVAE(8, hidden_layer_sizes=(16,)),
    MultDAE(8, hidden_layer_sizes=(16,)),
    MultDAE(8, hidden_layer_sizes=(16,), likelihood="gaussian"),
    MultDAE(8, hidden_layer_sizes=(16,), likelihood="logistic"),
    RecVAE(8, hidden_size=16),
    HVampVAE(8, hidden_layer_sizes=(16,), n_pseudo_inputs=5),
    NeuralEASE(dropout=0.3),
    NeuralEASE(loss="mse"),
    FLVAE(8, hidden_size=16),
    VASP(8, hidden_size=16),
    VASP(8, hidden_size=16, training="alternating", item_share=0.5),
    ELSA(8),
    CDAE(8),
    CDAE(8, user_vector="solve", n_negatives=None, loss="logistic"),
    NeuMF(n_components=8, hidden_layer_sizes=(8, 4)),
    NeuMF(n_components=8, hidden_layer_sizes=(8, 4), user_vector="solve", pretrain=True),
]
# Of item content.
HYBRIDS = [
    CDL(8),
    CVAE(8),
    CoVAE(8, hidden_layer_sizes=(16,)),
    CondVAE(8, hidden_layer_sizes=(16,)),
    ContentELSA(8),
    DAVE(8),
    DICER(8),
    FactorizationMachine(8),
    MDCVAE(8, hidden_layer_sizes=(16,), item_dropout=0.3),
]
# Without noise, which every kind of device draws differently.
NOISELESS = [
    MultDAE(8, hidden_layer_sizes=(16,), dropout=0.0),
    NeuralEASE(dropout=0.0),
    NeuralEASE(dropout=0.0, loss="focal"),
    ELSA(8),
    CDAE(8, dropout=0.0),
    NeuMF(n_components=8, hidden_layer_sizes=(8, 4)),
]


def name_of(model):
    return type(model).__name__ + "".join(
        f"-{value}"
        for name, value in model.get_params().items()
        if name in ("likelihood", "loss", "training", "user_vector")
    )


every_model = pytest.mark.parametrize("model", MODELS, ids=name_of)
noiseless = pytest.mark.parametrize("model", NOISELESS, ids=name_of)


@pytest.fixture(scope="module")
def X():
    """Return 300 users of 60 items, one of them without interactions."""
    X = make_interactions(300, 60, random_state=0).data.tolil()
    X[7] = 0
    return sp.csr_array(X)


@pytest.fixture
def sync_mode():
    """Let a test forbid what waits for the GPU, by ``sync_mode("error")``."""
    yield torch.cuda.set_sync_debug_mode
    torch.cuda.set_sync_debug_mode("default")


def on_gpu(model, **params):
    setting = {"max_epochs": 3, "batch_size": 50, "random_state": 0, "device": DEVICE}
    return clone(model).set_params(**(setting | params))


def on_cpu(model):
    """Return a copy of a fitted model on the CPU."""
    copy = pickle.loads(pickle.dumps(clone_fitted(model).set_params(device="cpu")))
    assert copy.net_.device == "cpu"
    return copy


def clone_fitted(model):
    return pickle.loads(pickle.dumps(model))


def assert_near(found, expected, tolerance):
    assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@every_model
@pytest.mark.parametrize("mixed_precision", [False, True])
def test_trained_model_scores_as_its_copy_on_a_cpu(model, mixed_precision, X):
    model = on_gpu(model, mixed_precision=mixed_precision).fit(X)
    assert next(model.net_.module_.parameters()).device.type == DEVICE
    scores = model.decision_function(X)
    assert scores.dtype == X.dtype
    assert_near(on_cpu(model).decision_function(X), scores, 1e-5)


@every_model
def test_one_seed_gives_identical_scores(model, X):
    first, second = (on_gpu(model).fit(X) for _ in "ab")
    assert_array_equal(first.loss_curve_, second.loss_curve_)
    assert_array_equal(first.decision_function(X), second.decision_function(X))


@noiseless
def test_training_without_noise_is_that_on_a_cpu(model, X):
    found, expected = on_gpu(model).fit(X), on_gpu(model, device="cpu").fit(X)
    assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-4)
    assert_near(found.decision_function(X), expected.decision_function(X), 1e-3)


@every_model
def test_loss_in_mixed_precision_is_nearly_that_in_float32(model, X):
    plain = on_gpu(model, max_epochs=1).fit(X).loss_curve_
    mixed = on_gpu(model, max_epochs=1, mixed_precision=True).fit(X).loss_curve_
    assert_allclose(mixed, plain, rtol=5e-3)


@noiseless
def test_products_in_tf32_give_nearly_the_scores_of_float32(model, X):
    expected = on_gpu(model).fit(X).decision_function(X)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        found = on_gpu(model).fit(X).decision_function(X)
    finally:
        torch.set_float32_matmul_precision(before)
    assert_near(found, expected, 2e-2)


@every_model
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ranking_on_the_device_is_that_of_its_scores_on_the_host(model, dtype, X):
    model = on_gpu(model).fit(X)
    X = X.astype(dtype)
    candidates = sp.random_array(
        X.shape, density=0.5, format="csr", rng=np.random.default_rng(0), dtype=dtype
    )
    scores = model.decision_function(X)
    for options, excluded in (
        ({}, Excluded(entries=X)),
        ({"exclude_seen": False}, Excluded()),
        ({"exclude": [1, 5]}, Excluded(entries=X, items=np.isin(np.arange(60), [1, 5]))),
        ({"items": candidates}, Excluded(entries=X, all_but=candidates)),
    ):
        ranking, best = model.predict_ranking(X, k=50, return_scores=True, **options)
        expected, values = top_k(scores, 50, excluded=excluded)
        assert_array_equal(ranking, expected)
        assert_array_equal(best, values)
        assert best.dtype == dtype


def test_no_scores_of_all_items_cross_to_the_host(X, monkeypatch):
    model = on_gpu(MODELS[0]).fit(X)

    def crosses(*args, **kwargs):
        raise AssertionError("scores of all items cross to the host")

    monkeypatch.setattr("sklrec.neural._base.outputs_of", crosses)
    model.predict_ranking(X, k=5)
    RankingScorer("ndcg@10")(model, X)
    on_gpu(MODELS[0]).fit(X, X_val=X[:50])


def test_large_catalogues_are_ranked_in_batches_that_kernels_can_count(monkeypatch):
    X = make_interactions(3_000, 1_000, random_state=0).data
    X = sp.csr_array((X.data, X.indices * 200, X.indptr), shape=(3_000, 200_000))
    model = on_gpu(ELSA(8), max_epochs=1).fit(X)
    found = model.predict_ranking(X, k=10, return_scores=True)[1]
    monkeypatch.setattr("sklrec.neural._training._prediction.MOST_SCORES", 2**27)
    expected = model.predict_ranking(X, k=10, return_scores=True)[1]
    assert_near(found, expected, 1e-5)


@every_model
def test_best_epoch_of_validation_on_the_device_is_kept(model, X):
    hidden = RankingScorer().hide(X[:100])
    model = on_gpu(model, max_epochs=4).fit(X, X_val=X[:100], y_val=hidden[1])
    kept = evaluate(model, *hidden, "ndcg@100").mean["ndcg@100"]
    assert kept == pytest.approx(max(model.validation_scores_), abs=1e-6)


@pytest.mark.parametrize("share", [0.25, 0.0], ids=["on the device", "from pinned memory"])
def test_batches_are_on_the_device_whether_X_is_or_not(X, share, monkeypatch):
    monkeypatch.setattr("sklrec.neural._training._data.SHARE_OF_DEVICE", share)
    rows = SparseRows(X, DEVICE)
    assert rows.values.device.type == (DEVICE if share else "cpu")
    batches = [batch for batch, _ in SparseBatches(rows, batch_size=30, device=DEVICE)]
    assert {batch.items.device.type for batch in batches} == {DEVICE}
    dense = torch.cat([batch.to_dense() for batch in batches])
    assert_array_equal(dense.cpu().numpy(), X.toarray())


@every_model
def test_rows_fetched_from_pinned_memory_train_the_same_model(model, X, monkeypatch):
    expected = on_gpu(model).fit(X)
    monkeypatch.setattr("sklrec.neural._training._data.SHARE_OF_DEVICE", 0.0)
    found = on_gpu(model).fit(X)
    assert_array_equal(found.loss_curve_, expected.loss_curve_)
    assert_array_equal(found.decision_function(X), expected.decision_function(X))


class ForbidWaiting(Callback):
    """Forbids what waits for the GPU from the end of the first step to that of the last but one."""

    def __init__(self, set_mode, n_steps):
        self.set_mode = set_mode
        self.n_steps = n_steps
        self.n_done = 0

    def on_batch_end(self, net, **kwargs):
        self.n_done += 1
        if self.n_done == 1:
            self.set_mode("error")
        if self.n_done == self.n_steps:
            self.set_mode("default")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@every_model
@pytest.mark.parametrize("mixed_precision", [False, True])
def test_no_step_waits_for_the_gpu(model, mixed_precision, X, sync_mode):
    forbid = ForbidWaiting(sync_mode, n_steps=5)  # 6 batches, or more
    on_gpu(model, max_epochs=1, callbacks=[forbid], mixed_precision=mixed_precision).fit(X)
    assert forbid.n_done > 5


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_halves_are_drawn_without_waiting_for_the_gpu(X, sync_mode):
    batches = iter(HalvedBatches(SparseRows(X, DEVICE), batch_size=300, device=DEVICE))
    sync_mode("error")
    first, second = next(batches)
    sync_mode("default")
    both = first.to_dense() + second.to_dense()
    assert_array_equal(both.cpu().numpy(), X.toarray())
    assert_array_equal(second.n_entries.cpu().numpy(), np.diff(X.indptr) // 2)


@noiseless
@pytest.mark.parametrize(("first", "then"), [("cpu", DEVICE), (DEVICE, "cpu")])
def test_device_changed_in_a_warm_start_takes_the_optimizer_along(model, first, then, X):
    expected = on_gpu(model, max_epochs=4, device="cpu").fit(X)
    moved = on_gpu(model, max_epochs=2, device=first, warm_start=True).fit(X)
    moved.decision_function(X)  # what it keeps for predictions must move too
    moved.set_params(max_epochs=4, device=then).fit(X, X_val=X[:50])
    assert moved.net_.device == then
    for state in moved.net_.optimizer_.state.values():
        kept = [value for name, value in state.items() if name in ("exp_avg", "momentum_buffer")]
        assert {value.device.type for value in kept} == {then}
    assert_allclose(moved.loss_curve_, expected.loss_curve_, rtol=1e-4)
    assert moved.decision_function(X).shape == X.shape


@every_model
def test_fits_in_two_threads_are_what_they_are_alone(model, X):
    def scores(seed):
        return on_gpu(model, random_state=seed).fit(X).decision_function(X)

    alone = [scores(seed) for seed in range(2)]
    together = joblib.Parallel(n_jobs=2, backend="threading")(
        joblib.delayed(scores)(seed) for seed in range(2)
    )
    assert_array_equal(together, alone)


def in_a_process_without_gpu(code, path):
    out = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stderr
    return out.stdout.split()


def test_pickle_and_file_of_a_trained_model_load_without_gpu(X, tmp_path):
    model = on_gpu(MODELS[0]).fit(X)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    save(model, tmp_path / "model.sklrec")
    sp.save_npz(tmp_path / "X.npz", X)
    code = (
        "import pickle, sys, numpy as np, scipy.sparse as sp; from pathlib import Path; "
        "from sklrec.persistence import load; folder = Path(sys.argv[1]); "
        "X = sp.load_npz(folder / 'X.npz'); "
        "models = [pickle.loads((folder / 'model.pickle').read_bytes()), "
        "load(folder / 'model.sklrec')]; "
        "np.save(folder / 'scores.npy', [model.decision_function(X) for model in models]); "
        "print(*(model.net_.device for model in models))"
    )
    assert in_a_process_without_gpu(code, tmp_path) == ["cpu", "cpu"]
    for scores in np.load(tmp_path / "scores.npy"):
        assert_near(scores, model.decision_function(X), 1e-5)


def test_a_model_for_the_cpu_does_not_touch_the_gpu():
    code = (
        "import torch; from sklrec.neural import MultVAE; "
        "from sklrec.datasets import make_interactions; "
        "X = make_interactions(100, 30, random_state=0).data; "
        "MultVAE(4, hidden_layer_sizes=(8,), max_epochs=2, device='cpu', warm_start=True)"
        ".fit(X, X_val=X).partial_fit(X).predict_ranking(X); "
        "print(torch.cuda.is_available(), torch.cuda.is_initialized())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert out.returncode == 0, out.stderr
    assert out.stdout.split() == ["True", "False"]


def test_too_large_a_batch_is_a_memory_error_that_says_what_to_change(X):
    wide = sp.csr_array((X.data, X.indices, X.indptr), shape=(300, 200_000))
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(2**28 / total)
    try:
        with pytest.raises(MemoryError, match="smaller batch_size"):
            on_gpu(MODELS[0], batch_size=300).fit(wide)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("model", HYBRIDS, ids=name_of)
def test_models_of_content_are_trained_on_the_device(model, X):
    F = sp.random_array((60, 20), density=0.3, format="csr", rng=np.random.default_rng(0))
    F.data[:] = 1
    first, second = (on_gpu(model).fit(X, item_features=F.astype(np.float32)) for _ in "ab")
    scores = first.decision_function(X)
    assert np.isfinite(first.loss_curve_).all()
    assert_near(on_cpu(first).decision_function(X), scores, 1e-4)
    assert_near(second.decision_function(X), scores, 1e-3)
    ranking = first.predict_ranking(X, k=50, exclude_seen=False)
    assert_array_equal(ranking, top_k(scores, 50, excluded=Excluded())[0])


def test_two_processes_train_the_model_of_one(tmp_path):
    found = in_processes.in_processes(tmp_path, DEVICE)
    for name in in_processes.MODELS:
        alone = in_processes.fitted(name, DEVICE)
        for together in found:
            assert_near(together[name]["scores"], alone["scores"], 1e-3)
            assert_allclose(together[name]["loss"], alone["loss"], rtol=1e-4)
        assert_array_equal(found[0][name]["scores"], found[1][name]["scores"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("block", [16, 4096])
def test_ease_has_the_weights_of_a_cpu(block, dtype, X, monkeypatch):
    monkeypatch.setattr(ease_on_device, "BLOCK", block)
    X = X.astype(dtype)
    expected = EASE(10, dropout=0.3).fit(X).coef_
    for model in (
        EASE(10, dropout=0.3, device=DEVICE).fit(X),
        EASE(10, dropout=0.3, device="auto").partial_fit(X[:100]).partial_fit(X[100:]),
    ):
        assert model.coef_.dtype == dtype
        assert_near(model.coef_, expected, 1e-5 if dtype == np.float32 else 1e-12)


def test_ease_of_more_items_than_a_block_has_the_weights_of_a_cpu():
    X = make_interactions(3_000, 5_000, random_state=0).data
    assert_near(EASE(device=DEVICE).fit(X).coef_, EASE().fit(X).coef_, 1e-4)


def test_ease_that_cannot_be_solved_is_an_error():
    X = sp.csr_array(np.full((5, 20), 1e4, dtype=np.float32))
    with pytest.raises(ValueError, match="is too small to solve"):
        EASE(1e-3, device=DEVICE).fit(X)


def test_ease_of_too_many_items_is_a_memory_error_before_it_begins():
    X = sp.csr_array(([1.0], ([0], [0])), shape=(1, 10**6), dtype=np.float32)
    with pytest.raises(MemoryError, match="EASE on 1,000,000 items"):
        EASE(device=DEVICE).fit(X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", ["cg", "cholesky"])
def test_wmf_has_the_scores_of_a_cpu(solver, dtype, X):
    X = X.astype(dtype)
    found, expected = (
        WMF(8, solver=solver, max_iter=4, device=device, random_state=0).fit(X)
        for device in (DEVICE, "cpu")
    )
    known = X[np.diff(X.indptr) > 0]
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    assert_near(found.decision_function(known), expected.decision_function(known), tolerance)
    assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=tolerance)


@pytest.mark.parametrize("model", [EASE(device=DEVICE), WMF(8, device=DEVICE)], ids=name_of)
def test_equations_are_not_solved_in_tf32(model, X):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(ValueError, match="needs products in float32"):
            model.fit(X)
    finally:
        torch.set_float32_matmul_precision(before)
