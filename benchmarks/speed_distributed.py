"""Overhead and memory of work on a cluster: ``python benchmarks/speed_distributed.py``.

*Overhead*: on data of the shape of MovieLens 20M, two worker processes with one thread each do the
same job as one process with two threads, or as polars. *Memory*: 100 million interactions of 10
million users are encoded, and all users are ranked, by two workers that Dask limits to 2 GB each.
Data are made in pieces. Writes ``results/distributed.csv``, from which ``scale.py`` computes the
costs of larger data, and ends with 1 if a bound does not hold. Linux only; 12 minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from _speed import RESULTS, check, cpu_name, peer_python, run_worker


class Size(NamedTuple):
    """Shape of made data."""

    n_users: int
    n_items: int
    n_interactions: int
    n_files: int


SIZES = {
    "ml-20m": Size(136_677, 20_108, 10_000_000, 8),
    "large": Size(10_000_000, 2_000, 100_000_000, 25),
    "small": Size(27_000, 20_108, 2_000_000, 4),
    "tiny": Size(600, 90, 9_000, 3),
}
N_COMPONENTS = 64
K = 10
WORKER_LIMIT = "2GB"
JOBS = {  # the largest ratio to one process, or to polars
    "gram": 1.5,
    "nearest items": None,
    "wmf": None,
    "rank": 1.2,
    "encode": 2.0,
    "encode texts": 2.0,
    "inverse": None,  # in one process with one thread, for scale.py
}
MEMORY_JOBS = ["encode", "rank"]
MOST_WORKER_GIB, MOST_SCHEDULER_GIB = 2e9 / 2**30, 500e6 / 2**30
COLUMNS = ["date", "cpu", "versions", "job", "compared_with", "n_users", "n_items"]
COLUMNS += ["n_interactions", "workers", "worker_limit", "repetitions", "seconds"]
COLUMNS += ["compared_seconds", "ratio", "cpu_seconds", "compared_cpu_seconds", "cpu_ratio"]
COLUMNS += ["work", "unit", "work_per_core_second", "read_gb"]
COLUMNS += ["written_gb", "worker_gib", "scheduler_gib", "max_abs_diff"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", nargs="*", choices=JOBS, default=list(JOBS))
    parser.add_argument("--memory-jobs", nargs="*", choices=MEMORY_JOBS, default=MEMORY_JOBS)
    parser.add_argument("--size", choices=SIZES, default="ml-20m")
    parser.add_argument("--memory-size", choices=SIZES, default="large")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where data are made, by default temporary")
    parser.add_argument("--output", type=Path, default=RESULTS / "distributed.csv")
    options = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.jobs:
            data = prepare(Path(folder), options.size, blocks=True)
            for job in options.jobs:
                rows.append(overhead_row(job, data, options))
                write([rows[-1]], options.output)
            shutil.rmtree(data)
        if options.memory_jobs:
            data = prepare(Path(folder), options.memory_size, blocks=False)
            for job in MEMORY_JOBS:  # rank needs the blocks
                rows.append(memory_row(job, data, options))
                write([rows[-1]], options.output)
    bounds = []
    for row in rows:
        most = JOBS[row["job"]] if row["compared_with"] else None
        if most:
            bounds.append((f"{row['job']} / {row['compared_with']}", float(row["ratio"]), most))
        if row["worker_limit"]:
            what = f"{row['job']} of {row['n_interactions']:,}"
            bounds += [
                (f"{what}, GiB of a worker", float(row["worker_gib"]), MOST_WORKER_GIB),
                (f"{what}, GiB of the scheduler", float(row["scheduler_gib"]), MOST_SCHEDULER_GIB),
            ]
    holds = check(bounds)
    return 0 if holds or "tiny" in (options.size, options.memory_size) else 1


def overhead_row(job: str, data: Path, options: Any) -> dict:
    """Let a cluster and another side do a job in turn."""
    if job == "inverse":
        runs = [run("one", job, data, options.size, data / "out", 1, threads=1)]
        return row(job, options.size, runs, 1, "")
    ours, theirs = [], []
    for repetition in range(options.repetitions):
        out = data / f"out-{repetition}"
        ours.append(run("cluster", job, data, options.size, out, options.workers, threads=1))
        if job.startswith("encode"):
            theirs.append(run_polars(job, data, out, options.workers))
        else:
            theirs.append(run("one", job, data, options.size, out, 0, threads=options.workers))
        shutil.rmtree(out, ignore_errors=True)
        print(job, ours[-1]["seconds"], theirs[-1]["seconds"], file=sys.stderr, flush=True)
    against = f"one process with {options.workers} threads"
    if job.startswith("encode"):
        against = theirs[0]["versions"]
    return row(job, options.size, ours, options.workers, "") | compared(ours, theirs, against)


def memory_row(job: str, data: Path, options: Any) -> dict:
    found = run(
        "cluster", job, data, options.memory_size, data, options.workers, WORKER_LIMIT, threads=1
    )
    return row(job, options.memory_size, [found], options.workers, WORKER_LIMIT)


def run(side: str, *arguments: Any, threads: int) -> dict:
    return run_worker(sys.executable, Path(__file__), side, *arguments, threads=threads)


def run_polars(job: str, data: Path, out: Path, threads: int) -> dict:
    script = Path(__file__).with_name("polars_worker.py")
    return run_worker(peer_python("polars"), script, table_of(data, job), out, threads=threads)


def row(job: str, size: str, runs: list[dict], workers: int, limit: str) -> dict:
    seconds, cpu = (statistics.median(run[name] for run in runs) for name in ("seconds", "cpu"))
    work = runs[0]["work"]
    shape = SIZES[size]
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "versions": runs[0]["versions"],
        "job": job,
        "compared_with": "",
        "n_users": shape.n_users,
        "n_items": shape.n_items,
        "n_interactions": shape.n_interactions,
        "workers": workers,
        "worker_limit": limit,
        "repetitions": len(runs),
        "seconds": f"{seconds:.2f}",
        "cpu_seconds": f"{cpu:.2f}",
        "work": work,
        "unit": runs[0]["unit"],
        "work_per_core_second": f"{work / cpu:.4g}",
        "read_gb": f"{runs[0]['read'] / 1e9:.4g}",
        "written_gb": f"{runs[0]['written'] / 1e9:.4g}",
        "worker_gib": f"{max(run['worker'] for run in runs) / 2**30:.3f}",
        "scheduler_gib": f"{max(run['scheduler'] for run in runs) / 2**30:.3f}",
    }


def compared(ours: list[dict], theirs: list[dict], against: str) -> dict:
    median = {
        name: [statistics.median(run[name] for run in side) for side in (ours, theirs)]
        for name in ("seconds", "cpu")
    }
    difference = abs(ours[0]["sum"] - theirs[0]["sum"])
    return {
        "compared_with": against,
        "compared_seconds": f"{median['seconds'][1]:.2f}",
        "ratio": f"{median['seconds'][0] / median['seconds'][1]:.3f}",
        "compared_cpu_seconds": f"{median['cpu'][1]:.2f}",
        "cpu_ratio": f"{median['cpu'][0] / median['cpu'][1]:.3f}",
        "max_abs_diff": f"{difference:.1e}",
    }


def write(rows: list[dict], path: Path) -> None:
    """Write rows to the table, in the place of those of the same job and shape."""
    kept = {}
    key = ("job", "n_interactions", "workers")
    if path.exists():
        with path.open(newline="") as file:
            kept = {tuple(row[name] for name in key): row for row in csv.DictReader(file)}
    kept |= {tuple(str(row[name]) for name in key): row for row in rows}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept.values())


# In fresh processes


def prepare(folder: Path, size: str, *, blocks: bool) -> Path:
    """Make the tables of a size, and blocks, and return their folder."""
    data = folder / size
    run("make", data, size, int(blocks), threads=1)
    return data


def table_of(data: Path, job: str) -> Path:
    return data / ("texts" if job == "encode texts" else "table")


def make(data: str, size: str, blocks: str) -> dict:
    """Write a table in Parquet in pieces, in which the rows of a user are spread over all files."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from sklrec.distributed import encode_parquet

    kinds = ["table", "texts"] if int(blocks) else ["table"]
    for kind in kinds:
        (Path(data) / kind).mkdir(parents=True)
    for i, (users, items) in enumerate(pieces(SIZES[size])):
        for kind in kinds:
            columns = {"user": pa.array(users), "item": pa.array(items)}
            if kind == "texts":
                columns = {
                    name: pc.binary_join_element_wise(f"{name}-", ids.cast(pa.string()), "")
                    for name, ids in columns.items()
                }
            file = Path(data) / kind / f"{i:05d}.parquet"
            pq.write_table(pa.table(columns), file, row_group_size=1_000_000)
    if int(blocks):
        encode_parquet(Path(data) / "table", Path(data) / "blocks", n_blocks=8)
    return {}


