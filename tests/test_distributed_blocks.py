"""Blocks hold what the encoder makes of the whole table, and are split as it is."""

import sys

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from sklrec.distributed import (
    Blocks,
    encode_parquet,
    evaluate,
    fit,
    rank_to_parquet,
    split_blocks,
)
from sklrec.distributed._by_item import read_by_item, read_users, write_by_item
from sklrec.dummy import PopularityRecommender
from sklrec.model_selection import split_interactions
from sklrec.preprocessing import InteractionEncoder

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
from in_blocks import as_text, interactions, whole, whole_times, write  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blocks")
    return encode_parquet(write(folder / "table", *interactions()), folder / "blocks", n_blocks=5)


# Encoding


@pytest.mark.parametrize("kind", ["integers", "texts", "large numbers"])
@pytest.mark.parametrize("n_blocks", [1, 7])
def test_blocks_are_what_the_encoder_makes_of_the_table(kind, n_blocks, tmp_path):
    users, items = interactions()
    if kind == "texts":
        users, items = as_text(users), as_text(items)
    elif kind == "large numbers":
        users, items = users * 2**40 - 2**50, -items
    encoder = InteractionEncoder()
    expected = encoder.fit_transform((users, items))
    blocks = encode_parquet(
        write(tmp_path / "table", users, items), tmp_path / "blocks", n_blocks=n_blocks
    )
    ids, X = whole(blocks)
    assert len(blocks) == n_blocks
    assert_array_equal(ids, encoder.user_ids_)
    assert_array_equal(blocks.item_ids, encoder.item_ids_)
    assert_array_equal(X.toarray(), expected.toarray())
    assert X.dtype == np.float32
    assert (blocks.n_users, blocks.n_items) == X.shape
    assert blocks.n_interactions == X.nnz
    assert f"{X.nnz:,} interactions" in repr(blocks)


@pytest.mark.parametrize("duplicates", ["sum", "binary"])
def test_values_and_duplicates_are_those_of_the_encoder(duplicates, tmp_path):
    users, items = interactions()
    values = np.random.default_rng(0).integers(0, 6, users.size)  # zero is no interaction
    table = write(tmp_path / "table", users, items, values)
    expected = InteractionEncoder(value="rating", duplicates=duplicates).fit_transform(
        (users, items, values)
    )
    blocks = encode_parquet(
        table, tmp_path / "blocks", value="rating", duplicates=duplicates, n_blocks=3
    )
    assert_array_equal(whole(blocks)[1].toarray(), expected.toarray())


def files_in_order(table):
    """Return the columns of a table as it is read: files in the order of their names."""
    found = pa.concat_tables([pq.read_table(path) for path in sorted(table.glob("*.parquet"))])
    return tuple(found[name].to_numpy(zero_copy_only=False) for name in found.column_names)


@pytest.mark.parametrize(
    ("kind", "duplicates"),
    [("int64", "sum"), ("float64", "last"), ("datetime64[s]", "last"), ("datetime64[D]", "sum")],
)
def test_times_are_those_of_the_encoder(kind, duplicates, tmp_path):
    users, items = interactions()
    rng = np.random.default_rng(1)
    values = rng.integers(1, 6, users.size)
    times = rng.integers(-50, 50, users.size).astype(kind)  # many are equal, some zero
    table = write(tmp_path / "table", users, items, values, times)
    expected, latest = InteractionEncoder(
        value="rating", time="when", duplicates=duplicates
    ).fit_transform(files_in_order(table), return_time=True)
    blocks = encode_parquet(
        table, tmp_path / "b", value="rating", time="when", duplicates=duplicates, n_blocks=3
    )
    X, found = whole(blocks)[1], whole_times(blocks)
    assert_array_equal(X.toarray(), expected.toarray())
    for name in ("data", "indices", "indptr"):
        assert_array_equal(getattr(found, name), getattr(latest, name))
    assert found.dtype == latest.dtype
    assert blocks.time_range == (latest.data.min(), latest.data.max())
    assert Blocks(blocks.path).time_range == blocks.time_range


