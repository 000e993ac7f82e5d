"""Files that are replaced as a whole, and file objects."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file so that readers see the old one or the complete new one.

    Yields the path of an empty temporary file in the same folder, which the block fills. It is
    renamed to `path` at the end of the block, and deleted if the block raises.

    Parameters
    ----------
    path : str or path-like
        The file to write. It is replaced if it exists, and its folder must exist.

    Yields
    ------
    part : Path
        The temporary file.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklrec._files import replacing
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "notes.txt"
    ...     with replacing(path) as part:
    ...         _ = part.write_text("complete")
    ...     path.read_text()
    'complete'
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to save to.")
    part = path.with_name(f"{path.name}.part-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(part, "xb") as file:
            mode = os.fstat(file.fileno()).st_mode
        yield part
        os.chmod(part, mode)  # the block may have made the file anew, for its owner alone
        os.replace(part, path)
    except BaseException:  # an interruption must not leave a partial file either
        part.unlink(missing_ok=True)
        raise


def write_whole(data: bytes, file: str | os.PathLike | IO[bytes]) -> None:
    """Write bytes to a path, which is replaced as a whole, or to a binary file object.

    Parameters
    ----------
    data : bytes
        What to write.
    file : str, path-like or file object
        Where to write it. An object is one with ``write``.

    Raises
    ------
    TypeError
        If the file object is one of text.
    OSError
        If not all could be written.
    """
    if not is_file_object(file, "write"):
        with replacing(file) as part:  # type: ignore[arg-type]
            part.write_bytes(data)
        return
    n_written = file.write(data)  # type: ignore[union-attr]
    if isinstance(n_written, int) and n_written < len(data):  # no buffer, and a full disk
        raise OSError(f"{file!r} could not be written: it took {n_written} of {len(data)} bytes.")


def is_file_object(file: Any, method: str) -> bool:
    """Return whether a file is an object with a method, ``read`` or ``write``, and not a path.

    Raises
    ------
    TypeError
        If it is a file of text, or neither.
    """
    if isinstance(file, (str, os.PathLike)):
        return False
    if isinstance(file, io.TextIOBase) or not hasattr(file, method):
        raise TypeError(
            f"A file must be a path, or a file object that is open in binary mode with {method}, "
            f"got {file!r}."
        )
    return True
