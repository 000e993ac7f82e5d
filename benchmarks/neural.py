"""Compare the training of MultVAE with a plain torch loop and with cornac, in time and memory.

Each measurement on a CPU is a fresh process, in the other library's own environment, and rounds
are interleaved: ours, theirs, ours, theirs. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import sys
import tempfile
from pathlib import Path

from _speed import (
    COLUMNS,
    HERE,
    RESULTS,
    check,
    interleave,
    peer_python,
    print_rows,
    run_worker,
    summarize,
)

EMPTY = dict.fromkeys(COLUMNS, "")
OURS = "sklrec"
DENSE = "dense torch"
OUTSIDE = "sklrec, outside forward, backward and optimizer"

# Users, items, interactions of each measurement. Of the step only the items, the batch and the
# interactions of a user matter. "tiny" only shows that everything runs.
SIZES = {
    "paper": {
        "step": (6_000, 20_108, 420_000),
        "epoch": (6_034, 3_533, 575_272),
        "memory": (136_677, 20_108, 10_000_000),
    },
    "tiny": {
        "step": (4_000, 300, 40_000),
        "epoch": (1_000, 300, 30_000),
        "memory": (5_000, 300, 100_000),
    },
}
PEERS = {"step": [OURS, DENSE], "epoch": [OURS, "cornac"], "memory": [OURS]}

MOST_STEP = 0.6  # of the dense loop's
MOST_OUTSIDE = 0.05  # of a step
MOST_EPOCH = 1.0  # of cornac's
TOLERANCE = 1e-3  # of a loss of some hundreds; biases that are off by .01 change it by 5e-3

# The network and its settings are those of neural_worker.py.
GPU_EPOCHS = 200
GPU_VALIDATION_USERS = 10_000
MOST_GPU_EPOCH = 1.5  # seconds, on an NVIDIA H200
MOST_GPU_TOTAL = 480.0
WITHOUT_GPU = f"""\
There is no CUDA device here, so nothing was measured and nothing written. Where there is one, this
trains MultVAE (600-200-600, Adam, batches of 500) on the made interactions of 136,677 users with
20,108 items, 10 million, for {GPU_EPOCHS} epochs with a validation of {GPU_VALIDATION_USERS:,} \
users after each,
once in float32 and once with mixed_precision=True, and writes results/neural_cuda.csv:
- seconds of an epoch, at most {MOST_GPU_EPOCH} on an NVIDIA H200;
- seconds of the whole fit with its validations, at most {MOST_GPU_TOTAL:.0f} there;
- peak memory on the device above weights, gradients and the optimizer's state."""


def compare(task: str, size: str, *, repetitions: int, threads: int, folder: Path) -> list[dict]:
    """Return the rows of the table for one measurement on the CPU."""
    data = folder / f"{task}.npz"
    run_worker(sys.executable, HERE / "make_data.py", data, *SIZES[size][task], threads=threads)

    def measure(name: str, repetition: int) -> dict:
        return run_worker(
            peer_python(name) if name == "cornac" else sys.executable,
            HERE / "neural_worker.py",
            *("--task", task, "--library", name, "--data", data),
            threads=threads,
        )

    measured = interleave(PEERS[task], repetitions, measure)
    ours = measured[OURS]
    if task == "step":
        measured[OUTSIDE] = [run | {"seconds": run["outside"]} for run in ours]
    if task == "memory":
        measured["limit"] = [run | {"peak_gib": run["limit_gib"]} for run in ours]
    rows = summarize(measured, OURS, threads=threads)
    return [{"measure": task, **row} for row in rows]


def on_cpu(options: argparse.Namespace) -> tuple[list[dict], list[tuple[str, float, float]]]:
    """Return the table of all measurements on the CPU, and what has to hold."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for task in PEERS:
            rows += compare(
                task,
                options.size,
                repetitions=options.repetitions,
                threads=options.threads,
                folder=Path(folder),
            )
    found = {(row["measure"], row["library"]): row for row in rows}
    dense = found["step", DENSE]
    return rows, [
        ("our step / that of a dense torch loop", float(dense["ratio"]), MOST_STEP),
        (
            "share of a step outside forward, backward and optimizer",
            1 / float(found["step", OUTSIDE]["ratio"]),
            MOST_OUTSIDE,
        ),
        ("largest difference from the dense loop's loss", float(dense["max_abs_diff"]), TOLERANCE),
        ("our epoch / that of cornac", float(found["epoch", "cornac"]["ratio"]), MOST_EPOCH),
        (
            "our memory / that of the CSR and two dense batches",
            float(found["memory", "limit"]["memory_ratio"]),
            1.0,
        ),
    ]


def on_gpu(options: argparse.Namespace) -> tuple[list[dict], list[tuple[str, float, float]]]:
    """Return the table of all measurements on a GPU, and what has to hold on an H200."""
    # Device memory is asked of torch, so that here one process does.
    import torch
    from neural_worker import train_on_gpu

    from sklrec.datasets import make_interactions

    n_users, n_items, n_interactions = SIZES[options.size]["memory"]
    X = make_interactions(n_users, n_items, n_interactions=n_interactions, random_state=0).data
    torch.set_num_threads(options.threads)
    rows, bounds = [], []
    for dtype in ("float32", "bfloat16"):
        result = train_on_gpu(
            X,
            mixed_precision=dtype == "bfloat16",
            n_epochs=GPU_EPOCHS,
            n_validation_users=min(GPU_VALIDATION_USERS, n_users),
        )
        about = {
            "date": datetime.date.today().isoformat(),
            "cpu": torch.cuda.get_device_name(),
            "threads": options.threads,
            "library": OURS,
            "dtype": dtype,
            **{name: result[name] for name in ("versions", "shape", "nnz")},
        }
        epoch = {name: f"{result[name]:.3f}" for name in ("min_s", "max_s")}
        epoch |= {"median_s": f"{result['seconds']:.3f}", "repetitions": GPU_EPOCHS}
        total = dict.fromkeys(("median_s", "min_s", "max_s"), f"{result['total_s']:.1f}")
        total |= {"peak_gib": f"{result['peak_gib']:.3f}", "repetitions": 1}
        rows += [{"measure": "epoch", **about, **epoch}, {"measure": "fit", **about, **total}]
        bounds += [
            (f"seconds of an epoch in {dtype}", result["seconds"], MOST_GPU_EPOCH),
            (f"seconds of {GPU_EPOCHS} epochs in {dtype}", result["total_s"], MOST_GPU_TOTAL),
        ]
    return rows, bounds


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def write_table(rows: list[dict], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["measure", *COLUMNS], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--size", choices=SIZES, default="paper")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="default: results/neural_<device>.csv")
    options = parser.parse_args()
    if options.device == "cuda" and not has_gpu():
        print(WITHOUT_GPU)
        return 0
    rows, bounds = on_gpu(options) if options.device == "cuda" else on_cpu(options)
    write_table(rows, options.output or RESULTS / f"neural_{options.device}.csv")
    print_rows([{**EMPTY, **row, "library": f"{row['measure']}: {row['library']}"} for row in rows])
    return 0 if check(bounds) or options.size == "tiny" else 1


if __name__ == "__main__":
    sys.exit(main())