def test_without_times_the_last_of_duplicates_is_that_of_the_last_row(tmp_path):
    users, items = interactions()
    values = np.arange(1, users.size + 1)
    table = write(tmp_path / "table", users, items, values)
    expected = InteractionEncoder(duplicates="last").fit_transform(files_in_order(table))
    blocks = encode_parquet(
        table, tmp_path / "blocks", value="rating", duplicates="last", n_blocks=3
    )
    assert_array_equal(whole(blocks)[1].toarray(), expected.toarray())
    assert blocks.time_range is None
    with pytest.raises(ValueError, match="has no times: pass `time` to encode_parquet"):
        blocks.times(0)


def test_a_dataframe_of_dask_is_read_in_the_order_of_its_partitions(tmp_path):
    frames = pytest.importorskip("dask.dataframe")
    pd = pytest.importorskip("pandas")
    rows = pd.DataFrame({"user": 1, "item": np.arange(24) % 2, "rating": np.arange(24) + 1.0})
    blocks = encode_parquet(
        frames.from_pandas(rows, npartitions=12),  # 10 follows 9, not 1
        tmp_path / "blocks",
        value="rating",
        duplicates="last",
        n_blocks=1,
    )
    assert_array_equal(blocks[0].toarray(), [[23, 24]])


def test_times_with_a_time_zone_are_in_utc(tmp_path):
    when = pa.array([0, 1], pa.timestamp("s", tz="America/New_York"))  # of an instant in UTC
    pq.write_table(pa.table({"user": [1, 2], "item": [1, 2], "when": when}), tmp_path / "t.parquet")
    blocks = encode_parquet(tmp_path / "t.parquet", tmp_path / "b", time="when", n_blocks=1)
    assert blocks.time_range == (0, 10**9)


def test_users_are_spread_over_blocks(tmp_path):
    for kind, users in (("numbers", np.arange(4000)), ("texts", as_text(np.arange(4000)))):
        table = write(tmp_path / kind, users, np.zeros(4000, dtype=int))
        blocks = encode_parquet(table, tmp_path / f"{kind}-blocks", n_blocks=4)
        assert min(blocks.users_of_blocks) > 800


def test_a_block_may_be_empty(tmp_path):
    table = write(tmp_path / "table", np.array([7, 7]), np.array([1, 2]), n_files=1)
    blocks = encode_parquet(table, tmp_path / "blocks", n_blocks=3)
    assert sorted(blocks.users_of_blocks) == [0, 0, 1]
    assert fit(PopularityRecommender(), blocks).popularity_.tolist() == [1, 1]


def test_columns_of_categories_and_of_other_names(tmp_path):
    users, items = interactions()
    table = pa.table(
        {"who": pa.array(as_text(users)).dictionary_encode(), "what": items.astype(np.int16)}
    )
    pq.write_table(table, tmp_path / "table.parquet")
    blocks = encode_parquet(
        tmp_path / "table.parquet", tmp_path / "blocks", user="who", item="what", n_blocks=2
    )
    expected = InteractionEncoder().fit_transform((as_text(users), items))
    assert_array_equal(whole(blocks)[1].toarray(), expected.toarray())


def test_the_encoder_of_the_blocks_encodes_new_tables(tmp_path):
    table = write(tmp_path / "table", ["ann", "bob"], ["tea", "jam"], n_files=1)
    encoder = encode_parquet(table, tmp_path / "blocks", n_blocks=1).encoder(unknown_items="ignore")
    X = encoder.transform((["eve", "eve"], ["tea", "rum"]), users=["eve"])
    assert_array_equal(X.toarray(), [[0, 1]])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": [1, None], "item": [1, 2]}, "Column 'user' of .* has 1 missing ids"),
        ({"user": [1.5, 2.0], "item": [1, 2]}, "must have integers or strings as ids, got double"),
        ({"user": [1, 2], "rating": [1, 2]}, "has no column 'item'"),
        ({"user": [1, 2], "item": [1, 2], "rating": [1, -1]}, "values must be non-negative"),
        ({"user": [1, 2], "item": [1, 2], "rating": [1, np.nan]}, "values must be finite"),
        ({"user": [1, 2], "item": [1, 2], "rating": [1, None]}, "has missing values"),
        ({"user": [], "item": [], "rating": []}, "has no rows"),
        ({"user": [1], "item": [1], "when": [None]}, "Column 'when' of .* has missing values"),
        ({"user": [1], "item": [1], "when": ["2020"]}, "times must be numbers or datetimes"),
        ({"user": [1], "item": [1], "when": [np.inf]}, "Column 'when' of .* times must be finite"),
    ],
)
def test_a_bad_table_is_an_error(columns, message, tmp_path):
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    pq.write_table(table, tmp_path / "table.parquet")
    with pytest.raises(ValueError, match=message):
        encode_parquet(
            tmp_path / "table.parquet", tmp_path / "blocks", n_blocks=1,
            value="rating" if "rating" in columns and "item" in columns else None,
            time="when" if "when" in columns else None,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "first", "second", "message"),
    [
        ("user", [1], ["1"], "'user' must be of one kind in all files, .* has integers and .*"),
        ("when", [1], [0.5], "'when' must be .* has integers and .* has floats"),
        ("when", [1], [np.datetime64("2020", "s")], "'when' must be .* has datetimes"),
    ],
)
def test_columns_of_two_kinds_are_an_error(name, first, second, message, tmp_path):
    for i, column in enumerate((first, second)):
        columns = {"user": [1], "item": [1], "when": [1]} | {name: column}
        pq.write_table(pa.table(columns), tmp_path / f"{i}.parquet")
    with pytest.raises(ValueError, match=message):
        encode_parquet(tmp_path, tmp_path / "blocks", time="when", n_blocks=1)


