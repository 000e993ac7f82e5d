import dataclasses
import hashlib
import shutil
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from sklrec.datasets import _movielens, fetch_movielens

VARIANTS = ["latest-small", "100k", "1m", "10m", "20m", "25m", "32m"]

# (user, item, stars, seconds), neither sorted by user nor by item.
RATINGS = [
    (7, 30, 4, 900),
    (2, 30, 1, 978300760),
    (7, 10, 5, 100),
    (2, 20, 3, 300),
    (9, 10, 2, 200),
]
TITLES = {10: "Amélie (2001)", 20: "Star Wars: Episode IV, A (1977)", 30: "Heat (1995)", 40: "No"}
GENRES = {10: "Comedy|Romance", 20: "Action", 30: "Action|Comedy", 40: "Comedy"}
TAGS = [(2, 30, "Heist"), (7, 30, "heist "), (7, 10, "Paris, love"), (9, 40, "never rated")]
GENRE_NAMES = ["unknown", "Action", "Comedy", "Romance"]


def csv_files(folder, ratings):
    rows = [f"{u},{i},{float(r)},{t}\r\n" for u, i, r, t in ratings]
    titles = {i: f'"{title}"' if "," in title else title for i, title in TITLES.items()}
    films = [f"{i},{titles[i]},{GENRES[i]}\r\n" for i in TITLES]
    tags = [f'{u},{i},"{tag}",1\r\n' for u, i, tag in TAGS]
    return {
        f"{folder}/tags.csv": "".join(["userId,movieId,tag,timestamp\r\n", *tags]).encode(),
        f"{folder}/ratings.csv": "".join(["userId,movieId,rating,timestamp\r\n", *rows]).encode(),
        f"{folder}/movies.csv": "".join(["movieId,title,genres\r\n", *films]).encode(),
    }


def dat_files(folder, ratings, encoding):
    films = [f"{i}::{TITLES[i]}::{GENRES[i]}\n" for i in TITLES]
    return {
        f"{folder}/ratings.dat": "".join(
            f"{u}::{i}::{r}::{t}\n" for u, i, r, t in ratings
        ).encode(),
        f"{folder}/movies.dat": "".join(films).encode(encoding),
    }


def tab_files(ratings):
    films = []
    for i in TITLES:
        flags = "|".join(str(int(name in GENRES[i].split("|"))) for name in GENRE_NAMES)
        films.append(f"{i}|{TITLES[i]}|01-Jan-1995||http://us.imdb.com/|{flags}\n")
    return {
        "ml-100k/u.data": "".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in ratings).encode(),
        "ml-100k/u.item": "".join(films).encode("latin-1"),
        "ml-100k/u.genre": "".join(f"{g}|{j}\n" for j, g in enumerate(GENRE_NAMES)).encode()
        + b"\n",
    }


def files_of(variant, ratings=RATINGS):
    if variant == "100k":
        return tab_files(ratings)
    if variant == "1m":
        return dat_files("ml-1m", ratings, "latin-1")
    if variant == "10m":
        tags = "".join(f"{u}::{i}::{tag}::1\n" for u, i, tag in TAGS)
        films = dat_files("ml-10M100K", ratings, "utf-8")
        return {**films, "ml-10M100K/tags.dat": tags.encode()}
    return csv_files(f"ml-{variant}", ratings)


@pytest.fixture
def write_archive(tmp_path, monkeypatch):
    """Write an archive in the publisher's format and let its checksum be the expected one."""

    def write(variant, files=None):
        path = tmp_path / f"ml-{variant}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in (files or files_of(variant)).items():
                archive.writestr(name, content)
        known = dataclasses.replace(
            _movielens._VARIANTS[variant],
            checksum=f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
        )
        monkeypatch.setitem(_movielens._VARIANTS, variant, known)
        return tmp_path

    return write


def fetch(home, variant):
    return fetch_movielens(variant, data_home=home, download_if_missing=False)


@pytest.mark.parametrize("variant", VARIANTS)
def test_ratings_of_every_format_land_in_rows_and_columns_by_id(write_archive, variant):
    bunch = fetch(write_archive(variant), variant)
    assert_array_equal(bunch.user_ids, [2, 7, 9])
    assert_array_equal(bunch.item_ids, [10, 20, 30])
    assert isinstance(bunch.data, sp.csr_array)
    assert bunch.data.dtype == np.float32
    assert_array_equal(bunch.data.toarray(), [[0, 3, 1], [5, 0, 4], [2, 0, 0]])


@pytest.mark.parametrize("variant", VARIANTS)
def test_timestamps_of_every_format_have_the_entries_of_the_ratings(write_archive, variant):
    bunch = fetch(write_archive(variant), variant)
    assert bunch.timestamps.dtype == np.int64
    assert_array_equal(
        bunch.timestamps.toarray(), [[0, 300, 978300760], [100, 0, 900], [200, 0, 0]]
    )
    assert_array_equal(bunch.timestamps.indices, bunch.data.indices)
    assert_array_equal(bunch.timestamps.indptr, bunch.data.indptr)


