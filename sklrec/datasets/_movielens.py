"""The MovieLens data sets."""

from __future__ import annotations

import csv
import os
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import scipy.sparse as sp
from sklearn.utils import Bunch

from sklrec._sklearn import StrOptions, validate_params
from sklrec.datasets._base import FETCH_CONSTRAINTS, RemoteFile, csr_from, fetch_arrays

_URL = "https://files.grouplens.org/datasets/movielens/"
_CHUNK = 1 << 23  # number of bytes that are parsed at a time
_NO_GENRE = {"", "(no genres listed)", "unknown"}
_SEPARATORS = bytes.maketrans(b",:\t", b"   ")


@dataclass(frozen=True)
class _Variant:
    ratings: str  # path in the archive, as is `items`
    items: str
    encoding: str
    checksum: str
    years: str
    redistribution: str


_NO_REDISTRIBUTION = "It may not be redistributed without separate permission."
_REDISTRIBUTION = "It may be redistributed under these same conditions."
# The MD5 checksums of 25m and 32m are those that the publisher provides beside the archives.
_VARIANTS = {
    "latest-small": _Variant(
        "ml-latest-small/ratings.csv",
        "ml-latest-small/movies.csv",
        "utf-8",
        "sha256:696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        "1996 to 2018, half stars from .5 to 5; a development set that may change over time",
        _REDISTRIBUTION,
    ),
    "100k": _Variant(
        "ml-100k/u.data",
        "ml-100k/u.item",
        "latin-1",
        "sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        "1997 to 1998, whole stars from 1 to 5",
        _NO_REDISTRIBUTION,
    ),
    "1m": _Variant(
        "ml-1m/ratings.dat",
        "ml-1m/movies.dat",
        "latin-1",
        "sha256:a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        "2000 to 2003, whole stars from 1 to 5",
        _NO_REDISTRIBUTION,
    ),
    "10m": _Variant(
        "ml-10M100K/ratings.dat",
        "ml-10M100K/movies.dat",
        "utf-8",
        "sha256:813c411ccb6122564edfe752e7f80c4dcc5aa25fa94c93622f6877a7ba252862",
        "1995 to 2009, half stars from .5 to 5",
        _NO_REDISTRIBUTION,
    ),
    "20m": _Variant(
        "ml-20m/ratings.csv",
        "ml-20m/movies.csv",
        "utf-8",
        "sha256:96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
        "1995 to 2015, half stars from .5 to 5",
        _NO_REDISTRIBUTION,
    ),
    "25m": _Variant(
        "ml-25m/ratings.csv",
        "ml-25m/movies.csv",
        "utf-8",
        "md5:6b51fb2759a8657d3bfcbfc42b592ada",
        "1995 to 2019, half stars from .5 to 5",
        _NO_REDISTRIBUTION,
    ),
    "32m": _Variant(
        "ml-32m/ratings.csv",
        "ml-32m/movies.csv",
        "utf-8",
        "md5:d472be332d4daa821edc399621853b57",
        "1995 to 2023, half stars from .5 to 5",
        _REDISTRIBUTION,
    ),
}

_DESCR = """\
MovieLens {variant}
==========={underline}
{n_ratings:,} ratings of {n_items:,} films by {n_users:,} users of movielens.org,
{years}.
Users have at least 20 ratings. Films that nobody rated are left out.

Collected by the GroupLens research group of the University of Minnesota and published at
https://grouplens.org/datasets/movielens/ with a README that holds the full terms.

Licence
-------
For research. No commercial use without permission, no suggestion that the University of
Minnesota or GroupLens endorse the work, and publications must cite the paper below.
{redistribution}

Citation
--------
F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context.
ACM Transactions on Interactive Intelligent Systems 5, 4, Article 19.
https://doi.org/10.1145/2827872
"""


