import hashlib

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from sklrec.datasets import _citeulike, fetch_citeulike

FILES = {
    "users.dat": "2 3 0\n1 1\n3 2 0 3\n",
    "mult.dat": "2 1:2 0:1\n0\n1 4:7\n1 0:1\n",
    "vocabulary.dat": "gene\n60 000\nn\u2028l\xa0\nêtre\nxylem\n",
}


@pytest.fixture
def write_files(tmp_path, monkeypatch):
    """Write files in the publisher's format and let their checksums be the expected ones."""

    def write(variant="a", **changes):
        folder = tmp_path / f"citeulike-{variant}"
        folder.mkdir()
        known = {}
        for name, text in FILES.items():
            content = changes.get(name.split(".")[0], text).encode()
            (folder / name).write_bytes(content)
            known[name] = f"sha256:{hashlib.sha256(content).hexdigest()}"
        monkeypatch.setitem(_citeulike._CHECKSUMS, variant, known)
        return tmp_path

    return write


def fetch(home, variant="a"):
    return fetch_citeulike(variant, data_home=home, download_if_missing=False)


@pytest.mark.parametrize("variant", ["a", "t"])
def test_each_line_of_users_is_a_row_of_ones(write_files, variant):
    bunch = fetch(write_files(variant), variant)
    assert isinstance(bunch.data, sp.csr_array)
    assert bunch.data.dtype == np.float32
    assert_array_equal(bunch.data.toarray(), [[1, 0, 0, 1], [0, 1, 0, 0], [1, 0, 1, 1]])


def test_each_line_of_mult_is_a_row_of_counts(write_files):
    features = fetch(write_files()).item_features
    assert features.dtype == np.float32
    assert_array_equal(
        features.toarray(), [[1, 2, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 7], [1, 0, 0, 0, 0]]
    )


def test_the_vocabulary_is_split_at_newlines_only(write_files):
    words = fetch(write_files()).feature_names.tolist()
    assert words == ["gene", "60 000", "n\u2028l\xa0", "être", "xylem"]


def test_ids_count_from_zero_and_name_the_articles(write_files):
    bunch = fetch(write_files())
    assert bunch.user_ids.tolist() == [0, 1, 2]
    assert bunch.item_ids.tolist() == [0, 1, 2, 3]
    assert bunch.item_names.tolist() == ["0", "1", "2", "3"]


def test_an_article_that_nobody_has_is_a_column(write_files):
    bunch = fetch(write_files(users="1 0\n"))
    assert bunch.data.shape == (1, 4)


def test_an_article_listed_twice_by_a_user_is_one_interaction(write_files):
    bunch = fetch(write_files(users="3 1 0 1\n"))
    assert_array_equal(bunch.data.toarray(), [[1, 1, 0, 0]])
    assert bunch.data.nnz == 2


def test_the_second_call_gives_the_same_from_the_cache(write_files, monkeypatch):
    home = write_files()
    first = fetch(home)
    monkeypatch.setattr(_citeulike, "_parse", None)
    second = fetch(home)
    assert_array_equal(first.data.toarray(), second.data.toarray())
    assert_array_equal(first.item_features.toarray(), second.item_features.toarray())
    assert_array_equal(first.feature_names, second.feature_names)


@pytest.mark.parametrize("variant", ["a", "t"])
def test_the_description_has_sizes_licence_and_citation(write_files, variant):
    descr = fetch(write_files(variant), variant).DESCR
    assert descr.startswith(f"citeulike-{variant}\n===========\n")
    assert "3 users" in descr
    assert "Licence" in descr
    assert "Wang" in descr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"users": "2 3 0\n2 1\n"}, "line 2 of users.dat has more or fewer entries"),
        ({"users": "2 3 0 1\n0\n1 1\n"}, "line 1 of users.dat has more or fewer entries"),
        ({"users": "-1 0\n"}, "line 1 of users.dat has more or fewer entries"),
        ({"users": "1 0\n\n1 1\n"}, "line 2 of users.dat has more or fewer entries"),
        ({"users": "1 4\n"}, "users.dat has an index that is not from 0 to 3"),
        ({"users": "1 -1\n"}, "users.dat has an index that is not from 0 to 3"),
        ({"users": "1 one\n"}, "users.dat holds something that is no integer"),
        ({"users": "1 0.5\n"}, "users.dat holds something that is no integer"),
        ({"users": ""}, "users.dat is empty"),
        ({"mult": "1 5:1\n"}, "mult.dat has an index that is not from 0 to 4"),
        ({"mult": "2 1:2 0\n"}, "line 1 of mult.dat has more or fewer entries"),
    ],
)
def test_a_file_with_other_contents_is_an_error(write_files, changes, message):
    with pytest.raises(OSError, match=message):
        fetch(write_files(**changes))


def test_a_truncated_file_is_an_error_that_says_what_to_do(write_files):
    home = write_files()
    path = home / "citeulike-a" / "mult.dat"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(OSError, match=r"mult\.dat has checksum .*Delete it"):
        fetch(home)


def test_a_missing_file_is_an_error_that_names_its_address(write_files):
    home = write_files("t")
    (home / "citeulike-t" / "vocabulary.dat").unlink()
    with pytest.raises(OSError, match=r"js05212/citeulike-t/4f103c6e.*/vocabulary\.dat"):
        fetch(home, "t")


@pytest.mark.parametrize(("parameter", "value"), [("variant", "b"), ("n_retries", -1)])
def test_a_wrong_parameter_is_an_error_that_names_it(parameter, value):
    with pytest.raises(ValueError, match=f"'{parameter}' parameter of fetch_citeulike"):
        fetch_citeulike(**{parameter: value})
