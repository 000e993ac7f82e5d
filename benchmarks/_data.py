"""The data sets the benchmarks run on, from a folder of packed data or the publishers' files."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.utils import Bunch

from sklrec.datasets import fetch_movielens, make_interactions


def data_folder() -> Path:
    """Return the folder that the environment variable SKLREC_DATA names."""
    if "SKLREC_DATA" not in os.environ:
        raise SystemExit("Set SKLREC_DATA to the folder that holds the packed data sets.")
    return Path(os.environ["SKLREC_DATA"])


def load_ml1m(folder: str | os.PathLike) -> Bunch:
    """Load ``ml-1m.npz``: ratings, titles, genres; of ``ml-1m-content.npz`` plots, attributes."""
    with np.load(Path(folder) / "ml-1m.npz", allow_pickle=False) as packed:
        bunch = Bunch(
            user_ids=packed["user_id"].astype(np.int64),
            item_ids=packed["item_id"].astype(np.int64),
            item_names=packed["item_title"],
            item_genres=packed["item_genres"],
        )
        shape = (len(bunch.user_ids), len(bunch.item_ids))
        bunch.data = _interactions(packed["user"], packed["item"], shape, packed["rating"])
    content = Path(folder) / "ml-1m-content.npz"
    if not content.exists():
        return bunch
    with np.load(content, allow_pickle=False) as packed:
        bunch.plot_words = _csr(packed, "plot_bow")
        bunch.vocabulary = packed["vocabulary"]
        bunch.attributes = _csr(packed, "attribute")
        bunch.attribute_names = packed["attribute_name"]
    return bunch


def load_citeulike(folder: str | os.PathLike, variant: str) -> Bunch:
    """Load ``citeulike-a.npz`` or ``citeulike-t.npz``: tags, citations, for t also the words."""
    with np.load(Path(folder) / f"citeulike-{variant}.npz", allow_pickle=False) as packed:
        shape = (int(packed["n_users"]), int(packed["n_items"]))
        bunch = Bunch(
            data=_interactions(packed["user"], packed["item"], shape),
            user_ids=np.arange(shape[0]),
            item_ids=np.arange(shape[1]),
            tags=_csr(packed, "tag"),
            tag_names=packed["tag_name"],
            citations=_csr(packed, "citation"),
            vocabulary=packed["vocabulary"],
        )
        if "bow_data" in packed.files:
            bunch.item_features = _csr(packed, "bow")
    return bunch


def citeulike_titles(folder: Path) -> sp.csr_array:
    """Return the words in the titles of citeulike-a, of ``citeulike-a-titles.npz``."""
    with np.load(folder / "citeulike-a-titles.npz", allow_pickle=False) as packed:
        return _csr(packed, "title_bow")


def load_gowalla(folder: str | os.PathLike) -> Bunch:
    """Load ``gowalla.npz``: all check-ins, and its published ``train``, ``valid``, ``test``."""
    with np.load(Path(folder) / "gowalla.npz", allow_pickle=False) as packed:
        users, items, split = packed["user"], packed["item"], packed["split"]
        names = packed["split_names"].tolist()
    shape = (int(users.max()) + 1, int(items.max()) + 1)
    parts = {
        name: _interactions(users[split == i], items[split == i], shape)
        for i, name in enumerate(names)
    }
    return Bunch(
        data=_interactions(users, items, shape),
        user_ids=np.arange(shape[0]),
        item_ids=np.arange(shape[1]),
        **parts,
    )


def ml_small(folder: Path) -> sp.csr_array:
    """Return the ratings of ``ml-latest-small.zip``."""
    return _movielens("latest-small", folder)


def ml_1m(folder: Path) -> sp.csr_array:
    """Return the ratings of ``ml-1m.npz``, or of the publisher's ``ml-1m.zip``."""
    return load_ml1m(folder).data if (folder / "ml-1m.npz").exists() else _movielens("1m", folder)


def ml_20m(folder: Path) -> sp.csr_array:
    """Return the ratings of ``ml-20m.zip``."""
    return _movielens("20m", folder)


def citeulike_a(folder: Path) -> sp.csr_array:
    """Return the libraries of ``citeulike-a.npz``."""
    return load_citeulike(folder, "a").data