def pieces(size: Size) -> Iterator[tuple[Any, Any]]:
    """Yield users and items of the rows of each file."""
    import numpy as np

    from sklrec.datasets import make_interactions

    rng = np.random.default_rng(0)
    if size.n_interactions <= 20_000_000:
        X = make_interactions(
            size.n_users, size.n_items, n_interactions=size.n_interactions, random_state=0
        ).data.tocoo()
        order = rng.permutation(X.nnz)
        for part in np.array_split(order, size.n_files):
            yield X.row[part].astype(np.int64), X.col[part].astype(np.int64)
        return
    # Each user has as many rows, far from each other; popular items have more.
    step = 7_368_787  # a prime
    for part in np.array_split(np.arange(size.n_interactions), size.n_files):
        yield part * step % size.n_users, (size.n_items * rng.random(part.size) ** 2).astype(int)


def cluster(job: str, data: str, size: str, out: str, workers: str, limit: str = "0") -> dict:
    """Do a job with worker processes of one thread each."""
    import dask
    from distributed import Client
    from distributed.deploy.subprocess import SubprocessCluster

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "300s"}),  # on a busy machine
        SubprocessCluster(  # whose scheduler has a process of its own
            n_workers=int(workers),
            threads_per_worker=1,
            worker_kwargs={"memory_limit": limit if limit != "0" else 0},
            dashboard_address=":0",
        ) as local,
        Client(local) as client,
    ):
        client.wait_for_workers(int(workers))
        client.run_on_scheduler(warm_up, "")  # which reads the arguments of tasks too
        before = client.run(warm_up, job)
        found = work(job, Path(data), size, Path(out), client)
        after = client.run(status)
        if set(after) != set(before):
            raise RuntimeError(f"A worker of {limit} was lost: {set(before) - set(after)}.")
        for name in ("read", "written", "cpu"):
            found[name] = sum(after[key][name] - before[key][name] for key in after)
        found["worker"] = max(each["peak"] for each in after.values())
        found["scheduler"] = client.run_on_scheduler(status)["peak"]
    return found


