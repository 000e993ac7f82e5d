"""InteractionEncoder: answers counted by hand on small tables, by a dict on large ones."""

import pickle
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from sklrec.linear import EASE
from sklrec.model_selection import split_interactions
from sklrec.preprocessing import InteractionEncoder

USERS = ["bob", "ann", "bob", "cat", "ann", "bob"]
ITEMS = ["tea", "tea", "jam", "rum", "tea", "tea"]
VALUES = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
TIMES = [30, 50, 0, 10, 20, 30]  # the last row wins between the two of bob's tea


def encode(table, **parameters):
    return InteractionEncoder(**parameters).fit_transform(table)


def test_each_interaction_counts_one_without_values():
    X = encode((USERS, ITEMS))
    assert isinstance(X, sp.csr_array)
    assert X.dtype == np.float32
    assert_array_equal(X.toarray(), [[0, 0, 2], [1, 0, 2], [0, 1, 0]])  # jam, rum, tea


@pytest.mark.parametrize(
    ("duplicates", "times", "ann_tea", "bob_tea"),
    [
        ("sum", None, 7, 7),
        ("sum", TIMES, 7, 7),
        ("last", None, 5, 6),
        ("last", TIMES, 2, 6),
        ("binary", None, 1, 1),
        ("binary", TIMES, 1, 1),
    ],
)
def test_duplicates_are_summed_last_or_binary(duplicates, times, ann_tea, bob_tea):
    X = encode((USERS, ITEMS, VALUES, times), duplicates=duplicates)
    assert [X[0, 2], X[1, 2]] == [ann_tea, bob_tea]


def test_binary_stores_one_for_single_interactions_too():
    assert_array_equal(encode((["a"], ["x"], [4.5]), duplicates="binary").toarray(), [[1]])


def test_last_without_values_stores_one():
    assert_array_equal(encode((USERS, ITEMS), duplicates="last").data, np.ones(4))


@pytest.mark.parametrize(("duplicates", "stored"), [("sum", 1), ("last", 0), ("binary", 1)])
def test_a_value_of_zero_is_no_interaction(duplicates, stored):
    encoder = InteractionEncoder(duplicates=duplicates)
    X = encoder.fit_transform((["a", "a", "b"], ["x", "x", "y"], [3, 0, 0]))
    assert X.nnz == stored
    assert_array_equal(encoder.item_ids_, ["x", "y"])  # y is known, nobody has it


def test_times_have_the_structure_of_the_matrix_and_the_latest_of_duplicates():
    X, T = InteractionEncoder().fit_transform((USERS, ITEMS, None, TIMES), return_time=True)
    assert_array_equal(X.indptr, T.indptr)
    assert_array_equal(X.indices, T.indices)
    assert T.dtype == np.int64
    assert_array_equal(T.data, [50, 0, 30, 10])  # a time of zero is stored


def test_times_lose_the_entries_that_the_matrix_loses():
    table = (["a", "a", "a"], ["x", "x", "y"], [1, 0, 1], [1.5, 2.5, 3.5])
    X, T = InteractionEncoder(duplicates="last").fit_transform(table, return_time=True)
    assert_array_equal(X.toarray(), [[0, 1]])
    assert_array_equal(T.toarray(), [[0, 3.5]])
    assert T.dtype == np.float64


def test_matrix_and_times_share_no_memory():
    X, T = InteractionEncoder().fit_transform((USERS, ITEMS, None, TIMES), return_time=True)
    T.eliminate_zeros()  # changes its structure in place
    assert X.nnz == 4
    assert X[1, 0] == 1


def test_split_interactions_holds_out_the_latest_by_the_times():
    X, T = InteractionEncoder().fit_transform((USERS, ITEMS, None, TIMES), return_time=True)
    _, held_out = split_interactions(X, 1, time=T)
    assert_array_equal(held_out.toarray(), [[0, 0, 0], [0, 0, 2], [0, 0, 0]])  # bob's tea


def test_datetimes_become_nanoseconds_since_1970():
    times = np.array(["1970-01-01T00:00:01", "1969-12-31"], dtype="datetime64[s]")
    _, T = InteractionEncoder().fit_transform(([1, 2], [1, 1], None, times), return_time=True)
    assert_array_equal(T.data, [10**9, -86_400 * 10**9])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("duplicates", ["sum", "last", "binary"])
