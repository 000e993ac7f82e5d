"""Data sets with the content of their items, and what models of content have to find in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from _data import load_citeulike, load_ml1m
from _runs import Dataset
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.utils import Bunch

from sklrec._matrix import take_entries
from sklrec.model_selection import cold_start_split, split_interactions

# Words in fewer items say little of new ones.
LEAST_ITEMS = 5
# The form of the features, and whether words in few items are left out.
FORMS = ["none", "counts", "binary", "tf-idf", "svd"]
CANONICAL, NEW_ITEMS = "canonical", "new items"
AUTHORS = ["P=1", "P=10"]
# A ranking in which items of the fold-in are ranked, and count as found.
AS_PUBLISHED = "all, fold-in counted"
TOGETHER = "new items, all splits"


@dataclass(frozen=True)
class ContentDataset:
    """A data set, with the content of its items."""

    dataset: Dataset
    content: str  # what the features are
    counts: Callable[[Path], sp.csr_array]
    authors: str = ""  # of the splits of Li & She, "a" or "t"
    n_more_splits: int = 0  # other draws of the users and the new items
    n_candidate_draws: int = 1  # of the items that are new to the candidates
    more_shares: tuple[float, ...] = ()  # of new items, other than a tenth

    @property
    def name(self) -> str:
        return self.dataset.name

    @property
    def splits(self) -> list[str]:
        authors = AUTHORS if self.authors else []
        return [CANONICAL, *self.of_new_items, *self.of_shares, *authors]

    @property
    def of_new_items(self) -> list[str]:
        """Return the names of the splits with new items; settings are chosen on the first."""
        return [NEW_ITEMS, *(f"{NEW_ITEMS} {i + 2}" for i in range(self.n_more_splits))]

    @property
    def of_shares(self) -> dict[str, float]:
        """Return the splits with fewer or more new items, and the share of these."""
        return {f"{NEW_ITEMS}, {share:.0%}": share for share in self.more_shares}

    def has_new_items(self, split: str) -> bool:
        """Return whether some items are new in a split."""
        return split in self.of_new_items or split in self.of_shares

    def tasks(self, split: str, folder: Path) -> dict[str, list[Task]]:
        """Return the tasks of the candidates, where settings are chosen, and the final one."""
        if split not in self.splits:
            raise ValueError(f"{self.name} has no split {split!r}, only {', '.join(self.splits)}.")
        counts = self.counts(folder)
        if split == CANONICAL:
            found = self.dataset.split(CANONICAL, folder)
            counts = counts[found.item_indices]
            return {
                kind: [
                    Task(
                        found.train,
                        found[f"{part}_fold_in"],
                        found[f"{part}_held_out"],
                        counts,
                        validation=(found.valid_fold_in, found.valid_held_out),
                    )
                ]
                for kind, part in (("candidate", "valid"), ("final", "test"))
            }
        if self.has_new_items(split):
            return self._new_items(split, self._positive(folder), counts)
        return {"final": [self._authors_split(split.removeprefix("P="), folder, counts)]}

    def _positive(self, folder: Path) -> sp.csr_array:
        X = self.dataset.load(folder)
        if self.dataset.has_ratings:
            X.data = (X.data > 3.5).astype(X.dtype)
            X.eliminate_zeros()
        return X

    def _new_items(self, name: str, X: sp.csr_array, counts: sp.csr_array) -> dict[str, list[Task]]:
        """Hold out users and items; of the other items, hold out some for the candidates."""
        first, split = (self._cold_start(name, X) for name in (NEW_ITEMS, name))
        # Settings were chosen on the validation users of the first split.
        tested = ~np.isin(split.test_users, first.valid_users)
        fold_in, held_out = split.test_fold_in[tested], split.test_held_out[tested]
        final = Task(split.train, fold_in, held_out, counts, split.new_items)
        draws = range(self.n_candidate_draws)
        return {
            "candidate": [self._candidate(first, X, counts, draw) for draw in draws],
            "final": [final],
        }

    def _cold_start(self, name: str, X: sp.csr_array) -> Bunch:
        n_heldout = self.dataset.n_heldout
        if isinstance(n_heldout, float):
            n_heldout = int(n_heldout * (np.diff(X.indptr) >= self.dataset.min_interactions).sum())
        seed, share = self.dataset.splits[CANONICAL], self.of_shares.get(name, 0.1)
        if name in self.of_new_items:
            seed += self.of_new_items.index(name)
        return cold_start_split(X, n_heldout=n_heldout, item_size=share, random_state=seed)

    def _candidate(self, split: Bunch, X: sp.csr_array, counts: sp.csr_array, draw: int) -> Task:
        # Neither the test users nor the new items are in the task of the candidates.
        old = split.old_items
        rng = np.random.RandomState(self.dataset.splits[CANONICAL] + draw)
        n_items = len(old)
        is_new = np.zeros(n_items, dtype=bool)
        is_new[rng.permutation(n_items)[: n_items // 10]] = True
        train, valid = split.train[:, old], X[split.valid_users][:, old]
        fold_in, held_out = split_interactions(_of(valid, ~is_new), 0.2, random_state=rng)
        return Task(
            _of(train, ~is_new),
            fold_in,
            sp.csr_array(held_out + _of(valid, is_new)),
            counts[old],
            np.flatnonzero(is_new),
        )

    def _authors_split(self, n_items: str, folder: Path, counts: sp.csr_array) -> Task:
        """Return a split of Li & She, whose users all have so many items to train on."""
        shape = self.dataset.load(folder).shape
        parts = []
        with np.load(folder / "citeulike-splits.npz", allow_pickle=False) as packed:
            for part in ("train", "test"):
                name = f"{self.authors}_{part}_{n_items}"
                pairs = packed[f"{name}_user"], packed[f"{name}_item"]
                ones = np.ones(len(pairs[0]), dtype=np.float32)
                parts.append(sp.coo_array((ones, pairs), shape=shape).tocsr())
        train, held_out = parts
        return Task(train, train, held_out, counts, all_targets=True)


@dataclass(frozen=True)
class Task:
    """What a model is fitted on, what it is given of users, and what it has to find.

    With new items, it is fitted without them, and meets them by ``with_items``.
    """

    train: sp.csr_array
    fold_in: sp.csr_array
    held_out: sp.csr_array
    counts: sp.csr_array  # of each item
    new_items: np.ndarray | None = None
    validation: tuple[sp.csr_array, sp.csr_array] | None = None  # users for the best epoch
    _found: dict = field(default_factory=dict, repr=False)  # features that were made before
    all_targets: bool = False  # recall is over all that is to find, as in paper 002

    @property
    def old_items(self) -> np.ndarray:
        everything = np.arange(self.train.shape[1])
        return everything if self.new_items is None else np.setdiff1d(everything, self.new_items)

    def features(self, form: str) -> sp.csr_array | np.ndarray | None:
        """Return the features of all items, in a form that is learnt from the old ones."""
        if form == "none":
            return None
        if form not in self._found:
            self._found[form] = self._made(form)
        return self._found[form]

    def _made(self, form: str) -> sp.csr_array | np.ndarray:
        counts, known = self.counts.astype(np.float32), self.old_items
        if form == "counts":
            return counts
        n_items = np.bincount(counts[known].indices, minlength=counts.shape[1])
        counts = counts[:, np.flatnonzero(n_items >= LEAST_ITEMS)]
        if form == "binary":
            counts.data[:] = 1
            return counts
        steps = [TfidfTransformer(sublinear_tf=True)]
        if form == "svd":
            n_components = min(1000, min(counts.shape) - 1)
            steps += [TruncatedSVD(n_components, random_state=0), Normalizer()]
        steps = make_pipeline(*steps).fit(counts[known])
        found = steps.transform(counts)
        return found.astype(np.float32) if form == "svd" else sp.csr_array(found, dtype=np.float32)


def _of(X: sp.csr_array, kept: np.ndarray) -> sp.csr_array:
    """Return X without the interactions with the other columns."""
    return take_entries(X, kept[X.indices])


def words(folder: Path) -> sp.csr_array:
    """Return the words in the titles and abstracts of citeulike-t."""
    return load_citeulike(folder, "t").item_features


def plots_and_attributes(folder: Path) -> sp.csr_array:
    """Return the words in the plots of MovieLens-1M, and its directors, actors and genres."""
    bunch = load_ml1m(folder)
    return sp.hstack([bunch.plot_words, bunch.attributes], format="csr")
