"""Replacing a file as a whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
