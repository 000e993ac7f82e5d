"""Recommendations for the two users of table 1 of Li & She (2017): ``python benchmarks/titles.py``.

Each has one article to train on, as on the split P=1 of citeulike-a, by whose title they are found.
Writes how many of the first ten are in the user's library, and the mean over all users, to
``results/titles.csv``, and the titles to the terminal.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import _csv_files
import numpy as np
import settings_content as settings
from _runs import SOURCE, _threads, short_repr
from content import Benchmark, fitted

HERE = Path(__file__).parent
DATASET, SPLIT = "citeulike-a", "P=1"
RATED = {
    "user I": "Information retrieval as statistical translation",
    "user II": "Methods and metrics for cold-start recommendations",
}
MODELS = [
    "Content neighbours",
    "CollectiveEASE",
    "Ridge to factors of WMF",
    "ContentELSA, no free part",
    "CVAE",
]
K = 10
COLUMNS = ["model", *RATED, "all users", "all users_se", "settings", "source"]


def hits_of(model, task, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first ten articles of each user, and whether each is in the library."""
    ranking = model.predict_ranking(task.fold_in[users], k=K)
    hits = np.take_along_axis(task.held_out[users].toarray() > 0, ranking, axis=1)
    return ranking, hits & (ranking >= 0)


def user_of(task, titles: np.ndarray, title: str) -> int:
    """Return the user whose one training article has this title.

    Two have that of user I. The one with the larger library has what table 1 says is in it.
    """
    (item,) = np.flatnonzero(np.char.lower(titles) == title.lower())
    users = np.flatnonzero(task.train[:, [item]].toarray().ravel())
    return int(users[np.argmax(np.diff(task.held_out[users].indptr))])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SKLREC_DATA"))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "titles.csv")
    options = parser.parse_args()
    if options.data is None or not Path(options.data).is_dir():
        parser.error("--data must name the folder of the data sets, or SKLREC_DATA be set")
    data = Path(options.data)
    (dataset,) = (dataset for dataset in settings.DATASETS if dataset.name == DATASET)
    benchmark = Benchmark(dataset, SPLIT, data=data, runs=HERE / ".runs", threads=1)
    (task,) = benchmark.tasks["final"]
    with np.load(data / "citeulike-a-titles.npz", allow_pickle=False) as packed:
        titles = packed["title"]
    users = {name: user_of(task, titles, title) for name, title in RATED.items()}
    with_targets = np.flatnonzero(np.diff(task.held_out.indptr))
    found = {row["model"]: row for row in _csv_files.read(options.output)}
    for row in settings.MODELS:
        if row.name not in options.models:
            continue
        unit = benchmark.final(row)
        with _threads(1):
            model, _ = fitted(unit.estimator, task, unit.form)
        line = {"model": row.name, "settings": short_repr(unit.estimator), "source": SOURCE}
        for name, user in users.items():
            (ranking,), (hits,) = hits_of(model, task, np.array([user]))
            line[name] = str(hits.sum())
            print(f"\n{row.name}, {name}: {RATED[name]}", file=sys.stderr)
            for item, hit in zip(ranking, hits, strict=True):
                print(f"  {'+' if hit else ' '} {titles[item]}", file=sys.stderr)
        n_hits = np.concatenate(
            [
                hits_of(model, task, part)[1].sum(axis=1)
                for part in np.array_split(with_targets, len(with_targets) // 500)
            ]
        )
        error = n_hits.std(ddof=1) / np.sqrt(len(n_hits))
        line |= {"all users": f"{n_hits.mean():.4f}", "all users_se": f"{error:.4f}"}
        found[row.name] = line
        _csv_files.write(options.output, [found[m] for m in MODELS if m in found], COLUMNS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
