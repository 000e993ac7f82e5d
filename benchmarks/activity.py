"""Accuracy by activity, figure 3 of Liang et al. (2018): ``python benchmarks/activity.py``.

Test users are divided into fifths by the number of items in their fold-in. Reads the units that
``accuracy.py`` keeps of the canonical splits and fits nothing. Writes ``results/activity.csv``.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import _csv_files
import numpy as np
import settings
from _runs import load_split, read_unit
from accuracy import Benchmark

from sklrec.inspection import ActivityDisplay
from sklrec.metrics import RankingEvaluation

HERE = Path(__file__).parent
DATASETS = ["ml-1m", "citeulike-a", "gowalla"]
# The models of table 2 of the paper; the others are compared with the first.
MODELS = ["Mult-VAE", "Mult-DAE", "WMF", "SLIM", "CDAE"]
METRIC = "ndcg@100"
COLUMNS = ["dataset", "split", "model", "part", "fewest", "most", "n_users"]
COLUMNS += [METRIC, f"{METRIC}_se", "p"]


def rows_of(benchmark: Benchmark, dataset: settings.Dataset, split: str) -> list[dict]:
    """Return a row for each model and part; none unless both autoencoders have been run."""
    found = {}
    for model, variant, _ in benchmark.wanted(dataset, [split], ("tuned", "fixed")):
        unit = benchmark.final(dataset, model, variant, split)
        result = None if unit is None else read_unit(unit, benchmark.runs)
        if result is not None:
            found[model.name] = result["per_user"]
    found = {name: found[name] for name in MODELS if name in found}
    if not set(MODELS[:2]) <= set(found):
        return []
    parts = load_split(dataset, split, benchmark.data)
    kept = np.isin(parts.test_users, found[MODELS[0]]["users"])
    display = ActivityDisplay.from_evaluations(
        {name: RankingEvaluation({METRIC: values[METRIC]}) for name, values in found.items()},
        parts.test_fold_in[kept],
        metric=METRIC,
    )
    return [
        {
            **{"dataset": dataset.name, "split": split, "model": name, "part": part + 1},
            **dict(zip(("fewest", "most"), display.activity[part].tolist(), strict=True)),
            "n_users": int(display.n_users[part]),
            METRIC: f"{display.mean[i, part]:.4f}",
            f"{METRIC}_se": f"{display.standard_error[i, part]:.4f}",
            "p": "" if i == 0 else f"{display.pvalue[i, part]:.3g}",
        }
        for i, name in enumerate(display.names)
        for part in range(len(display.n_users))
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SKLREC_DATA"))
    parser.add_argument("--runs", type=Path, default=HERE / ".runs", help="kept units")
    parser.add_argument("--datasets", nargs="+", default=DATASETS)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "activity.csv")
    options = parser.parse_args()
    if options.data is None or not options.data.is_dir():
        parser.error("--data must name the folder of the data sets, or SKLREC_DATA be set")
    benchmark = Benchmark(settings.MODELS, data=options.data, runs=options.runs)
    rows = []
    for dataset in settings.DATASETS:
        if dataset.name in options.datasets:
            rows += rows_of(benchmark, dataset, next(iter(dataset.splits)))
    _csv_files.write(options.output, rows, COLUMNS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
