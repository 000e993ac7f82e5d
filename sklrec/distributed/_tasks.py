"""Tasks on a cluster or in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from .._files import replacing

_SUMMED_AT_ONCE = 8


def run_tasks(
    client: Any, function: Callable[..., Any], arguments: Iterable[tuple], what: str
) -> list[Any]:
    """Return the results of a function for several arguments, in their order.

    Parameters
    ----------
    client : distributed.Client or None
        Cluster whose workers call the function; None means this process. A task whose worker is
        lost is done again by another one, so that it must depend on its arguments and files only.
    function : callable
        Function of a module, whose results are small.
    arguments : iterable of tuple
        Arguments of each call.
    what : str
        What the tasks do, for error messages.

    Raises
    ------
    RuntimeError
        If the connection to the scheduler is lost.
    Exception
        The first error of a task. Tasks that have not begun are cancelled.
    """
    if client is None:
        return [function(*each) for each in arguments]
    with _futures(client, what) as futures:
        futures += (client.submit(function, *each, pure=False) for each in arguments)
        return client.gather(futures)


def sum_tasks(
    client: Any, function: Callable[..., tuple], arguments: Iterable[tuple], what: str
) -> tuple:
    """Return the sums of the results of a function, tuples of arrays, as :func:`run_tasks`.

    Results are added by the workers, a few at a time, so that there is one to send at the end.
    """
    if client is None:
        return reduce(_sum, (function(*each) for each in arguments))
    with _futures(client, what) as futures:
        level = [client.submit(function, *each, pure=False) for each in arguments]
        while len(level) > 1:
            level = [
                client.submit(_sum, *level[i : i + _SUMMED_AT_ONCE], pure=False)
                for i in range(0, len(level), _SUMMED_AT_ONCE)
            ]
        futures += level  # of the others, the scheduler deletes what has been added
        return client.gather(futures)[0]


def _sum(*parts: tuple) -> tuple:
    """Return sums in new arrays, as a part may be added again if a worker is lost."""
    return tuple(sum(of_parts[1:], start=of_parts[0]) for of_parts in zip(*parts, strict=True))


@contextmanager
def _futures(client: Any, what: str) -> Iterator[list[Any]]:
    """Yield a list for futures, which are cancelled if there is an error."""
    from concurrent.futures import CancelledError

    from distributed.comm.core import CommClosedError

    futures: list[Any] = []
    try:
        yield futures
    except BaseException as error:
        lost = isinstance(error, CancelledError | CommClosedError | TimeoutError)
        if not lost and client.status == "running":
            client.cancel(futures)
            raise
        raise RuntimeError(
            f"The connection to the Dask scheduler was lost while {what}. Files that are complete "
            "are kept: call the function again with a new client to do what is missing."
        ) from error


def divided(work: np.ndarray, most: float) -> list[tuple[int, int]]:
    """Divide items into ranges of about `most` work together, from the work for each of them."""
    task = np.cumsum(work) // most
    edges = np.flatnonzero(np.diff(task, prepend=-1, append=task[-1] + 1))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def check_goes_on(path: Path, source: list, what: str) -> None:
    """Raise an error if the folder of a file was begun with another source; else store it there.

    Parameters
    ----------
    path : Path
        File of the folder for the source.
    source : list
        What the files of the folder are made from, as JSON values.
    what : str
        What the folder would have of another source, for the error.
    """
    text = json.dumps(source)
    if path.exists() and path.read_text("utf-8") != text:
        raise ValueError(
            f"target={str(path.parent)!r} has {what}; delete it or choose another folder."
        )
    with replacing(path) as part:
        part.write_text(text, "utf-8")


def check_pyarrow() -> None:
    """Raise an ImportError that says what to install if there is no pyarrow."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(
            "sklrec.distributed reads and writes Parquet with pyarrow, which is not installed: "
            "pip install 'sklrec[distributed]'"
        ) from error


def new_folder(path: Path) -> None:
    """Create a folder, which may exist, with an error that names the parameter."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"target={str(path)!r} cannot be created as a folder: {error}.") from error
