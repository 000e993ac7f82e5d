"""Time or weigh the training of one library's Mult-VAE, in a process of its own.

Prints one line of JSON. What each task measures is said in README.md beside this file.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from sklrec.neural import MultVAE

# 600-200-600 with tanh, the network and the settings of Liang et al. (2018).
HIDDEN, LATENT, DROPOUT = 600, 200, 0.5
BATCH = 500
LEARNING_RATE = 1e-3
BETA, ANNEALING_STEPS = 0.2, 20_000

WARM_UP = 3  # steps that are not counted
MEMORY_STEPS = 5
EPOCHS = 1, 6  # two fits, of which the difference counts


def model(device: str = "cpu", **settings: Any) -> MultVAE:
    """Return a MultVAE with the settings of this file, whatever its defaults are."""
    from sklrec.neural import MultVAE

    return MultVAE(
        LATENT,
        hidden_layer_sizes=(HIDDEN,),
        dropout=DROPOUT,
        beta=BETA,
        n_annealing_steps=ANNEALING_STEPS,
        batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        device=device,
        random_state=0,
        **settings,
    )


def sklrec_step(X: sp.csr_array) -> dict:
    """Time the steps of a fit, and the part of each that is the network's or the optimizer's."""
    import torch
    from skorch.callbacks import Callback

    from sklrec.neural._training._net import TorchNet

    step_optimizer = TorchNet._step_optimizer
    inside, ends, shares = Stopwatch(), [], []

    class Steps(Callback):
        def on_batch_end(self, net: Any, **kwargs: Any) -> None:
            ends.append(time.perf_counter())
            shares.append(inside.read())

    def timed_step(net: TorchNet, step_fn: Callable) -> None:
        # The optimizer calls step_fn, which clears gradients and goes forward and backward.
        inside.timed(step_optimizer)(net, inside.paused(step_fn))

    with (
        patch.object(TorchNet, "infer", inside.timed(TorchNet.infer)),
        patch.object(TorchNet, "get_loss", inside.timed(TorchNet.get_loss)),
        patch.object(torch.Tensor, "backward", inside.timed(torch.Tensor.backward)),
        patch.object(TorchNet, "_step_optimizer", timed_step),
    ):
        model(max_epochs=1, callbacks=[Steps()]).fit(X)
    steps = np.diff(ends)[WARM_UP - 1 :]
    outside = steps - shares[WARM_UP:]
    return {"seconds": float(np.median(steps)), "outside": float(np.median(outside))}


class Stopwatch:
    """Adds up the time spent in some calls, without that of some calls inside them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable) -> Callable:
        """Return the function with its time added."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.seconds -= time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter()

        return call

    def paused(self, function: Callable) -> Callable:
        """Return the function, called by one that is timed, with its time left out."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.seconds += time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds -= time.perf_counter()

        return call

    def read(self) -> float:
        """Return the seconds and start again from zero."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def dense_step(X: sp.csr_array) -> dict:
    """Time the steps of the loop that most ports of Mult-VAE have, on dense batches."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    class DenseVAE(nn.Module):
        def __init__(self, n_items: int) -> None:
            super().__init__()
            self.encoder = nn.Sequential(
                nn.Linear(n_items, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2 * LATENT)
            )
            self.decoder = nn.Sequential(
                nn.Linear(LATENT, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, n_items)
            )

        def loss(self, x: torch.Tensor, beta: float) -> torch.Tensor:
            thinned = F.dropout(F.normalize(x), DROPOUT, self.training)
            mu, logvar = self.encoder(thinned).chunk(2, dim=1)
            z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar) if self.training else mu
            nll = -(F.log_softmax(self.decoder(z), dim=1) * x).sum(dim=1).mean()
            kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(dim=1).mean()
            return nll + beta * kl

    torch.manual_seed(0)
    module = DenseVAE(X.shape[1])
    optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE)
    order = np.random.default_rng(0).permutation(X.shape[0])
    ends = []
    for step, start in enumerate(range(0, X.shape[0], BATCH)):
        x = torch.from_numpy(X[order[start : start + BATCH]].toarray())
        optimizer.zero_grad()
        loss = module.loss(x, min(BETA, step / ANNEALING_STEPS))
        loss.backward()
        optimizer.step()
        loss.item()
        ends.append(time.perf_counter())
    steps = np.diff(ends)[WARM_UP - 1 :]

    # The work is equal if, with the same weights, the loss is.
    ours, weights = loss_of_model(X)
    module.encoder[0].weight.data = weights["encoder.first.weight"].T
    module.encoder[0].bias.data = weights["encoder.first.bias"]
    module.encoder[2].load_state_dict(layer(weights, "encoder.hidden.1"))
    module.decoder[0].load_state_dict(layer(weights, "decoder.0"))
    module.decoder[2].load_state_dict(layer(weights, "item_layer"))
    theirs = module.eval().loss(torch.from_numpy(X[:BATCH].toarray()), BETA).item()
    return {"seconds": float(np.median(steps)), "max_abs_diff": abs(ours - theirs)}


