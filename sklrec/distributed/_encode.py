"""Tables of interactions that are larger than memory."""

from __future__ import annotations

import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._files import replacing
from .._times import as_times
from ..preprocessing._table import as_values, assemble
from ._blocks import Blocks, Size, size_of_block, write_block, write_index
from ._tasks import check_goes_on, check_pyarrow, new_folder, run_tasks

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_OF_A_TASK = 4_000_000
_INTERACTIONS_OF_A_BLOCK = 8_000_000
_WORK = "part"  # subfolder of files that only the encoding needs
_ITEMS = "items.parquet"

Columns = tuple[str, str, str | None, str | None]  # of users, items, values and times


def encode_parquet(
    source: Any,
    target: str | os.PathLike,
    *,
    user: str = "user",
    item: str = "item",
    value: str | None = None,
    time: str | None = None,
    duplicates: Literal["sum", "last", "binary"] = "sum",
    n_blocks: int | None = None,
    client: Any = None,
) -> Blocks:
    """Encode a table of interactions in Parquet as blocks of users.

    The table has one row per interaction and may be larger than memory. Users are put into blocks
    by a hash of their ids, so that all interactions of a user are in the same block. Only the items
    are numbered over all blocks.

    Each of three steps is a task for each file or block: rows of a part of the table are sorted by
    block, the items of all parts are merged, and blocks are assembled from their rows. After an
    error, a second call does what is missing.

    Parameters
    ----------
    source : str, path-like or dask.dataframe.DataFrame
        A Parquet file, or a folder of them; or a DataFrame of Dask.
    target : str or path-like
        Folder of the blocks. On a cluster, all workers must be able to write to it.
    user, item : str
        Names of the columns of ids: integers or strings, without missing ones.
    value : str or None, default=None
        Name of the column of values, such as ratings, which must be finite and non-negative. If
        None, each row has the value 1.
    time : str or None, default=None
        Name of the column of times: finite numbers or datetimes, which are taken to be in UTC if
        they have no time zone. The latest time of each interaction is kept,
        :meth:`Blocks.times`.
    duplicates : {"sum", "last", "binary"}, default="sum"
        What to store if a user has several interactions with an item: the sum of the values; the
        value with the latest time (if times are equal or there are none, the value of the last
        row, of files in the order of their names); or 1, also for single interactions.
    n_blocks : int or None, default=None
        Number of blocks, by default one for 8 million rows of the table. A task has one block in
        memory at a time.
    client : distributed.Client or None, default=None
        Cluster that does the work. By default, this process does it.

    Returns
    -------
    blocks : Blocks
        The blocks.

    Raises
    ------
    ValueError
        If a column is missing, ids are neither integers nor strings or are missing, values are not
        finite and non-negative, times are neither finite numbers nor datetimes, `target` has blocks
        of another table, or there are no rows.
    OSError
        If a file cannot be read or written, for example because the disk is full.

    See Also
    --------
    sklrec.preprocessing.InteractionEncoder : The same for tables that fit into memory.

    Examples
    --------
    >>> import tempfile
    >>> import pyarrow as pa, pyarrow.parquet as pq
    >>> from sklrec.distributed import encode_parquet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pa.table({"user": ["ann", "bob", "bob"], "item": ["tea", "tea", "jam"]})
    ...     pq.write_table(table, f"{folder}/table.parquet")
    ...     blocks = encode_parquet(f"{folder}/table.parquet", f"{folder}/blocks", n_blocks=1)
    ...     blocks.item_ids, blocks.user_ids(0), blocks[0].toarray()
    (array(['jam', 'tea'], dtype=object), array(['ann', 'bob'], dtype=object), array([[0., 1.],
           [1., 1.]], dtype=float32))
    """
    if duplicates not in ("sum", "last", "binary"):
        raise ValueError(f"duplicates must be 'sum', 'last' or 'binary', got {duplicates!r}.")
    if n_blocks is not None and (isinstance(n_blocks, bool) or not 1 <= n_blocks <= 65_536):
        raise ValueError(f"n_blocks must be from 1 to 65,536, got {n_blocks!r}.")
    check_pyarrow()
    target = Path(target).absolute()
    work = target / _WORK
    new_folder(work)
    if hasattr(source, "to_parquet"):  # a DataFrame of Dask, whose partitions become files
        names = [name for name in (user, item, value, time) if name is not None]
        source[names].to_parquet(
            work / "table",
            write_index=False,
            overwrite=True,
            name_function="{:08d}.parquet".format,  # in the order of the partitions
        )
        source = work / "table"
    columns = user, item, value, time
    parts, n_rows = _parts(Path(source).absolute(), columns)
    n_blocks = n_blocks or -(-n_rows // _INTERACTIONS_OF_A_BLOCK)
    check_goes_on(
        target / "source.json",
        [str(source), parts, *columns, duplicates, n_blocks],
        "blocks of another table or of other parameters",
    )
    run_tasks(
        client,
        _scatter,
        [(file, groups, columns, n_blocks, work, i) for i, (file, groups) in enumerate(parts)],
        "sorting rows by block",
    )
    run_tasks(client, _merge_items, [(work, len(parts))], "merging the items")
    sizes = run_tasks(
        client,
        _assemble,
        [(target, i, work, len(parts), duplicates) for i in range(n_blocks)],
        "assembling blocks",
    )
    blocks = write_index(target, sizes, _to_numpy(_read(work / _ITEMS)["item"]))
    shutil.rmtree(work)
    return blocks


def _parts(source: Path, columns: Columns) -> tuple[list[tuple[str, list[int]]], int]:
    """Divide a table into row groups of files of about as many rows as a task reads."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(source.rglob("*.parquet")) if source.is_dir() else [source]
    parts: list[tuple[str, list[int]]] = []
    kinds: dict[str | None, tuple[str, Path]] = {}
    total = 0
    for file in files:
        try:
            metadata = pq.read_metadata(file)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{file} is no Parquet file: {error}") from error
        missing = {name for name in columns if name is not None} - set(metadata.schema.names)
        if missing:
            raise ValueError(
                f"{file} has no column {min(missing)!r}, it has {metadata.schema.names}."
            )
        schema = metadata.schema.to_arrow_schema()
        user, item, _, time = columns
        for name in (user, item, time):
            if name is None:
                continue
            kind = _kind(schema.field(name).type)
            first, where = kinds.setdefault(name, (kind, file))
            if kind != first:
                raise ValueError(
                    f"Column {name!r} must be of one kind in all files, but {where} has {first} "
                    f"and {file} has {kind}."
                )
        groups: list[int] = []
        n_rows = 0
        for group in range(metadata.num_row_groups):
            groups.append(group)
            n_rows += metadata.row_group(group).num_rows
            if n_rows >= _ROWS_OF_A_TASK:
                parts.append((str(file), groups))
                groups, total, n_rows = [], total + n_rows, 0
        if n_rows:
            parts.append((str(file), groups))
        total += n_rows
    if not total:
        raise ValueError(f"source={str(source)!r} has no rows in Parquet files.")
    return parts, total


def _kind(of_column: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_integer(of_column):
        return "integers"
    if pa.types.is_floating(of_column):
        return "floats"
    return "datetimes" if pa.types.is_temporal(of_column) else "strings"


def _rows_file(work: Path, part: int) -> Path:
    return work / f"rows-{part:05d}.parquet"


def _scatter(
    file: str, groups: list[int], columns: Columns, n_blocks: int, work: Path, part: int
) -> None:
    """Write the rows of a part of the table with a row group for each block.

    The items that occur in the part are written beside it.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    out = _rows_file(work, part)
    if out.exists():
        return
    user, item, value, time = columns
    names = [name for name in columns if name is not None]
    table = pq.ParquetFile(file).read_row_groups(groups, columns=names)
    users, items = (_ids(table[name], name, file) for name in (user, item))
    taken = {"user": users, "item": items}
    for column, name, check in (("value", value, as_values), ("time", time, as_times)):
        if name is None:
            continue
        if table[name].null_count:
            raise ValueError(f"Column {name!r} of {file} has missing values.")
        try:
            taken[column] = pa.array(check(table[name].to_numpy()))
        except ValueError as error:
            raise ValueError(f"Column {name!r} of {file}: {error}") from error
    block = block_of(users, n_blocks)
    order = np.argsort(block, kind="stable")
    rows = pa.table(taken).take(pa.array(order))
    ends = np.searchsorted(block[order], np.arange(n_blocks + 1))
    with replacing(out.with_suffix(".items")) as file_of_items:
        pq.write_table(pa.table({"item": pc.unique(items)}), file_of_items)
    with replacing(out) as file_of_rows, pq.ParquetWriter(file_of_rows, rows.schema) as writer:
        for start, end in pairwise(ends):
            # A row group each, also of no rows; larger than any block, so that it is not divided.
            writer.write_table(rows.slice(start, end - start), row_group_size=max(1, end - start))


def _merge_items(work: Path, n_parts: int) -> None:
    """Write the sorted ids of all items."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    out = work / _ITEMS
    if out.exists():
        return
    parts = [_read(_rows_file(work, part).with_suffix(".items")) for part in range(n_parts)]
    items = pc.unique(pa.concat_tables(parts)["item"])
    with replacing(out) as file:
        pq.write_table(pa.table({"item": items.take(pc.array_sort_indices(items))}), file)


def _assemble(target: Path, i: int, work: Path, n_parts: int, duplicates: str) -> Size:
    """Write a block from its rows of all parts, and return its size."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    size = size_of_block(target, i)
    if size is not None:
        return size
    vocabulary = _read(work / _ITEMS)["item"]
    rows = pa.concat_tables(
        [pq.ParquetFile(_rows_file(work, part)).read_row_group(i) for part in range(n_parts)]
    )
    user_ids = pc.unique(rows["user"])
    user_ids = user_ids.take(pc.array_sort_indices(user_ids))
    values, times = (
        rows[name].to_numpy() if name in rows.column_names else None for name in ("value", "time")
    )
    X, latest = assemble(
        pc.index_in(rows["user"], value_set=user_ids).to_numpy().astype(np.int64),
        pc.index_in(rows["item"], value_set=vocabulary).to_numpy().astype(np.int64),
        values,
        times,
        shape=(len(user_ids), len(vocabulary)),
        duplicates=duplicates,
        dtype=np.float32,
    )
    return write_block(target, i, X, _to_numpy(user_ids), None if latest is None else latest.data)


def block_of(users: pa.Array, n_blocks: int) -> np.ndarray:
    """Return the block of each user, by a hash that is the same in every process."""
    import pyarrow as pa

    encoded = users.dictionary_encode()
    distinct = encoded.dictionary
    if pa.types.is_integer(distinct.type):
        hashed = distinct.to_numpy().astype(np.uint64)
    else:
        hashed = _hash_texts(distinct)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        hashed ^= hashed >> np.uint64(shift)  # the finalizer of SplitMix64
        hashed *= np.uint64(factor)
    blocks = (hashed % np.uint64(n_blocks)).astype(np.uint16)
    return blocks[encoded.indices.to_numpy()]


def _hash_texts(texts: pa.Array) -> np.ndarray:
    """Return a polynomial of the bytes of each text, modulo 2^64."""
    import pyarrow as pa

    texts = texts.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    lengths = np.diff(ends)
    if not lengths.any():
        return np.zeros(len(texts), dtype=np.uint64)
    letters = np.frombuffer(data, dtype=np.uint8)[ends[0] : ends[-1]].astype(np.uint64)
    position = np.arange(letters.size) - np.repeat(ends[:-1] - ends[0], lengths)
    powers = np.multiply.accumulate(
        np.full(int(lengths.max()), 0x9E3779B97F4A7C15, dtype=np.uint64)
    )
    terms = (letters + np.uint64(1)) * powers[position]
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(terms, dtype=np.uint64)])
    return sums[ends[1:] - ends[0]] - sums[ends[:-1] - ends[0]]


def _ids(column: Any, name: str, file: str) -> pa.Array:
    """Return a column of ids as int64 or large_string."""
    import pyarrow as pa

    ids = column.combine_chunks()
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    if ids.null_count:
        raise ValueError(f"Column {name!r} of {file} has {ids.null_count} missing ids.")
    if pa.types.is_integer(ids.type):
        try:
            return ids.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise ValueError(f"Column {name!r} of {file} must fit into int64: {error}") from error
    if pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type):
        return ids.cast(pa.large_string())
    raise ValueError(
        f"Column {name!r} of {file} must have integers or strings as ids, got {ids.type}."
    )


def _read(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read()


def _to_numpy(ids: Any) -> np.ndarray:
    found = ids.to_numpy(zero_copy_only=False) if hasattr(ids, "offset") else ids.to_numpy()
    return found if found.dtype.kind == "i" else found.astype(object)
