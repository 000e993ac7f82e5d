"""Embarrassingly shallow autoencoders."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scipy.stats import loguniform, uniform

from .._device import gpu_named
from .._linalg import BLOCK, add_gram, invert_positive_definite
from .._memory import check_memory
from .._sklearn import Interval, _fit_context, fit_progress, n_threads
from .._typing import MatrixLike
from ._base import BaseItemWeights

if TYPE_CHECKING:
    import torch

# Size in bytes of the buffer that OpenBLAS has for each of its threads.
_BUFFER_OF_A_THREAD = 2**25


class EASE(BaseItemWeights):
    r"""Linear item-to-item autoencoder with a zero diagonal, solved in closed form.

    Each item is predicted from the others by ridge regression [1]_:

    .. math:: \min_B \|X - XB\|_F^2 + \lambda \|B\|_F^2 \quad \text{s.t.} \quad \mathrm{diag}(B) = 0

    With :math:`P = (X^\top X + \lambda I)^{-1}` the solution is :math:`B_{ij} = -P_{ij} / P_{jj}`
    off the diagonal (equation 8 of [1]_). The scores of a user are ``x @ B``, also for users that
    ``fit`` has not seen.

    With `dropout` p it is the denoising autoencoder EDLAE, which drops inputs at random in
    training. In expectation this adds :math:`p / (1 - p)` times the diagonal of :math:`X^\top X`
    to itself (section 3 of [2]_), so there is still a closed form. It penalises popular items, on
    which :math:`\lambda` alone has little effect, in proportion to their popularity.

    Fitting inverts a dense matrix in place. It needs the memory of one (n_items, n_items) matrix,
    which is 1.6 GB in float32 for 20,000 items, and O(n_items^3) time. If the memory of the machine
    or the GPU is too small, ``fit`` raises an error before it starts.

    Parameters
    ----------
    lambda_ : float, default=500.0
        L2 penalty on the item-to-item weights; larger values give smoother weights. It is added
        to the diagonal of X'X, so that the best value grows with the number of users. Typical
        range: 10 to 10,000, on a logarithmic scale.
    dropout : float, default=0.0
        Probability p, below 1, with which an interaction is dropped from the input; 0 is EASE.
        Typical range: 0.1 to 0.6, with a smaller `lambda_` than without dropout. [2]_ uses .33 with
        ``lambda_=300`` for MovieLens-20M and .25 with 70 for the Million Song Dataset.
    device : str or torch.device, default="cpu"
        Device on which X'X is computed and inverted: "cpu", "cuda", "cuda:1", or "auto" for CUDA if
        available. All but "cpu" need torch. The weights are in main memory, and scores are computed
        there. They are those of the CPU, to rounding.

    Attributes
    ----------
    coef_ : ndarray of shape (n_items, n_items)
        Weight of each item (row) in the score of each item (column), in the precision of X.
    gram_ : ndarray of shape (n_items, n_items)
        Sum of X'X, upper triangle. Only after ``partial_fit``, which adds to it.
    n_samples_seen_ : int
        Number of training users.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items. Only if X is a DataFrame with names.

    See Also
    --------
    sklrec.preprocessing.BM25Transformer : Weighting of the interactions before EASE.

    Notes
    -----
    Weights of items without interactions are zero.

    References
    ----------
    .. [1] H. Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019.
    .. [2] H. Steck, "Autoencoders that don't overfit towards the Identity", NeurIPS 2020.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklrec.linear import EASE
    >>> X = csr_array([[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
    >>> ease = EASE(lambda_=1.0).fit(X)
    >>> ease.predict_ranking(X[:1], k=2)
    array([[3, 2]])
    >>> ease.similar_items(0, k=1)
    array([1])
    """

    _parameter_constraints: dict = {
        "lambda_": [Interval(Real, 0, None, closed="neither")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "device": "no_validation",  # its types are those of torch
    }
    _suggested_distributions: dict = {
        "lambda_": loguniform(10, 10_000),
        "dropout": uniform(0.1, 0.5),  # from 0.1, of length 0.5
    }

    def __init__(
        self,
        lambda_: float = 500.0,
        *,
        dropout: float = 0.0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.lambda_ = lambda_
        self.dropout = dropout
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None) -> EASE:
        """Learn the item-to-item weights.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.

        Returns
        -------
        self : EASE
            The fitted model.

        Raises
        ------
        MemoryError
            If the machine or the GPU lacks the memory; nothing is allocated then.
        """
        gpu = gpu_named(self.device)
        X = self._check_X(X, reset=True)
        self._check_memory(X, gpu, n_matrices=1)
        self._learn_popularity(X)
        self.__dict__.pop("gram_", None)
        with fit_progress(self, X, max_subtasks=2) as step:
            if gpu is None:
                G = np.zeros((X.shape[1], X.shape[1]), dtype=X.dtype)
                add_gram(X, G)
                step("gram")
                solve_in_place(G, self.lambda_, self.dropout)
            else:
                from . import _ease_on_device as on_device

                found = on_device.gram(X, gpu)
                step("gram")
                G = on_device.solve(found, self.lambda_, self.dropout)
            self._coef: np.ndarray | None = G
            step("solve")
        self.n_samples_seen_ = X.shape[0]
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: MatrixLike, y: Any = None) -> EASE:
        """Add the interactions of more users, for data larger than memory.

        Only X'X is updated, so that the result is that of ``fit`` on all users. The weights are
        computed when they are first needed, with the parameters of the last call. It needs twice
        the memory of ``fit``.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of additional users, non-negative.
        y : None
            Ignored.

        Returns
        -------
        self : EASE
            The model.

        Raises
        ------
        MemoryError
            If the machine or the GPU lacks the memory; nothing is allocated then.

        Warns
        -----
        UserWarning
            If the model was fitted with ``fit``, which does not keep X'X. A new model is then
            fitted on these users only.
        """
        first = not hasattr(self, "gram_")
        if first and hasattr(self, "n_features_in_"):
            warnings.warn(
                "partial_fit begins a new model, because fit does not keep X'X; "
                "use partial_fit for all batches.",
                UserWarning,
                stacklevel=2,
            )
        gpu = gpu_named(self.device)
        X = self._check_X(X, reset=first)
        if first:
            self._check_memory(X, gpu, n_matrices=2)
            self.gram_ = np.zeros((X.shape[1], X.shape[1]), dtype=X.dtype)
            self.n_samples_seen_ = 0
        elif not self.gram_.flags.writeable:  # memory-mapped by joblib.load
            self.gram_ = self.gram_.copy()
        self._learn_popularity(X, reset=first)
        with fit_progress(self, X, max_subtasks=1) as step:
            if gpu is None:
                add_gram(X, self.gram_)
            else:
                from . import _ease_on_device as on_device

                on_device.add_to(self.gram_, on_device.gram(X, gpu))
            step("gram")
        self._coef = None
        # Of the weights to be solved for.
        self._penalties, self._solved_on = (self.lambda_, self.dropout), self.device
        self.n_samples_seen_ += X.shape[0]
        return self

    def _set_gram(self, G: np.ndarray, popularity: np.ndarray, n_users: int) -> EASE:
        """Fit on X'X, upper triangle, which may be replaced by the weights."""
        self.n_features_in_ = len(G)
        self.n_samples_seen_ = n_users
        self._popularity = popularity
        self._coef = _solved(G, (self.lambda_, self.dropout), gpu_named(self.device))
        return self

    @property
    def coef_(self) -> np.ndarray:  # type: ignore[override]
        """Weight of each item (row) in the score of each item (column)."""
        if self._coef is None:
            try:
                gpu = gpu_named(self._solved_on)
            except (ValueError, ImportError):  # this machine does not have it
                gpu = None
            G = self.gram_.copy() if gpu is None else self.gram_
            self._coef = _solved(G, self._penalties, gpu)
        return self._coef

    def _check_memory(self, X: sp.csr_array, gpu: torch.device | None, *, n_matrices: int) -> None:
        if gpu is None:
            check_gram_memory(X, n_matrices=n_matrices, model="EASE")
            return
        from ._ease_on_device import check_ease

        n_bytes = n_matrices * X.shape[1] ** 2 * X.dtype.itemsize
        check_memory(n_bytes, f"EASE on {X.shape[1]:,} items in {X.dtype}")
        check_ease(X, gpu)


def _solved(G: np.ndarray, penalties: tuple[float, float], gpu: torch.device | None) -> np.ndarray:
    """Return the weights from X'X, which are in its memory unless they are solved for on a GPU."""
    if gpu is None:
        solve_in_place(G, *penalties)
        return G
    from . import _ease_on_device as on_device

    return on_device.solve(on_device.to_device(G, gpu), *penalties)


def check_gram_memory(X: sp.csr_array, *, n_matrices: int, model: str, after: int = 0) -> None:
    """Raise a MemoryError if the memory of the machine is too small to compute and invert X'X.

    The inversion needs the whole matrix. The computation of X'X needs half of it, as only this part
    is written to, and a sparse and a dense block of the product in each thread.

    Parameters
    ----------
    X : CSR array of shape (n_users, n_items)
        Rows of users.
    n_matrices : int
        Number of matrices of shape (n_items, n_items) in memory at the end.
    model : str
        Name of the model in the error message.
    after : int, default=0
        Bytes of the work after the inversion.
    """
    n_items, itemsize = X.shape[1], X.dtype.itemsize
    matrix = n_items**2 * itemsize
    entry = itemsize + X.indices.itemsize
    copies_of_X = (1 + n_threads()) * X.nnz * entry  # X', and some columns in each thread
    # The number of products of two interactions is an upper bound of the entries of a block.
    length = np.diff(X.indptr)
    cells = min(BLOCK, n_items) * n_items
    n_products = float(length.astype(np.float64) @ length) * min(1, BLOCK / max(1, n_items))
    block = cells * itemsize + min(cells, int(n_products)) * entry
    check_memory(
        (n_matrices - 1) * matrix
        + copies_of_X
        + max(
            matrix + n_threads() * _BUFFER_OF_A_THREAD,
            matrix + _BUFFER_OF_A_THREAD + after,
            matrix // 2 + n_threads() * block,
        ),
        f"{model} on {n_items:,} items in {X.dtype}",
    )


def solve_in_place(G: np.ndarray, lambda_: float, dropout: float) -> np.ndarray:
    """Replace X'X, of which the upper triangle is read, by B; return the diagonal of its inverse.

    The inverse is that of X'X with the penalties.

    Raises
    ------
    ValueError
        If X'X is not finite, or `lambda_` is too small to invert it.
    """
    diagonal = np.diag(G)
    np.fill_diagonal(G, diagonal + penalties(diagonal, lambda_, dropout))
    with explained_singular(lambda_, G.dtype):
        invert_positive_definite(G)
    precision = np.diag(G).copy()
    scale = -1 / precision
    for row in G:  # row by row, which does not allocate another matrix of the size of G
        row *= scale
    np.fill_diagonal(G, 0)
    return precision


def penalties(diagonal: np.ndarray, lambda_: float, dropout: float) -> np.ndarray:
    """Return what is added to the diagonal of X'X, where its largest numbers are."""
    if not np.isfinite(diagonal).all():
        raise ValueError(f"The squares of the values of X are too large for {diagonal.dtype}.")
    return lambda_ + dropout / (1 - dropout) * diagonal


@contextmanager
def explained_singular(lambda_: float, dtype: np.dtype) -> Iterator[None]:
    """Say what to change if X'X with the penalties cannot be inverted."""
    try:
        yield
    except np.linalg.LinAlgError as error:
        raise ValueError(
            f"lambda_={lambda_} is too small to solve for the weights in {dtype}; "
            "use a larger one, or X in float64."
        ) from error
