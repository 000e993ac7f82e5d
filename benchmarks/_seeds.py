"""Chosen settings fitted with several seeds: what a seed changes beside what users change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from _rows import against_the_best, as_row
from _runs import Dataset, Unit, read_unit
from sklearn.base import clone

if TYPE_CHECKING:
    from accuracy import Benchmark

VARIANTS = ("tuned", "fixed")


def random_states(estimator: Any) -> list[str]:
    """Return the names of an estimator's seeds, those of its members too."""
    names = estimator.get_params(deep=True)
    return [name for name in names if name.split("__")[-1] == "random_state"]


def seed_units(
    benchmark: Benchmark, dataset: Dataset, split: str, seeds: Sequence[int]
) -> Iterator[tuple[Unit, int]]:
    """Yield the fits of all models that draw at random and whose settings have been chosen."""
    for model, variant, _ in benchmark.wanted(dataset, [split], VARIANTS):
        unit = benchmark.final(dataset, model, variant, split)
        names = [] if unit is None or model.ratings else random_states(unit.estimator)
        for seed in seeds if names else ():
            estimator = clone(unit.estimator).set_params(**dict.fromkeys(names, seed))
            yield replace(unit, estimator=estimator), seed


def seed_rows(
    benchmark: Benchmark, dataset: Dataset, split: str, seeds: Sequence[int]
) -> list[dict]:
    """Return the rows of the models that all seeds have been run of, each beside the best."""
    found: dict[str, list[dict]] = {}
    for unit, seed in seed_units(benchmark, dataset, split, seeds):
        result = read_unit(unit, benchmark.runs)
        if result is not None:
            row = result | {"variant": unit.variant, "paper": unit.model.paper, "seed": seed}
            found.setdefault(unit.model.name, []).append(row)
    whole = [row for rows in found.values() if len(rows) == len(seeds) for row in rows]
    return against_the_best([as_row(row) for row in whole])
