"""Seconds and memory of the fits: ``python benchmarks/fits.py --data FOLDER --runs FOLDER``.

Each model is fitted once more with the settings that ``accuracy.py`` chose, in a process of its own
and without anything else to do: ``cpu_s`` and ``wall_s`` are those of the fit, ``peak_gib`` is the
peak of the process above what it held before. Validation users are given to the models that take
them, as in the benchmark. ``load`` is the load of the machine before the fit, which a quiet run has
near 0. The first split of a data set is measured. Writes ``results/fits.csv``; rows are not
measured again, unless they are named by ``--models`` and ``--again``. Under Linux.

A fit that ``accuracy.py`` has not made is evaluated and kept where it looks for it, so that after
``accuracy.py --candidates`` each model is fitted once.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import _csv_files
from _speed import cpu_name, main_or_worker, run_worker

HERE = Path(__file__).parent
DATASETS = ["ml-small", "ml-1m", "citeulike-a", "citeulike-t", "gowalla"]
COLUMNS = ["dataset", "model", "variant", "settings", "cpu_s", "wall_s", "peak_gib", "threads"]
COLUMNS += ["load", "cpu", "versions", "date"]
VARIANTS = ("tuned", "fixed")
GIB = 2**30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SKLREC_DATA"))
    parser.add_argument("--runs", type=Path, default=HERE / ".runs", help="kept units")
    parser.add_argument("--datasets", nargs="+", default=DATASETS)
    parser.add_argument("--models", nargs="+", help="names in settings.py; all unless told")
    parser.add_argument("--again", action="store_true", help="measure what is in the table too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "fits.csv")
    options = parser.parse_args()
    if options.data is None or not options.data.is_dir():
        parser.error("--data must name the folder of the data sets, or SKLREC_DATA be set")
    rows = {(row["dataset"], row["model"]): row for row in _csv_files.read(options.output)}
    failed = []
    for dataset in options.datasets:
        place = (dataset, options.data.resolve(), options.runs.resolve(), options.threads)
        for model in run_worker(sys.executable, Path(__file__), *place, threads=1)["models"]:
            unwanted = options.models is not None and model not in options.models
            if unwanted or ((dataset, model) in rows and not options.again):
                continue
            load = os.getloadavg()[0]
            try:
                measured = run_worker(
                    sys.executable, Path(__file__), *place, model, threads=options.threads
                )
            except RuntimeError as error:
                failed.append(f"{dataset} {model}: {error}")
                continue
            measured |= {"load": f"{load:.1f}", "cpu": cpu_name(), "threads": options.threads}
            rows[dataset, model] = measured
            print(f"{dataset} {model}: {measured['cpu_s']} s, {measured['peak_gib']} GiB")
            ordered = sorted(rows.values(), key=lambda row: DATASETS.index(row["dataset"]))
            _csv_files.write(options.output, ordered, COLUMNS)
    for failure in failed:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failed else 0


def worker(dataset: str, data: str, runs: str, threads: str, name: str = "") -> dict:
    """Return the models that there are settings of, or what the fit of one takes."""
    import ctypes
    import gc
    import time

    import accuracy
    import settings
    from _runs import _threads, _versions, fit_unit, keep_unit, load_split, short_repr, shortened
    from memory_guards import _status
    from sklearn.base import clone

    from sklrec.datasets import make_interactions

    (where,) = (found for found in settings.DATASETS if found.name == dataset)
    split = next(iter(where.splits))
    benchmark = accuracy.Benchmark(settings.MODELS, data=Path(data), runs=Path(runs))
    units = {}
    for model, variant, _ in benchmark.wanted(where, [split], VARIANTS):
        unit = benchmark.final(where, model, variant, split)
        if unit is not None:
            units[model.name] = unit
    if not name:
        return {"models": list(units)}
    unit = units[name]
    parts = load_split(where, split, Path(data))
    estimator = clone(unit.estimator)
    with _threads(int(threads)):
        # So that code and threads are there.
        made = make_interactions(200, 100, ratings=unit.model.ratings, random_state=0).data
        shortened(estimator, 1).fit(made)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what loading the data has left behind would hide a peak
        Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
        before = _status("VmRSS")
        wall, cpu = time.perf_counter(), time.process_time()
        fit_unit(estimator, unit, parts)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = _status("VmHWM") - before
        if not unit.path(Path(runs)).exists():
            keep_unit(estimator, unit, parts, Path(runs), seconds=wall, threads=int(threads))
    return {
        **{"dataset": dataset, "model": name, "variant": unit.variant},
        "settings": short_repr(estimator),
        "cpu_s": f"{cpu:.2f}",
        "wall_s": f"{wall:.2f}",
        "peak_gib": f"{max(peak, 0) / GIB:.3f}",
        "versions": _versions(),
        "date": time.strftime("%Y-%m-%d"),
    }


if __name__ == "__main__":
    main_or_worker(main, worker, DATASETS)
