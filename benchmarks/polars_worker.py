"""Encode a table in Parquet as CSR blocks with polars, for ``speed_distributed.py``."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ["POLARS_MAX_THREADS"] = os.environ["OMP_NUM_THREADS"]

import numpy as np
import polars as pl

N_BLOCKS = 2


def main(table: str, out: str) -> None:
    Path(out).mkdir(parents=True, exist_ok=True)
    start, cpu = time.perf_counter(), time.process_time()
    frame = pl.read_parquet(f"{table}/*.parquet", columns=["user", "item"])
    items = frame["item"].unique().sort()
    total = 0
    frame = frame.with_columns(block=pl.col("user").hash(0) % N_BLOCKS)
    for (block,), part in frame.partition_by("block", as_dict=True, include_key=False).items():
        users = part["user"].unique().sort()
        cells = (
            part.join(users.to_frame().with_row_index("row"), on="user")
            .join(items.to_frame().with_row_index("column"), on="item")
            .group_by("row", "column")
            .len()
            .sort("row", "column")
        )
        np.savez(
            Path(out) / f"{block}.npz",
            data=cells["len"].to_numpy().astype(np.float32),
            indices=cells["column"].to_numpy().astype(np.int32),
            indptr=np.searchsorted(cells["row"].to_numpy(), np.arange(len(users) + 1)),
            user_ids=users.to_numpy().astype(str if users.dtype == pl.String else np.int64),
        )
        total += len(cells)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    found = {"seconds": seconds, "cpu": cpu, "sum": total, "versions": f"polars {pl.__version__}"}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
