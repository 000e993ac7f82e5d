"""Compare neural steps and predictions with the bare work: ``python benchmarks/speed_neural.py``.

Each row is a fresh process in which both ways take turns; the ratio is that of the shortest times.
See README.md beside this file. Writes ``results/neural_speed.csv``; five minutes and 2 GB of
memory, under Linux.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from _speed import RESULTS, check, cpu_name, run_worker

COLUMNS = [
    "date", "cpu", "threads", "versions", "what", "compared_with", "shape", "turns",
    "before_min_s", "ours_min_s", "ratio", "loss_difference", "memory_of_weights", "bfloat16_units",
]  # fmt: skip
LIBRARIES = ["sklrec", "torch", "skorch", "numpy", "scipy"]

# Users, items and turns of each; "tiny" only shows that the benchmark runs.
ROWS = {
    "mixed_precision": ("float32 step", {"large": (2_500, 20_000, 3), "tiny": (1_000, 300, 1)}),
    "large catalogue": ("bare product", {"large": (64, 1_000_000, 8), "tiny": (8, 3_000, 2)}),
    "large catalogue, ranking": (
        "product and top_k",
        {"large": (64, 1_000_000, 8), "tiny": (8, 3_000, 2)},
    ),
    "large catalogue, one user": (
        "product and top_k",
        {"large": (1, 1_000_000, 20), "tiny": (1, 3_000, 2)},
    ),
    "float64 rows": ("float32 rows", {"large": (64, 10_000, 5), "tiny": (8, 300, 2)}),
}
PER_USER, N_COMPONENTS = 70, 64

MOST_STEP = 0.5  # of the float32 step, on a CPU with units that multiply in bfloat16
MOST_STEP_WITHOUT = 1.1  # where it has no effect
MOST_LOSS = 2e-3
MOST_PRODUCT = 1.2
MOST_MEMORY = 0.1  # of the weights, beside the scores


def interactions(n_users: int, n_items: int) -> Any:
    import numpy as np
    import scipy.sparse as sp

    items = np.random.default_rng(0).integers(n_items, size=n_users * PER_USER)
    indptr = np.arange(0, items.size + 1, PER_USER)
    X = sp.csr_array((np.ones(items.size, np.float32), items, indptr), shape=(n_users, n_items))
    X.sum_duplicates()
    X.data[:] = 1
    return X


def take_turns(ways: list[Callable[[], Any]], turns: int) -> list[float]:
    """Return the shortest time of each way, after one call that is not counted."""
    for way in ways:
        way()
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(turns):
        for way, times in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            way()
            times.append(time.perf_counter() - start)
    return [min(times) for times in seconds]


def mixed_precision(n_users: int, n_items: int, turns: int) -> dict:
    """Time steps with and without it, and compare losses with the units taken for there."""
    from unittest.mock import patch

    import numpy as np
    from neural_worker import BATCH, model
    from skorch.callbacks import Callback

    from sklrec.neural._training._net import cpu_multiplies_bfloat16

    X = interactions(n_users, n_items)

    class Steps(Callback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_batch_end(self, net: Any, **kwargs: Any) -> None:
            self.ends.append(time.perf_counter())

    def shortest_step(mixed: bool) -> tuple[float, float]:
        steps = Steps()
        fitted = model(max_epochs=1, mixed_precision=mixed, callbacks=[steps]).fit(X)
        return min(b - a for a, b in zip(steps.ends, steps.ends[1:], strict=False)), (
            fitted.loss_curve_[0]
        )

    times: dict[bool, list[float]] = {False: [], True: []}
    losses = {}
    for _ in range(turns):
        for mixed in times:
            seconds, losses[mixed] = shortest_step(mixed)
            times[mixed].append(seconds)
    units = cpu_multiplies_bfloat16()
    few = X[: 2 * BATCH]  # products in bfloat16 are slow where there are no units
    with patch("sklrec.neural._training._net.cpu_multiplies_bfloat16", lambda: True):
        forced = np.array(model(max_epochs=2, mixed_precision=True).fit(few).loss_curve_)
    plain = np.array(model(max_epochs=2).fit(few).loss_curve_)
    return {
        "before": min(times[False]),
        "ours": min(times[True]),
        "bfloat16_units": units,
        "unchanged": losses[True] == losses[False],
        "loss_difference": float(np.abs(forced / plain - 1).max()),
    }


def large_catalogue(n_users: int, n_items: int, turns: int, *, ranking: bool) -> dict:
    """Time scores or rankings of ELSA beside the product of user and item vectors."""
    import torch

    from sklrec._ranking import Excluded, top_k
    from sklrec.neural import ELSA

    X = interactions(n_users, n_items)
    model = ELSA(N_COMPONENTS, max_epochs=1, device="cpu", random_state=0).fit(X)
    A = torch.from_numpy(model.item_embeddings_)
    h = torch.from_numpy(X @ A.numpy())

    def product() -> Any:
        with torch.inference_mode():
            return (h @ A.T).numpy()

    if ranking:
        before, ours = take_turns(
            [
                lambda: top_k(product(), 10, excluded=Excluded(entries=X)),
                lambda: model.predict_ranking(X, k=10),
            ],
            turns,
        )
    else:
        before, ours = take_turns([product, lambda: model.decision_function(X)], turns)
    return {"before": before, "ours": ours}


def float64_rows(n_users: int, n_items: int, turns: int) -> dict:
    """Score float64 and float32 rows by float32 weights, and weigh what the first add."""
    import numpy as np

    from sklrec.linear import EASE

    X = interactions(n_users, n_items)
    model = EASE().fit(X[:, :50])
    B = np.random.default_rng(0).standard_normal((n_items, n_items), dtype=np.float32)
    model.n_features_in_, model._coef = n_items, B  # of any numbers, as fast as of fitted ones
    model._popularity = np.ones(n_items)
    X64 = X.astype(np.float64)
    before, ours = take_turns(
        [lambda: model.decision_function(X), lambda: model.decision_function(X64)], turns
    )
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    held = memory("VmRSS")
    scores = model.decision_function(X64)
    added = max(0, memory("VmHWM") - held - scores.nbytes)
    return {"before": before, "ours": ours, "memory_of_weights": added / B.nbytes}


def memory(name: str) -> int:
    """Return the memory of this process, in bytes: "VmRSS" is what it holds, "VmHWM" the peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"Linux does not tell {name}.")


