"""Validation of matrices, and their conversion to a canonical CSR format."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_array

from ._holder import Unsliced
from ._typing import MatrixLike

# Values are heavy-tailed if the share TAIL of them has more than the share HEAVY of the sum of
# squares, on which a squared loss depends. One percent of ratings has at most .503 of it, if the
# highest is ten times the lowest; one percent of ones has .01, and of play counts up to almost 1.
TAIL = 0.01
HEAVY = 0.55
FEWEST_VALUES = 1000  # minimum number of values for a warning

# Types that are kept; all others are converted to the first.
FLOATS = (np.float32, np.float64)


def check_matrix(
    M: Any,
    name: str,
    *,
    shape: tuple[int | None, int | None] = (None, None),
    dtype: Any = FLOATS,
    signed: bool = False,
) -> Any:
    """Validate a matrix such as X, held-out entries, validation users or item features.

    Parameters
    ----------
    M : {array-like, sparse array or DataFrame} of shape (n_rows, n_columns), or Unsliced
        Matrix, which is not changed.
    name : str
        Name of the argument in error messages.
    shape : tuple of (int or None, int or None), default=(None, None)
        Required numbers of rows and columns; None means any.
    dtype : "numeric" or tuple of types, default=(float32, float64)
        Types that are kept; all others are converted to the first. "numeric" keeps all types of
        sparse arrays.
    signed : bool, default=False
        Whether values may be negative, such as features. Dense input then stays dense.

    Returns
    -------
    M : CSR array in canonical format, or ndarray

    Raises
    ------
    ValueError
        If M is not 2-d, is empty, has another shape, or has negative or non-finite values.
    """
    if isinstance(M, Unsliced):
        M = M.value
    if not _is_csr_of(M, dtype):
        try:
            M = check_array(M, accept_sparse="csr", dtype=_list(dtype), ensure_all_finite=False)
        except ValueError as error:  # without the name of the argument
            raise ValueError(f"{name} is no matrix of numbers. {error}") from error
        if M.dtype == np.float16:  # not supported by scipy's sparse arrays
            M = M.astype(np.float32)
    check_values(M, name, signed=signed)
    if shape != (None, None):
        for n, wanted, what in zip(M.shape, shape, ("rows", "columns"), strict=True):
            if wanted not in (None, n):
                raise ValueError(f"{name} must have {wanted} {what}, got shape {M.shape}.")
    return M if signed and not sp.issparse(M) else canonical_csr(M)


def check_values(M: Any, name: str, *, signed: bool = False) -> None:
    """Raise an error for values that are NaN, infinite or, unless `signed`, negative."""
    values = M.data if sp.issparse(M) else M
    if not values.size:
        return
    # NaN if a value is NaN. The methods of arrays would take twice as long for a single row.
    smallest, largest = np.minimum.reduce(values, axis=None), np.maximum.reduce(values, axis=None)
    if smallest >= 0 and largest < np.inf:
        return
    if np.isnan(smallest):
        advice = "" if signed else (
            "; a missing entry is a zero here: fill a pivoted table with zeros, or encode it as a "
            "sparse matrix"
        )  # fmt: skip
        raise ValueError(f"{name} contains NaN{advice}.")
    if np.isinf(smallest) or np.isinf(largest):
        raise ValueError(f"{name} contains infinity or a value too large for {values.dtype}.")
    if smallest < 0 and not signed:
        raise ValueError(f"Negative values in data passed to {name}, such as {smallest:g}.")


def stored_entries(X: MatrixLike, name: str = "X") -> sp.csr_array:
    """Return the entries of non-negative `X`, of any numeric type, as a canonical CSR array."""
    return check_matrix(X, name, dtype="numeric")


def canonical_csr(X: Any) -> sp.csr_array:
    """Return `X` as a CSR array with sorted indices, duplicates summed and stored zeros dropped.

    Memory is shared with `X` if it already has this format; it is not changed.
    """
    X = _view(X) if isinstance(X, sp.csr_array) else sp.csr_array(X)
    if not X.has_canonical_format or np.count_nonzero(X.data) < X.nnz:
        X = X.copy()
        X.sum_duplicates()
        X.eliminate_zeros()
    return X


def _view(X: sp.csr_array) -> sp.csr_array:
    """Return a CSR array that shares the memory of X, without the checks of scipy's constructor.

    What X has noted of its format is forgotten, as its indices may have been changed since.
    """
    view: sp.csr_array = object.__new__(sp.csr_array)
    vars(view).update(vars(X))
    for note in ("_has_sorted_indices", "_has_canonical_format"):
        vars(view).pop(note, None)
    if len(view.data) > view.nnz:
        view.prune()
    return view


def take_entries(X: sp.csr_array, chosen: np.ndarray) -> sp.csr_array:
    """Return the stored entries of `X` that a boolean array of shape (nnz,) selects."""
    n_chosen = np.cumsum(chosen, dtype=X.indptr.dtype)  # in the type of the index arrays of X
    indptr = np.concatenate([np.zeros(1, dtype=X.indptr.dtype), n_chosen])[X.indptr]
    return sp.csr_array((X.data[chosen], X.indices[chosen], indptr), shape=X.shape)


def index_dtype(largest: int) -> np.dtype:
    """Return the smaller of scipy's two index types that holds `largest`."""
    return np.dtype(np.int32 if largest <= np.iinfo(np.int32).max else np.int64)


def warn_of_heavy_tail(X: sp.csr_array, whom: str) -> None:
    """Warn if a few values of X, such as play counts, dominate all others.

    Parameters
    ----------
    X : CSR array of shape (n_users, n_items)
        Input of a model, after all transformations.
    whom : str
        Name of the model.

    Warns
    -----
    UserWarning
        If one percent of the stored values holds most of the sum of squares.
    """
    n_tail = int(TAIL * X.nnz)
    if X.nnz < FEWEST_VALUES or X.data.max() <= 1:
        return
    squares = np.square(X.data, dtype=np.float64)
    total = squares.sum()
    share = np.partition(squares, squares.size - n_tail)[-n_tail:].sum() / total
    if share > HEAVY:
        warnings.warn(
            f"1% of the {X.nnz:,} stored values of X hold {share:.0%} of the sum of their squares, "
            f"up to {X.data.max():g}, so they dominate the fit of {whom}. If they are counts, "
            "transform them with sklearn.preprocessing.Binarizer or "
            "sklrec.preprocessing.BM25Transformer in a pipeline, or by np.log1p.",
            UserWarning,
            stacklevel=5,
        )


def _is_csr_of(M: Any, dtype: Any) -> bool:
    """Return whether scikit-learn's checks, which take time, would not convert M."""
    if not isinstance(M, sp.csr_array) or M.ndim != 2 or not all(M.shape):
        return False
    return M.dtype.kind in "buif" if dtype == "numeric" else M.dtype in dtype


def _list(dtype: Any) -> Any:
    return list(dtype) if isinstance(dtype, tuple) else dtype