def test_random_tables_agree_with_a_dict(seed, duplicates):
    rng = np.random.default_rng(seed)
    users, items = rng.integers(-20, 20, 500), rng.integers(0, 10, 500) * 10**12
    values, times = rng.integers(0, 4, 500), rng.integers(0, 5, 500)
    cells = defaultdict(list)
    for row in zip(users.tolist(), items.tolist(), times, range(500), values, strict=True):
        cells[row[:2]].append(row[2:])
    rule = {
        "sum": lambda rows: sum(row[2] for row in rows),
        "last": lambda rows: max(rows)[2],
        "binary": lambda rows: any(row[2] for row in rows),
    }[duplicates]
    row_of = {id_: row for row, id_ in enumerate(sorted(set(users.tolist())))}
    column_of = {id_: column for column, id_ in enumerate(sorted(set(items.tolist())))}
    X_expected, T_expected = np.zeros((2, len(row_of), len(column_of)))
    for (user, item), rows in cells.items():
        X_expected[row_of[user], column_of[item]] = rule(rows)
        T_expected[row_of[user], column_of[item]] = max(rows)[0] if rule(rows) else 0

    encoder = InteractionEncoder(duplicates=duplicates)
    X, T = encoder.fit_transform((users, items, values, times), return_time=True)
    assert_array_equal(encoder.user_ids_, list(row_of))
    assert_array_equal(encoder.item_ids_, list(column_of))
    assert_array_equal(X.toarray(), X_expected)
    assert_array_equal(T.toarray(), T_expected)
    assert X.has_canonical_format
    assert X.indices.dtype == np.int32


def test_sums_are_not_rounded_on_the_way():
    values = [2.0**24, 1, 1, 1, 1]  # adding 1 to 2**24 changes nothing in float32
    assert encode(([0] * 5, [0] * 5, values))[0, 0] == 2**24 + 4


def test_dtype_is_that_of_the_matrix():
    assert encode((USERS, ITEMS, VALUES), dtype=np.float64).dtype == np.float64


# ------------------------------------------------------------ kinds of table


@pytest.fixture(params=["tuple of lists", "tuple of arrays", "structured", "DataFrame"])
def table(request):
    """Return the same table as every kind of container."""
    columns = {"user": USERS, "item": ITEMS, "value": VALUES, "time": TIMES}
    if request.param == "tuple of lists":
        return tuple(columns.values())
    if request.param == "tuple of arrays":
        return tuple(map(np.array, columns.values()))
    if request.param == "structured":
        dtype = [("time", "i8"), ("item", "U3"), ("user", "U3"), ("value", "f4"), ("note", "i4")]
        return np.array(
            [(t, i, u, v, 0) for u, i, v, t in zip(*columns.values(), strict=True)], dtype=dtype
        )
    return pytest.importorskip("pandas").DataFrame(columns)[["time", "item", "value", "user"]]


def test_every_kind_of_table_gives_the_same(table):
    encoder = InteractionEncoder(value="value", time="time")
    X, T = encoder.fit_transform(table, return_time=True)
    assert encoder.user_ids_.tolist() == ["ann", "bob", "cat"]
    assert encoder.item_ids_.tolist() == ["jam", "rum", "tea"]
    assert_array_equal(X.toarray(), [[0, 0, 7], [3, 0, 7], [0, 4, 0]])
    assert_array_equal(T.data, [50, 0, 30, 10])


def test_columns_of_any_name_can_be_chosen():
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({0: [1, 1], "film": [7, 8], "stars": [4.0, 5.0]})
    X = encode(table, user=0, item="film", value="stars")
    assert_array_equal(X.toarray(), [[4, 5]])


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("category", ["a", "b"]), ("str", ["a", "b"]), ("object", ["a", "b"])],
)
def test_pandas_kinds_of_string_ids(dtype, expected):
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"user": [1, 2, 2], "item": pd.Series(["b", "a", "b"], dtype=dtype)})
    encoder = InteractionEncoder().fit(table)
    assert encoder.item_ids_.tolist() == expected
    assert_array_equal(encoder.transform(table).toarray(), [[0, 1], [1, 1]])


