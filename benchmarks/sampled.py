"""The protocol of He et al. (2017), with 99 negatives: ``python benchmarks/sampled.py``.

On MovieLens-1M, where each rating is an interaction, one of each user is held out and ranked among
99 items that the user does not have, drawn at random, as in the paper of NeuMF; and the same models
rank the same item among all that the user does not have. Users are those of training. The
interaction is drawn at random, as the packed data have no times; in the paper it is the last one.
Settings are those of ``settings.py`` for MovieLens-1M. Writes ``results/sampled.csv``, whose rows
are not computed again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import _csv_files
import numpy as np
import scipy.sparse as sp
import settings
from _data import ml_1m
from _runs import SOURCE, _threads, seeded, short_repr
from sklearn.base import clone

from sklrec.metrics import evaluate

HERE = Path(__file__).parent
MODELS = ["Random", "Popularity", "ItemKNN", "EASE", "Mult-DAE", "CDAE", "NeuMF"]
# Where settings.py searches: what was found on the validation users of the canonical split.
FOUND = {
    "EASE": {"lambda_": 500},
    "ItemKNN": {"weighting": settings.WEIGHTINGS[1], "knn__n_neighbors": 200, "knn__alpha": 0.7},
}
# Without validation users there is no best epoch; these are near that of the canonical split.
EPOCHS = {"Mult-DAE": 60, "CDAE": 14}
N_NEGATIVES = 99
METRICS = ["hit_rate@10", "ndcg@10"]
COLUMNS = ["model", "settings", "n_users", "n_negatives"]
FIGURES = [f"{among}{metric}" for among in ("", "all_") for metric in METRICS]
COLUMNS += [*FIGURES, *(f"{name}_se" for name in FIGURES), "cpu_s", "date", "source"]


def leave_one_out(X: sp.csr_array, seed: int) -> tuple[sp.csr_array, sp.csr_array]:
    """Return the interactions of each user but one, drawn at random, and that one."""
    rng = np.random.default_rng(seed)
    X = sp.csr_array(X, copy=True)
    X.data[:] = 1
    counts = np.diff(X.indptr)
    place = X.indptr[:-1] + rng.integers(0, counts)
    held = sp.csr_array(
        (np.ones(X.shape[0], X.dtype), X.indices[place], np.arange(X.shape[0] + 1)), shape=X.shape
    )
    X.data[place] = 0
    X.eliminate_zeros()
    return X, held


def with_negatives(
    X: sp.csr_array, held: sp.csr_array, n_negatives: int, seed: int
) -> sp.csr_array:
    """Return for each user the item held out and others that the user does not have."""
    rng = np.random.default_rng(seed)
    known = sp.csr_array(X + held)
    n_items = X.shape[1]
    rows = []
    for user in range(X.shape[0]):
        mine = known.indices[known.indptr[user] : known.indptr[user + 1]]
        others = np.setdiff1d(np.arange(n_items), mine)
        drawn = rng.choice(others, n_negatives, replace=False)
        rows.append(np.sort(np.append(drawn, held.indices[user])))
    indptr = (n_negatives + 1) * np.arange(X.shape[0] + 1)
    indices = np.concatenate(rows)
    return sp.csr_array((np.ones(indices.size, X.dtype), indices, indptr), shape=X.shape)


def estimator_of(name: str) -> object:
    """Return a model with its settings for MovieLens-1M."""
    (model,) = (model for model in settings.MODELS if model.name == name)
    variants = model.candidates("ml-1m")
    estimator = clone(variants.get("tuned", variants.get("fixed"))[0])
    estimator.set_params(**FOUND.get(name, {}))
    if name in EPOCHS:
        estimator.set_params(max_epochs=EPOCHS[name], early_stopping=False)
    (dataset,) = (dataset for dataset in settings.DATASETS if dataset.name == "ml-1m")
    return seeded(estimator, dataset, "canonical")


def measure(name: str, X: sp.csr_array, *, threads: int) -> dict:
    """Fit a model and return its row."""
    train, held = leave_one_out(X, seed=0)
    among = with_negatives(train, held, N_NEGATIVES, seed=0)
    model = estimator_of(name)
    with _threads(threads):
        start = time.process_time()
        model.fit(train)
        seconds = time.process_time() - start
        found = [evaluate(model, train, held, METRICS, items=items) for items in (among, None)]
    row = {"model": name, "settings": short_repr(model), "n_users": X.shape[0]}
    row |= {"n_negatives": N_NEGATIVES, "cpu_s": f"{seconds:.1f}", "source": SOURCE}
    row["date"] = time.strftime("%Y-%m-%d")
    for evaluation, among in zip(found, ("", "all_"), strict=True):
        for metric in METRICS:
            row[f"{among}{metric}"] = f"{evaluation.mean[metric]:.4f}"
            row[f"{among}{metric}_se"] = f"{evaluation.standard_error[metric]:.4f}"
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SKLREC_DATA"))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "sampled.csv")
    options = parser.parse_args()
    if options.data is None or not options.data.is_dir():
        parser.error("--data must name the folder of the data sets, or SKLREC_DATA be set")
    rows = {row["model"]: row for row in _csv_files.read(options.output)}
    X = ml_1m(options.data)
    for name in options.models:
        if name in rows:
            continue
        rows[name] = measure(name, X, threads=options.threads)
        print(f"{name}: {rows[name]}", file=sys.stderr, flush=True)
        ordered = [rows[name] for name in MODELS if name in rows]
        _csv_files.write(options.output, ordered, COLUMNS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
