"""What the memory guards ask for, beside what a fit needs: ``python benchmarks/memory_guards.py``.

Each model is fitted in a fresh process on made interactions, at a size where the guard matters.
``asked_gib`` is the most that one call of ``check_memory`` asked for during the fit, ``peak_gib``
the peak of resident memory over the fit above the level before it, ``ratio`` the first divided by
the second. Ends with 1 if one is not within 10% of the other. Writes
``results/memory_guards.csv``; about ten minutes and 4 GB of memory, under Linux.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from importlib.metadata import version
from pathlib import Path

from _speed import RESULTS, check, run_worker

# Users, items and interactions of a user; parameters other than the defaults.
CASES: dict[str, tuple[tuple[int, int, int], dict]] = {
    "EASE": ((20_000, 8_000, 100), {}),
    "EASE, few interactions": ((20_000, 8_000, 10), {}),
    "SparseEASE": ((50_000, 100_000, 30), {"n_neighbors": 50}),
    "SLIM, ADMM": ((20_000, 8_000, 100), {"solver": "admm", "max_iter": 2}),
    "SLIM, ADMM, few interactions": ((20_000, 8_000, 10), {"solver": "admm", "max_iter": 2}),
    "ItemKNN": ((100_000, 200_000, 50), {"n_neighbors": 50}),
    "RP3beta": ((100_000, 200_000, 50), {"n_neighbors": 50}),
    "LFM": ((50_000, 10_000, 100), {"max_iter": 2}),
    "LFM, factors": ((50_000, 10_000, 100), {"n_components": 32, "max_iter": 2}),
    "LFM, few values": ((100_000, 10_000, 10), {"n_components": 32, "max_iter": 2}),
    "WMF": ((100_000, 20_000, 50), {"max_iter": 2}),
    "WMF, few interactions": ((300_000, 20_000, 5), {"max_iter": 2}),
    "WMF, exact": ((100_000, 20_000, 50), {"solver": "cholesky", "max_iter": 2}),
    "ELSA": ((1_000, 200_000, 50), {"n_components": 64}),
    "CDAE": ((2_000, 40_000, 50), {}),
    "NeuMF": ((1_000, 200_000, 50), {}),
    "MultDAE": ((1_000, 40_000, 50), {}),
    "MultVAE": ((1_000, 40_000, 50), {}),
    "RecVAE": ((1_000, 40_000, 50), {}),
    "HVampVAE": ((1_000, 20_000, 50), {}),
    "NeuralEASE": ((1_000, 6_000, 50), {}),
    "FLVAE": ((1_000, 40_000, 50), {}),
    "VASP": ((1_000, 6_000, 50), {}),
}
COLUMNS = ["case", "shape", "nnz", "threads", "parameters", "versions"]
COLUMNS += ["asked_gib", "peak_gib", "ratio"]
TOLERANCE = 0.1
GIB = 2**30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "memory_guards.csv")
    options = parser.parse_args()
    rows = []
    for case in options.cases:
        measured = run_worker(sys.executable, Path(__file__), case, threads=options.threads)
        asked, peak = measured["asked_bytes"], measured["peak_bytes"]
        (n_users, n_items, _), parameters = CASES[case]
        rows.append(
            {
                "case": case,
                "shape": f"{n_users}x{n_items}",
                "nnz": measured["nnz"],
                "threads": options.threads,
                "parameters": "; ".join(f"{name}={value}" for name, value in parameters.items()),
                "versions": measured["versions"],
                "asked_gib": f"{asked / GIB:.3f}",
                "peak_gib": f"{peak / GIB:.3f}",
                "ratio": f"{asked / peak:.3f}",
            }
        )
        print({name: rows[-1][name] for name in ("case", *COLUMNS[-3:])}, flush=True)
        write(rows, options.output)
    off = [(f"{row['case']}: off by", abs(float(row["ratio"]) - 1), TOLERANCE) for row in rows]
    return 0 if check(off) else 1


def write(rows: list[dict], path: Path) -> None:
    """Write rows to the table, in the place of those of the same cases."""
    kept = {}
    if path.exists():
        with path.open(newline="") as file:
            kept = {row["case"]: row for row in csv.DictReader(file)}
    kept |= {row["case"]: row for row in rows}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept[case] for case in CASES if case in kept)


def worker(case: str) -> dict:
    import numpy as np
    import scipy.sparse as sp

    from sklrec import _memory
    from sklrec.utils import all_estimators

    (n_users, n_items, per_user), parameters = CASES[case]
    model = dict(all_estimators("recommender"))[case.partition(",")[0]](**parameters)
    libraries = ["sklrec", "numpy", "scipy"]
    if "max_epochs" in model.get_params():
        model.set_params(max_epochs=1)
        libraries += ["torch", "skorch"]
    if "random_state" in model.get_params():
        model.set_params(random_state=0)

    rng = np.random.default_rng(0)
    items = (n_items * rng.random(n_users * per_user, dtype=np.float32) ** 2).astype(np.int32)
    indptr = np.arange(0, items.size + 1, per_user, dtype=np.int32)
    X = sp.csr_array((np.ones(items.size, np.float32), items, indptr), shape=(n_users, n_items))
    X.sum_duplicates()
    X.data = rng.integers(1, 6, X.nnz).astype(np.float32) if "LFM" in case else np.sign(X.data)
    X = sp.csr_array((X.data.copy(), X.indices.copy(), X.indptr), shape=X.shape)

    asked = []
    check_memory = _memory.check_memory
    for module in list(sys.modules.values()):
        if getattr(module, "check_memory", None) is check_memory:
            module.check_memory = lambda n_bytes, what: asked.append(n_bytes)
    model.fit(X[:300, :1000])  # so that code and threads are there
    asked.clear()
    del items, indptr
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    before = _status("VmRSS")
    model.fit(X)
    return {
        "nnz": int(X.nnz),
        "asked_bytes": max(asked, default=0),
        "peak_bytes": _status("VmHWM") - before,
        "versions": "; ".join(f"{name} {version(name)}" for name in libraries),
    }


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}; this needs Linux.")


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1] in CASES:
        import warnings

        warnings.simplefilter("ignore")  # that so few iterations are not enough
        print(json.dumps(worker(sys.argv[1])))
    else:
        sys.exit(main())