@pytest.mark.parametrize("dtype", ["int8", "uint64", "Int64"])
def test_pandas_kinds_of_integer_ids_become_int64(dtype):
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"user": pd.Series([2, 1], dtype=dtype), "item": [5, 5]})
    encoder = InteractionEncoder().fit(table)
    assert encoder.user_ids_.dtype == np.int64
    assert encoder.user_ids_.tolist() == [1, 2]


def test_pandas_times_with_a_time_zone_are_utc():
    pd = pytest.importorskip("pandas")
    moments = pd.to_datetime(["1970-01-01 01:00", "1970-01-01 02:00"])
    table = pd.DataFrame({"user": [1, 1], "item": [1, 2], "t": moments.tz_localize("Europe/Paris")})
    _, T = InteractionEncoder(time="t").fit_transform(table, return_time=True)
    assert_array_equal(T.data, [0, 3600 * 10**9])


def test_the_table_is_left_as_it_was(table):
    before = pickle.dumps(table)
    InteractionEncoder(value="value", time="time", duplicates="last").fit_transform(table)
    assert pickle.dumps(table) == before


def test_everything_works_without_pandas():
    code = (
        "import sys; sys.modules['pandas'] = None  # cannot be imported\n"
        "from sklrec.preprocessing import InteractionEncoder as Encoder\n"
        "assert Encoder().fit_transform((['a', 'b'], [1, 2])).nnz == 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_python_datetimes_and_dates_in_lists_are_utc():
    berlin = timezone(timedelta(hours=1))
    times = [
        datetime(1970, 1, 1, 1, tzinfo=berlin),
        datetime(1970, 1, 1, 0, 0, 2),
        date(1970, 1, 2),
        np.datetime64("1970-01-01T00:00:00.000000007"),
    ]
    table = ([1, 2, 3, 4], [1, 1, 1, 1], None, times)
    _, T = InteractionEncoder().fit_transform(table, return_time=True)
    assert_array_equal(T.data, [0, 2 * 10**9, 86_400 * 10**9, 7])


def test_pandas_timestamps_in_lists_keep_their_nanoseconds():
    pd = pytest.importorskip("pandas")
    times = [pd.Timestamp(5, tz="UTC"), pd.Timestamp("1970-01-01 01:00", tz="Europe/Paris")]
    _, T = InteractionEncoder().fit_transform(([1, 2], [1, 1], None, times), return_time=True)
    assert_array_equal(T.data, [5, 0])


@pytest.mark.parametrize("kind", ["datetime64[ns]", "int64"])
def test_times_one_nanosecond_apart_do_not_tie(kind):
    """As float64, or in microseconds, the three would be equal and item 3 held out."""
    times = (1_700_000_000_000_000_000 + np.array([0, 2, 1])).astype(kind)
    X, T = InteractionEncoder().fit_transform(([1, 1, 1], [1, 2, 3], None, times), return_time=True)
    _, held_out = split_interactions(X, 1, time=T)
    assert_array_equal(held_out.toarray(), [[0, 1, 0]])


def test_values_of_decimals_are_numbers():
    X = encode(([1, 1], [1, 2], [Decimal("0.5"), 2]))
    assert_array_equal(X.toarray(), [[0.5, 2]])


def arrow_table():
    pa = pytest.importorskip("pyarrow")
    return pa.table(
        {
            "user": USERS,
            "item": pa.array(ITEMS).dictionary_encode(),
            "value": pa.array(map(Decimal, VALUES), pa.decimal128(5, 1)),
            "time": pa.array([datetime.fromtimestamp(t, UTC) for t in TIMES]).cast(
                pa.timestamp("s", tz="Europe/Paris")
            ),
        }
    )


@pytest.mark.parametrize("kind", ["table", "batch", "pandas of arrow types", "polars"])
def test_arrow_tables_with_zones_and_decimals(kind):
    table = arrow_table()
    if kind == "batch":
        (table,) = table.to_batches()
    elif kind == "polars":
        table = pytest.importorskip("polars").from_arrow(table)
    elif kind != "table":
        table = table.to_pandas(types_mapper=pytest.importorskip("pandas").ArrowDtype)
    encoder = InteractionEncoder(value="value", time="time")
    X, T = encoder.fit_transform(table, return_time=True)
    assert encoder.item_ids_.tolist() == ["jam", "rum", "tea"]
    assert_array_equal(X.toarray(), [[0, 0, 7], [3, 0, 7], [0, 4, 0]])
    assert_array_equal(T.data, np.array([50, 0, 30, 10]) * 10**9)


def test_missing_ids_of_an_arrow_table_are_named_by_row():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"user": ["a", "b", None], "item": pa.array([1, None, 2])})
    with pytest.raises(ValueError, match="user ids must not be missing, got None in row 2"):
        InteractionEncoder().fit(table)


