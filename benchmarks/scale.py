"""Costs of large data: ``python benchmarks/scale.py --users 1e8 --items 1e6 --interactions 1e10``.

A simulation: the work of each stage of :mod:`sklrec.distributed` is counted, and divided by the
speeds in ``results/distributed.csv``, which were measured on small data. Prints a table; with
``--page FILE`` writes it to the page, between the comments ``scale table`` and ``end of scale
table``, and with ``--check`` as well only tells whether it is up to date.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import NamedTuple

from _speed import RESULTS

# As in sklrec.distributed, which is not imported so that this script needs no packages.
INTERACTIONS_OF_A_BLOCK = 8e6
ROWS_OF_A_TASK = 4e6
PRODUCTS_OF_A_TASK = 5e7
BYTES_OF_A_TASK = 2.0**28  # of the factors that a task of WMF gathers
BYTES_OF_A_STRIP = 2.0**28  # of X'X
BYTES_OF_AN_INTERACTION = 8  # of a block: a value and an index
PAGE = Path(__file__).parent.parent / "docs" / "user_guide" / "scale.rst"
BEGIN, END = ".. {} table\n", ".. end of {} table\n"


class Stage(NamedTuple):
    """What a stage costs."""

    name: str
    tasks: float
    work: float  # floating-point operations, or rows of the table
    core_seconds: float
    read: float  # bytes
    written: float
    memory: float  # bytes of the largest task
    note: str = ""


class Data(NamedTuple):
    """Size of the data, and what it runs on."""

    users: float
    items: float
    interactions: float
    cores: float
    disk: float  # bytes per second of all machines together
    worker: float  # bytes of memory
    components: float
    k: float


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=float, default=1e8)
    parser.add_argument("--items", type=float, default=1e6)
    parser.add_argument("--interactions", type=float, default=1e10)
    parser.add_argument("--cores", type=float, default=1000)
    parser.add_argument("--disk", type=float, default=1e10, help="bytes per second, all machines")
    parser.add_argument("--worker", type=float, default=8e9, help="bytes of memory of a worker")
    parser.add_argument("--components", type=float, default=64)
    parser.add_argument("--k", type=float, default=10)
    parser.add_argument("--table", type=Path, default=RESULTS / "distributed.csv")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    data = Data(*(getattr(options, name) for name in Data._fields))
    rows = read(options.table)
    tables = {
        "measured": speeds_as_text(rows),
        "scale": as_text(stages(data, measured(rows)), data),
    }
    if options.page is None:
        print(tables["scale"])
        return 0
    page = new = options.page.read_text("utf-8")
    for name, table in tables.items():
        new = with_table(new, name, table)
    if options.check:
        return 0 if new == page else 1
    options.page.write_text(new, "utf-8")
    return 0


def with_table(page: str, name: str, table: str) -> str:
    """Return a page with another table between its two comments."""
    begin, end = BEGIN.format(name), END.format(name)
    before, found, rest = page.partition(begin)
    _, also, after = rest.partition(end)
    if not found or not also:
        raise ValueError(f"The page has no comments {begin!r} and {end!r}.")
    return f"{before}{begin}\n{table}\n{end}{after}"


def read(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def measured(rows: list[dict]) -> dict[str, dict]:
    """Return the row of each job, that of most interactions where there are several."""
    found: dict[str, dict] = {}
    for row in rows:
        best = found.get(row["job"])
        if best is None or int(best["n_interactions"]) < int(row["n_interactions"]):
            found[row["job"]] = row
    return found


def stages(data: Data, rows: dict[str, dict]) -> list[Stage]:
    """Count the work of each stage."""
    n, m, z = data.users, data.items, data.interactions
    speed = {job: float(row["work_per_core_second"]) for job, row in rows.items()}
    blocks_bytes = z * BYTES_OF_AN_INTERACTION + 8 * n
    n_blocks = max(1.0, z / INTERACTIONS_OF_A_BLOCK)
    # Users differ in activity as in the data that was measured.
    gram = rows["gram"]
    uneven = 2 * float(gram["work"]) * int(gram["n_users"]) / int(gram["n_interactions"]) ** 2
    products = uneven * z**2 / n
    of_block = z / n_blocks * 100  # measured: 100 bytes in memory for each interaction

    encode, rank = rows["encode"], rows["rank"]
    per_row = {name: float(encode[name]) * 1e9 / float(encode["work"]) for name in IO}
    n_parts = max(1.0, z / ROWS_OF_A_TASK)
    ranked_bytes = float(rank["written_gb"]) * 1e9 / (int(rank["n_users"]) * 10)

    strips = max(1.0, 2 * m**2 / BYTES_OF_A_STRIP)
    nearest_strips = max(1.0, products / PRODUCTS_OF_A_TASK)
    item_strips = max(1.0, z * data.components * 4 / BYTES_OF_A_TASK)
    factors = 4 * data.components
    return [
        Stage(
            "encode",
            n_parts + n_blocks + 1,
            z,
            z / speed["encode"],
            z * per_row["read_gb"],
            z * per_row["written_gb"],
            of_block,
            f"{n_parts * n_blocks:,.0f} pieces of {z / n_parts / n_blocks:,.0f} rows",
        ),
        Stage("split", n_blocks, z, z / speed["encode"] / 4, blocks_bytes, blocks_bytes, of_block),
        Stage(
            "EASE: X'X",
            strips,
            products,
            products / 2 / speed["gram"],
            strips * blocks_bytes,
            2 * m**2,
            2 * BYTES_OF_A_STRIP,
        ),
        Stage("EASE: inverse", 1, m**3, m**3 / speed["inverse"], 2 * m**2, 4 * m**2, 4 * m**2),
        Stage(
            "ItemKNN, SparseEASE",
            nearest_strips,
            2 * products,
            products / speed["nearest items"],
            # The interactions of the users of each item, by item.
            2 * blocks_bytes + min(nearest_strips * blocks_bytes, products * 8),
            blocks_bytes + m * 50 * 8,
            PRODUCTS_OF_A_TASK * 12,
        ),
        Stage(
            "WMF, an iteration",
            n_blocks + item_strips,
            z * data.components * 16,
            z / speed["wmf"],
            2 * blocks_bytes + z * factors,  # by user, by item, and the users of each item
            (n + m) * factors,
            of_block + BYTES_OF_A_TASK * 2,
        ),
        Stage(
            "rank, evaluate",
            n_blocks,
            2 * n * m * data.components,
            n * m / speed["rank"] * (data.components / 64),
            blocks_bytes,
            n * data.k * ranked_bytes,
            of_block + m * factors,
        ),
    ]


IO = ("read_gb", "written_gb")


def speeds_as_text(rows: list[dict]) -> str:
    """Return the table of what was measured."""
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        "",
        *cells(
            "job",
            "millions",
            "CPU s",
            "time ratio",
            "CPU ratio",
            "a core-second",
            "worker, GiB",
            "scheduler, GiB",
        ),
    ]
    for row in rows:
        lines += cells(
            row["job"],
            f"{int(row['n_interactions']) / 1e6:g}",
            f"{float(row['cpu_seconds']):.1f}",
            *(f"{float(row[name]):.2f}" if row[name] else "" for name in ("ratio", "cpu_ratio")),
            f"{float(row['work_per_core_second']):.2g} {row['unit']}",
            f"{float(row['worker_gib']):.2f}",
            f"{float(row['scheduler_gib']):.2f}" if float(row["scheduler_gib"]) else "",
        )
    return "\n".join(lines) + "\n"


def as_text(found: list[Stage], data: Data) -> str:
    """Return the table of a page in reStructuredText."""
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        "",
        *cells(*("stage", "time", "limit", "core hours", "operations", "moved", "memory", "tasks")),
    ]
    for stage in found:
        computing = stage.core_seconds / min(data.cores, stage.tasks)
        moving = (stage.read + stage.written) / data.disk
        limit = "cores" if computing > moving else "files"
        if stage.memory > data.worker:
            limit = "memory"
        lines += cells(
            stage.name,
            duration(max(computing, moving)),
            limit,
            f"{stage.core_seconds / 3600:,.0f}",
            f"{stage.work:.0e}",
            size(stage.read + stage.written),
            size(stage.memory),
            f"{stage.tasks:,.0f}",
        )
    return "\n".join(lines) + "\n"


def cells(*texts: str) -> list[str]:
    return [f"   {'* -' if i == 0 else '  -'} {text}" for i, text in enumerate(texts)]


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:,.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds / 3600:,.0f} h"


def size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if n_bytes < 1000 or unit == "PB":
            return f"{n_bytes:,.3g} {unit}"
        n_bytes /= 1000
    raise AssertionError


if __name__ == "__main__":
    sys.exit(main())
