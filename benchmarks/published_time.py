"""Hours of the fits with published settings: ``python benchmarks/published_time.py``.

Two epochs of each neural model with the settings that its paper states for MovieLens-20M, Netflix
or MSD, on made interactions of a few batches of users, with the data set's number of items and of
interactions per user. ``hours`` are those of all epochs and training users, from the second of the
two; validation, and stopping early, are left out. Each model is a process of its own. Writes
``results/published_time.csv``; rows that are there are kept, unless ``--again`` is given.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import _csv_files
from _speed import cpu_name, main_or_worker, run_worker

HERE = Path(__file__).parent
# Training users, items, and interactions per user, of Liang et al. (2018).
SHAPES = {
    "ml-20m": (116_677, 20_108, 73),
    "netflix": (383_435, 17_769, 123),
    "msd": (471_355, 41_140, 59),
}
MODELS = ["Mult-DAE", "Mult-VAE", "RecVAE", "HVampVAE", "NeuralEASE", "FLVAE", "VASP", "ELSA"]
COLUMNS = ["dataset", "model", "settings", "measured_users", "epoch_s", "epochs", "hours"]
COLUMNS += ["threads", "cpu", "versions", "date"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--again", action="store_true", help="measure what is in the table too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "published_time.csv")
    options = parser.parse_args()
    rows = {(row["dataset"], row["model"]): row for row in _csv_files.read(options.output)}
    for dataset in options.datasets:
        for model in options.models:
            if (dataset, model) in rows and not options.again:
                continue
            measured = run_worker(
                sys.executable, Path(__file__), dataset, model, threads=options.threads
            )
            if not measured:  # The paper has no settings for these data.
                continue
            rows[dataset, model] = measured | {"threads": options.threads, "cpu": cpu_name()}
            print(f"{dataset} {model}: {measured['hours']} hours", flush=True)
            ordered = sorted(rows.values(), key=lambda row: list(SHAPES).index(row["dataset"]))
            _csv_files.write(options.output, ordered, COLUMNS)
    return 0


def worker(dataset: str, name: str) -> dict:
    """Return what a fit takes, or nothing where there are no published settings."""
    import settings
    from _runs import _versions, short_repr
    from neural_worker import time_epochs

    from sklrec.datasets import make_interactions

    (model,) = (found for found in settings.MODELS if found.name == name)
    if dataset not in model.published:
        return {}
    (estimator,) = model.candidates(dataset)["published"]
    n_users, n_items, per_user = SHAPES[dataset]
    measured = max(2 * estimator.batch_size, 1_000)
    made = make_interactions(
        measured, n_items, n_interactions=measured * per_user, random_state=0
    ).data
    shown, epochs = short_repr(estimator), estimator.max_epochs
    if "early_stopping" in estimator.get_params():
        estimator.set_params(early_stopping=False)
    found = time_epochs(estimator.set_params(max_epochs=2, random_state=0, device="cpu"), made)
    epoch = found["epochs"][1] * n_users / measured
    return {
        **{"dataset": dataset, "model": name, "settings": shown, "measured_users": measured},
        **{"epoch_s": f"{epoch:.0f}", "epochs": epochs, "hours": f"{epoch * epochs / 3600:.1f}"},
        **{"versions": _versions(), "date": time.strftime("%Y-%m-%d")},
    }


if __name__ == "__main__":
    main_or_worker(main, worker, SHAPES)