# ------------------------------------------------------------ kinds of id


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2, "2"], "user ids must be of one kind, here int, got '2' in row 2"),
        (["a", "b", 3, "c"], "here str, got 3 in row 2"),
        (["a", ("a",)], r"here str, got \('a',\) in row 1"),
        ([1, 2.5], "here int, got 2.5 in row 1"),
        ([True, False, 2], "here bool, got 2 in row 2"),
        ([UUID(int=1), str(UUID(int=1))], "here UUID, got '00000000-"),
        ([b"a", "a"], "here bytes, got 'a' in row 1"),
    ],
)
def test_ids_of_two_kinds_are_an_error_that_names_the_first(ids, message):
    with pytest.raises(ValueError, match=message):
        InteractionEncoder().fit((ids, [1] * len(ids)))


@pytest.mark.parametrize("unknown", ["error", "ignore"])
def test_ids_of_another_kind_than_in_fit_are_an_error(unknown):
    """They would be unknown, and ignored all of them."""
    encoder = InteractionEncoder(unknown_items=unknown).fit(([1, 2], [10, 20]))
    with pytest.raises(ValueError, match="item ids must be of one kind, here int, got '20' in row"):
        encoder.transform(([1], ["20"]))
    with pytest.raises(ValueError, match="item ids must be of one kind, here int, got '20' in row"):
        encoder.item_indices(["20"])


def test_strings_of_numpy_and_of_python_are_of_one_kind():
    encoder = InteractionEncoder().fit(([1, 2], ["a", np.str_("b")]))
    assert encoder.item_indices(np.array(["b", "a"])).tolist() == [1, 0]


@pytest.mark.parametrize("ids", [[7, 3, 5], ["c", "a", "b"], [(1, 2), (0, 1), (0, 2)]])
def test_indices_of_ids_are_their_rows_and_columns(ids):
    encoder = InteractionEncoder().fit((ids, ids))
    assert encoder.item_indices(ids).tolist() == [2, 0, 1]
    assert encoder.user_indices(ids[1:]).tolist() == [0, 1]
    assert encoder.decode_ranking(encoder.item_indices(ids)).tolist() == ids
    assert encoder.item_indices([]).size == 0


@pytest.mark.parametrize("name", ["user", "item"])
def test_indices_of_unknown_ids_are_an_error_or_minus_one(name):
    encoder = InteractionEncoder().fit((["a", "b"], ["a", "b"]))
    message = f"{name} ids must be among those that fit has seen, got 'x' in row 1"
    with pytest.raises(ValueError, match=message):
        getattr(encoder, f"{name}_indices")(["a", "x"])
    encoder.set_params(**{f"unknown_{name}s": "ignore"})
    assert getattr(encoder, f"{name}_indices")(["x", "b"]).tolist() == [-1, 1]
    with pytest.raises(ValueError, match=f"{name} ids must not be missing, got None in row 1"):
        getattr(encoder, f"{name}_indices")(["a", None])