def citeulike_t(folder: Path) -> sp.csr_array:
    """Return the libraries of ``citeulike-t.npz``."""
    return load_citeulike(folder, "t").data


def gowalla(folder: Path) -> sp.csr_array:
    """Return all check-ins of ``gowalla.npz``, whatever part of a published split they are in."""
    return load_gowalla(folder).data


def netflix(folder: Path) -> sp.csr_array:
    """Return the ratings of the Netflix Prize, from the publisher's text files.

    ``netflix/combined_data_1.txt`` and the three after it, or one file for each film,
    ``netflix/training_set/mv_0000001.txt``. In both a line ``1:`` begins film 1, and the lines
    after it are ``user,rating,date``.
    """
    files = sorted((folder / "netflix").glob("combined_data_*.txt")) or sorted(
        (folder / "netflix" / "training_set").glob("mv_*.txt")
    )
    if not files:
        raise FileNotFoundError(
            f"Neither combined_data_*.txt nor training_set/mv_*.txt is in {folder / 'netflix'}."
        )
    parts = [_netflix_file(path) for path in files]
    users, films, ratings = (np.concatenate(part) for part in zip(*parts, strict=True))
    ids, rows = np.unique(users, return_inverse=True)
    film_ids, columns = np.unique(films, return_inverse=True)
    return _interactions(rows, columns, (len(ids), len(film_ids)), ratings)


def msd(folder: Path, least_listeners: int = 200) -> sp.csr_array:
    """Return the songs that users of the Million Song Dataset played, from ``train_triplets.txt``.

    Each line of that file, in the folder or in its folder ``msd``, is user, song and number of
    plays, between tabs. Songs with fewer than 200 listeners are left out, as in the published
    split; its users have at least 20 of the others.
    """
    places = [folder / "msd" / "train_triplets.txt", folder / "train_triplets.txt"]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise FileNotFoundError(f"train_triplets.txt is neither in {folder / 'msd'} nor above it.")
    import pandas as pd

    table = pd.read_csv(
        path, sep="\t", header=None, usecols=[0, 1], names=["user", "song"], dtype="category"
    )
    users, _ = pd.factorize(table["user"], sort=True)
    songs, names = pd.factorize(table["song"], sort=True)
    X = _interactions(users, songs, (int(users.max()) + 1, len(names)))
    X.data[:] = 1  # a pair that is listed twice is one listener
    return X[:, np.flatnonzero(np.bincount(X.indices, minlength=X.shape[1]) >= least_listeners)]


def made(folder: Path) -> sp.csr_array:
    """Return made ratings, on which the benchmark runs in seconds."""
    return make_interactions(400, 120, ratings=True, random_state=0).data


def _movielens(variant: str, folder: Path) -> sp.csr_array:
    return fetch_movielens(variant, data_home=folder, download_if_missing=False).data


def _netflix_file(path: Path) -> Sequence[np.ndarray]:
    """Return users, films and ratings of one file."""
    import pandas as pd

    # A film's line "1:" becomes "1,0,": a user with the rating 0, which nobody can give.
    text = io.BytesIO(path.read_bytes().replace(b":", b",0,"))
    table = pd.read_csv(text, header=None, usecols=[0, 1], dtype=np.int32).to_numpy()
    begins = table[:, 1] == 0
    films = table[begins, 0][np.cumsum(begins) - 1]
    return table[~begins, 0], films[~begins], table[~begins, 1]


def _interactions(
    users: np.ndarray, items: np.ndarray, shape: tuple[int, int], values: np.ndarray | None = None
) -> sp.csr_array:
    values = np.ones(len(users)) if values is None else values
    pairs = (users.astype(np.int32), items.astype(np.int32))
    return sp.coo_array((values.astype(np.float32), pairs), shape=shape).tocsr()


def _csr(packed: np.lib.npyio.NpzFile, name: str) -> sp.csr_array:
    return sp.csr_array(
        (
            packed[f"{name}_data"].astype(np.float32),
            packed[f"{name}_indices"].astype(np.int32),
            packed[f"{name}_indptr"].astype(np.int32),
        ),
        shape=tuple(packed[f"{name}_shape"].tolist()),
    )
