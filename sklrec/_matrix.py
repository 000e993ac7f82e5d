"""Interactions as a sparse matrix in one canonical form."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_array
from sklearn.utils.validation import check_non_negative

from ._typing import MatrixLike


def stored_entries(X: MatrixLike) -> sp.csr_array:
    """Return the entries of non-negative `X`, of any numeric type, as a canonical CSR array."""
    X = check_array(X, accept_sparse="csr", dtype="numeric")
    check_non_negative(X, "sklrec")
    return canonical_csr(X)


def canonical_csr(X: Any) -> sp.csr_array:
    """Return `X` as a CSR array with sorted indices, duplicates summed and stored zeros dropped.

    The arrays of `X` are shared where it has this form already and never changed.
    """
    X = sp.csr_array(X)
    if not X.has_canonical_format or np.count_nonzero(X.data) < X.nnz:
        X = X.copy()
        X.sum_duplicates()
        X.eliminate_zeros()
    return X


def take_entries(X: sp.csr_array, chosen: np.ndarray) -> sp.csr_array:
    """Return the stored entries of `X` that a boolean array of shape (nnz,) chooses."""
    indptr = np.concatenate([[0], np.cumsum(chosen)])[X.indptr]
    return sp.csr_array((X.data[chosen], X.indices[chosen], indptr), shape=X.shape)
