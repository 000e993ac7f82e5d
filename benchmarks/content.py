"""Accuracy of models of item content: ``python benchmarks/content.py --data FOLDER``.

On the canonical splits, on new items, and on the splits of Li & She (2017). The table of settings
is ``settings_content.py``. Settings are chosen on validation users and, for new items, on other
items that are new to them. Each fit is kept in a file of its own, as by ``accuracy.py``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import inspect
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _csv_files
import numpy as np
import scipy.sparse as sp
import settings_content as settings
from _compare import mean_over_users
from _content import AS_PUBLISHED, NEW_ITEMS, TOGETHER, ContentDataset, Task
from _runs import (
    SOURCE,
    _interruptions,
    _say,
    _sha256,
    _threads,
    _versions,
    full_repr,
    short_repr,
    write_whole,
)
from _speed import cpu_name
from settings_content import ALL, ContentModel
from sklearn.base import clone

import sklrec
from sklrec.metrics import evaluate, evaluate_new_items

HERE = Path(__file__).parent
METRICS = ["recall@20", "recall@40", "ndcg@100"]
OF_AUTHORS = [50, 300]  # recall at these
CHOOSE_BY = "ndcg@100"
COLUMNS = [
    *("dataset", "content", "split", "ranking", "model", "group", "chosen_for", "paper"),
    *("settings", "features", "n_candidates", "n_users"),
    *(
        name
        for metric in [*METRICS, *(f"recall@{k}" for k in OF_AUTHORS)]
        for name in (metric, f"{metric}_se")
    ),
    *("valid_ndcg@100", "fit_s", "cpu_s", "date", "threads", "cpu", "versions", "source"),
]


@dataclass(frozen=True)
class Unit:
    """A fit of a candidate or of the chosen settings, and where it is kept."""

    kind: str
    dataset: ContentDataset
    split: str
    estimator: Any
    form: str
    task: Task

    def path(self, runs: Path) -> Path:
        """Return where the unit is kept: its name changes with settings, data and version."""
        task = self.task
        data = _sha256([task.train, task.fold_in, task.held_out, task.counts])
        key = json.dumps([full_repr(self.estimator), self.form, data, sklrec.__version__])
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        name = f"{self.split.replace(' ', '-')}-{type(self.estimator).__name__}"
        return runs / self.dataset.name / f"{name}-{self.kind}-{digest}.json"

    def run(self, runs: Path, *, threads: int) -> dict:
        """Fit and evaluate, or read what is kept."""
        path = self.path(runs)
        if not path.exists():
            name = f"{self.dataset.name} {self.split} {self.kind}: {short_repr(self.estimator)}"
            _say(name)
            with _threads(threads):
                start, cpu_start = time.perf_counter(), time.process_time()
                with _interruptions():
                    model, order = fitted(self.estimator, self.task, self.form)
                seconds = time.perf_counter() - start
                cpu_seconds = time.process_time() - cpu_start
                found = per_user(model, self.task, order)
            result = {
                "fit_s": seconds,
                "cpu_s": cpu_seconds,
                "date": time.strftime("%Y-%m-%d"),
                "threads": threads,
                "cpu": cpu_name(),
                "versions": _versions(),
                "source": SOURCE,
                "mean": {
                    ranking: {metric: float(np.nanmean(v)) for metric, v in values.items()}
                    for ranking, values in found.items()
                },
            }
            _say(f"{name}: {seconds:.1f} s, " + summary(result["mean"]))
            flat = {f"{r}/{m}": v for r, values in found.items() for m, v in values.items()}
            write_whole(path.with_suffix(".npz"), lambda file: np.savez_compressed(file, **flat))
            write_whole(path, lambda file: file.write(json.dumps(result, indent=1).encode()))
        return self.read(runs)

    def read(self, runs: Path) -> dict | None:
        """Return what is known of the unit, or None."""
        path = self.path(runs)
        if not path.exists():
            return None
        result = json.loads(path.read_text())
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as kept:
            result["per_user"] = {name: kept[name] for name in kept.files}
        return result


def fitted(estimator: Any, task: Task, form: str) -> tuple[Any, np.ndarray]:
    """Return the fitted model, and the columns of X in its order.

    Models that can meet new items after the fit do so, others know them in the fit.
    """
    model, F = clone(estimator), task.features(form)
    order = np.arange(task.train.shape[1])
    given = {} if F is None else {"item_features": F}
    if task.new_items is None:
        if "X_val" in inspect.signature(model.fit).parameters and task.validation is not None:
            # The best epoch is that of the validation users.
            fold_in, held_out = task.validation
            given |= {"X_val": fold_in + held_out, "y_val": held_out}
        return model.fit(task.train, **given), order
    if F is None or not hasattr(type(model), "with_items"):
        return model.fit(task.train, **given), order
    old, new = task.old_items, task.new_items
    model.fit(task.train[:, old], item_features=F[old])
    return model.with_items(F[new]), np.concatenate([old, new])


def per_user(model: Any, task: Task, order: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Return by ranking and metric the values of all users, NaN for those with nothing to find."""
    fold_in, held_out = task.fold_in[:, order], task.held_out[:, order]
    if task.all_targets:
        return {
            ALL: recall_over_targets(model, fold_in, held_out),
            AS_PUBLISHED: recall_over_targets(model, fold_in, held_out, count_fold_in=True),
        }
    if task.new_items is None:
        return {ALL: evaluate(model, fold_in, held_out, METRICS).per_user}
    new = np.flatnonzero(np.isin(order, task.new_items))
    found = evaluate_new_items(model, fold_in, held_out, METRICS, new_items=new)
    return {ranking: evaluation.per_user for ranking, evaluation in found.items()}


