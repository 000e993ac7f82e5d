"""Similarities of rows, from their inner products."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse as sp

from .._sklearn import Interval, StrOptions

METRICS = ("cosine", "asymmetric-cosine", "jaccard", "conditional-probability")

PARAMETER_CONSTRAINTS: dict = {
    "metric": [StrOptions(set(METRICS))],
    "alpha": [Interval(Real, 0, 1, closed="both")],
    "shrinkage": [Interval(Real, 0, None, closed="left")],
}


@dataclass(frozen=True)
class Similarity:
    """Similarity of a given row i to a target row j.

    Parameters
    ----------
    metric : str
        One of METRICS.
    alpha : float
        Exponent of the sizes of the rows, if the metric has one.
    shrinkage : float
        Number that is added to the denominator.
    """

    metric: str
    alpha: float
    shrinkage: float

    def sizes(self, M: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the size of each row of M in the denominator, as a given and as a target row.

        Raises
        ------
        ValueError
            If the squares of the values are too large for their type.
        """
        squares = _sums_of_squares(M)
        return self.sizes_from(squares, (M != 0).sum(axis=1), M.dtype)

    def sizes_from(
        self, squares: np.ndarray, n_nonzero: np.ndarray, dtype: np.dtype
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the sizes of rows, from sums of their squares and numbers of nonzero values."""
        with np.errstate(over="ignore"):
            if not np.isfinite(squares.astype(dtype)).all():
                raise ValueError(f"The squares of the values are too large for {dtype}.")
        if self.metric == "cosine":
            given = target = np.sqrt(squares)
        elif self.metric == "asymmetric-cosine":
            given, target = squares**self.alpha, squares ** (1 - self.alpha)
        elif self.metric == "jaccard":
            given = target = squares
        else:
            given = np.asarray(n_nonzero, dtype=np.float64)
            target = given**self.alpha
        return given.astype(dtype), target.astype(dtype)

    def of_given(self, M: Any) -> Any:
        """Return M, or ones at its nonzero values, whose products with targets are needed."""
        if self.metric != "conditional-probability":
            return M
        if sp.issparse(M):
            return type(M)((np.ones_like(M.data), M.indices, M.indptr), shape=M.shape)
        return (M != 0).astype(M.dtype)

    def divide(self, products: np.ndarray, given: np.ndarray, target: np.ndarray) -> None:
        """Replace inner products in place by similarities, for the sizes of their rows."""
        union = self.metric == "jaccard"
        denominator = given + target - products if union else given * target
        denominator += self.shrinkage
        # Tiny values may have a product of sizes that is rounded to zero.
        np.maximum(denominator, np.finfo(denominator.dtype).tiny, out=denominator)
        products /= denominator


def _sums_of_squares(M: Any) -> np.ndarray:
    """Return the sum of the squares of each row in float64, in which small ones do not vanish."""
    if isinstance(M, np.ndarray):
        return np.einsum("ij,ij->i", M, M, dtype=np.float64)
    squares = np.square(M.data, dtype=np.float64)
    return sp.csr_array((squares, M.indices, M.indptr), shape=M.shape).sum(axis=1)