@validate_params(
    {"variant": [StrOptions(set(_VARIANTS))], **FETCH_CONSTRAINTS},
    prefer_skip_nested_validation=True,
)
def fetch_movielens(
    variant: str = "latest-small",
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Bunch:
    """Load a MovieLens data set, downloading it if necessary.

    ============ ========= ======= ==========
    variant      users     films   ratings
    ============ ========= ======= ==========
    latest-small       610   9,724    100,836
    100k               943   1,682    100,000
    1m               6,040   3,706  1,000,209
    10m             69,878  10,677 10,000,054
    20m            138,493  26,744 20,000,263
    25m            162,541  59,047 25,000,095
    32m            200,948  84,432 32,000,204
    ============ ========= ======= ==========

    The columns are the films with at least one rating, as in papers that use these data; the
    archives also list films without any. See ``DESCR`` for the licence, which allows research but
    no commercial use.

    Parameters
    ----------
    variant : {"latest-small", "100k", "1m", "10m", "20m", "25m", "32m"}, default="latest-small"
        The data set, by the name of its archive ``ml-<variant>.zip``. ``"latest-small"`` is meant
        for development: its publisher may change it, which raises a warning.
    data_home : str or path-like, default=None
        The data folder, by default that of scikit-learn (see
        :func:`sklearn.datasets.get_data_home`). An archive that is already in it is used.
        Downloads and the parsed arrays, which make the next call fast, are stored in its
        subfolder ``sklrec``. If that is not writable, the arrays are not cached.
    download_if_missing : bool, default=True
        If False, raise an OSError if the archive is not in `data_home`.
    n_retries : int, default=3
        Number of retries of a failed download.
    delay : float, default=1.0
        Number of seconds between retries.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        data : csr_array of shape (n_users, n_items), float32
            The ratings in stars. Zero means that there is no rating.
        timestamps : csr_array of shape (n_users, n_items), int64
            The time of each rating of `data` in seconds since 1970, with the same sparsity
            structure.
        user_ids : ndarray of shape (n_users,), int64
            The publisher's id of each row.
        item_ids : ndarray of shape (n_items,), int64
            The publisher's id of each column.
        item_names : ndarray of shape (n_items,), str
            Titles with the year, such as ``"Toy Story (1995)"``.
        item_genres : ndarray of shape (n_items,), str
            Genres such as ``"Animation|Comedy"``.
        item_features : csr_array of shape (n_items, n_genres), float32
            1 for each genre of a film.
        feature_names : ndarray of shape (n_genres,), str
            The genres.
        item_tags : csr_array of shape (n_items, n_tags), float32
            Number of users who gave a film the tag; without columns in ``"100k"`` and ``"1m"``.
            Tags are written by users, who may be test users: a model that reads them knows more of
            a new film than there is to know when it is new.
        tag_names : ndarray of shape (n_tags,), str
            The tags, in lower case.
        DESCR : str
            Description, licence and citation.

    Raises
    ------
    OSError
        If the archive is not found and cannot be downloaded, if it is damaged, or if it has to
        be downloaded and `data_home` is not writable. No partial file is left behind.

    References
    ----------
    F. Maxwell Harper and Joseph A. Konstan (2015). `The MovieLens Datasets: History and Context
    <https://doi.org/10.1145/2827872>`_. ACM Transactions on Interactive Intelligent Systems 5(4).

    Examples
    --------
    >>> from sklrec.datasets import fetch_movielens
    >>> movielens = fetch_movielens("1m")  # doctest: +SKIP
    >>> movielens.data.shape  # doctest: +SKIP
    (6040, 3706)
    """
    source = _VARIANTS[variant]
    archive = RemoteFile(
        filename=f"ml-{variant}.zip",
        url=f"{_URL}ml-{variant}.zip",
        checksum=source.checksum,
        may_change=variant == "latest-small",
    )
    arrays = fetch_arrays(
        f"ml-{variant}",
        [archive],
        lambda path: _parse(path, source),
        data_home=data_home,
        download_if_missing=download_if_missing,
        n_retries=n_retries,
        delay=delay,
    )
    indices, indptr = arrays["indices"], arrays["indptr"]
    shape = (len(arrays["user_ids"]), len(arrays["item_ids"]))
    item_features, feature_names = _one_hot(arrays["item_genres"])
    return Bunch(
        data=sp.csr_array((arrays["ratings"], indices, indptr), shape=shape),
        # Copies, so that a change of one matrix in place does not affect the other.
        timestamps=sp.csr_array((arrays["timestamps"], indices.copy(), indptr.copy()), shape=shape),
        user_ids=arrays["user_ids"],
        item_ids=arrays["item_ids"],
        item_names=arrays["item_names"],
        item_genres=arrays["item_genres"],
        item_features=item_features,
        feature_names=feature_names,
        item_tags=csr_from(arrays, "tags", n_columns=len(arrays["tag_names"])),
        tag_names=arrays["tag_names"],
        DESCR=_DESCR.format(
            variant=variant,
            underline="=" * len(variant),
            n_users=shape[0],
            n_items=shape[1],
            n_ratings=len(indices),
            years=source.years,
            redistribution=source.redistribution,
        ),
    )


def _parse(path: Path, source: _Variant) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        with archive.open(source.ratings) as file:
            if source.ratings.endswith(".csv"):
                file.readline()  # userId,movieId,rating,timestamp
            users, items, ratings, timestamps = _read_ratings(file)
        titles, genres = _read_items(archive, source)
        tagged, tags = _read_tags(archive, source)
    user_ids, item_ids = np.unique(users), np.unique(items)
    n_items = len(item_ids)
    pairs = np.searchsorted(user_ids, users) * n_items
    pairs += np.searchsorted(item_ids, items)
    del users, items
    order = np.argsort(pairs, kind="stable")  # fast for sorted archives, such as 20m
    pairs = pairs[order]
    if (repeated := np.flatnonzero(pairs[1:] == pairs[:-1])).size:
        row, column = divmod(int(pairs[repeated[0]]), n_items)
        raise ValueError(
            f"user {user_ids[row]} rates item {item_ids[column]} twice in {source.ratings}"
        )
    ids = item_ids.tolist()
    if untitled := [i for i in ids if i not in titles]:
        raise ValueError(f"{source.items} has no title for item {untitled[0]}")
    indptr = np.searchsorted(pairs, np.arange(len(user_ids) + 1) * n_items)
    tags_of_items, tag_names = _count_tags(tagged, tags, item_ids)
    return {
        "tag_names": tag_names,
        **{f"tags_{part}": getattr(tags_of_items, part) for part in ("data", "indices", "indptr")},
        "indptr": indptr.astype(np.int32),
        "indices": (pairs % n_items).astype(np.int32),
        "ratings": ratings[order],
        "timestamps": timestamps[order],
        "user_ids": user_ids.astype(np.int64),
        "item_ids": item_ids.astype(np.int64),
        "item_names": np.array([titles[i] for i in ids]),
        "item_genres": np.array([genres[i] for i in ids]),
    }


def _read_ratings(file: IO[bytes]) -> list[np.ndarray]:
    """Return the user, item, rating and timestamp columns, separated by comma, tab or ``::``."""
    types = (np.int32, np.int32, np.float32, np.int64)
    chunks: list[list[np.ndarray]] = [[] for _ in types]
    rest = b""
    while block := file.read(_CHUNK):
        lines, _, rest = (rest + block).rpartition(b"\n")
        _append_rows(chunks, lines, types)
    _append_rows(chunks, rest, types)
    columns = [np.concatenate(chunks.pop(0)) for _ in types]  # pop frees memory early
    if len(columns[0]) == 0:
        raise ValueError("it holds no ratings")
    return columns


def _append_rows(chunks: list[list[np.ndarray]], text: bytes, types: tuple) -> None:
    for chunk, values, dtype in zip(chunks, _parse_rows(text), types, strict=True):
        chunk.append(values.astype(dtype))


def _parse_rows(text: bytes) -> np.ndarray:
    """Return the four numbers of each line as the rows of a (4, n_lines) array."""
    text = text.strip()
    if not text:
        return np.empty((4, 0))
    # numpy's text parser treats any run of white space as one separator.
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # raised for invalid text
        try:
            values = np.fromstring(text.translate(_SEPARATORS), sep=" ")
        except (DeprecationWarning, ValueError) as error:
            raise ValueError("a line of ratings holds something that is no number") from error
    n_lines = text.count(b"\n") + 1
    if len(values) != 4 * n_lines:
        raise ValueError(f"{len(values)} numbers on {n_lines} lines of ratings, not 4 a line")
    return values.reshape(n_lines, 4).T


def _read_items(archive: zipfile.ZipFile, source: _Variant) -> tuple[dict, dict]:
    """Return the title and the genres of each item id."""
    with archive.open(source.items) as file:
        lines = file.read().decode(source.encoding).replace("\r\n", "\n").split("\n")
    if source.items.endswith(".csv"):
        records = [row for row in csv.reader(lines[1:]) if row]
    elif source.items.endswith(".dat"):
        records = [line.split("::") for line in lines if line]
    else:
        records = _read_u_item(lines, archive.read("ml-100k/u.genre").decode(source.encoding))
    titles = {int(item): title for item, title, _ in records}
    return titles, {int(item): genres for item, _, genres in records}


def _read_tags(archive: zipfile.ZipFile, source: _Variant) -> tuple[list[int], list[str]]:
    """Return the item and the text of each tag that a user gave; not all archives have tags."""
    name = source.ratings.replace("ratings", "tags")
    if name == source.ratings or name not in archive.namelist():
        return [], []
    lines = archive.read(name).decode(source.encoding).replace("\r\n", "\n").split("\n")
    if name.endswith(".csv"):
        records = [row for row in csv.reader(lines[1:]) if row]
    else:
        records = [line.split("::") for line in lines if line]
    return [int(item) for _, item, _, _ in records], [tag for _, _, tag, _ in records]


def _count_tags(
    tagged: list[int], tags: list[str], item_ids: np.ndarray
) -> tuple[sp.csr_array, np.ndarray]:
    """Count the tags of each column; those of films without ratings are left out."""
    rows = np.searchsorted(item_ids, np.array(tagged, dtype=np.int64))
    rated = item_ids[np.minimum(rows, item_ids.size - 1)] == tagged
    words = np.array([tag.strip().lower() for tag in tags], dtype=str)[rated]
    tag_names, columns = np.unique(words, return_inverse=True)
    entries = (np.ones(columns.size, dtype=np.float32), (rows[rated], columns))
    return sp.csr_array(entries, shape=(item_ids.size, tag_names.size)), tag_names


def _one_hot(genres: np.ndarray) -> tuple[sp.csr_array, np.ndarray]:
    """Return a row of zeros and ones for each text such as ``"Animation|Comedy"``."""
    lists = [[name for name in text.split("|") if name not in _NO_GENRE] for text in genres]
    names, columns = np.unique(
        np.array([name for names in lists for name in names], dtype=str), return_inverse=True
    )
    indptr = np.concatenate([[0], np.cumsum([len(names) for names in lists])])
    ones = np.ones(columns.size, dtype=np.float32)
    features = sp.csr_array((ones, columns, indptr), shape=(len(genres), names.size))
    features.sort_indices()
    return features, names


def _read_u_item(lines: list[str], genre_file: str) -> list[list[str]]:
    """Turn the genre flags of the 100k archive into the notation of the others."""
    names = [line.split("|")[0] for line in genre_file.split() if line]
    records = []
    for line in filter(None, lines):
        item, title, _released, _video, _url, *flags = line.split("|")
        genres = [name for name, flag in zip(names, flags, strict=True) if flag == "1"]
        records.append([item, title, "|".join(genres)])
    return records