def test_what_is_no_parquet_file_is_an_error(tmp_path):
    (tmp_path / "table.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="is no Parquet file"):
        encode_parquet(tmp_path / "table.parquet", tmp_path / "blocks")


@pytest.mark.parametrize(
    "parameters", [{"duplicates": "first"}, {"n_blocks": 0}, {"n_blocks": True}]
)
def test_bad_parameters_are_an_error(parameters, tmp_path):
    with pytest.raises(ValueError, match=f"{next(iter(parameters))} must be"):
        encode_parquet(write(tmp_path / "t", [1], [1], n_files=1), tmp_path / "b", **parameters)


def test_a_folder_of_another_table_is_refused(tmp_path):
    first = write(tmp_path / "first", *interactions(0))
    encode_parquet(first, tmp_path / "blocks", n_blocks=2)
    again = encode_parquet(first, tmp_path / "blocks", n_blocks=2)
    assert again.n_users == 400
    second = write(tmp_path / "second", *interactions(1))
    with pytest.raises(ValueError, match="blocks of another table or of other parameters"):
        encode_parquet(second, tmp_path / "blocks", n_blocks=2)


def test_a_second_call_does_what_is_missing(tmp_path, monkeypatch):
    from sklrec.distributed import _encode

    table = write(tmp_path / "table", *interactions())
    full, written = _encode.write_block, []

    def disk_full_after_two(folder, i, *arguments):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(i)
        return full(folder, i, *arguments)

    monkeypatch.setattr(_encode, "write_block", disk_full_after_two)
    with pytest.raises(OSError, match="No space left"):
        encode_parquet(table, tmp_path / "blocks", n_blocks=5)
    with pytest.raises(ValueError, match="no folder of complete blocks"):
        Blocks(tmp_path / "blocks")
    monkeypatch.setattr(_encode, "write_block", full)
    before = (tmp_path / "blocks" / "00000.npz").stat().st_mtime_ns
    blocks = encode_parquet(table, tmp_path / "blocks", n_blocks=5)
    assert (tmp_path / "blocks" / "00000.npz").stat().st_mtime_ns == before
    expected = InteractionEncoder().fit_transform(interactions())
    assert_array_equal(whole(blocks)[1].toarray(), expected.toarray())
    assert not (tmp_path / "blocks" / "part").exists()


def test_a_target_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "blocks").write_text("")
    with pytest.raises(OSError, match="cannot be created as a folder"):
        encode_parquet(write(tmp_path / "table", [1], [1], n_files=1), tmp_path / "blocks")


def test_a_block_that_does_not_exist_is_an_error(blocks):
    with pytest.raises(IndexError, match="There are 5 blocks, got 5"):
        blocks[5]


def test_without_pyarrow_the_error_says_what_to_install(tmp_path, blocks, monkeypatch):
    model = fit(PopularityRecommender(), blocks)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for function in (
        lambda: encode_parquet(tmp_path, tmp_path / "blocks"),
        lambda: rank_to_parquet(model, blocks, tmp_path / "rankings"),
    ):
        with pytest.raises(ImportError, match=r"pip install 'sklrec\[distributed\]'"):
            function()


