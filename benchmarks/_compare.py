"""Means over users, paired tests and the correction for many of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import t


class Mean(NamedTuple):
    """A mean, its standard error, and the p-value of its being zero."""

    value: float
    standard_error: float
    pvalue: float
    n_users: int


def mean_over_users(values: np.ndarray, users: np.ndarray) -> Mean:
    """Return the mean of values, and its error when a user may stand for several of them.

    A user who is held out in several splits is one independent observation, not several: the
    residuals of each user are summed before they are squared. Where each user has one value, this
    is the standard error of a mean and the one-sample t test; of differences, the paired t test.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        One for each user and split.
    users : ndarray of shape (n_values,)
        The user of each value.
    """
    _, index = np.unique(users, return_inverse=True)
    n_users = int(index.max()) + 1
    mean = values.mean()
    residual = np.bincount(index, weights=values - mean)  # of each user
    error = np.sqrt(n_users / (n_users - 1) * (residual**2).sum()) / values.size
    with np.errstate(divide="ignore"):
        pvalue = 2 * t.sf(abs(mean) / error, n_users - 1) if values.any() else 1.0
    return Mean(float(mean), float(error), float(pvalue), n_users)


def holm(pvalues: np.ndarray) -> np.ndarray:
    """Return p-values corrected for their number, by the step-down rule of Holm (1979)."""
    order = np.argsort(pvalues)
    factors = np.arange(len(pvalues), 0, -1)
    corrected = np.empty(len(pvalues))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * pvalues[order]), 1)
    return corrected