def loss_of_model(X: sp.csr_array) -> tuple[float, dict]:
    """Return the loss of our model on the first batch at its latent mean, and its weights."""
    import torch

    from sklrec.neural._training._data import SparseRows

    net = model(max_epochs=1).set_params(n_annealing_steps=0).fit(X[:BATCH]).net_
    batch = SparseRows(X)[torch.arange(BATCH)]
    net.module_.eval()
    with torch.inference_mode():
        loss = net.get_loss(net.infer(batch), batch).item()
    return loss, net.module_.state_dict()


def layer(weights: dict, name: str) -> dict:
    return {end: weights[f"{name}.{end}"] for end in ("weight", "bias")}


def sklrec_epoch(X: sp.csr_array) -> dict:
    return {"seconds": seconds_per_epoch(lambda n_epochs: model(max_epochs=n_epochs).fit(X))}


def cornac_epoch(X: sp.csr_array) -> dict:
    from cornac.data import Dataset
    from cornac.models import VAECF

    users, items = X.nonzero()
    data = Dataset.from_uir(list(zip(users.tolist(), items.tolist(), X.data.tolist(), strict=True)))
    _ = data.matrix  # made on first use, and kept

    def fit(n_epochs: int) -> None:
        VAECF(
            k=LATENT,
            autoencoder_structure=[HIDDEN],
            act_fn="tanh",
            likelihood="mult",
            n_epochs=n_epochs,
            batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            beta=BETA,
            seed=0,
        ).fit(data)

    return {"seconds": seconds_per_epoch(fit)}


def seconds_per_epoch(fit: Callable[[int], object]) -> float:
    """Return the time of an epoch without the time before the first."""
    fit(1)  # starts threads and imports what is imported late
    taken = []
    for n_epochs in EPOCHS:
        start = time.perf_counter()
        fit(n_epochs)
        taken.append(time.perf_counter() - start)
    return (taken[1] - taken[0]) / (EPOCHS[1] - EPOCHS[0])


def sklrec_memory(path: str) -> dict:
    """Weigh the first steps of a fit, the interactions included, above model and optimizer."""
    from skorch.callbacks import Callback

    class StopEarly(Callback):
        n_steps = 0

        def on_batch_end(self, net: Any, **kwargs: Any) -> None:
            self.n_steps += 1
            if self.n_steps == MEMORY_STEPS:
                raise KeyboardInterrupt

    # Code that is loaded late, and the threads' own memory, are not the fit's.
    model(max_epochs=1).fit(sp.random_array((BATCH, 100), density=0.1, format="csr"))
    before = rss()
    X = load(path)
    vae = model(max_epochs=1, callbacks=[StopEarly()])
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Training was interrupted", UserWarning)
        vae.fit(X)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    csr = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    dense_batch = 4 * BATCH * X.shape[1]
    return {
        "seconds": seconds,
        "peak_gib": (peak - before - held_by_training(vae)) / 2**30,
        "limit_gib": (csr + 2 * dense_batch) / 2**30,
    }


