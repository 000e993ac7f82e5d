"""EASE and WMF by torch, which here computes on the CPU. See test_gpu.py for GPUs."""

import pickle
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.factorization import WMF  # noqa: E402
from sklrec.factorization import _wmf_on_device as wmf_on_device  # noqa: E402
from sklrec.linear import EASE  # noqa: E402
from sklrec.linear import _ease_on_device as ease_on_device  # noqa: E402

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture(scope="module")
def X():
    """Return confidences of 90 users and 50 items; a user and an item have none."""
    X = make_interactions(90, 50, random_state=0).data.tolil()
    X[3] = 0
    X[:, 5] = 0
    X = sp.csr_array(X)
    X.data = np.random.default_rng(0).integers(1, 4, X.nnz).astype(np.float32)
    return X


@pytest.fixture
def torch_device(monkeypatch):
    """Let ``device="cuda"`` be the CPU by torch, in blocks that are smaller than the data."""

    def named(device):
        return None if device == "cpu" else torch.device("cpu")

    monkeypatch.setattr("sklrec.linear._ease.gpu_named", named)
    monkeypatch.setattr("sklrec.factorization._wmf.gpu_named", named)
    monkeypatch.setattr(ease_on_device, "BLOCK", 16)
    monkeypatch.setattr(wmf_on_device, "CHUNK", 2**10)
    return monkeypatch


def assert_near(found, expected, dtype):
    assert found.dtype == expected.dtype == dtype
    tolerance = {np.float32: 1e-5, np.float64: 1e-12}[dtype]
    assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_ease_has_the_weights_of_numpy(dtype, dropout, X, torch_device):
    X = X.astype(dtype)
    expected = EASE(10, dropout=dropout).fit(X).coef_
    model = EASE(10, dropout=dropout, device="cuda").fit(X)
    assert_near(model.coef_, expected, dtype)
    parts = EASE(10, dropout=dropout, device="cuda").partial_fit(X[:40]).partial_fit(X[40:])
    assert_near(np.triu(parts.gram_), np.triu((X.T @ X).toarray()), dtype)
    assert_near(parts.coef_, expected, dtype)


def test_weights_of_a_gpu_that_is_not_there_are_solved_for_on_the_cpu(X, torch_device):
    model = EASE(10, device="cuda").partial_fit(X)
    model.gram_.flags.writeable = False  # as if it was memory-mapped
    there = pickle.loads(pickle.dumps(model)).coef_
    torch_device.undo()
    assert_allclose(pickle.loads(pickle.dumps(model)).coef_, there, atol=1e-6)


def test_ease_that_cannot_be_solved_is_the_error_of_numpy(torch_device):
    X = sp.csr_array(np.ones((5, 20), dtype=np.float32) * 1e4)
    for device in ("cpu", "cuda"):
        with pytest.raises(ValueError, match=r"lambda_=0.001 is too small .* in float32"):
            EASE(1e-3, device=device).fit(X)
        with pytest.raises(ValueError, match="too large for float32"):
            EASE(device=device).fit(1e16 * X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", ["cg", "cholesky"])
@pytest.mark.parametrize(
    "params", [{}, {"zeros": "unobserved", "frequency_exponent": 0.0}, {"binary": True}], ids=str
)
def test_wmf_has_the_scores_of_numpy(params, solver, dtype, X, torch_device):
    X = X.astype(dtype)
    params = {"n_components": 6, "solver": solver, "max_iter": 4, "random_state": 0} | params
    found, expected = (WMF(**params, device=device).fit(X) for device in ("cuda", "cpu"))
    known = np.diff(X.indptr) > 0
    scores, of_numpy = (model.decision_function(X[known]) for model in (found, expected))
    assert_near(scores, of_numpy, dtype)
    rtol = {np.float32: 1e-5, np.float64: 1e-10}[dtype]
    assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=rtol)
    # What partial_fit goes on with does not depend on the signs of the factors.
    again, of_numpy = (
        model.partial_fit(X[:20]).decision_function(X[known]) for model in (found, expected)
    )
    assert_near(again, of_numpy, dtype)


def test_exact_solutions_of_wmf_have_the_lowest_loss(X, torch_device):
    params = {"n_components": 6, "max_iter": 1, "random_state": 0, "device": "cuda"}
    exact = WMF(solver="cholesky", **params).fit(X).loss_curve_[0]
    losses = [WMF(cg_steps=n, **params).fit(X).loss_curve_[0] for n in (1, 2, 20)]
    assert losses[0] > losses[1] > exact
    assert losses[2] == pytest.approx(exact, rel=1e-4)


def test_wmf_without_a_unique_solution_is_an_error(torch_device):
    X = sp.csr_array(np.eye(8, dtype=np.float32))  # one equation for four unknowns
    model = WMF(4, lambda_=1e-30, solver="cholesky", unobserved_weight=0.0, device="cuda")
    with pytest.raises(ValueError, match="penalty 1e-30 has no unique solution in float32"):
        model.fit(X)


@pytest.mark.parametrize(
    ("check", "module"),
    [
        (lambda X, gpu: ease_on_device.check_ease(X, gpu), ease_on_device),
        (lambda X, gpu: wmf_on_device.check_wmf(X, 8, gpu), wmf_on_device),
    ],
    ids=["EASE", "WMF"],
)
def test_what_a_gpu_cannot_do_is_refused_before_it_begins(check, module, X, monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr(module, "free_memory", lambda device: 10**12)
    check(X, gpu)
    monkeypatch.setattr(module, "free_memory", lambda device: 10**6)
    with pytest.raises(MemoryError, match=r"on cuda needs .* but only"):
        check(X, gpu)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    with pytest.raises(ValueError, match=r"torch.set_float32_matmul_precision\('highest'\)"):
        check(X, gpu)


@pytest.mark.parametrize("model", [EASE(), WMF(2)], ids=lambda model: type(model).__name__)
class TestDevices:
    """What can be given as the device."""

    @pytest.mark.parametrize("device", ["gpu", "mps", [], None])
    def test_a_device_must_be_a_cpu_or_a_gpu(self, model, device, X):
        with pytest.raises(ValueError, match="device must be 'auto', 'cpu'"):
            model.set_params(device=device).fit(X)

    @no_gpu
    def test_a_gpu_must_be_there(self, model, X):
        with pytest.raises(ValueError, match="torch finds none"):
            model.set_params(device="cuda").fit(X)

    @pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "cpu:0"], ids=str)
    def test_a_cpu_has_many_names(self, model, device, X):
        assert model.set_params(device=device).fit(X).n_samples_seen_ == X.shape[0]

    def test_only_a_gpu_needs_torch(self, model, X, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        model.set_params(device="cpu").fit(X)
        with pytest.raises(ImportError, match="device='cuda' needs torch, which is not installed"):
            model.set_params(device="cuda").fit(X)
