"""Interactions of some items or users of a block, without reading the whole block."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from ._blocks import Blocks, block_path

_ARRAYS = ("data", "indices", "indptr")


def write_by_item(folder: Path, i: int, X: sp.csr_array) -> None:
    """Write the interactions X of block `i`, ordered by item, to files that can be mapped."""
    by_item = X.T.tocsr()  # (n_items, n_users)
    for name in _ARRAYS:
        np.save(_path(folder, i, name), getattr(by_item, name))


def read_by_item(folder: Path, i: int, items: np.ndarray) -> tuple[np.ndarray, sp.csr_array]:
    """Return the users of some items of block `i`, sorted, and their interactions.

    The interactions are of shape (n_items, n_users), with a row for each of `items` and a column
    for each of the users returned.
    """
    data, indices, indptr = (np.load(_path(folder, i, name), mmap_mode="r") for name in _ARRAYS)
    place, indptr = _places(indptr, items)
    user = np.asarray(indices[place])
    is_here = np.zeros(user.max(initial=-1) + 1, dtype=bool)
    is_here[user] = True
    column = np.cumsum(is_here, dtype=indices.dtype) - 1
    users = np.flatnonzero(is_here)
    parts = np.asarray(data[place]), column[user], indptr
    return users, sp.csr_array(parts, shape=(len(items), users.size))


def read_users(blocks: Blocks, i: int, users: np.ndarray) -> sp.csr_array:
    """Return the interactions of some users of a block, of shape (n_users, n_items)."""
    if 2 * users.size > blocks.users_of_blocks[i]:
        return blocks[i][users]
    path = block_path(blocks.path, i)
    place, indptr = _places(_mapped(path, "indptr"), users)
    parts = (np.asarray(_mapped(path, name)[place]) for name in ("data", "indices"))
    return sp.csr_array((*parts, indptr), shape=(users.size, blocks.n_items))


def _path(folder: Path, i: int, name: str) -> Path:
    return folder / f"by-item-{i}-{name}.npy"


def _places(indptr: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the entries of some rows of a CSR array, and the new `indptr`."""
    start = np.asarray(indptr[rows])
    length = np.asarray(indptr[rows + 1]) - start
    new = np.concatenate([np.zeros(1, dtype=indptr.dtype), np.cumsum(length, dtype=indptr.dtype)])
    return np.repeat(start - new[:-1], length) + np.arange(new[-1]), new


def _mapped(path: Path, name: str) -> np.ndarray:
    """Map an array of an .npz file, in which arrays are not compressed."""
    with zipfile.ZipFile(path) as archive:
        header = archive.getinfo(f"{name}.npy").header_offset
    with open(path, "rb") as file:
        file.seek(header + 26)  # of the local header, to the lengths of its name and extra field
        file.seek(sum(struct.unpack("<HH", file.read(4))), 1)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
    if not shape[0]:  # an empty array cannot be mapped
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape)
