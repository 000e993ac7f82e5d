"""Tasks on a cluster or in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


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
    from concurrent.futures import CancelledError

    from distributed.comm.core import CommClosedError

    futures: list[Any] = []
    try:
        futures += (client.submit(function, *each, pure=False) for each in arguments)
        return client.gather(futures)
    except BaseException as error:
        lost = isinstance(error, CancelledError | CommClosedError | TimeoutError)
        if not lost and client.status == "running":
            client.cancel(futures)
            raise
        raise RuntimeError(
            f"The connection to the Dask scheduler was lost while {what}. Files that are complete "
            "are kept: call the function again with a new client to do what is missing."
        ) from error


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