@pytest.mark.parametrize("variant", VARIANTS)
def test_titles_and_genres_of_every_format_belong_to_the_columns(write_archive, variant):
    bunch = fetch(write_archive(variant), variant)
    assert bunch.item_names.tolist() == [TITLES[i] for i in (10, 20, 30)]
    assert bunch.item_genres.tolist() == [GENRES[i] for i in (10, 20, 30)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_features_of_every_format_are_the_genres_of_the_columns(write_archive, variant):
    bunch = fetch(write_archive(variant), variant)
    assert bunch.feature_names.tolist() == ["Action", "Comedy", "Romance"]
    assert bunch.item_features.dtype == np.float32
    assert_array_equal(bunch.item_features.toarray(), [[0, 1, 1], [1, 0, 0], [1, 1, 0]])


@pytest.mark.parametrize("variant", VARIANTS)
def test_tags_count_the_users_of_the_columns(write_archive, variant):
    bunch = fetch(write_archive(variant), variant)
    if variant in ("100k", "1m"):  # the publisher has none
        assert bunch.item_tags.shape == (3, 0)
        assert bunch.tag_names.tolist() == []
    else:
        assert bunch.tag_names.tolist() == ["heist", "paris, love"]
        assert_array_equal(bunch.item_tags.toarray(), [[0, 1], [0, 0], [2, 0]])


@pytest.mark.parametrize("none", ["(no genres listed)", ""])
def test_a_film_without_genres_has_no_feature(write_archive, monkeypatch, none):
    monkeypatch.setitem(GENRES, 20, none)
    bunch = fetch(write_archive("20m"), "20m")
    assert bunch.feature_names.tolist() == ["Action", "Comedy", "Romance"]
    assert_array_equal(bunch.item_features.toarray(), [[0, 1, 1], [0, 0, 0], [1, 1, 0]])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_second_call_gives_the_same_from_the_cache(write_archive, variant, monkeypatch):
    home = write_archive(variant)
    first = fetch(home, variant)
    monkeypatch.setattr(_movielens, "_parse", None)
    second = fetch(home, variant)
    assert first.keys() == second.keys()
    assert_array_equal(first.data.toarray(), second.data.toarray())
    assert_array_equal(first.timestamps.toarray(), second.timestamps.toarray())
    assert_array_equal(first.item_tags.toarray(), second.item_tags.toarray())
    assert_array_equal(first.item_names, second.item_names)
    assert first.DESCR == second.DESCR


def test_half_stars_are_kept(write_archive):
    archive = write_archive("latest-small", files_of("latest-small", [(1, 10, 3.5, 5)]))
    assert fetch(archive, "latest-small").data.toarray().tolist() == [[3.5]]


def test_a_timestamp_of_zero_keeps_its_entry(write_archive):
    archive = write_archive("1m", files_of("1m", [(1, 10, 3, 0), (1, 20, 4, 7)]))
    bunch = fetch(archive, "1m")
    assert bunch.timestamps.nnz == bunch.data.nnz == 2


def test_changing_the_ratings_in_place_leaves_the_timestamps_alone(write_archive):
    bunch = fetch(write_archive("1m"), "1m")
    expected = bunch.timestamps.toarray()
    bunch.data.data[bunch.data.data < 4] = 0
    bunch.data.eliminate_zeros()
    assert_array_equal(bunch.timestamps.toarray(), expected)


@pytest.mark.parametrize("chunk", [1, 7, 40, 1000])
def test_lines_cut_by_the_end_of_a_chunk_are_read_whole(write_archive, monkeypatch, chunk):
    monkeypatch.setattr(_movielens, "_CHUNK", chunk)
    bunch = fetch(write_archive("1m"), "1m")
    assert_array_equal(bunch.data.toarray(), [[0, 3, 1], [5, 0, 4], [2, 0, 0]])


def test_a_last_line_without_its_end_is_read(write_archive):
    files = files_of("1m")
    files["ml-1m/ratings.dat"] = files["ml-1m/ratings.dat"].rstrip()
    assert fetch(write_archive("1m", files), "1m").data.nnz == 5


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_description_has_sizes_licence_and_citation(write_archive, variant):
    descr = fetch(write_archive(variant), variant).DESCR
    assert descr.startswith(f"MovieLens {variant}\n==========")
    assert "5 ratings of 3 films by 3 users" in descr
    assert "Licence" in descr
    assert "Harper" in descr


def broken(name, change):
    files = files_of("latest-small")
    files[f"ml-latest-small/{name}"] = change(files[f"ml-latest-small/{name}"])
    return files


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (broken("ratings.csv", lambda c: c[:-20]), "not 4 a line"),
        (broken("ratings.csv", lambda c: c.replace(b"4.0", b"four")), "no number"),
        (broken("ratings.csv", lambda c: c.replace(b",4.0,", b",")), "not 4 a line"),
        (broken("ratings.csv", lambda c: c[:33]), "holds no ratings"),
        (broken("ratings.csv", lambda c: c + b"7,30,1.0,2\n"), "user 7 rates item 30 twice"),
        (broken("movies.csv", lambda c: c[:22]), "no title for item 10"),
        (broken("movies.csv", lambda c: c.replace(b"Heat", b"\xff\xfe")), "utf-8"),
        ({"ml-latest-small/links.csv": b""}, r"no item named 'ml-latest-small/ratings\.csv'"),
    ],
    ids=["cut", "word", "missing field", "header only", "repeated", "no title", "bytes", "no file"],
)
def test_an_archive_with_other_contents_is_an_error(write_archive, files, message):
    with pytest.raises(OSError, match=r"ml-latest-small\.zip cannot be read") as raised:
        fetch(write_archive("latest-small", files), "latest-small")
    raised.match(message)


