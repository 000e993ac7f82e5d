"""Interactions in blocks of users, as files of a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def block_path(folder: Path, i: int) -> Path:
    return folder / f"{i:05d}.npz"


def write_block(folder: Path, i: int, X: sp.csr_array, user_ids: np.ndarray) -> tuple[int, int]:
    """Write a block and return its numbers of users and of interactions."""
    with replacing(block_path(folder, i)) as part, open(part, "wb") as file:
        np.savez(file, data=X.data, indices=X.indices, indptr=X.indptr, user_ids=_plain(user_ids))
    return X.shape[0], X.nnz


def size_of_block(folder: Path, i: int) -> tuple[int, int] | None:
    """Return the numbers of users and of interactions of a block, None if it is not complete."""
    if not block_path(folder, i).exists():
        return None
    with np.load(block_path(folder, i), allow_pickle=False) as arrays:
        return len(arrays["indptr"]) - 1, len(arrays["indices"])


def write_index(folder: Path, sizes: list[tuple[int, int]], item_ids: np.ndarray) -> Blocks:
    """Complete a folder, all blocks of which are written."""
    with replacing(folder / _ITEMS) as part, open(part, "wb") as file:
        np.save(file, _plain(item_ids))
    n_users, n_interactions = map(list, zip(*sizes, strict=True))
    index = {
        "format": _FORMAT,
        "n_items": len(item_ids),
        "n_users": n_users,
        "n_interactions": n_interactions,
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
