"""Memory that ELSA needs to fit as the catalogue grows: ``python benchmarks/memory_elsa.py``.

20,000 users with 100 interactions each among 250,000, 500,000 and 1,000,000 items, one epoch with
64 components; each fit in a fresh process. ``peak_gib`` is the peak of the process above what it
holds after it has imported everything, fitted a small model and made the interactions; divided by
the number of items and components it is ``bytes_each``. ``ease_gib`` is the one matrix that EASE
would need. Ends with 1 if ``bytes_each`` grows by more than 10% from the fewest items to the most.
Writes ``results/elsa_memory.csv``; about ten minutes and 3 GB of memory, under Linux.
"""

import csv
import json
import resource
import sys
from importlib.metadata import version
from pathlib import Path

from _speed import RESULTS, check, run_worker

N_ITEMS = [250_000, 500_000, 1_000_000]
N_USERS, PER_USER, N_COMPONENTS = 20_000, 100, 64
LIBRARIES = ["sklrec", "torch", "skorch", "numpy", "scipy"]
GIB = 2**30


def main() -> int:
    rows = []
    for n_items in N_ITEMS:
        measured = run_worker(sys.executable, Path(__file__), n_items, threads=1)
        peak = measured["peak_bytes"]
        rows.append(
            {
                "n_items": n_items,
                "n_components": N_COMPONENTS,
                "n_users": N_USERS,
                "nnz": measured["nnz"],
                "versions": measured["versions"],
                "peak_gib": f"{peak / GIB:.2f}",
                "bytes_each": f"{peak / n_items / N_COMPONENTS:.1f}",
                "ease_gib": f"{4 * n_items**2 / GIB:.0f}",
            }
        )
        print(rows[-1], flush=True)
    with (RESULTS / "elsa_memory.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    growth = float(rows[-1]["bytes_each"]) / float(rows[0]["bytes_each"])
    return 0 if check([("bytes an item and component, growth", growth, 1.1)]) else 1


def worker(n_items: int) -> dict:
    import numpy as np
    import scipy.sparse as sp

    from sklrec.neural import ELSA

    rng = np.random.default_rng(0)
    items = (n_items * rng.random(N_USERS * PER_USER, dtype=np.float32) ** 3).astype(np.int32)
    indptr = np.arange(0, items.size + 1, PER_USER, dtype=np.int32)
    X = sp.csr_array((np.ones(items.size, np.float32), items, indptr), shape=(N_USERS, n_items))
    X.sum_duplicates()
    model = ELSA(N_COMPONENTS, max_epochs=1, random_state=0)
    model.fit(X[:300, :1000])  # so that code and threads are there
    before = _peak_bytes()
    model.fit(X)
    return {
        "nnz": X.nnz,
        "peak_bytes": _peak_bytes() - before,
        "versions": "; ".join(f"{name} {version(name)}" for name in LIBRARIES),
    }


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(worker(int(sys.argv[1]))))
    else:
        sys.exit(main())