def work(what: str, n_users: int, n_items: int, turns: int) -> dict:
    if what == "mixed_precision":
        return mixed_precision(n_users, n_items, turns)
    if what == "float64 rows":
        return float64_rows(n_users, n_items, turns)
    return large_catalogue(n_users, n_items, turns, ranking=what != "large catalogue")


def bounds_of(what: str, found: dict) -> list[tuple[str, float, float]]:
    """Return what has to hold of a row."""
    ratio = found["ours"] / found["before"]
    if what == "mixed_precision":
        most = MOST_STEP if found["bfloat16_units"] else MOST_STEP_WITHOUT
        bounds = [
            ("step with mixed_precision / without", ratio, most),
            ("relative difference of the loss in bfloat16", found["loss_difference"], MOST_LOSS),
        ]
        if not found["bfloat16_units"]:
            bounds.append(("losses that mixed_precision changes", not found["unchanged"], 0))
        return bounds
    if what == "float64 rows":
        return [(f"{what}: memory / that of the weights", found["memory_of_weights"], MOST_MEMORY)]
    return [(f"{what}: our time / that of {ROWS[what][0]}", ratio, MOST_PRODUCT)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["large", "tiny"], default="large")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "neural_speed.csv")
    options = parser.parse_args()
    rows, bounds = [], []
    for what in options.rows:
        compared_with, sizes = ROWS[what]
        n_users, n_items, turns = sizes[options.size]
        found = run_worker(
            sys.executable,
            Path(__file__),
            *("--work", what, n_users, n_items, turns),
            threads=options.threads,
        )
        bounds += bounds_of(what, found)
        rows.append(
            {
                "date": datetime.date.today().isoformat(),
                "cpu": cpu_name(),
                "threads": options.threads,
                "versions": found["versions"],
                "what": what,
                "compared_with": compared_with,
                "shape": f"{n_users}x{n_items}",
                "turns": turns,
                "before_min_s": f"{found['before']:.5f}",
                "ours_min_s": f"{found['ours']:.5f}",
                "ratio": f"{found['ours'] / found['before']:.3f}",
                "bfloat16_units": found.get("bfloat16_units", ""),
                **{
                    name: f"{found[name]:.1e}"
                    for name in ("loss_difference", "memory_of_weights")
                    if name in found
                },
            }
        )
        print(f"{what}: {found}", file=sys.stderr)
    options.output.parent.mkdir(exist_ok=True)
    with options.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return 0 if check(bounds) or options.size == "tiny" else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        about = {"versions": "; ".join(f"{name} {version(name)}" for name in LIBRARIES)}
        print(json.dumps(work(sys.argv[2], *map(int, sys.argv[3:])) | about))
    else:
        sys.exit(main())