@pytest.mark.parametrize(
    "ids",
    [
        [3, 1, 2**40],
        [2**63, -1, 2**70],
        [-(2**63), 2**63 - 1, 0],
        ["b", "a", "a\0"],
        [b"b", b"a", b""],
        [(1, "b"), (1, "a"), (0,)],
        [1.5, -2.0, 0.0],
        [True, False],
        [frozenset("ab"), frozenset("c"), frozenset()],
        [UUID(int=2), UUID(int=1), UUID(int=3)],
        [datetime(2020, 1, 2, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)],
        [date(2020, 1, 2), date(2020, 1, 1)],
    ],
    ids=lambda ids: "-".join(type(one).__name__ for one in ids),  # sets have no order
)
def test_ids_of_any_hashable_kind_come_back_as_they_were(ids):
    encoder = InteractionEncoder()
    X = encoder.fit_transform((range(len(ids)), ids))
    decoded = encoder.decode_ranking(X.toarray().argmax(axis=1)).tolist()
    assert decoded == ids
    assert list(map(type, decoded)) == list(map(type, ids))


def test_unsigned_ids_beyond_int64_stay_apart():
    ids = np.array([2**64 - 1, 2**64 - 2, 2**63], dtype=np.uint64)
    assert InteractionEncoder().fit((ids, ids)).item_ids_.tolist() == sorted(ids.tolist())


def test_datetime_ids_are_not_taken_for_integers():
    ids = np.array(["2020-01-02", "2020-01-01"], dtype="datetime64[ns]")
    encoder = InteractionEncoder().fit(([1, 1], ids))
    assert encoder.item_ids_.tolist() == sorted(ids)


def test_ids_that_can_be_compared_are_in_increasing_order():
    encoder = InteractionEncoder().fit(([10, 9, 11], [("b", 1), ("a", 2), ("a", 1)]))
    assert encoder.user_ids_.tolist() == [9, 10, 11]
    assert encoder.item_ids_.tolist() == [("a", 1), ("a", 2), ("b", 1)]


def test_ids_that_cannot_be_compared_are_in_order_of_occurrence():
    ids = [("z", 1), (3, 1), ("a", 1)]
    assert InteractionEncoder().fit(([1, 1, 1], ids)).item_ids_.tolist() == ids


def test_equal_ids_of_different_types_are_one():
    encoder = InteractionEncoder().fit((np.array([1, 2]), ["x", "y"]))
    X = encoder.transform((np.array([2.0, 1.0]), np.array(["x", "x"])))
    assert_array_equal(X.toarray(), [[1, 0], [1, 0]])


@pytest.mark.parametrize("spread", [1, 10**15])
def test_integer_ids_far_apart_and_close_together_are_found_alike(spread):
    ids = np.array([-3, 5, 0, 5]) * spread
    encoder = InteractionEncoder(unknown_items="ignore").fit((ids, ids))
    assert_array_equal(encoder.item_ids_, np.array([-3, 0, 5]) * spread)
    asked = np.array([5, 4, 6, -4, -3, 0]) * spread
    X = encoder.transform((np.full(6, 7), asked), users=[7])
    assert_array_equal(X.toarray(), [[1, 1, 1]])


# ------------------------------------------------------------ users and items at transform


@pytest.fixture
def encoder():
    return InteractionEncoder().fit((USERS, ITEMS))


def test_rows_are_the_users_of_fit_by_default(encoder):
    X = encoder.transform((["cat", "ann"], ["jam", "rum"]))
    assert_array_equal(X.toarray(), [[0, 1, 0], [0, 0, 0], [1, 0, 0]])


def test_named_users_are_the_rows_in_the_order_named(encoder):
    table = (["zoe", "ann", "eve"], ["jam", "rum", "tea"])
    X = encoder.transform(table, users=["zoe", "nobody", "eve", "ann"])
    assert_array_equal(X.toarray(), [[1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]])
    assert encoder.user_ids_.tolist() == ["ann", "bob", "cat"]


def test_named_integer_users_need_no_order():
    encoder = InteractionEncoder().fit(([1], [1]))
    X = encoder.transform(([30, 10, 10**12], [1, 1, 1], [3, 1, 2]), users=[30, 10**12, 10])
    assert_array_equal(X.toarray(), [[3], [2], [1]])


def test_times_of_named_users_follow_their_rows(encoder):
    table = (["zoe", "eve"], ["jam", "tea"], None, [7, 8])
    X, T = encoder.transform(table, users=["eve", "zoe"], return_time=True)
    assert_array_equal(T.toarray(), [[0, 0, 8], [7, 0, 0]])
    assert_array_equal(X.toarray(), T.toarray() > 0)


