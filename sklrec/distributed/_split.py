"""Fold-in and held-out blocks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from .._matrix import take_entries
from .._times import as_cutoff
from ..model_selection import split_interactions
from ..model_selection._interactions import times_of
from ._blocks import Blocks, Size, size_of_block, write_block, write_index
from ._tasks import check_goes_on, new_folder, run_tasks


class _How(NamedTuple):
    """Parameters of a split."""

    test_size: float | int
    threshold: float
    latest: bool
    limit: float | None  # the cutoff in the unit of the times
    random_state: int


def split_blocks(
    blocks: Blocks,
    target: str | os.PathLike,
    test_size: float | int = 0.2,
    *,
    threshold: float = 0.0,
    latest: bool = False,
    cutoff: Any = None,
    time_unit: str = "ns",
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
        Proportion or number of each user's relevant interactions to hold out. Ignored if `cutoff`
        is given.
    threshold : float, default=0.0
        Entries above the threshold are relevant, and only these are held out.
    latest : bool, default=False
        Whether to hold out each user's latest interactions instead of random ones.
    cutoff : int, float, str, datetime or None, default=None
        Date at which to split all interactions, for a model that is tested on what came after it.
        Users may have interactions on one side only.
    time_unit : {"s", "ms", "us", "ns"}, default="ns"
        The unit of the times of the blocks, which count from 1970, if `cutoff` is a date.
    random_state : int, default=0
        Seed; each block has its own generator.
    client : distributed.Client or None, default=None
        Cluster that does the work. By default, this process does it.

    Returns
    -------
    fold_in, held_out : Blocks
        Blocks of the same users, with times if `blocks` has them.

    Raises
    ------
    ValueError
        If a parameter is out of range, the blocks lack the times that `latest` and `cutoff` need,
        there are no interactions before or after `cutoff`, or `target` has another split.

    Examples
    --------
    See :func:`evaluate`.
    """
    if (latest or cutoff is not None) and blocks.time_range is None:
        raise ValueError(
            f"latest={latest} and cutoff={cutoff!r} need times, but {blocks.path} has none: pass "
            "`time` to encode_parquet."
        )
    limit = None
    if cutoff is not None:
        limit = as_cutoff(cutoff, time_unit)
        earliest, last = blocks.time_range  # type: ignore[misc]
        if not earliest < limit <= last:
            raise ValueError(
                f"cutoff={cutoff!r} must have interactions before it and after it, but in the "
                f"times it is {limit}, with time_unit={time_unit!r}, and they are from {earliest} "
                f"to {last}."
            )
    target = Path(target).absolute()
    folders = target / "fold_in", target / "held_out"
    for folder in folders:
        new_folder(folder)
    how = _How(test_size, threshold, latest, limit, random_state)
    check_goes_on(
        target / "split.json", [str(blocks.path), str(how)], "a split of other blocks or parameters"
    )
    sizes = run_tasks(
        client,
        _split_block,
        [(blocks, i, folders, how) for i in range(len(blocks))],
        "splitting blocks",
    )
    item_ids = blocks.item_ids
    fold_in, held_out = (
        write_index(folder, list(of_side), item_ids)
        for folder, of_side in zip(folders, zip(*sizes, strict=True), strict=True)
    )
    return fold_in, held_out


def _split_block(blocks: Blocks, i: int, folders: tuple[Path, Path], how: _How) -> list[Size]:
    sizes = [size_of_block(folder, i) for folder in folders]
    if None not in sizes:
        return sizes  # type: ignore[return-value]
    X = blocks[i]
    times = None if blocks.time_range is None else blocks.times(i)
    ids = blocks.user_ids(i)
    return [
        write_block(folder, i, side, ids, None if times is None else times_of(side, times))
        for folder, side in zip(folders, _sides(X, times, i, how), strict=True)
    ]


def _sides(X: sp.csr_array, times: Any, i: int, how: _How) -> tuple[sp.csr_array, sp.csr_array]:
    if how.limit is not None:
        is_later = times.data >= how.limit
        return take_entries(X, ~is_later), take_entries(X, is_later & (X.data > how.threshold))
    return split_interactions(
        X,
        how.test_size,
        threshold=how.threshold,
        time=times if how.latest else None,
        random_state=np.random.RandomState(
            np.random.SeedSequence([how.random_state, i]).generate_state(4)
        ),
    )