def held_by_training(vae: MultVAE) -> int:
    """Return the bytes of weights, gradients and Adam's two moments, float32."""
    return 4 * 4 * sum(weight.numel() for weight in vae.net_.module_.parameters())


def rss() -> int:
    """Return the memory held now, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def time_epochs(model: Any, X: sp.csr_array, X_val: sp.csr_array | None = None) -> dict:
    """Time each epoch of a fit and all of it, and weigh what it takes of a GPU.

    A validation, which comes after each epoch, belongs to the fit but not to an epoch.
    """
    import torch
    from skorch.callbacks import Callback

    on_gpu = torch.device(model.device).type == "cuda"
    epochs: list[float] = []

    class Epochs(Callback):
        """Called before validation."""

        def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
            if on_gpu:
                torch.cuda.synchronize()
            self.start = time.perf_counter()

        def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
            if on_gpu:
                torch.cuda.synchronize()
            epochs.append(time.perf_counter() - self.start)

    held_before = 0
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        held_before = torch.cuda.memory_allocated()
    start = time.perf_counter()
    model.set_params(callbacks=[Epochs()]).fit(X, X_val=X_val)
    total = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() - held_before if on_gpu else 0
    return {"epochs": epochs, "total_s": total, "peak_bytes": peak}


def train_on_gpu(
    X: sp.csr_array, *, mixed_precision: bool, n_epochs: int, n_validation_users: int
) -> dict:
    """Time each epoch and the whole fit, with validation after each epoch, and weigh it."""
    vae = model("cuda", max_epochs=n_epochs, mixed_precision=mixed_precision)
    found = time_epochs(vae, X, X[:n_validation_users])  # for the time, any users do
    return {
        "seconds": statistics.median(found["epochs"]),
        "min_s": min(found["epochs"]),
        "max_s": max(found["epochs"]),
        "total_s": found["total_s"],
        "peak_gib": (found["peak_bytes"] - held_by_training(vae)) / 2**30,
        "shape": "x".join(map(str, X.shape)),
        "nnz": int(X.nnz),
        "versions": versions("sklrec"),
    }


TASKS = {
    ("step", "sklrec"): sklrec_step,
    ("step", "dense torch"): dense_step,
    ("epoch", "sklrec"): sklrec_epoch,
    ("epoch", "cornac"): cornac_epoch,
    ("memory", "sklrec"): sklrec_memory,
}


def versions(library: str) -> str:
    names = {
        "sklrec": ["sklrec", "skorch", "torch", "numpy", "scipy"],
        "dense torch": ["torch", "numpy", "scipy"],
        "cornac": ["cornac", "torch", "numpy", "scipy"],
    }[library]
    pairs = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return "; ".join([f"python {platform.python_version()}", *pairs])


def load(path: str) -> sp.csr_array:
    return sp.csr_array(sp.load_npz(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=["step", "epoch", "memory"], required=True)
    parser.add_argument("--library", choices=["sklrec", "dense torch", "cornac"], required=True)
    parser.add_argument("--data", required=True, help="interactions, by scipy.sparse.save_npz")
    options = parser.parse_args()
    task = TASKS[options.task, options.library]
    # Memory is counted with the interactions, which that task therefore loads itself.
    result = task(options.data if options.task == "memory" else load(options.data))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    X = load(options.data)
    about = {
        "peak_gib": peak / 2**20,
        "shape": "x".join(map(str, X.shape)),
        "nnz": int(X.nnz),
        "dtype": "float32",
        "versions": versions(options.library),
    }
    print(json.dumps(about | result))


if __name__ == "__main__":
    main()
