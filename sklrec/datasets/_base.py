"""Download, verify and cache the files of a data set."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import scipy.sparse as sp
from sklearn.datasets import get_data_home

from sklrec._files import replacing
from sklrec._sklearn import Interval

# To be increased when the cached arrays change, so that caches of older versions are ignored.
_CACHE_FORMAT = 2
_TIMEOUT = 30.0  # seconds to wait for the next bytes
_NETWORK_ERRORS = (URLError, TimeoutError, ConnectionError, HTTPException)
_UNREADABLE = (
    ValueError,
    KeyError,
    IndexError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    csv.Error,
)

FETCH_CONSTRAINTS = {
    "data_home": [str, os.PathLike, None],
    "download_if_missing": ["boolean"],
    "n_retries": [Interval(Integral, 0, None, closed="left")],
    "delay": [Interval(Real, 0.0, None, closed="left")],
}


@dataclass(frozen=True)
class RemoteFile:
    """A published file: its local name, its URL and its checksum."""

    filename: str  # relative to the data folder
    url: str
    checksum: str  # "sha256:<hex>"; "md5:<hex>" or "git-blob:<hex>" where only these are published
    may_change: bool = False  # whether the publisher updates it, a zip archive, under the same URL


def fetch_arrays(
    name: str,
    remotes: list[RemoteFile],
    parse: Callable[..., dict[str, np.ndarray]],
    *,
    data_home: str | os.PathLike | None,
    download_if_missing: bool,
    n_retries: int,
    delay: float,
) -> dict[str, np.ndarray]:
    """Return the arrays parsed from the files, or the cached ones if the files are the same.

    Files are searched in `data_home` and in its subfolder ``sklrec``, which is where downloads and
    the cache are stored. ``parse(*paths)`` returns arrays that can be saved without pickle.
    """
    home = _home(data_home)
    paths = [_find(remote, home) for remote in remotes]
    checksums = [
        remote.checksum if path is None else _check(path, remote)
        for path, remote in zip(paths, remotes, strict=True)
    ]
    cache = home / "sklrec" / f"{name}.npz"
    arrays = _read_cache(cache, checksums)
    if arrays is not None:
        return arrays

    found = []
    for i, (path, remote) in enumerate(zip(paths, remotes, strict=True)):
        if path is None:
            path = home / "sklrec" / remote.filename
            if not download_if_missing:
                raise OSError(
                    f"{remote.filename} is neither in {home} nor in {home / 'sklrec'}, and "
                    f"download_if_missing=False; it is published at {remote.url}."
                )
            checksums[i] = _download(remote, path, home, n_retries, delay)
        found.append(path)
    try:
        arrays = parse(*found)
    except _UNREADABLE as error:
        raise OSError(
            f"{' and '.join(map(str, found))} cannot be read ({error}): delete the damaged file "
            "to download it again."
        ) from error
    _write_cache(cache, checksums, arrays)
    return arrays


def csr_from(arrays: dict[str, np.ndarray], name: str, n_columns: int) -> sp.csr_array:
    """Return the matrix whose parts are stored as ``<name>_data``, ``_indices`` and ``_indptr``."""
    indptr = arrays[f"{name}_indptr"]
    return sp.csr_array(
        (arrays[f"{name}_data"], arrays[f"{name}_indices"], indptr),
        shape=(len(indptr) - 1, n_columns),
    )


def _home(data_home: str | os.PathLike | None) -> Path:
    try:
        return Path(get_data_home(data_home)).absolute()
    except OSError as error:
        raise OSError(
            f"data_home={data_home!r} is not a folder and cannot be created: {error}."
        ) from error


def _find(remote: RemoteFile, home: Path) -> Path | None:
    for path in (home / remote.filename, home / "sklrec" / remote.filename):
        if path.is_file():
            return path
    return None


def _check(path: Path, remote: RemoteFile, *, origin: str = "") -> str:
    """Return the checksum of `path`; a wrong one is an error, or a warning if it `may_change`."""
    checksum = _checksum(path, remote.checksum.split(":")[0])
    if checksum == remote.checksum:
        return checksum
    origin = origin or str(path)
    if not remote.may_change:
        raise OSError(
            f"{origin} has checksum {checksum}, but {remote.checksum} was expected: it is damaged "
            f"or not the published file. Delete it and download it again from {remote.url}."
        )
    if not zipfile.is_zipfile(path):
        raise OSError(
            f"{origin} is damaged or not a zip archive: delete it and download it again from "
            f"{remote.url}."
        )
    warnings.warn(
        f"{origin} has checksum {checksum} instead of {remote.checksum}. Its publisher may have "
        "changed this data set: results may differ from published ones.",
        stacklevel=2,
    )
    return checksum


def _checksum(path: Path, algorithm: str) -> str:
    if algorithm == "git-blob":  # the id git gives to a file's content
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return f"{algorithm}:{digest.hexdigest()}"


def _download(remote: RemoteFile, path: Path, home: Path, n_retries: int, delay: float) -> str:
    """Download to `path` and return the checksum; a failed download leaves no file."""
    with _writing(path) as file:
        for attempt in range(n_retries + 1):
            try:
                _retrieve(remote.url, file)
                break
            except _NETWORK_ERRORS as error:
                if attempt == n_retries:
                    raise OSError(
                        f"{remote.url} could not be downloaded ({error}). Without network, get it "
                        f"elsewhere and put it at {home / remote.filename}, or name the folder "
                        "it lies in as data_home."
                    ) from error
                warnings.warn(f"Retry downloading from url: {remote.url}", stacklevel=2)
                time.sleep(delay)
        return _check(Path(file.name), remote, origin=f"The download from {remote.url}")


def _retrieve(url: str, file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()
    with urlopen(url, timeout=_TIMEOUT) as response:
        shutil.copyfileobj(response, file, 1 << 20)
        expected = response.headers.get("Content-Length")
    file.flush()
    if expected is not None and file.tell() != int(expected):
        raise URLError(f"the connection ended after {file.tell()} of {expected} bytes")


@contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` when the block ends without an error."""
    with ExitStack() as stack:
        try:
            existing = next(folder for folder in path.parents if folder.exists())
            # os.access would say yes to root, also for a folder that nobody is meant to write.
            if not existing.stat().st_mode & 0o222:
                raise PermissionError(f"{existing} is read-only")
            path.parent.mkdir(parents=True, exist_ok=True)
            part = stack.enter_context(replacing(path))
        except OSError as error:
            raise OSError(
                f"Cannot write into {path.parent} ({error}): name a folder that can be written "
                "as data_home."
            ) from error
        yield stack.enter_context(open(part, "r+b"))


def _key(checksums: list[str]) -> str:
    return " ".join([f"format-{_CACHE_FORMAT}", *checksums])


def _read_cache(cache: Path, checksums: list[str]) -> dict[str, np.ndarray] | None:
    """Return the cached arrays, or None if they are missing, outdated or damaged."""
    try:
        # Opened here, as numpy does not close a damaged file that it has opened.
        with open(cache, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            if str(arrays["key"]) != _key(checksums):
                return None
            return {name: arrays[name] for name in arrays.files if name != "key"}
    except (OSError, TypeError, *_UNREADABLE):
        return None


def _write_cache(cache: Path, checksums: list[str], arrays: dict[str, np.ndarray]) -> None:
    """Write the cache if possible; without it, the files are parsed again next time."""
    try:
        with _writing(cache) as file:
            contents: dict[str, Any] = {"key": np.array(_key(checksums)), **arrays}
            np.savez(file, **contents)
    except OSError:
        return
