"""Items that a model must not meet."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from .._matrix import canonical_csr, take_entries
from .._ranking import item_indices
from .._sklearn import _fit_context
from .._typing import MatrixLike


class HideItems(  # type: ignore[call-arg]
    OneToOneFeatureMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None
):
    """Empty the columns of items, so that the next steps of a pipeline do not meet them.

    A splitter yields rows and cannot hold out items. To search for the parameters of a model of new
    items, hide the same items in the pipeline and look for them with the scorer::

        search = GridSearchCV(
            make_pipeline(HideItems(new_items), model),
            parameters,
            scoring=RankingScorer("ndcg@100", items=new_items),
            cv=StrongGeneralizationSplit(),
        )

    Models are then fitted on other users than those they are evaluated on, and on other items.

    Parameters
    ----------
    items : array-like of int, default=()
        Columns to empty.

    Attributes
    ----------
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items. Defined only if X is a DataFrame with string column names.

    See Also
    --------
    sklrec.model_selection.cold_start_split : One split of users and items.

    Examples
    --------
    >>> from sklrec.preprocessing import HideItems
    >>> HideItems([1]).fit_transform([[1, 1, 0], [0, 1, 1]]).toarray()
    array([[1, 0, 0],
           [0, 0, 1]])
    """

    _parameter_constraints: dict = {"items": ["array-like"]}

    def __init__(self, items: Any = ()) -> None:
        self.items = items

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None) -> HideItems:
        """Check that the items exist.

        Parameters
        ----------
        X : {array-like, sparse array or DataFrame} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.

        Returns
        -------
        self : HideItems
            The transformer.

        Raises
        ------
        ValueError
            If an item is not a column of X.
        """
        X = self._check_X(X, reset=True)
        self._is_hidden: np.ndarray = np.zeros(X.shape[1], dtype=bool)
        self._is_hidden[item_indices(self.items, "items", X.shape[1])] = True
        return self

    def transform(self, X: MatrixLike) -> sp.csr_array:
        """Empty the columns of the items.

        Parameters
        ----------
        X : {array-like, sparse array or DataFrame} of shape (n_users, n_items)
            Interactions, non-negative.

        Returns
        -------
        X : csr_array of shape (n_users, n_items)
            A copy without the interactions with these items.
        """
        check_is_fitted(self)
        X = canonical_csr(self._check_X(X, reset=False))
        return take_entries(X, ~self._is_hidden[X.indices])

    def _check_X(self, X: MatrixLike, *, reset: bool) -> Any:
        X = validate_data(self, X, accept_sparse="csr", reset=reset)
        check_non_negative(X, "HideItems")
        return X

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