def test_an_empty_table_gives_empty_rows(encoder):
    X, T = encoder.transform(([], [], [], np.array([], dtype=int)), return_time=True)
    assert X.shape == T.shape == (3, 3)
    assert X.nnz == T.nnz == 0


def test_no_named_users_give_a_matrix_without_rows():
    encoder = InteractionEncoder(unknown_users="ignore").fit((USERS, ITEMS))
    assert encoder.transform((USERS, ITEMS), users=[]).shape == (0, 3)


def test_unknown_users_and_items_are_left_out_as_asked():
    encoder = InteractionEncoder(unknown_users="ignore", unknown_items="ignore")
    encoder.fit((USERS, ITEMS))
    table = (["ann", "zoe", "ann"], ["jam", "jam", "gin"], [1, 2, 3], [1, 2, 3])
    X, T = encoder.transform(table, return_time=True)
    assert_array_equal(X.toarray(), [[1, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert_array_equal(T.data, [1])


def test_unknown_users_are_an_error_that_says_what_to_do(encoder):
    with pytest.raises(
        ValueError, match=r"2 user\(s\) that fit has not seen, the first is 'zoe': .*users="
    ):
        encoder.transform((["ann", "zoe", "eve", "zoe"], ["jam"] * 4))


def test_users_not_named_are_an_error(encoder):
    with pytest.raises(ValueError, match=r"1 user\(s\) that `users` does not list, .* 'ann'"):
        encoder.transform((["ann", "zoe"], ["jam", "jam"]), users=["zoe"])


def test_unknown_items_are_an_error_that_says_what_to_do(encoder):
    with pytest.raises(
        ValueError, match=r"1 item\(s\) that fit has not seen, the first is 'gin': .*unknown_items"
    ):
        encoder.transform((["ann"], ["gin"]))


def test_unknown_items_are_an_error_where_only_users_are_ignored():
    encoder = InteractionEncoder(unknown_users="ignore").fit((USERS, ITEMS))
    with pytest.raises(ValueError, match=r"1 item\(s\)"):
        encoder.transform((["zoe"], ["gin"]))


def test_a_named_user_may_not_come_twice(encoder):
    with pytest.raises(ValueError, match="users must hold each id once, but 'eve' comes twice"):
        encoder.transform((["eve"], ["jam"]), users=["eve", "zoe", "eve"])


# ------------------------------------------------------------ rankings back to ids


def test_rankings_become_ids_of_their_shape(encoder):
    ids = encoder.decode_ranking(np.array([[2, 0], [1, -1]]))
    assert ids.dtype == object
    assert ids.tolist() == [["tea", "jam"], ["rum", None]]


def test_tuples_stay_one_id_each_in_a_ranking():
    encoder = InteractionEncoder().fit(([1, 1], [("a", 1), ("b", 2)]))
    assert encoder.decode_ranking([1, -1]).tolist() == [("b", 2), None]


@pytest.mark.parametrize("wrong", [-2, 3])
def test_rankings_beyond_the_items_are_an_error(encoder, wrong):
    with pytest.raises(ValueError, match=f"indices from 0 to 2, or -1, got {wrong}"):
        encoder.decode_ranking([[0, wrong]])


def test_rankings_of_floats_are_an_error(encoder):
    with pytest.raises(ValueError, match="got an array of float64"):
        encoder.decode_ranking([[0.0]])


def test_feature_names_are_the_item_ids_as_strings():
    names = InteractionEncoder().fit(([1, 1], [20, 3])).get_feature_names_out()
    assert names.dtype == object
    assert names.tolist() == ["3", "20"]


def test_a_table_becomes_a_ranking_of_ids_in_a_pipeline():
    """Whoever has jam has tea."""
    table = ([1, 1, 2, 2, 3, 4], ["jam", "tea", "jam", "tea", "jam", "rum"])
    model = make_pipeline(InteractionEncoder(), EASE(lambda_=1.0)).fit(table)
    best = model.decision_function(([3], ["jam"]))[2].argsort()[::-1][:1]
    assert model[0].decode_ranking(best).tolist() == ["tea"]


# ------------------------------------------------------------ an estimator like others


def test_clone_and_parameters():
    encoder = InteractionEncoder(value="stars", unknown_users="ignore")
    copy = clone(encoder).set_params(duplicates="last")
    assert copy.get_params() == {**encoder.get_params(), "duplicates": "last"}
    assert repr(encoder) == "InteractionEncoder(unknown_users='ignore', value='stars')"


def test_a_pickle_encodes_alike(encoder):
    table = (["cat"], ["rum"])
    copy = pickle.loads(pickle.dumps(encoder))
    assert_array_equal(copy.transform(table).toarray(), encoder.transform(table).toarray())


def test_its_input_is_no_matrix_and_the_tags_say_so():
    assert not InteractionEncoder().__sklearn_tags__().input_tags.two_d_array


@pytest.mark.parametrize(
    "call",
    [
        lambda encoder: encoder.transform((USERS, ITEMS)),
        lambda encoder: encoder.decode_ranking([0]),
        lambda encoder: encoder.get_feature_names_out(),
    ],
)
def test_an_encoder_that_is_not_fitted_says_so(call):
    with pytest.raises(NotFittedError):
        call(InteractionEncoder())


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": None},
        {"item": 1.5},
        {"duplicates": "mean"},
        {"unknown_users": "drop"},
        {"unknown_items": None},
        {"dtype": np.int64},
    ],
    ids=str,
)
def test_parameters_out_of_range_are_an_error(wrong):
    with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter"):
        InteractionEncoder(**wrong).fit((USERS, ITEMS))


# ------------------------------------------------------------ bad tables


def test_a_missing_column_is_an_error_that_names_those_there():
    table = np.zeros(2, dtype=[("userId", int), ("item", int)])
    with pytest.raises(ValueError, match=r"no column 'user', it has \['userId', 'item'\]"):
        InteractionEncoder().fit(table)


@pytest.mark.parametrize("table", [np.ones((3, 2)), [(1, 2)], {"user": [1]}, "ab", None], ids=str)
def test_anything_else_than_a_table_is_an_error(table):
    with pytest.raises(TypeError, match=f"X must be a DataFrame, .* got {type(table).__name__}"):
        InteractionEncoder().fit(table)


@pytest.mark.parametrize("n_columns", [1, 5])
def test_a_tuple_of_too_few_or_many_columns_is_an_error(n_columns):
    with pytest.raises(ValueError, match=f"got {n_columns} columns"):
        InteractionEncoder().fit(([1],) * n_columns)


@pytest.mark.parametrize(
    ("table", "lengths"),
    [
        (([1, 2], [1]), "[2, 1]"),
        (([1, 2], [1, 2], [1.0]), "[2, 2, 1]"),
        (([1, 2], [1, 2], None, [1]), "[2, 2, 1]"),
    ],
)
def test_columns_of_different_lengths_are_an_error(table, lengths):
    with pytest.raises(ValueError, match="same length, got ") as error:
        InteractionEncoder().fit(table)
    assert lengths in str(error.value)


def test_an_empty_table_is_an_error_in_fit():
    with pytest.raises(ValueError, match="X holds no interactions"):
        InteractionEncoder().fit(([], []))


@pytest.mark.parametrize("missing", [None, float("nan"), np.datetime64("NaT")], ids=str)
@pytest.mark.parametrize(("column", "name"), [(0, "user"), (1, "item")])
def test_missing_ids_are_an_error_in_fit_and_transform(missing, column, name):
    encoder = InteractionEncoder(unknown_users="ignore", unknown_items="ignore")
    table = [["a", "b"], ["a", "b"]]
    encoder.fit(tuple(table))
    table[column] = ["a", missing]
    for method in (InteractionEncoder().fit, encoder.transform):
        with pytest.raises(ValueError, match=rf"{name} ids must not be missing, got .* in row 1\."):
            method(tuple(table))


def test_nan_in_float_ids_is_an_error():
    with pytest.raises(ValueError, match="item ids must not be missing, got nan"):
        InteractionEncoder().fit(([1, 2], np.array([1.0, np.nan])))


def test_pandas_missing_ids_are_an_error():
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"user": pd.Series(["a", pd.NA], dtype="object"), "item": [1, 2]})
    with pytest.raises(ValueError, match="user ids must not be missing, got <NA>"):
        InteractionEncoder().fit(table)


