"""A fitted model as a file that the workers read."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib


@contextmanager
def model_file(content: Any, folder: Path) -> Iterator[Path]:
    """Write an estimator and parameters to a file, and delete it at the end of the block."""
    path = folder / f"_model-{secrets.token_hex(8)}.joblib"  # never read from a worker's cache
    try:
        joblib.dump(content, path)
        yield path
    finally:
        path.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def read_model(path: Path) -> Any:
    """Read a file once a worker; the workers of a machine share its arrays, which are mapped."""
    return joblib.load(path, mmap_mode="r")
