"""The citeulike-a and citeulike-t data sets."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.utils import Bunch

from sklrec._sklearn import StrOptions, validate_params
from sklrec.datasets._base import FETCH_CONSTRAINTS, RemoteFile, csr_from, fetch_arrays

_COMMITS = {
    "a": "91b603922d7f2d3db18071d4798bf78c9c5d1680",
    "t": "4f103c6ea0fe407b23be230837b65517e613c34a",
}
_CHECKSUMS = {
    "a": {
        "users.dat": "sha256:53211d82c14ff261e595634d285ed9fbf8049cf81dcb751d924d695b9612a02c",
        "mult.dat": "git-blob:5df76b81fd9814116ed143bda6e8e843ba167123",
        "vocabulary.dat": "sha256:f3ffa75f7524a9ff2ecc2a0cb1a0f29f4d46e32f17bc8e2f8472a1c7c814f319",
    },
    "t": {
        "users.dat": "sha256:02d5d429b2c0362e0ed79f6ef204666b4092563d21493abf4dfb521e8a7078bf",
        "mult.dat": "sha256:5ed81e6fdbf8d475122d4a18d622202571ac80f27be017e194a1957da585283d",
        "vocabulary.dat": "sha256:d58f0e6ce40da9e57c7ad6bbb2d0f1351730e3ecfcbbdf14eec07d493ce539e1",
    },
}
_CITATIONS = {
    "a": """\
Chong Wang and David M. Blei. 2011. Collaborative Topic Modeling for Recommending Scientific
Articles. KDD. https://doi.org/10.1145/2020408.2020480
Hao Wang, Binyi Chen and Wu-Jun Li. 2013. Collaborative Topic Regression with Social
Regularization for Tag Recommendation. IJCAI.""",
    "t": """\
Hao Wang, Binyi Chen and Wu-Jun Li. 2013. Collaborative Topic Regression with Social
Regularization for Tag Recommendation. IJCAI.""",
}
_DESCR = """\
citeulike-{variant}
===========
The libraries of {n_users:,} users of CiteULike, with {n_interactions:,} entries of {n_items:,}
scientific articles. Titles and abstracts are given as word counts over a vocabulary of
{n_words:,} words.

Published at https://github.com/js05212/citeulike-{variant}

Licence
-------
None is stated.