def one(job: str, data: str, size: str, out: str, workers: str) -> dict:
    """Do a job in this process."""
    before = warm_up(job)
    found = work(job, Path(data), size, Path(out) / "one", None)
    after = status()
    found |= {name: after[name] - before[name] for name in ("read", "written")}
    return found | {"worker": after["peak"], "scheduler": 0}


def warm_up(job: str) -> dict:
    """Import what the job needs, which is not timed."""
    import sklrec.distributed

    if job == "rank":
        import torch

        import sklrec.neural  # noqa: F401

        torch.ones(3, 3) @ torch.ones(3, 3)
    return status()


def status() -> dict:
    """Return the peak memory of this process, and the bytes it has read and written."""
    lines = [
        line.split()
        for file in ("status", "io")
        for line in Path(f"/proc/self/{file}").read_text().splitlines()
    ]
    found = {line[0].rstrip(":"): line[1] for line in lines if len(line) > 1}
    return {
        "cpu": time.process_time(),
        "peak": int(found["VmHWM"]) * 1024,
        "read": int(found["rchar"]),
        "written": int(found["wchar"]),
    }


def work(job: str, data: Path, size: str, out: Path, client: Any) -> dict:
    """Do a job; return the seconds it takes, how much work it is, and a sum of its result."""
    from sklrec.distributed import Blocks, encode_parquet

    out.mkdir(parents=True, exist_ok=True)
    if job.startswith("encode"):
        with timed() as found:
            blocks = encode_parquet(table_of(data, job), out / "blocks", client=client)
        found |= {"work": SIZES[size].n_interactions, "unit": "rows"}
        found["sum"] = float(blocks.n_interactions)
    else:
        blocks = Blocks(data / "blocks")
        functions = {"gram": gram, "rank": rank, "nearest items": nearest, "wmf": wmf}
        found = (functions | {"inverse": inverse})[job](blocks, out, client)
    libraries = ("sklrec", "numpy", "scipy", "pyarrow", "distributed", "torch")
    found["versions"] = "; ".join(f"{name} {version(name)}" for name in libraries)
    return found


