"""Time the epochs or the fit of one model of item content, in a process of its own.

Prints one line of JSON. What is measured is said in README.md beside this file.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

EPOCHS = 1, 2  # two fits, of which the difference counts


def seconds_per_epoch(fit: Callable[[int], object]) -> float:
    """Return the CPU time of an epoch without the time before the first."""
    taken = []
    for n_epochs in EPOCHS:
        start = time.process_time()
        fit(n_epochs)
        taken.append(time.process_time() - start)
    return (taken[1] - taken[0]) / (EPOCHS[1] - EPOCHS[0])


def cvae(X: sp.csr_array, F: sp.csr_array) -> float:
    """Time an epoch of CVAE, one pass over the items and one sweep."""
    from sklrec.hybrid import CVAE

    def fit(n_epochs: int) -> None:
        model = CVAE(n_pretraining_epochs=0, max_epochs=n_epochs, device="cpu", random_state=0)
        model.fit(X, item_features=F)

    return seconds_per_epoch(fit)


def md_cvae(X: sp.csr_array, F: sp.csr_array) -> float:
    """Time an epoch of MD-CVAE, one pass over the users and one over the items."""
    from sklrec.hybrid import MDCVAE

    def fit(n_epochs: int) -> None:
        MDCVAE(max_epochs=n_epochs, device="cpu", random_state=0).fit(X, item_features=F)

    return seconds_per_epoch(fit)


def cornac_cvae(X: sp.csr_array, F: sp.csr_array) -> float:
    """Time an epoch of cornac's CVAE, of the same sizes and batches as ours by default."""
    import cornac.models.cvae.cvae  # noqa: F401 - it imports tensorflow, before the clock runs
    from cornac.data import Dataset, TextModality
    from cornac.models import CVAE

    users, items = X.nonzero()
    n_users, n_items = X.shape
    triples = (users, items, np.ones(len(users), dtype="float"))
    data = Dataset(
        n_users,
        n_items,
        {user: user for user in range(n_users)},
        {item: item for item in range(n_items)},
        triples,
    )
    text = TextModality(corpus=["word"] * n_items, ids=list(range(n_items)), max_vocab=1)
    text.build(id_map=data.iid_map)
    text.count_matrix = sp.csr_matrix(F)
    data.add_modalities(item_text=text)

    def fit(n_epochs: int) -> None:
        CVAE(n_epochs=n_epochs, input_dim=F.shape[1], seed=0, verbose=False).fit(data)

    return seconds_per_epoch(fit)


def ease(X: sp.csr_array, F: sp.csr_array) -> float:
    """Time the fit of EASE, which reads no features."""
    from sklrec.linear import EASE

    start = time.process_time()
    EASE(50).fit(X)
    return time.process_time() - start


def collective_ease(X: sp.csr_array, F: sp.csr_array) -> float:
    """Time the fit of CollectiveEASE."""
    from sklrec.hybrid import CollectiveEASE

    start = time.process_time()
    CollectiveEASE(50).fit(X, item_features=F)
    return time.process_time() - start


TASKS: dict[str, Callable[..., float]] = {
    "CVAE": cvae,
    "MD-CVAE": md_cvae,
    "cornac CVAE": cornac_cvae,
    "EASE": ease,
    "CollectiveEASE": collective_ease,
}


def versions(task: str) -> str:
    """Return the versions of what the task runs on."""
    ours = ["sklrec", "torch", "numpy", "scipy"]
    names = ["cornac", "tensorflow-cpu", "numpy", "scipy"] if "cornac" in task else ours
    found = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return "; ".join([f"python {platform.python_version()}", *found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--data", required=True, help="folder with X.npz and F.npz")
    options = parser.parse_args()
    X, F = (sp.csr_array(sp.load_npz(f"{options.data}/{name}.npz")) for name in ("X", "F"))
    seconds = TASKS[options.task](X, F)
    found: dict[str, Any] = {
        "seconds": seconds,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "shape": f"{X.shape[0]}x{X.shape[1]}x{F.shape[1]}",
        "nnz": X.nnz,
        "dtype": str(X.dtype),
        "versions": versions(options.task),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
