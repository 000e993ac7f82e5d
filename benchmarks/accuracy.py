"""Accuracy of all models on all data sets at hand: ``python benchmarks/accuracy.py --data FOLDER``.

The table of settings is ``settings.py``, FOLDER's files are named in ``_data.py``. Settings and
epochs are chosen on validation users. Each fit is kept in a file of its own, so that the next run
goes on where this one stopped. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import settings
from _rows import (
    CANDIDATE_COLUMNS,
    COLUMNS,
    against_the_best,
    as_candidate,
    as_row,
    merge,
    pooled,
    without,
)
from _runs import (
    SOURCE,
    Dataset,
    Model,
    Unit,
    checksums,
    load_split,
    read_unit,
    seeded,
    shortened,
    try_unit,
)
from _seeds import seed_rows, seed_units

HERE = Path(__file__).parent


class Benchmark:
    """Models, data sets and where the units are kept.

    Parameters
    ----------
    models : list of Model
        Rows of the table of settings.
    data : Path
        Folder of the data sets.
    runs : Path
        Folder of the finished units.
    n_jobs : int
        Units at once.
    threads : int
        Threads of each.
    max_epochs : int or None
        In place of what the settings say.
    bars : bool
        Whether to show the progress of each fit.
    """

    def __init__(
        self,
        models: Sequence[Model],
        *,
        data: Path,
        runs: Path,
        n_jobs: int = 1,
        threads: int = 1,
        max_epochs: int | None = None,
        bars: bool = False,
    ) -> None:
        self.models = models
        self.data = data
        self.runs = runs
        self.n_jobs = n_jobs
        self.threads = threads
        self.max_epochs = max_epochs
        self.bars = bars
        self.failures: list[str] = []
        self._checksums: dict[tuple[str, str], dict[str, str]] = {}

    def choose(self, dataset: Dataset, splits: Sequence[str], variants: Sequence[str]) -> None:
        """Fit the candidates of a choice that are not there yet."""
        wanted = self.wanted(dataset, splits, variants)
        candidates = [unit for row in wanted for unit in self.candidates(dataset, *row)]
        self.work(candidates, f"{dataset.name}, candidates")

    def run(self, dataset: Dataset, splits: Sequence[str], variants: Sequence[str]) -> None:
        """Fit what is not there yet: the candidates of a choice first, then the chosen."""
        self.choose(dataset, splits, variants)
        finals = [self.final(dataset, *row) for row in self.wanted(dataset, splits, variants)]
        self.work([unit for unit in finals if unit is not None], f"{dataset.name}, test users")

    def wanted(
        self, dataset: Dataset, splits: Sequence[str], variants: Sequence[str]
    ) -> list[tuple[Model, str, str]]:
        """Return the model, variant and split of each row that this data set has."""
        return [
            (model, variant, split)
            for split in splits
            for model in self.models
            for variant in self._variants(model, dataset)
            if variant in variants
        ]

    def candidates(self, dataset: Dataset, model: Model, variant: str, split: str) -> list[Unit]:
        """Return the units to choose from; none where there is no choice."""
        estimators = self._variants(model, dataset)[variant]
        if len(estimators) == 1:
            return []
        return [
            self._unit("candidate", dataset, split, model, variant, estimator)
            for estimator in estimators
        ]

    def chosen(
        self, dataset: Dataset, model: Model, variant: str, split: str
    ) -> tuple[Any, list[dict]] | None:
        """Return the best estimator on validation users and what is known of all candidates."""
        units = self.candidates(dataset, model, variant, split)
        if not units:
            return self._variants(model, dataset)[variant][0], []
        found = [read_unit(unit, self.runs) for unit in units]
        if None in found:
            return None
        best = int(np.argmax([result["valid"] for result in found]))  # the first of equals
        rows = [{**result, "chosen": i == best} for i, result in enumerate(found)]
        return self._variants(model, dataset)[variant][best], rows

    def final(self, dataset: Dataset, model: Model, variant: str, split: str) -> Unit | None:
        """Return the unit that looks at test users, or None where the choice is not made."""
        chosen = self.chosen(dataset, model, variant, split)
        if chosen is None:
            return None
        return self._unit("final", dataset, split, model, variant, chosen[0])

    def collect(self, dataset: Dataset, splits: Sequence[str]) -> tuple[list[dict], list[dict]]:
        """Return the rows of all finished units: of test users, and of candidates.

        The validation users of the first split, which the ranges and single settings of the table
        were found on, are not among the test users of the other splits.
        """
        rows, candidates = [], []
        first = next(iter(dataset.splits))
        seen = load_split(dataset, first, self.data).valid_users
        for model in self.models:
            for variant in self._variants(model, dataset):
                of_model = []
                for split in splits:
                    chosen = self.chosen(dataset, model, variant, split)
                    if chosen is None:
                        continue
                    found = read_unit(self.final(dataset, model, variant, split), self.runs)
                    if found is None:
                        continue
                    if split != first:
                        found["per_user"] = without(found["per_user"], seen)
                    found |= {
                        "variant": variant,
                        "group": model.group,
                        "paper": (variant == "published" and dataset.published_by) or model.paper,
                        "seed": list(dataset.splits).index(split),
                    }
                    of_model.append(found)
                    candidates += [row | {"variant": variant} for row in chosen[1]]
                drawn = [row for row in of_model if row["split"] != "canonical"]
                n_drawn = sum(name != "canonical" for name in splits)
                if len(drawn) == n_drawn > 1:
                    of_model.append(pooled(drawn))
                rows += of_model
        unique = {(row["dataset"], row["split"], row["all_settings"]): row for row in candidates}
        return against_the_best([as_row(row) for row in rows]), list(unique.values())

    def work(self, units: list[Unit], what: str) -> None:
        """Fit what is not there yet."""
        todo = {path: u for u in units if not (path := u.path(self.runs)).exists()}
        failures = joblib.Parallel(n_jobs=self.n_jobs)(
            joblib.delayed(try_unit)(
                unit,
                self.data,
                self.runs,
                threads=self.threads,
                place=f"{what}: {i} of {len(todo)}",
                bars=self.bars,
            )
            for i, unit in enumerate(todo.values(), start=1)
        )
        self.failures += [failure for failure in failures if failure is not None]

    def _variants(self, model: Model, dataset: Dataset) -> dict[str, list[Any]]:
        if dataset.name in model.skip or (model.ratings and not dataset.has_ratings):
            return {}
        found = model.candidates(dataset.name)
        found = {name: found[name] for name in found if name in dataset.variants}
        if self.max_epochs is None:
            return found
        return {
            name: [shortened(estimator, self.max_epochs) for estimator in estimators]
            for name, estimators in found.items()
        }

    def _unit(
        self, kind: str, dataset: Dataset, split: str, model: Model, variant: str, estimator: Any
    ) -> Unit:
        key = (dataset.name, split)
        if key not in self._checksums:
            self._checksums[key] = checksums(load_split(dataset, split, self.data))
        estimator = seeded(estimator, dataset, split)
        checksum = self._checksums[key][kind]
        return Unit(kind, dataset, split, model, variant, estimator, checksum)


@contextmanager
def workers(dask: str | None, n_jobs: int) -> Iterator[None]:
    """Let joblib's work be done by processes here, or on the workers of a Dask cluster."""
    if dask is None:
        yield
        return
    from dask.distributed import Client

    if dask == "local":
        where = {"n_workers": joblib.effective_n_jobs(n_jobs), "threads_per_worker": 1}
    else:
        where = {"address": dask}
    with Client(**where), joblib.parallel_config(backend="dask"):
        yield