@pytest.mark.parametrize("method", ["fit", "transform"])
def test_ids_that_cannot_be_hashed_are_an_error(encoder, method):
    with pytest.raises(TypeError, match=r"user ids must be hashable, but one is not: .*'list'"):
        getattr(encoder, method)(([[1], [2]], ["tea", "tea"]))


@pytest.mark.parametrize("column", [np.zeros((2, 2)), 3, "ab"], ids=["2-d", "number", "string"])
@pytest.mark.parametrize(
    ("position", "name"), [(0, "user ids"), (1, "item ids"), (2, "values"), (3, "times")]
)
def test_columns_that_are_not_one_dimensional_are_an_error(column, position, name):
    table = [[1, 2], [1, 2], [1, 2], [1, 2]]
    table[position] = column
    with pytest.raises(ValueError, match=f"{name} must be one-dimensional, got an array of shape"):
        InteractionEncoder().fit(tuple(table))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.nan, "values must be finite, got nan in row 1"),
        (np.inf, "values must be finite, got inf in row 1"),
        (-0.5, "values must be non-negative, got -0.5 in row 1"),
        ("5", "values must be numbers, got an array of <U"),
        (None, "values must be numbers, got None in row 1"),
        (1j, "values must be numbers, got an array of complex128"),
    ],
)
def test_values_that_are_not_allowed_are_an_error(wrong, message):
    with pytest.raises(ValueError, match=message):
        InteractionEncoder().fit(([1, 2], [1, 2], [1.0, wrong]))


