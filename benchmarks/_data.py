"""The packed data sets the benchmarks run on, from the folder that SKLREC_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.utils import Bunch


def data_folder() -> Path:
    """Return the folder that the environment variable SKLREC_DATA names."""
    if "SKLREC_DATA" not in os.environ:
        raise SystemExit("Set SKLREC_DATA to the folder that holds the packed data sets.")
    return Path(os.environ["SKLREC_DATA"])


def load_ml1m(folder: str | os.PathLike) -> Bunch:
    """Load ``ml-1m.npz`` and ``ml-1m-content.npz``: ratings, titles, genres, plots, attributes."""
    with np.load(Path(folder) / "ml-1m.npz", allow_pickle=False) as packed:
        bunch = Bunch(
            user_ids=packed["user_id"].astype(np.int64),
            item_ids=packed["item_id"].astype(np.int64),
            item_names=packed["item_title"],
            item_genres=packed["item_genres"],
        )
        shape = (len(bunch.user_ids), len(bunch.item_ids))
        bunch.data = _interactions(packed["user"], packed["item"], shape, packed["rating"])
    with np.load(Path(folder) / "ml-1m-content.npz", allow_pickle=False) as packed:
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
