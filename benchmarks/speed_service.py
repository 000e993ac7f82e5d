"""Latency of one user in production: ``python benchmarks/speed_service.py``.

Writes ``results/service_speed.csv``, in milliseconds, for models of 20,000 items, whose weights are
any numbers, and users with 70 items:

- ``predict_ranking``: calls for one user.
- ``onnxruntime``: scores of one user by a file of ``to_onnx``, and the ten best of them by numpy.
- ``service``: requests to ``docs/service.py`` on 16 connections, one after another (0 a second), or
  at random times of a Poisson process. A request is late from when it should have been sent, so
  that those which wait for others count.

Each process has one thread of numpy and torch. Requests are sent by this process, on the same
machine; ``load`` is how many other processes were running in the minute before. ``cpu_ms`` is the
median CPU time of a call, or the mean CPU time of the service for a request, which other processes
change less than the latency. It needs Linux.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import http.client
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _speed import HERE, RESULTS, cpu_name, run_worker

MODELS = ("EASE", "ELSA", "MultVAE")
PER_USER = 70
N_CONNECTIONS = 16
PORT = 8000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rates", type=int, nargs="+", default=[0, 20])
    parser.add_argument("--output", type=Path, default=RESULTS / "service_speed.csv")
    options = parser.parse_args()
    rows = []
    load = f"{os.getloadavg()[0]:.1f}"
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            sizes = (options.items, options.requests)
            found = run_worker(sys.executable, Path(__file__), name, *sizes, folder, threads=1)
            measured = [
                (what, 1, "", found["milliseconds"][what], statistics.median(cpu))
                for what, cpu in found["cpu_milliseconds"].items()
            ]
            for processes in options.processes:
                for rate, times, cpu in of_service(Path(folder), processes, options):
                    measured.append(("service", processes, rate, times, cpu))
        for what, processes, rate, times, cpu in measured:
            times = sorted(times)
            row = {
                "date": datetime.date.today().isoformat(),
                "cpu": cpu_name(),
                "cores": os.cpu_count(),
                "load": load,
                "versions": found["versions"],
                "what": what,
                "model": name,
                "n_items": options.items,
                "processes": processes,
                "requests": len(times),
                "per_second": rate,
                "p50_ms": f"{times[len(times) // 2]:.2f}",
                "p99_ms": f"{times[len(times) * 99 // 100]:.2f}",
                "cpu_ms": f"{cpu:.2f}",
            }
            rows.append(row)
            print(*list(row.values())[5:], file=sys.stderr, flush=True)
        with options.output.open("w", newline="") as table:
            writer = csv.DictWriter(table, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return 0


def of_service(
    folder: Path, processes: int, options: Any
) -> Iterator[tuple[int, list[float], float]]:
    """Yield each rate of requests, the latencies, and the mean CPU time, in milliseconds."""
    files = [folder / "model.safetensors", folder / "items.safetensors"]
    command = [sys.executable, HERE.parent / "docs" / "service.py", *files, str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        wait_for(server)
        rng = random.Random(0)
        bodies = [
            json.dumps({"seen": rng.sample(range(options.items), PER_USER)}).encode()
            for _ in range(options.requests)
        ]
        send(bodies[:100], 0)
        for rate in options.rates:
            before = cpu_seconds(server.pid)
            times = send(bodies, rate)
            yield rate, times, 1000 * (cpu_seconds(server.pid) - before) / len(times)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def cpu_seconds(group: int) -> float:
    """Return the CPU time that the processes of a group have taken."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            values = path.read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        if int(values[2]) == group:
            ticks += int(values[11]) + int(values[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_for(server: subprocess.Popen) -> None:
    """Wait until the service answers."""
    while True:
        if server.poll() is not None:
            raise RuntimeError(f"The service ended with {server.returncode}.")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
            connection.connect()
            connection.close()
            return
        except ConnectionRefusedError:
            time.sleep(0.1)


def send(bodies: list[bytes], rate: int) -> list[float]:
    """Return the latency of each request, at random times or (0) one after another."""
    rng = random.Random(1)
    times, when = [], 0.0
    for _ in bodies:
        when += rng.expovariate(rate) if rate else 0.0
        times.append(when)
    latencies: list[float] = []
    numbers = iter(range(len(bodies)))
    lock = threading.Lock()
    start = time.perf_counter()

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                connection.close()
                return
            due = start + times[number] if rate else time.perf_counter()
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.request("POST", "/", bodies[number])
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise RuntimeError(answer.decode())
            latencies.append(1000 * (time.perf_counter() - due))

    threads = [threading.Thread(target=work) for _ in range(N_CONNECTIONS if rate else 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(latencies) < len(bodies):
        raise RuntimeError(f"Only {len(latencies)} of {len(bodies)} requests were answered.")
    return latencies


def work(name: str, n_items: int, n_calls: int, folder: Path) -> dict:
    """Write a model and its items to files, and time calls for one user in this process."""
    import numpy as np
    import onnxruntime
    import scipy.sparse as sp

    import sklrec
    from sklrec.export import to_onnx
    from sklrec.persistence import save
    from sklrec.preprocessing import InteractionEncoder

    rng = np.random.default_rng(0)
    X = sp.random_array((n_calls, n_items), density=PER_USER / n_items, format="csr", rng=rng)
    X = sp.csr_array((np.ones(X.nnz, dtype=np.float32), X.indices, X.indptr), shape=X.shape)
    model = fitted(name, X[:200])
    save(model, folder / "model.safetensors")
    users = np.zeros(n_items, dtype=int)
    encoder = InteractionEncoder(unknown_items="ignore").fit((users, np.arange(n_items)))
    save(encoder, folder / "items.safetensors")
    to_onnx(model, folder / "model.onnx")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", settings)

    def by_onnx(row: sp.csr_array) -> np.ndarray:
        dense = row.toarray()
        (scores,) = session.run(["scores"], {"interactions": dense})
        scores[dense > 0] = -np.inf
        best = np.argpartition(scores[0], -10)[-10:]
        return best[np.argsort(-scores[0, best])]

    ways = {
        "predict_ranking": lambda row: model.predict_ranking(row, k=10)[0],
        "onnxruntime": by_onnx,
    }
    milliseconds: dict[str, list[float]] = {what: [] for what in ways}
    cpu_milliseconds: dict[str, list[float]] = {what: [] for what in ways}
    for user in range(n_calls):
        row = X[[user]]
        rankings = []
        for what, way in ways.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            rankings.append(way(row))
            cpu_milliseconds[what].append(1000 * (time.process_time() - cpu_start))
            milliseconds[what].append(1000 * (time.perf_counter() - start))
        ours, theirs = rankings
        if len(set(ours) & set(theirs)) < 9:  # rounding may change the last
            raise RuntimeError(f"{name} ranks {ours}, and its file in ONNX {theirs}.")
    versions = [f"sklrec {sklrec.__version__}", f"onnxruntime {onnxruntime.__version__}"]
    versions += [f"numpy {np.__version__}", f"Python {platform.python_version()}"]
    return {
        "milliseconds": milliseconds,
        "cpu_milliseconds": cpu_milliseconds,
        "versions": ", ".join(versions),
    }


def fitted(name: str, X: Any) -> Any:
    """Return a model of these sizes, fitted in seconds."""
    import numpy as np

    from sklrec.linear import EASE
    from sklrec.neural import ELSA, MultVAE

    if name == "EASE":
        model = EASE().fit(X[:, :50])
        n_items = model.n_features_in_ = X.shape[1]
        model._coef = np.random.default_rng(0).normal(size=(n_items, n_items)).astype(np.float32)
        model._popularity = np.ones(n_items)
        return model
    settings = {"max_epochs": 1, "random_state": 0, "device": "cpu"}
    model = ELSA(256, **settings) if name == "ELSA" else MultVAE(200, **settings)
    model.fit(X)
    model._popularity = np.ones(X.shape[1])  # every item is known
    return model


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[1] in MODELS:
        name, n_items, n_calls, folder = sys.argv[1:]
        print(json.dumps(work(name, int(n_items), int(n_calls), Path(folder))))
    else:
        sys.exit(main())