def main() -> int:
    options = parse()
    models = settings.ABLATIONS if options.ablations else settings.MODELS
    name = "ablations" if options.ablations else "accuracy"
    columns = ["group", *COLUMNS] if options.ablations else COLUMNS
    common = {
        "data": options.data,
        "runs": options.runs,
        "n_jobs": options.n_jobs,
        "threads": options.threads,
        "max_epochs": options.max_epochs,
        "bars": options.bars,
    }
    everything = Benchmark(models, **common)
    asked = [model for model in models if options.models is None or model.name in options.models]
    benchmark = Benchmark(asked, **common)
    found = False
    gone: list[str] = []
    with workers(options.dask, options.n_jobs):
        if options.seeds:
            return run_seeds(options, benchmark, everything)
        for dataset in at_hand(options.datasets, options.data):
            splits = [s for s in dataset.splits if options.splits is None or s in options.splits]
            if not benchmark.wanted(dataset, splits, options.variants):
                continue
            found = True
            if options.candidates:
                benchmark.choose(dataset, splits, options.variants)
                continue
            if not options.collect:
                benchmark.run(dataset, splits, options.variants)
            compared = settings.ABLATED_ON[1] if options.ablations else dataset.splits
            rows, candidates = everything.collect(
                dataset, [split for split in dataset.splits if split in compared]
            )
            path = options.output / f"{name}.csv"
            gone += merge(path, rows, columns, replace=options.replace)
            if not options.ablations:
                path = options.output / "settings_found.csv"
                found_settings = [as_candidate(c) for c in candidates]
                merge(path, found_settings, CANDIDATE_COLUMNS, replace=options.replace)
            others = sum(row.get("source") != SOURCE for row in [*rows, *candidates])
            if others:
                print(f"{dataset.name}: {others} rows are of other code than this", file=sys.stderr)
    if not found:
        raise SystemExit("There is nothing to run: no data set has these models, splits, variants.")
    return end(benchmark.failures, [] if options.replace else gone, options.runs)


