"""Fits in the processes of a group: ``python in_processes.py RANK N FOLDER DEVICE``."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch

from sklrec.datasets import make_interactions
from sklrec.hybrid import CVAE, DAVE, DICER, MDCVAE
from sklrec.neural import CDAE, VASP, HVampVAE, MultVAE, NeuMF, NeuralEASE, RecVAE

# 101 users: with batches of 25 the last one has fewer users than there are processes.
X = make_interactions(101, 30, random_state=0).data
F = sp.random_array((30, 12), density=0.4, rng=np.random.default_rng(0), dtype=np.float32).tocsr()
SMALL = {"max_epochs": 3, "batch_size": 25, "random_state": 0}

# One for each way of drawing numbers, of taking batches, and of what happens between passes.
MODELS = {
    "validation, noise for users": MultVAE(
        4,
        hidden_layer_sizes=(8,),
        early_stopping=True,
        validation_fraction=0.135,  # 13 users, of whom one process has 6 and one 7
        n_iter_no_change=1,
        n_annealing_steps=10,
    ),
    "passes": RecVAE(4, hidden_size=8),
    "two samples": HVampVAE(4, hidden_layer_sizes=(8,), n_pseudo_inputs=3),
    "noise for entries": NeuralEASE(dropout=0.3),
    "halves": VASP(4, hidden_size=8, training="alternating", item_share=0.5),
    "pairs": NeuMF(n_components=4, hidden_layer_sizes=(8, 4)),
    "sweeps": CVAE(4),
    "users and items": MDCVAE(4, hidden_layer_sizes=(8,), item_dropout=0.3),
}
REFUSED = [CDAE(4), NeuMF(user_vector="solve"), DICER(4), DAVE(4)]


def fitted(name, device):
    """Fit one of the models and return what it has learnt."""
    model = MODELS[name].set_params(**SMALL, device=device)
    model.fit(X, **({"item_features": F} if isinstance(model, (CVAE, MDCVAE)) else {}))
    return {
        "scores": model.decision_function(X),
        "loss": model.loss_curve_,
        "validation": model.validation_scores_,
        "best epoch": getattr(model, "best_epoch_", None),
    }


def error_of(model, data):
    """Return the message of the error that ``fit`` raises, or None."""
    try:
        model.set_params(**SMALL, device="cpu").fit(data)
    except ValueError as error:
        return str(error)
    return None


def work(rank, n_processes, folder, device):
    """Do what one process does, and write what it finds."""
    backend = "gloo"
    if device == "cuda":
        n_devices = torch.cuda.device_count()
        torch.cuda.set_device(rank % n_devices)
        backend = "gloo" if n_devices < n_processes else "cpu:gloo,cuda:nccl"
    torch.distributed.init_process_group(
        backend, init_method=f"file://{folder}/group", rank=rank, world_size=n_processes
    )
    found = {name: fitted(name, device) for name in MODELS}
    small = NeuralEASE(max_epochs=1, device=device)
    found["any seed"] = MultVAE(4, hidden_layer_sizes=(8,), max_epochs=1).fit(X).net_.seed
    found["refused"] = [error_of(model, X) for model in REFUSED]
    found["other lambda_"] = error_of(NeuralEASE(lambda_=1 + rank), X)
    found["other X"] = error_of(small, X[rank:])
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))
    torch.distributed.destroy_process_group()


def in_processes(folder, device, n_processes=2):
    """Return what each process finds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(n_processes), str(folder), device],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(n_processes)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert not any(process.returncode for process in processes), errors
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(n_processes)]


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