Citation
--------
{citation}
"""


@validate_params(
    {"variant": [StrOptions(set(_COMMITS))], **FETCH_CONSTRAINTS},
    prefer_skip_nested_validation=True,
)
def fetch_citeulike(
    variant: str = "a",
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Bunch:
    """Load a citeulike data set with the words of the articles, downloading it if necessary.

    ======= ===== ======== ============ ======
    variant users articles interactions words
    ======= ===== ======== ============ ======
    a       5,551   16,980      204,986  8,000
    t       7,947   25,975      134,860 20,000
    ======= ===== ======== ============ ======

    Every user of ``"a"`` has at least 10 articles, of ``"t"`` at least 3.

    Parameters
    ----------
    variant : {"a", "t"}, default="a"
        The data set.
    data_home : str or path-like, default=None
        The data folder, by default that of scikit-learn (see
        :func:`sklearn.datasets.get_data_home`). The files ``users.dat``, ``mult.dat`` and
        ``vocabulary.dat`` are used if they are in its subfolder ``citeulike-<variant>``.
        Downloads and the parsed arrays, which make the next call fast, are stored in its
        subfolder ``sklrec``. If that is not writable, the arrays are not cached.
    download_if_missing : bool, default=True
        If False, raise an OSError if a file is not in `data_home`.
    n_retries : int, default=3
        Number of retries of a failed download.
    delay : float, default=1.0
        Number of seconds between retries.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        data : csr_array of shape (n_users, n_items), float32
            1 if the article is in the user's library.
        item_features : csr_array of shape (n_items, n_words), float32
            Number of times that each word occurs in title and abstract. A few articles have no
            words.
        feature_names : ndarray of shape (n_words,), str
            The vocabulary.
        user_ids : ndarray of shape (n_users,), int64
            The publisher's index of each row, from 0.
        item_ids : ndarray of shape (n_items,), int64
            The publisher's index of each column, from 0.
        item_names : ndarray of shape (n_items,), str
            The item ids as text: the files hold no titles.
        DESCR : str
            Description, licence and citation.

    Raises
    ------
    OSError
        If a file is not found and cannot be downloaded, if it is damaged, or if it has to be
        downloaded and `data_home` is not writable. No partial file is left behind.

    References
    ----------
    Chong Wang and David M. Blei (2011). `Collaborative topic modeling for recommending scientific
    articles <https://doi.org/10.1145/2020408.2020480>`_. KDD. (citeulike-a)

    Hao Wang, Binyi Chen and Wu-Jun Li (2013). Collaborative Topic Regression with Social
    Regularization for Tag Recommendation. IJCAI. (tags and citations of a, and citeulike-t)

    Examples
    --------
    >>> from sklrec.datasets import fetch_citeulike
    >>> citeulike = fetch_citeulike("a")  # doctest: +SKIP
    >>> citeulike.item_features.shape  # doctest: +SKIP
    (16980, 8000)
    """
    folder = f"https://raw.githubusercontent.com/js05212/citeulike-{variant}/{_COMMITS[variant]}"
    arrays = fetch_arrays(
        f"citeulike-{variant}",
        [
            RemoteFile(f"citeulike-{variant}/{name}", f"{folder}/{name}", checksum)
            for name, checksum in _CHECKSUMS[variant].items()
        ],
        _parse,
        data_home=data_home,
        download_if_missing=download_if_missing,
        n_retries=n_retries,
        delay=delay,
    )
    item_features = csr_from(arrays, "words", n_columns=len(arrays["vocabulary"]))
    n_items = item_features.shape[0]
    data = csr_from(arrays, "items", n_columns=n_items)
    return Bunch(
        data=data,
        item_features=item_features,
        feature_names=arrays["vocabulary"],
        user_ids=np.arange(data.shape[0]),
        item_ids=np.arange(n_items),
        item_names=np.arange(n_items).astype(str),
        DESCR=_DESCR.format(
            variant=variant,
            n_users=data.shape[0],
            n_items=n_items,
            n_interactions=data.nnz,
            n_words=len(arrays["vocabulary"]),
            citation=_CITATIONS[variant],
        ),
    )


def _parse(users: Path, mult: Path, vocabulary: Path) -> dict[str, np.ndarray]:
    # Not splitlines, as some words contain other characters that Python treats as line ends.
    words = vocabulary.read_text("utf-8").removesuffix("\n").split("\n")
    counts = _read_lists(mult, n_columns=len(words))
    data = _read_lists(users, n_columns=counts.shape[0])
    data.data[:] = 1  # one user of citeulike-a lists an article twice
    return {
        "vocabulary": np.array(words),
        **{f"words_{part}": getattr(counts, part) for part in ("data", "indices", "indptr")},
        **{f"items_{part}": getattr(data, part) for part in ("data", "indices", "indptr")},
    }


def _read_lists(path: Path, n_columns: int) -> sp.csr_array:
    """Read lines of a number of entries and the entries, ``index`` or ``index:count``."""
    text = path.read_bytes()
    width = 2 if b":" in text else 1
    text = text.replace(b":", b" ")
    n_numbers = np.array([len(line.split()) for line in text.splitlines()], dtype=np.int64)
    if n_numbers.size == 0:
        raise ValueError(f"{path.name} is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # raised for invalid text
        try:
            numbers = np.fromstring(text, dtype=np.int64, sep=" ")
        except (DeprecationWarning, ValueError) as error:
            raise ValueError(f"{path.name} holds something that is no integer") from error
    starts = np.cumsum(n_numbers) - n_numbers
    lengths = numbers[starts]
    if (bad := np.flatnonzero(n_numbers != 1 + width * lengths)).size:
        raise ValueError(f"line {bad[0] + 1} of {path.name} has more or fewer entries than it says")
    entries = np.delete(numbers, starts).reshape(-1, width)
    if entries.size and not 0 <= entries[:, 0].min() <= entries[:, 0].max() < n_columns:
        raise ValueError(f"{path.name} has an index that is not from 0 to {n_columns - 1}")
    values = entries[:, 1] if width == 2 else np.ones(len(entries))
    matrix = sp.csr_array(
        (
            values.astype(np.float32),
            entries[:, 0].astype(np.int32),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        ),
        shape=(len(lengths), n_columns),
    )
    matrix.sum_duplicates()
    return matrix
