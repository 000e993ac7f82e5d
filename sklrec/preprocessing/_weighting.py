"""Weighting of interactions by BM25."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from .._matrix import canonical_csr
from .._sklearn import Interval, _fit_context
from .._typing import MatrixLike


class BM25Transformer(  # type: ignore[call-arg]
    OneToOneFeatureMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None
):
    r"""Weight interactions by BM25, with users as documents and items as terms.

    An entry :math:`x_{ui}` becomes [1]_ (section 3.4)

    .. math::
        \frac{(k_1 + 1) \, x_{ui}}{k_1 \left(1 - b + b \, l_u / \bar l\right) + x_{ui}}
        \; \log \left( 1 + \frac{N - n_i + 0.5}{n_i + 0.5} \right)

    where :math:`l_u` is the sum of the user's row, :math:`\bar l` the mean of these sums, N the
    number of users and :math:`n_i` the number of users of the item. The last three are computed in
    ``fit``. Large values saturate, and interactions of active users and with popular items have a
    lower weight.

    Two conventions differ between sources. The 1 in the logarithm, as in Lucene, keeps the weights
    of items that most users have positive. With the factor :math:`k_1 + 1`, which [1]_ omits, a
    value of 1 in a row of average length has the weight of its item, whatever :math:`k_1` is.

    Parameters
    ----------
    k1 : float, default=1.2
        Saturation of large values, non-negative: with 0 the weight of an entry does not depend on
        its value, with a large `k1` it is proportional to the value. Typical range: 0.1 to 100,
        on a logarithmic scale.
    b : float, default=0.75
        Effect of the length of the row, from 0 (none) to 1 (full). Typical range: 0 to 1.

    Attributes
    ----------
    idf_ : ndarray of shape (n_items,), float64
        The logarithm in the formula above for each item, non-negative.
    average_length_ : float
        Mean of the row sums of the X that was passed to ``fit``.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items. Defined only if X is a DataFrame with string column names.

    See Also
    --------
    sklearn.feature_extraction.text.TfidfTransformer : Reduce the weight of popular items.
    sklearn.preprocessing.Normalizer : Scale every row to the same norm.
    sklearn.preprocessing.Binarizer : Turn ratings above a threshold into ones.

    Notes
    -----
    A weight depends on the row of the user and on the statistics computed in ``fit`` only. Rows of
    users that were not seen during ``fit`` are transformed in the same way. An item that had no
    users in ``fit`` has the highest weight. If X had no interactions in ``fit``, the average
    length is taken to be 1.

    References
    ----------
    .. [1] S. Robertson and H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond",
       Foundations and Trends in Information Retrieval 3(4), 2009.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklrec.preprocessing import BM25Transformer
    >>> X = csr_array([[1.0, 1.0, 0.0], [1.0, 0.0, 5.0]])
    >>> BM25Transformer().fit_transform(X).toarray().round(2)
    array([[0.23, 0.87, 0.  ],
           [0.15, 0.  , 1.15]])
    """

    _parameter_constraints: dict = {
        "k1": [Interval(Real, 0, None, closed="left")],
        "b": [Interval(Real, 0, 1, closed="both")],
    }
    _suggested_distributions: dict = {"k1": loguniform(0.1, 100), "b": uniform(0, 1)}

    def __init__(self, *, k1: float = 1.2, b: float = 0.75) -> None:
        self.k1 = k1
        self.b = b

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None) -> BM25Transformer:
        """Compute the weights of the items and the mean length of a row.

        Parameters
        ----------
        X : {array-like, sparse array or DataFrame} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.

        Returns
        -------
        self : BM25Transformer
            The fitted transformer.

        Raises
        ------
        ValueError
            If a parameter is out of range, or X is not finite and non-negative.
        """
        X = self._check_X(X, reset=True)
        n_users, n_items = X.shape
        n = np.bincount(X.indices, minlength=n_items)
        self.idf_ = np.log1p((n_users - n + 0.5) / (n + 0.5))
        self.average_length_ = float(X.data.sum(dtype=np.float64) / n_users)
        return self

    def transform(self, X: MatrixLike) -> sp.csr_array:
        """Weight interactions.

        Parameters
        ----------
        X : {array-like, sparse array or DataFrame} of shape (n_users, n_items)
            Interactions, non-negative.

        Returns
        -------
        weights : csr_array of shape (n_users, n_items)
            The weights, in float64 if X is, and otherwise in float32.

        Raises
        ------
        NotFittedError
            If the transformer is not fitted.
        ValueError
            If X is not finite and non-negative, or has another number of items than in ``fit``.
        """
        check_is_fitted(self)
        X = self._check_X(X, reset=False)
        row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        x = X.data.astype(np.float64)
        length = np.bincount(row, weights=x, minlength=X.shape[0]) / (self.average_length_ or 1.0)
        half = self.k1 * (
            1 - self.b + self.b * length
        )  # the value that has half of the maximum weight
        weights = (self.k1 + 1) * (x / (half[row] + x)) * self.idf_[X.indices]
        return sp.csr_array(
            (weights.astype(X.dtype), X.indices.copy(), X.indptr.copy()), shape=X.shape
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_X(self, X: MatrixLike, *, reset: bool) -> sp.csr_array:
        X = validate_data(self, X, accept_sparse="csr", dtype=(np.float32, np.float64), reset=reset)
        check_non_negative(X, "BM25Transformer")
        return canonical_csr(X)
