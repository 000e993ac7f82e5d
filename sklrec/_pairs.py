"""Pairs of an item of a user and items that are not: batches of them, and the draw of negatives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # the increment of SplitMix64


class NegativeSampler:
    """Draw items that a user does not have, each with a probability proportional to its weight.

    One uniform number gives one item: the weights of the items that are not the user's are
    cumulated, and the sum is inverted. No draw is rejected, and none is ever the user's own.
    This takes two binary searches, or one for uniform draws.

    Parameters
    ----------
    X : CSR array of shape (n_users, n_items)
        Items of each user, with sorted indices and without duplicates.
    weights : ndarray of int64 of shape (n_items,) or None, default=None
        Weight of each item, from :func:`negative_weights`. None means equal weights. Integers, so
        that no rounding lets an own item through.

    Attributes
    ----------
    total : ndarray of int64 of shape (n_users,)
        Sum of the weights of the items that a user does not have; 0 if nothing can be drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from sklrec._pairs import NegativeSampler
    >>> sampler = NegativeSampler(csr_array([[1, 0, 1, 0], [1, 1, 1, 1]]))
    >>> sampler.at(np.array([0, 0, 0, 1]), np.array([0.0, 0.4, 0.6, 0.5]))
    array([ 1,  1,  3, -1])
    """

    def __init__(self, X: sp.csr_array, weights: np.ndarray | None = None) -> None:
        n_users, n_items = X.shape
        self._start = X.indptr[:-1]
        if weights is None:
            self._cumulated, before, sum_of_weights = None, X.indices, n_items
            own = np.arange(X.nnz + 1)
        else:
            self._cumulated = np.concatenate([[0], np.cumsum(weights, dtype=np.int64)])
            before, sum_of_weights = self._cumulated[X.indices], int(self._cumulated[-1])
            own = np.concatenate([[0], np.cumsum(weights[X.indices], dtype=np.int64)])
        self._own = own  # weight of all entries of X before each
        self.total = sum_of_weights - (own[X.indptr[1:]] - own[self._start])
        # Weight, before each entry, of the items that its user does not have. Shifted by user,
        # these numbers ascend over all users, so that one search serves all of them.
        n_entries = np.diff(X.indptr)
        self._shift = np.arange(n_users, dtype=np.int64) * (sum_of_weights + 1)
        self._keys = before - own[:-1] + np.repeat(own[self._start] + self._shift, n_entries)

    def at(self, users: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Return the items at which the cumulated share of the weights reaches given numbers.

        Parameters
        ----------
        users : ndarray of int
            Rows of X. Sorted rows are faster.
        uniform : ndarray of float64, of a shape to which that of `users` broadcasts
            Numbers from 0 to 1, without 1.

        Returns
        -------
        items : ndarray of int64, of the shape of `uniform`
            Column of X, or -1 where the user leaves no item with a weight.
        """
        total = self.total[users]
        items: np.ndarray = (uniform * total).astype(np.int64)  # below the total: uniform is < 1
        entry = np.searchsorted(self._keys, items + self._shift[users], side="right")
        items += self._own[entry] - self._own[self._start[users]]
        if self._cumulated is not None:
            items = np.searchsorted(self._cumulated, items, side="right") - 1
        if not total.all():
            items[np.broadcast_to(total == 0, items.shape)] = -1
        return items

    def draw(self, users: np.ndarray, rng: np.random.Generator, n_negatives: int = 1) -> np.ndarray:
        """Draw `n_negatives` items for each of `users`, with replacement.

        Returns
        -------
        items : ndarray of int64 of shape (len(users), n_negatives)
            Columns of X, or -1 where the user leaves no item with a weight.
        """
        return self.at(users[:, None], rng.random((len(users), n_negatives)))


def negative_weights(X: sp.csr_array, negatives: str) -> np.ndarray | None:
    """Return the weights with which :class:`NegativeSampler` draws.

    Parameters
    ----------
    X : CSR array of shape (n_users, n_items)
        Interactions.
    negatives : {"uniform", "popularity"}
        "uniform" for equal weights, "popularity" for the number of users of each item.

    Returns
    -------
    weights : ndarray of int64 of shape (n_items,) or None
        None for equal weights.
    """
    if negatives == "uniform":
        return None
    return np.bincount(X.indices, minlength=X.shape[1])


def pair_batches(
    X: sp.csr_array,
    sampler: NegativeSampler,
    batch_size: int,
    rng: np.random.Generator,
    n_negatives: int = 1,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield each stored entry of X once, in random order, with negatives drawn for it.

    Entries of users that leave no item to draw are left out.

    Parameters
    ----------
    X : CSR array of shape (n_users, n_items)
        Interactions.
    sampler : NegativeSampler
        That of X.
    batch_size : int
        Number of entries in a batch; the last one may have fewer.
    rng : numpy.random.Generator
        Generator of the order and of the negatives.
    n_negatives : int, default=1
        Number of negatives of each entry.

    Yields
    ------
    users : ndarray of int64 of shape (n_pairs,)
        Rows, in ascending order.
    items : ndarray of shape (n_pairs,)
        Columns of the entries.
    negatives : ndarray of int64 of shape (n_pairs, n_negatives)
        Items that the users do not have.
    """
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    entries = np.flatnonzero(sampler.total[rows])
    rng.shuffle(entries)
    for start in range(0, entries.size, batch_size):
        batch = np.sort(entries[start : start + batch_size])  # memory is read in its order
        users = rows[batch]
        yield users, X.indices[batch], sampler.draw(users, rng, n_negatives)


def uniform_by_row(X: sp.csr_array, n_numbers: int, seed: int) -> np.ndarray:
    """Return random numbers for each stored entry, which depend on its row's items and a seed.

    A row has the same numbers in any batch, and with any values.

    Parameters
    ----------
    X : CSR array of shape (n_users, n_items)
        Rows, with sorted indices.
    n_numbers : int
        How many numbers each entry gets.
    seed : int
        Seed, from 0 to 2**64 - 1.

    Returns
    -------
    uniform : ndarray of float64 of shape (nnz, n_numbers)
        Numbers from 0 to 1, without 1.
    """
    n_entries = np.diff(X.indptr)
    of_items = _mixed(X.indices.astype(np.uint64) * GOLDEN + np.uint64(seed))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(of_items)])  # modulo 2**64
    state = np.repeat(sums[X.indptr[1:]] - sums[X.indptr[:-1]], n_entries)
    place = np.arange(X.nnz) - np.repeat(X.indptr[:-1], n_entries)
    counter = place[:, None] * n_numbers + np.arange(1, n_numbers + 1)
    bits = _mixed(state[:, None] + counter.astype(np.uint64) * GOLDEN)
    return (bits >> np.uint64(11)) * 2.0**-53


def _mixed(z: np.ndarray) -> np.ndarray:
    """Return the output of SplitMix64 for its states, an array of uint64.

    See G. L. Steele, D. Lea and C. H. Flood, "Fast Splittable Pseudorandom Number Generators",
    OOPSLA 2014.
    """
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