@pytest.mark.parametrize(
    ("values", "dtype"), [([1e300, 1.0], np.float32), ([1.7e308, 1.7e308], np.float64)]
)
def test_values_too_large_for_the_matrix_are_an_error(values, dtype):
    with pytest.raises(ValueError, match=f"too large for {dtype.__name__}"):
        encode(([1, 1], [1, 1], values), dtype=dtype)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.nan, "times must be finite, got nan in row 1"),
        (-np.inf, "times must be finite, got -inf in row 1"),
        ("noon", "times must be numbers or datetimes, got an array of <U"),
        (None, "times must be numbers or datetimes, got None in row 1"),
        (Decimal(3), r"times must be numbers or datetimes, got Decimal\('3'\) in row 1"),
        (date(2020, 1, 1), r"not both, got 1.0 in row 0 and datetime.date\(2020, 1, 1\) in row 1"),
    ],
)
def test_times_that_are_not_allowed_are_an_error(wrong, message):
    with pytest.raises(ValueError, match=message):
        InteractionEncoder().fit(([1, 2], [1, 2], None, [1.0, wrong]))


def test_a_time_that_int64_cannot_hold_is_an_error():
    times = np.array([1, 2**63], dtype=np.uint64)
    with pytest.raises(ValueError, match="times must fit into int64, got 9223372036854775808 in"):
        InteractionEncoder().fit(([1, 2], [1, 2], None, times))


@pytest.mark.parametrize("wrong", ["9999-12-31", "0001-01-01"])
def test_a_datetime_that_nanoseconds_cannot_count_is_an_error(wrong):
    times = np.array(["2020-01-01", wrong], dtype="datetime64[us]")
    message = f"from 1677-09-22 to 2262-04-11, .* got {wrong}T00:00:00.000000 in row 1"
    with pytest.raises(ValueError, match=message):
        InteractionEncoder().fit(([1, 2], [1, 2], None, times))


def test_a_missing_datetime_is_an_error():
    times = np.array(["2020-01-01", "NaT"], dtype="datetime64[D]")
    with pytest.raises(ValueError, match="times must be finite, got NaT in row 1"):
        InteractionEncoder().fit(([1, 2], [1, 2], None, times))


def test_times_asked_for_and_not_there_are_an_error():
    with pytest.raises(ValueError, match="needs a table with times, but X has none"):
        InteractionEncoder().fit_transform((USERS, ITEMS), return_time=True)