# Parts of a block


@pytest.mark.parametrize("wanted", [[0, 3, 4, 49], [7], [], list(range(50))])
def test_interactions_of_some_items_are_those_of_the_block(wanted, blocks, tmp_path):
    wanted = np.array(wanted, dtype=int)
    X = blocks[2]
    write_by_item(tmp_path, 2, X)
    users, found = read_by_item(tmp_path, 2, wanted)
    expected = X[:, wanted].toarray()
    assert_array_equal(users, np.flatnonzero(expected.any(axis=1)))
    assert_array_equal(found.toarray(), expected[users].T)


@pytest.mark.parametrize("wanted", [[0, 5, 6], [79], [], list(range(80))])
def test_interactions_of_some_users_are_those_of_the_block(wanted, blocks):
    wanted = np.array([user for user in wanted if user < blocks.users_of_blocks[2]], dtype=int)
    found = read_users(blocks, 2, wanted)
    assert_array_equal(found.toarray(), blocks[2][wanted].toarray())
    assert found.dtype == np.float32


def test_a_block_without_interactions_has_no_users_of_any_item(tmp_path):
    write_by_item(tmp_path, 0, sp.csr_array((3, 5), dtype=np.float32))
    users, found = read_by_item(tmp_path, 0, np.arange(5))
    assert users.size == 0
    assert found.shape == (5, 0)


# Splits by time


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timed")
    users, items = interactions()
    seconds = np.random.default_rng(2).integers(0, 10**6, users.size)
    table = write(folder / "table", users, items, times=seconds.astype("datetime64[s]"))
    return encode_parquet(table, folder / "blocks", time="when", n_blocks=5)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({"latest": True, "test_size": 2}, {"test_size": 2}),
        ({"cutoff": "1970-01-06"}, {"cutoff": "1970-01-06"}),
        ({"cutoff": 5 * 10**14, "threshold": 1.0}, {"cutoff": 5 * 10**14, "threshold": 1.0}),
    ],
)
def test_splits_by_time_are_those_of_all_rows(here, there, timed, tmp_path):
    found = split_blocks(timed, tmp_path / "split", **here)
    expected = split_interactions(whole(timed)[1], time=whole_times(timed), **there)
    for side, expected_side in zip(found, expected, strict=True):
        assert_array_equal(whole(side)[1].toarray(), expected_side.toarray())
        at = expected_side.toarray() != 0
        assert_array_equal(whole_times(side).toarray()[at], whole_times(timed).toarray()[at])
    again = split_blocks(found[0], tmp_path / "again", latest=True)  # the sides have times
    assert again[1].time_range[1] <= timed.time_range[1]


def test_a_date_without_interactions_before_or_after_it_is_an_error(timed, blocks, tmp_path):
    for cutoff in ("1960-01-01", "2000-01-01", timed.time_range[0]):
        with pytest.raises(ValueError, match="must have interactions before it and after it"):
            split_blocks(timed, tmp_path / "split", cutoff=cutoff)
    split_blocks(timed, tmp_path / "split", cutoff=timed.time_range[1])
    for parameters in ({"cutoff": "2000-01-01"}, {"latest": True}):
        with pytest.raises(ValueError, match=r"need times, but .* has none"):
            split_blocks(blocks, tmp_path / "other", **parameters)


def test_a_folder_of_another_split_is_refused(blocks, tmp_path):
    split_blocks(blocks, tmp_path / "split", 1)
    with pytest.raises(ValueError, match="has a split of other blocks or parameters"):
        split_blocks(blocks, tmp_path / "split", 2)


def test_blocks_of_other_users_or_with_nothing_held_out_are_an_error(blocks, tmp_path):
    model = fit(PopularityRecommender(), blocks)
    fewer = encode_parquet(write(tmp_path / "t", *interactions(1, 100)), tmp_path / "b", n_blocks=5)
    with pytest.raises(ValueError, match="must be of the same users"):
        evaluate(model, blocks, fewer)
    fold_in, held_out = split_blocks(blocks, tmp_path / "split", threshold=9.0)
    assert held_out.n_interactions == 0
    with pytest.raises(ValueError, match="No user has an item held out"):
        evaluate(model, fold_in, held_out)
