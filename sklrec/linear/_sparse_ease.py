"""EASE with few weights per item, for catalogues that are too large for EASE."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import get_lapack_funcs
from scipy.stats import loguniform, uniform

from .._linalg import blocks, in_threads, single_threaded_blas
from .._memory import check_memory
from .._nearest import ENTRIES, largest_of_rows
from .._sklearn import Interval, _fit_context, fit_progress, n_threads
from .._typing import MatrixLike
from ._base import BaseItemWeights

# Maximum number of items of a group, and of items in the union of their neighbors, unless a single
# item has more. Larger groups need fewer products and more memory.
GROUP_SIZE = 32
MOST_OF_UNION = 4096

# A dense product of the rows of a group is faster than a sparse one if this share of their entries
# is stored. Its memory is limited to this number of entries.
DENSE_FROM = 0.05
MOST_CELLS = 2**24

# Bytes of temporary arrays of a thread for each entry of a product, besides value and column.
_BYTES_OF_AN_ENTRY = 24


class SparseEASE(BaseItemWeights):
    r"""EASE in which each item is predicted from its nearest neighbors only.

    EASE has a weight for each pair of items, and inverts a matrix of this size. Here the weights in
    the score of item j are those of a ridge regression on its neighbors :math:`N_j` alone, which
    are the items with the largest cosine similarity to j; all others are zero:

    .. math::

       B_{N_j, j} = \big(G_{N_j, N_j} + \Lambda_{N_j}\big)^{-1} G_{N_j, j}, \quad
       G = X^\top X, \quad \Lambda_i = \lambda + \frac{p}{1 - p} G_{ii}

    with the dropout p of EDLAE [2]_. If all items are neighbors of each other, this is the solution
    of :class:`EASE`. Regressions on few items in closed form are also the idea of the sparse Markov
    random fields of [1]_.

    G is computed for a group of items at a time, with the items that they have as neighbors, and
    never as a whole. Memory is proportional to ``n_items * n_neighbors``, time to the number of
    items. If the memory of the machine is too small, ``fit`` raises an error before it starts.

    Parameters
    ----------
    lambda_ : float, default=100.0
        L2 penalty on the weights. Typical range: 10 to 1,000, on a logarithmic scale.
    n_neighbors : int, default=100
        Maximum number of weights in the score of an item. More neighbors usually rank better; time
        grows at least with their square. Items without a common user are not neighbors. Typical
        range: 50 to 400.
    dropout : float, default=0.33
        Probability p, below 1, with which an interaction is dropped from the input, as in
        :class:`EASE`. Typical range: 0.1 to 0.6.

    Attributes
    ----------
    coef_ : CSR array of shape (n_items, n_items)
        Weight of each item (row) in the score of each item (column), in the precision of X.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items. Only if X is a DataFrame with names.

    See Also
    --------
    EASE : All pairs of items; better for catalogues of some thousands of items.
    SLIM : Sparse weights that are selected by an L1 penalty.

    References
    ----------
    .. [1] H. Steck, "Markov Random Fields for Collaborative Filtering", NeurIPS 2019.
    .. [2] H. Steck, "Autoencoders that don't overfit towards the Identity", NeurIPS 2020.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklrec.linear import SparseEASE
    >>> X = csr_array([[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
    >>> model = SparseEASE(lambda_=1.0, n_neighbors=2).fit(X)
    >>> model.predict_ranking(X[:1], k=2)
    array([[3, 2]])
    >>> model.coef_.nnz
    8
    """

    _parameter_constraints: dict = {
        "lambda_": [Interval(Real, 0, None, closed="neither")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }
    _suggested_distributions: dict = {
        "lambda_": loguniform(10, 1_000),
        "n_neighbors": [50, 100, 200, 300, 400],
        "dropout": uniform(0.1, 0.5),  # from 0.1, of length 0.5
    }

    def __init__(
        self, lambda_: float = 100.0, *, n_neighbors: int = 100, dropout: float = 0.33
    ) -> None:
        self.lambda_ = lambda_
        self.n_neighbors = n_neighbors
        self.dropout = dropout

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None) -> SparseEASE:
        """Learn the weights.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.

        Returns
        -------
        self : SparseEASE
            The fitted model.

        Raises
        ------
        MemoryError
            If the machine lacks the memory; nothing is allocated then.
        ValueError
            If `lambda_` is too small for a solution in the precision of X.
        """
        X = self._check_X(X, reset=True)
        n_neighbors = min(self.n_neighbors, X.shape[1])
        self._check_memory(X, n_neighbors)
        self._learn_popularity(X)
        with fit_progress(self, X, max_subtasks=2) as step:
            Xt = X.T.tocsr()  # (n_items, n_users)
            diagonal = np.bincount(
                X.indices, weights=X.data.astype(float) ** 2, minlength=Xt.shape[0]
            )
            if diagonal.max(initial=0) > np.finfo(X.dtype).max:
                raise ValueError(f"The squares of the values of X are too large for {X.dtype}.")
            nearest = _nearest_items(X, Xt, diagonal, n_neighbors)
            step("neighbors")
            self._solve(Xt, nearest, self._penalty(diagonal))
            self._keep(nearest)
            del nearest
            step("weights")
        return self

    def _penalty(self, diagonal: np.ndarray) -> np.ndarray:
        """Return the penalty of each item from the diagonal of X'X."""
        return self.lambda_ + self.dropout / (1 - self.dropout) * diagonal

    def _set_weights(self, nearest: sp.csr_array, popularity: np.ndarray) -> SparseEASE:
        """Fit on the weights of the neighbors of each item (row), and the column sums of X."""
        self.n_features_in_ = popularity.size
        self._popularity = popularity
        self._keep(nearest)
        return self

    def _keep(self, nearest: sp.csr_array) -> None:
        weights = sp.csc_array((nearest.data, nearest.indices, nearest.indptr), nearest.shape)
        self.coef_ = weights.tocsr()

    def _solve(self, Xt: sp.csr_array, nearest: sp.csr_array, penalty: np.ndarray) -> None:
        """Replace the similarities in the rows of `nearest` by the weights of the neighbors."""
        groups = self._groups(nearest)
        n_items = Xt.shape[0]
        whole = None
        if n_items <= MOST_OF_UNION:  # small enough to compute it once for all groups
            whole = with_penalty(gram(Xt), penalty)

        def solve(number: slice) -> None:
            items = groups[number.start]
            rows = nearest[items]
            if whole is not None:
                self._solve_group(nearest, items, rows, np.arange(n_items), whole)
                return
            union = union_of(rows, items)
            G = with_penalty(gram(Xt[union]), penalty[union])
            self._solve_group(nearest, items, rows, union, G)

        with single_threaded_blas():
            in_threads(
                solve, blocks(len(groups), 1), work=nearest.nnz * float(self.n_neighbors) ** 2
            )

    def _groups(self, nearest: sp.csr_array) -> list[np.ndarray]:
        return list(_groups(nearest, max(1, min(GROUP_SIZE, MOST_OF_UNION // self.n_neighbors))))

    def _solve_group(
        self,
        nearest: sp.csr_array,
        items: np.ndarray,
        rows: sp.csr_array,
        union: np.ndarray,
        G: np.ndarray,
    ) -> None:
        """Replace the rows of a group in `nearest`, from X'X of the union with the penalty, G.

        `rows` are these rows of `nearest`.
        """
        (posv,) = get_lapack_funcs(("posv",), dtype=G.dtype)
        places_of_neighbors = np.searchsorted(union, rows.indices)
        place_of_item = np.searchsorted(union, items)
        for number, item in enumerate(items):
            places = places_of_neighbors[rows.indptr[number] : rows.indptr[number + 1]]
            if not places.size:
                continue
            start = nearest.indptr[item]
            _, nearest.data[start : start + places.size], info = posv(
                G.take(places, axis=0).take(places, axis=1).T,
                G[place_of_item[number]].take(places),
                lower=True,
                overwrite_a=True,
                overwrite_b=True,
            )
            if info != 0:
                raise ValueError(
                    f"lambda_={self.lambda_} is too small to solve for the weights in "
                    f"{G.dtype}; use a larger one, or X in float64."
                )

    def _check_memory(self, X: sp.csr_array, n_neighbors: int) -> None:
        """Raise a MemoryError if the memory of the machine is too small.

        Neighbors are found in blocks, with X' and two scaled copies, and then collected in one
        array. The weights need X' and the matrices of a group in each thread and, at last, an array
        in another order.
        """
        n_items = X.shape[1]
        entry = X.dtype.itemsize + X.indices.itemsize
        copy_of_X = X.nnz * entry
        kept = n_items * n_neighbors * entry
        block = min(ENTRIES, n_items**2) * (entry + _BYTES_OF_AN_ENTRY)
        union = min(n_items, max(n_neighbors + 1, min(MOST_OF_UNION, GROUP_SIZE * n_neighbors)))
        group = union**2 * (X.dtype.itemsize + entry)
        check_memory(
            kept
            + max(
                3 * copy_of_X + max(kept, n_threads() * block),
                copy_of_X + max(kept, n_threads() * group),
            ),
            f"SparseEASE on {n_items:,} items with {n_neighbors:,} neighbors in {X.dtype}",
        )


def _nearest_items(X: sp.csr_array, Xt: sp.csr_array, diagonal: np.ndarray, k: int) -> sp.csr_array:
    """Return the `k` largest cosine similarities of each item to others."""
    norm = np.sqrt(diagonal)
    scale = np.divide(1, norm, out=np.zeros_like(norm), where=norm > 0).astype(X.dtype)
    rows = sp.csr_array(
        (Xt.data * np.repeat(scale, np.diff(Xt.indptr)), Xt.indices, Xt.indptr), shape=Xt.shape
    )
    columns = sp.csr_array((X.data * scale[X.indices], X.indices, X.indptr), shape=X.shape)
    return largest_of_rows(rows, columns, k, diagonal=False)


def with_penalty(G: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """Add the penalty to the diagonal, in place."""
    G.flat[:: len(G) + 1] += penalty.astype(G.dtype)
    return G


def union_of(rows: sp.csr_array, items: np.ndarray) -> np.ndarray:
    """Return the sorted indices of some items and of the neighbors in their rows."""
    return np.unique(np.concatenate([rows.indices, items]))


def _groups(nearest: sp.csr_array, size: int) -> Iterator[np.ndarray]:
    """Yield groups of items that have many neighbors in common, each item in one group.

    A group consists of items and of those of their neighbors that are in no earlier group.
    """
    left = np.ones(nearest.shape[0], dtype=bool)
    group: list[int] = []
    for item in np.argsort(-np.diff(nearest.indptr), kind="stable"):
        if not left[item]:
            continue
        left[item] = False
        group.append(item)
        neighbors = nearest.indices[nearest.indptr[item] : nearest.indptr[item + 1]]
        neighbors = neighbors[left[neighbors]][: max(0, size - len(group))]
        left[neighbors] = False
        group.extend(neighbors)
        if len(group) >= size:
            yield np.array(group)
            group = []
    if group:
        yield np.array(group)


def gram(A: sp.csr_array) -> np.ndarray:
    """Return ``A @ A.T`` as a dense array, from the columns of A that are not empty."""
    n_items, n_users = A.shape
    # Users are numbered by their last entries, as time is not to grow with the number of all users:
    # what is not set of `last` is never read.
    entry = np.arange(A.nnz, dtype=A.indices.dtype)
    last = np.empty(n_users, dtype=entry.dtype)
    last[A.indices] = entry
    entry_of_user = last[A.indices]
    is_last = entry_of_user == entry
    indices = (np.cumsum(is_last, dtype=entry.dtype) - 1)[entry_of_user]
    n_users = int(np.count_nonzero(is_last))
    A = sp.csr_array((A.data, indices, A.indptr), shape=(n_items, n_users))
    cells = n_items * n_users
    if DENSE_FROM * cells <= A.nnz and cells <= MOST_CELLS:
        D = A.toarray()
        return D @ D.T
    return (A @ A.T).toarray()
