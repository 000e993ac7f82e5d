"""Interactions in blocks of users, as files of a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from .._files import replacing
from ..preprocessing import InteractionEncoder

_FORMAT = 1  # to be increased if older versions of sklrec cannot read new folders
_INDEX = "blocks.json"  # written last, so that a folder with it is complete
_ITEMS = "items.npy"


class Blocks:
    """Interactions of many users, in blocks that are read one at a time.

    A block is a CSR array of some users and all items. Users are in one block each, in the order
    of their ids; items are the same columns in all blocks.

    Parameters
    ----------
    path : str or path-like
        Folder that :func:`encode_parquet` or :func:`split_blocks` has written.

    Attributes
    ----------
    path : Path
        The folder.
    n_users, n_items, n_interactions : int
        Size of the matrix of all users.
    time_range : tuple of two numbers or None
        The earliest and the latest time; None without times.

    Raises
    ------
    ValueError
        If the folder has no blocks, or was written by a newer version.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path).absolute()
        try:
            index = json.loads((self.path / _INDEX).read_text("utf-8"))
        except FileNotFoundError as error:
            raise ValueError(
                f"{self.path} is no folder of complete blocks: it has no {_INDEX}."
            ) from error
        if index["format"] > _FORMAT:
            raise ValueError(f"{self.path} was written by a newer version of sklrec.")
        self.users_of_blocks: list[int] = index["n_users"]
        self.n_users: int = sum(index["n_users"])
        self.n_items: int = index["n_items"]
        self.n_interactions: int = sum(index["n_interactions"])
        self.time_range: tuple[float, float] | None = None
        ranges = [of_block for of_block in index.get("times", []) if of_block is not None]
        if ranges:
            earliest, latest = zip(*ranges, strict=True)
            self.time_range = min(earliest), max(latest)

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self.users_of_blocks)

    def __iter__(self) -> Iterator[sp.csr_array]:
        """Read one block after the other."""
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> sp.csr_array:
        """Read the interactions of a block, of shape (n_users, n_items)."""
        if not 0 <= i < len(self):
            raise IndexError(f"There are {len(self)} blocks, got {i}.")
        with np.load(block_path(self.path, i), allow_pickle=False) as arrays:
            parts = arrays["data"], arrays["indices"], arrays["indptr"]
        return sp.csr_array(parts, shape=(self.users_of_blocks[i], self.n_items))

    def times(self, i: int) -> sp.csr_array:
        """Read the latest time of each interaction of a block.

        Parameters
        ----------
        i : int
            Number of the block.

        Returns
        -------
        times : csr_array of shape (n_users, n_items)
            Integers are int64, datetimes are int64 in nanoseconds since 1970 (UTC), and floats are
            float64. It has the sparsity structure of ``blocks[i]``, and a time may be zero.

        Raises
        ------
        ValueError
            If the blocks have no times.
        """
        if self.time_range is None:
            raise ValueError(f"{self.path} has no times: pass `time` to encode_parquet.")
        X = self[i]
        with np.load(block_path(self.path, i), allow_pickle=False) as arrays:
            return sp.csr_array((arrays["times"], X.indices, X.indptr), shape=X.shape)

    def __repr__(self) -> str:
        return (
            f"Blocks({str(self.path)!r}): {self.n_interactions:,} interactions of {self.n_users:,} "
            f"users with {self.n_items:,} items, in {len(self)} blocks"
        )

    def user_ids(self, i: int) -> np.ndarray:
        """Read the ids of the users of a block."""
        with np.load(block_path(self.path, i), allow_pickle=False) as arrays:
            return _as_ids(arrays["user_ids"])

    @property
    def item_ids(self) -> np.ndarray:
        """Read the ids of the items, in the order of the columns."""
        return _as_ids(np.load(self.path / _ITEMS, allow_pickle=False))

    def encoder(self, **parameters: Any) -> InteractionEncoder:
        """Return an encoder for new tables with the columns of these blocks.

        Parameters
        ----------
        **parameters : object
            Parameters of :class:`~sklrec.preprocessing.InteractionEncoder`, such as ``user``.

        Returns
        -------
        encoder : InteractionEncoder
            Fitted on the items. It has no rows of its own: pass the ids of the users to
            ``transform(table, users=...)``.
        """
        encoder = InteractionEncoder(**parameters)
        encoder.item_ids_ = self.item_ids
        encoder.user_ids_ = np.empty(0, dtype=np.int64)
        return encoder


def rows_together(parts: Iterable[sp.csr_array], most: int) -> Iterator[sp.csr_array]:
    """Yield rows of several blocks with at most so many interactions, or of one block.

    To add up the products of few users takes longer than to compute them.
    """
    together: list[sp.csr_array] = []
    for X in parts:
        if together and sum(part.nnz for part in together) + X.nnz > most:
            yield sp.csr_array(sp.vstack(together, format="csr"))
            together = []
        together.append(X)
    yield sp.csr_array(sp.vstack(together, format="csr"))


def block_path(folder: Path, i: int) -> Path:
    return folder / f"{i:05d}.npz"


class Size(NamedTuple):
    """What the index of a folder has of each block."""

    n_users: int
    n_interactions: int
    times: tuple[float, float] | None  # the earliest and the latest


def write_block(
    folder: Path, i: int, X: sp.csr_array, user_ids: np.ndarray, times: np.ndarray | None = None
) -> Size:
    """Write a block, with the time of each stored entry or None, and return its size."""
    arrays = {
        "data": X.data,
        "indices": X.indices,
        "indptr": X.indptr,
        "user_ids": _plain(user_ids),
    }
    if times is not None:
        arrays["times"] = times
    with replacing(block_path(folder, i)) as part, open(part, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return _size(arrays)


def size_of_block(folder: Path, i: int) -> Size | None:
    """Return the size of a block, None if it is not complete."""
    if not block_path(folder, i).exists():
        return None
    with np.load(block_path(folder, i), allow_pickle=False) as arrays:
        return _size(arrays)


def _size(arrays: Mapping[str, np.ndarray]) -> Size:
    times = arrays["times"] if "times" in arrays else np.empty(0)
    return Size(
        len(arrays["indptr"]) - 1,
        len(arrays["indices"]),
        (times.min().item(), times.max().item()) if times.size else None,
    )


def write_index(folder: Path, sizes: list[Size], item_ids: np.ndarray) -> Blocks:
    """Complete a folder, all blocks of which are written."""
    with replacing(folder / _ITEMS) as part, open(part, "wb") as file:
        np.save(file, _plain(item_ids))
    index = {"format": _FORMAT, "n_items": len(item_ids)} | {
        name: [getattr(size, name) for size in sizes] for name in Size._fields
    }
    with replacing(folder / _INDEX) as part:
        part.write_text(json.dumps(index), "utf-8")
    return Blocks(folder)


def _plain(ids: np.ndarray) -> np.ndarray:
    """Return ids without Python objects, which would need pickle."""
    return ids.astype(str) if ids.dtype == object else ids


def _as_ids(ids: np.ndarray) -> np.ndarray:
    """Return ids as InteractionEncoder has them: int64 or objects."""
    return ids.astype(object) if ids.dtype.kind == "U" else ids