def recall_over_targets(
    model: Any,
    fold_in: sp.csr_array,
    held_out: sp.csr_array,
    ks: Sequence[int] = OF_AUTHORS,
    *,
    count_fold_in: bool = False,
) -> dict[str, np.ndarray]:
    """Return the share of all that is to find among the first k, of each user.

    With `count_fold_in`, items of the fold-in are ranked and count as found, as in the evaluation
    of Li & She (2017); users are the same.
    """
    users = np.flatnonzero(np.diff(held_out.indptr))
    targets = sp.csr_array(held_out + fold_in) if count_fold_in else held_out
    n_targets = np.diff(targets.indptr)
    found = {f"recall@{k}": np.full(len(n_targets), np.nan) for k in ks}
    for rows in np.array_split(users, max(1, len(users) // 500)):
        ranking = model.predict_ranking(fold_in[rows], k=max(ks), exclude_seen=not count_fold_in)
        hits = np.take_along_axis(targets[rows].toarray() > 0, ranking, axis=1)
        hits &= ranking >= 0
        for k in ks:
            found[f"recall@{k}"][rows] = hits[:, :k].sum(axis=1) / n_targets[rows]
    return found


class Benchmark:
    """Models on a data set and split.

    Parameters
    ----------
    dataset : ContentDataset
        The data set.
    split : str
        The split.
    data, runs : Path
        Folder of the data sets and of the kept units.
    threads : int
        Threads of each fit.
    """

    def __init__(
        self, dataset: ContentDataset, split: str, *, data: Path, runs: Path, threads: int
    ) -> None:
        self.dataset = dataset
        self.split = split
        # The settings of all splits with new items are those of the first.
        self.place = NEW_ITEMS if dataset.has_new_items(split) else split
        self.runs = runs
        self.threads = threads
        self.tasks = dataset.tasks(split, data)

    def run(self, model: ContentModel) -> None:
        """Fit the candidates, and then the chosen settings."""
        for units in self._candidates(model):
            for unit in units:
                unit.run(self.runs, threads=self.threads)
        if (unit := self.final(model)) is not None:
            unit.run(self.runs, threads=self.threads)

    def rows(self, model: ContentModel) -> list[dict]:
        """Return the rows of a model, one for each ranking; none where it was not run."""
        unit = self.final(model)
        found = unit and unit.read(self.runs)
        if not found:
            return []
        valid = self._valid(model)
        row = {name: found.get(name) for name in COLUMNS} | {
            "dataset": self.dataset.name,
            "content": self.dataset.content if unit.form != "none" else "none",
            "split": self.split,
            # As written with the defaults of today, which may not be those of the fit.
            "settings": short_repr(unit.estimator),
            "model": model.name,
            "group": model.group,
            "paper": model.paper,
            "chosen_for": " and ".join(model.chosen_for) if self.place == NEW_ITEMS else "",
            "features": unit.form,
            "n_candidates": len(valid) or 1,
            "valid_ndcg@100": f"{max(valid):.4f}" if valid else "",
            "fit_s": f"{found['fit_s']:.1f}",
            "cpu_s": f"{found['cpu_s']:.1f}" if "cpu_s" in found else "",
        }
        return [row | self._figures(found, ranking) for ranking in found["mean"]]

    def _figures(self, found: dict, ranking: str) -> dict:
        figures: dict[str, Any] = {"ranking": ranking}
        for metric in found["mean"][ranking]:
            values = found["per_user"][f"{ranking}/{metric}"]
            values = values[~np.isnan(values)]
            mean = mean_over_users(values, np.arange(len(values)))
            figures |= {
                "n_users": len(values),
                metric: f"{mean.value:.4f}",
                f"{metric}_se": f"{mean.standard_error:.4f}",
            }
        return figures

    def _estimators(self, model: ContentModel) -> list[Any]:
        """Return the estimators to choose from, none for a model that is not fitted here."""
        if self.split != self.place and not model.on_all_splits:
            return []
        return model.at(self.dataset.name, self.place)

    def _candidates(self, model: ContentModel) -> list[list[Unit]]:
        """Return the units of each candidate, one for each of their tasks."""
        estimators = self._estimators(model)
        if len(estimators) <= 1:
            return []
        return [self._units("candidate", model, estimator) for estimator in estimators]

    def _valid(self, model: ContentModel) -> list[float]:
        """Return what the candidates are chosen by; none where one is missing."""
        found = [[unit.read(self.runs) for unit in units] for units in self._candidates(model)]
        if any(None in of_one for of_one in found):
            return []
        rankings = model.chosen_for if self.place == NEW_ITEMS else (ALL,)
        return [
            float(np.mean([f["mean"][r][CHOOSE_BY] for f in of_one for r in rankings]))
            for of_one in found
        ]

    def final(self, model: ContentModel) -> Unit | None:
        """Return the unit of the chosen settings; None where they are not chosen yet."""
        estimators = self._estimators(model)
        valid = self._valid(model)
        if len(estimators) > 1 and not valid:
            return None
        best = int(np.argmax(valid)) if valid else 0
        return self._units("final", model, estimators[best])[0] if estimators else None

    def _units(self, kind: str, model: ContentModel, estimator: Any) -> list[Unit]:
        names = [n for n in estimator.get_params() if n.split("__")[-1] == "random_state"]
        unset = [n for n in names if estimator.get_params()[n] is None]
        estimator = clone(estimator).set_params(**dict.fromkeys(unset, 0))
        form = model.form_at(self.dataset.name, self.place)
        split = self.place if kind == "candidate" else self.split
        return [Unit(kind, self.dataset, split, estimator, form, t) for t in self.tasks[kind]]


def summary(means: dict[str, dict[str, float]]) -> str:
    """Return means of a unit on one line."""
    return " | ".join(
        f"{ranking} " + "/".join(f"{value:.3f}" for value in values.values())
        for ranking, values in means.items()
    )


def over_splits(rows: list[dict]) -> list[dict]:
    """Return the means over all splits with new items, of models that were run on all of them.

    Their standard errors are those of a mean over splits: each has its own new items.
    """
    found = {_name(row): row for row in rows}
    pooled = []
    for row in rows:
        dataset = next((d for d in settings.DATASETS if d.name == row["dataset"]), None)
        if dataset is None or row["split"] != NEW_ITEMS or not dataset.n_more_splits:
            continue
        names = [_name(row | {"split": split}) for split in dataset.of_new_items]
        of_splits = [found[name] for name in names if name in found]
        alike = len({r["settings"] for r in of_splits}) == 1
        if len(of_splits) == len(names) and alike:
            pooled.append(_pooled(of_splits))
    return pooled


def _pooled(rows: list[dict]) -> dict:
    row = rows[0] | {"split": TOGETHER, "n_users": sum(int(r["n_users"]) for r in rows)}
    for metric in METRICS:
        values = np.array([float(r[metric]) for r in rows])
        error = values.std(ddof=1) / np.sqrt(len(values))
        row |= {metric: f"{values.mean():.4f}", f"{metric}_se": f"{error:.4f}"}
    for seconds in ("fit_s", "cpu_s"):
        known = [float(r[seconds]) for r in rows if r[seconds]]
        row[seconds] = f"{np.mean(known):.1f}" if known else ""
    return row


def merged(path: Path, rows: list[dict]) -> list[dict]:
    """Return the rows of a table with these in the place of those of the same name."""
    kept = _csv_files.read(path)
    found = {_name(row): row for row in [*kept, *rows] if row["split"] != TOGETHER}
    places = {
        (dataset.name, split, model.name): i
        for i, (dataset, split, model) in enumerate(
            (dataset, split, model)
            for dataset in settings.DATASETS
            for split in [*dataset.splits, TOGETHER]
            for model in [*settings.MODELS, *settings.SWEEPS]
        )
    }
    last = len(places)
    found |= {_name(row): row for row in over_splits([*found.values()])}
    return sorted(found.values(), key=lambda row: places.get(_name(row)[:3], last))


def _name(row: dict) -> tuple[str, str, str, str]:
    return row["dataset"], row["split"], row["model"], row["ranking"]


def main() -> int:
    options = parse()
    rows, failures = [], []
    for dataset in settings.DATASETS:
        for split in dataset.splits:
            if dataset.name not in options.datasets or split not in options.splits:
                continue
            benchmark = Benchmark(
                dataset, split, data=options.data, runs=options.runs, threads=options.threads
            )
            for model in [*settings.MODELS, *settings.SWEEPS]:
                if options.models is None or {model.name, model.group} & set(options.models):
                    try:
                        if not options.collect:
                            benchmark.run(model)
                    except Exception as error:
                        failures.append(f"{dataset.name} {split} {model.name}: {error!r}")
                        _say(f"FAILED {failures[-1]}")
                rows += benchmark.rows(model)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(merged(options.output, rows))
    write_whole(options.output, lambda file: file.write(table.getvalue().encode()))
    return 1 if failures else 0


def parse() -> argparse.Namespace:
    names = [dataset.name for dataset in settings.DATASETS]
    splits = list(dict.fromkeys(s for dataset in settings.DATASETS for s in dataset.splits))
    models = [model.name for model in settings.MODELS]
    models += dict.fromkeys(model.group for model in settings.SWEEPS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("SKLREC_DATA"),
        help="folder of the data sets (SKLREC_DATA unless told)",
    )
    parser.add_argument("--datasets", nargs="+", choices=names, default=names)
    parser.add_argument("--splits", nargs="+", choices=splits, default=splits)
    parser.add_argument("--models", nargs="+", choices=models, help="all unless told")
    parser.add_argument("--threads", type=int, default=1, help="of each fit")
    parser.add_argument("--collect", action="store_true", help="only write the table")
    parser.add_argument("--runs", type=Path, default=HERE / ".runs" / "content", help="kept units")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "content.csv")
    options = parser.parse_args()
    if options.data is None or not Path(options.data).is_dir():
        parser.error("--data must name the folder of the data sets, or SKLREC_DATA be set")
    options.data = Path(options.data)
    return options


if __name__ == "__main__":
    sys.exit(main())
