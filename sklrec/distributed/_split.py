"""Fold-in and held-out blocks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..model_selection import split_interactions
from ._blocks import Blocks, size_of_block, write_block, write_index
from ._tasks import new_folder, run_tasks


def split_blocks(
    blocks: Blocks,
    target: str | os.PathLike,
    test_size: float | int = 0.2,
    *,
    threshold: float = 0.0,
    random_state: int = 0,
    client: Any = None,
) -> tuple[Blocks, Blocks]:
    """Split the interactions of each user, as :func:`~sklrec.model_selection.split_interactions`.

    Parameters
    ----------
    blocks : Blocks
        Interactions.
    target : str or path-like
        Folder, in which the subfolders ``fold_in`` and ``held_out`` are written.
    test_size : float or int, default=0.2
        Proportion or number of each user's relevant interactions to hold out.
    threshold : float, default=0.0
        Entries above the threshold are relevant.
    random_state : int, default=0
        Seed; each block has its own generator.
    client : distributed.Client or None, default=None
        Cluster that does the work. By default, this process does it.

    Returns
    -------
    fold_in, held_out : Blocks
        Blocks of the same users.

    Examples
    --------
    See :func:`evaluate`.
    """
    target = Path(target).absolute()
    folders = target / "fold_in", target / "held_out"
    for folder in folders:
        new_folder(folder)
    parameters = {"test_size": test_size, "threshold": threshold}
    sizes = run_tasks(
        client,
        _split_block,
        [(blocks, i, folders, parameters, random_state) for i in range(len(blocks))],
        "splitting blocks",
    )
    item_ids = blocks.item_ids
    fold_in, held_out = (
        write_index(folder, list(of_side), item_ids)
        for folder, of_side in zip(folders, zip(*sizes, strict=True), strict=True)
    )
    return fold_in, held_out


def _split_block(
    blocks: Blocks, i: int, folders: tuple[Path, Path], parameters: dict, seed: int
) -> list[tuple[int, int]]:
    sizes = [size_of_block(folder, i) for folder in folders]
    if None not in sizes:
        return sizes  # type: ignore[return-value]
    rng = np.random.RandomState(np.random.SeedSequence([seed, i]).generate_state(4))
    sides = split_interactions(blocks[i], **parameters, random_state=rng)
    ids = blocks.user_ids(i)
    return [write_block(folder, i, side, ids) for folder, side in zip(folders, sides, strict=True)]