@contextmanager
def timed() -> Iterator[dict]:
    found: dict = {}
    start, cpu = time.perf_counter(), time.process_time()
    yield found
    found["seconds"], found["cpu"] = time.perf_counter() - start, time.process_time() - cpu


def gram(blocks: Any, out: Path, client: Any) -> dict:
    """Compute the upper triangle of X'X."""
    import numpy as np
    import scipy.sparse as sp

    from sklrec._linalg import add_gram
    from sklrec.distributed._fit import write_gram

    if client is None:
        X = sp.csr_array(sp.vstack(list(blocks)))
        G = np.zeros((blocks.n_items, blocks.n_items), dtype=np.float32)
        with timed() as found:
            add_gram(X, G)
    else:
        with timed() as found:
            write_gram(blocks, client, out / "gram.npy")
            G = np.load(out / "gram.npy", mmap_mode="r")
    triangle = sum(float(G[i, i:].sum(dtype=np.float64)) for i in range(len(G)))
    return found | {"work": products_of(blocks) / 2, "unit": "products", "sum": triangle}


def products_of(blocks: Any) -> float:
    """Return the number of pairs of interactions of a user."""
    import numpy as np

    return sum(float((np.diff(X.indptr).astype(np.float64) ** 2).sum()) for X in blocks)


def nearest(blocks: Any, out: Path, client: Any) -> dict:
    import scipy.sparse as sp

    from sklrec.distributed import fit
    from sklrec.neighbors import ItemKNN

    X = None if client else sp.csr_array(sp.vstack(list(blocks)))
    with timed() as found:
        model = fit(ItemKNN(50), blocks, client=client) if client else ItemKNN(50).fit(X)
    found |= {"work": products_of(blocks), "unit": "products"}
    return found | {"sum": float(model.coef_.sum())}


def wmf(blocks: Any, out: Path, client: Any) -> dict:
    import scipy.sparse as sp

    from sklrec.distributed import fit
    from sklrec.factorization import WMF

    model = WMF(N_COMPONENTS, max_iter=1, random_state=0)
    X = None if client else sp.csr_array(sp.vstack(list(blocks)))
    with timed() as found:
        model = fit(model, blocks, client=client) if client else model.fit(X)
    found |= {"work": blocks.n_interactions, "unit": "interactions"}
    return found | {"sum": model.loss_curve_[-1] / blocks.n_interactions}


def inverse(blocks: Any, out: Path, client: Any) -> dict:
    """Invert a matrix of a third of the items."""
    import numpy as np

    from sklrec._linalg import invert_positive_definite

    n = blocks.n_items // 3
    A = np.random.default_rng(0).random((n, 50), dtype=np.float32)
    G = A @ A.T + np.eye(n, dtype=np.float32)
    with timed() as found:
        invert_positive_definite(G)
    return found | {"work": float(n) ** 3, "unit": "operations", "sum": float(G.trace())}


def rank(blocks: Any, out: Path, client: Any) -> dict:
    """Rank for all users by products of factors."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from sklrec.distributed import rank_to_parquet
    from sklrec.neural import ELSA

    model = ELSA(N_COMPONENTS, max_epochs=1, random_state=0).fit(blocks[0][:5000])
    with timed() as found:
        target = rank_to_parquet(model, blocks, out / "rankings", k=K, client=client)
    total = sum(pc.sum(pq.read_table(file)["item"]).as_py() for file in target.glob("*.parquet"))
    n_scores = float(blocks.n_users) * blocks.n_items
    return found | {"work": n_scores, "unit": "scores", "sum": float(total)}


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in ("make", "cluster", "one"):
        import warnings

        warnings.simplefilter("ignore")
        side = {"make": make, "cluster": cluster, "one": one}[sys.argv[1]]
        print(json.dumps(side(*sys.argv[2:])))
    else:
        sys.exit(main())