def run_seeds(options: argparse.Namespace, benchmark: Benchmark, everything: Benchmark) -> int:
    """Fit the chosen settings of the asked models with all seeds, and write the table of all."""
    name, split = settings.SEEDED_ON
    (dataset,) = (dataset for dataset in settings.DATASETS if dataset.name == name)
    if not options.collect:
        units = seed_units(benchmark, dataset, split, settings.SEEDS)
        benchmark.work([unit for unit, _ in units], f"{name}, seeds")
    rows = seed_rows(everything, dataset, split, settings.SEEDS)
    gone = merge(options.output / "seeds.csv", rows, COLUMNS, replace=options.replace)
    return end(benchmark.failures, [] if options.replace else gone, options.runs)


def end(failures: list[str], gone: list[str], runs: Path) -> int:
    """Say what went wrong; return the exit status."""
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    if gone:
        raise SystemExit(
            f"{runs} has nothing of {'; '.join(gone)}. The rows of these splits are as they were: "
            "run these too, or lose them with --replace."
        )
    return 1 if failures else 0


def at_hand(names: list[str] | None, data: Path) -> Iterator[Dataset]:
    """Yield the data sets of these names, or all real ones whose files are in the folder."""
    for dataset in settings.DATASETS:
        if names is None and dataset.name != "made":
            try:
                load_split(dataset, next(iter(dataset.splits)), data)
            except OSError as error:
                print(f"{dataset.name} is left out: {error}", file=sys.stderr)
                continue
            yield dataset
        elif names is not None and dataset.name in names:
            yield dataset


def positive(text: str) -> int:
    """Return a number of the command line that is at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def jobs(text: str) -> int:
    """Return a number of jobs: positive, or -1 for all cores."""
    return -1 if text == "-1" else positive(text)


def parse() -> argparse.Namespace:
    names = [dataset.name for dataset in settings.DATASETS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("SKLREC_DATA"),
        help="folder of the data sets (SKLREC_DATA unless told)",
    )
    parser.add_argument("--datasets", nargs="+", choices=names, help="those at hand unless told")
    parser.add_argument("--models", nargs="+", help="names in settings.py; all unless told")
    splits = sorted({split for dataset in settings.DATASETS for split in dataset.splits})
    variants = ["published", "tuned", "fixed"]
    parser.add_argument("--splits", nargs="+", choices=splits, help="all unless told")
    parser.add_argument("--variants", nargs="+", choices=variants, default=variants)
    parser.add_argument("--ablations", action="store_true", help="run these rows instead")
    parser.add_argument("--seeds", action="store_true", help="chosen settings with other seeds")
    parser.add_argument("--n-jobs", type=jobs, default=1, help="fits at once; -1: all cores")
    parser.add_argument("--threads", type=positive, help="of each fit; all cores unless told")
    parser.add_argument("--dask", help="address of a Dask scheduler, or local")
    parser.add_argument("--bars", action="store_true", help="show the progress of each fit")
    parser.add_argument("--max-epochs", type=positive, help="fewer, to see that everything runs")
    parser.add_argument("--collect", action="store_true", help="only write the tables")
    parser.add_argument("--candidates", action="store_true", help="fit these alone, for fits.py")
    parser.add_argument("--replace", action="store_true", help="rows that are not kept are lost")
    parser.add_argument("--runs", type=Path, default=HERE / ".runs", help="kept units")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder of tables")
    options = parser.parse_args()
    if options.max_epochs and options.output == HERE / "results":
        parser.error("--max-epochs is to see that everything runs: name a folder for --output")
    known = settings.ABLATIONS if options.ablations else settings.MODELS
    of_models = [model.name for model in known]
    unknown = sorted(set(options.models or []) - set(of_models))
    if unknown:
        parser.error(f"--models {', '.join(unknown)}: settings.py has {', '.join(of_models)}")
    if options.ablations:
        options.datasets = options.datasets or [settings.ABLATED_ON[0]]
        options.splits = options.splits or settings.ABLATED_ON[1]
    if options.datasets and set(options.datasets) == {"made"}:
        options.data = options.data or Path()  # not read
    elif options.data is None:
        parser.error("--data must name the folder of the data sets, or SKLREC_DATA be set")
    elif not options.data.is_dir():
        parser.error(f"--data {options.data}: there is no such folder")
    options.threads = options.threads or max(
        1, joblib.cpu_count() // joblib.effective_n_jobs(options.n_jobs)
    )
    return options


if __name__ == "__main__":
    sys.exit(main())