def test_a_truncated_archive_is_an_error_that_says_what_to_do(write_archive):
    home = write_archive("1m")
    path = home / "ml-1m.zip"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(OSError, match=r"ml-1m\.zip has checksum .*Delete it"):
        fetch(home, "1m")


@pytest.mark.parametrize("variant", ["25m", "32m"])
def test_the_checksum_of_large_archives_is_the_md5_of_the_publisher(
    write_archive, variant, monkeypatch
):
    published = _movielens._VARIANTS[variant]
    home = write_archive(variant)
    content = (home / f"ml-{variant}.zip").read_bytes()
    known = dataclasses.replace(published, checksum=f"md5:{hashlib.md5(content).hexdigest()}")
    monkeypatch.setitem(_movielens._VARIANTS, variant, known)
    assert fetch(home, variant).data.nnz == 5
    monkeypatch.setitem(_movielens._VARIANTS, variant, published)
    with pytest.raises(OSError, match=f"has checksum md5:.* but {published.checksum} was expected"):
        fetch(home, variant)


def test_another_latest_small_gives_a_warning_and_the_data(write_archive, monkeypatch):
    published = _movielens._VARIANTS["latest-small"]
    home = write_archive("latest-small")
    monkeypatch.setitem(_movielens._VARIANTS, "latest-small", published)
    with pytest.warns(UserWarning, match="publisher may have changed this data set"):
        assert fetch(home, "latest-small").data.nnz == 5


def test_a_missing_archive_is_an_error_that_names_its_address(tmp_path):
    with pytest.raises(OSError, match=r"files\.grouplens\.org/datasets/movielens/ml-20m\.zip"):
        fetch(tmp_path, "20m")


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("variant", "33m"),
        ("variant", 1),
        ("data_home", 5),
        ("download_if_missing", "yes"),
        ("n_retries", -1),
        ("n_retries", 1.5),
        ("delay", -0.5),
        ("delay", "1"),
    ],
)
def test_a_wrong_parameter_is_an_error_that_names_it(parameter, value):
    with pytest.raises(ValueError, match=f"'{parameter}' parameter of fetch_movielens"):
        fetch_movielens(**{parameter: value})


@pytest.fixture(scope="module")
def latest_small(data_folder, tmp_path_factory):
    path = data_folder / "ml-latest-small.zip"
    if not path.exists():
        pytest.skip(f"{path.name} is not in the folder of data sets")
    home = tmp_path_factory.mktemp("data_home")
    shutil.copyfile(path, home / path.name)
    return fetch(home, "latest-small")


def test_latest_small_has_the_published_size(latest_small):
    assert latest_small.data.shape == latest_small.timestamps.shape == (610, 9724)
    assert latest_small.data.nnz == latest_small.timestamps.nnz == 100_836


def test_latest_small_has_the_entries_of_its_first_line(latest_small):
    # 1,1,4.0,964982703 and 1,Toy Story (1995),Adventure|Animation|Children|Comedy|Fantasy
    assert latest_small.data[0, 0] == 4.0
    assert latest_small.timestamps[0, 0] == 964982703
    assert latest_small.item_names[0] == "Toy Story (1995)"
    assert latest_small.item_genres[0] == "Adventure|Animation|Children|Comedy|Fantasy"


def test_latest_small_has_its_genres_and_tags(latest_small):
    assert latest_small.item_features.shape == (9724, 19)  # 18 of the README, and IMAX
    pixar = latest_small.tag_names.tolist().index("pixar")
    assert latest_small.item_tags[0, pixar] == 2  # Toy Story


def test_latest_small_has_the_known_size_after_the_usual_filter(latest_small):
    """Ratings of 4 or more, then users with 5 or more of them."""
    liked = latest_small.data >= 4
    liked = liked[np.flatnonzero(liked.sum(axis=1) >= 5)]
    assert liked.shape[0] == 603
    assert (liked.sum(axis=0) > 0).sum() == 6298
    assert liked.sum() == 48_562
