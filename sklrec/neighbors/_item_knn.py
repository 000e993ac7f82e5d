"""Item-based nearest neighbours."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.stats import loguniform, uniform

from .._item_features import ItemFeaturesMixin
from .._nearest import check_memory_of_largest, largest_of_rows
from .._sklearn import Interval, _fit_context, fit_progress
from .._typing import MatrixLike
from ..linear._base import BaseItemWeights
from ._similarity import PARAMETER_CONSTRAINTS, Similarity


class ItemKNN(ItemFeaturesMixin, BaseItemWeights):
    r"""Nearest neighbours of items, by their users or by their content.

    The score of an item is the sum of its similarities to the items of a user, weighted by the
    values of the row. Only the `n_neighbors` most similar items of each item are kept [1]_ [2]_.

    Items are compared by their columns of X or, with `item_features`, by their features. With
    :math:`x_i` the vector of an item of the user, :math:`x_j` that of the item to be scored,
    :math:`n_i` the number of nonzero values of :math:`x_i`, and h the `shrinkage`, the metrics are

    .. list-table::
       :widths: 34 66

       * - ``"cosine"``
         - :math:`x_i^\top x_j / (\|x_i\| \|x_j\| + h)`
       * - ``"asymmetric-cosine"`` [3]_
         - :math:`x_i^\top x_j / (\|x_i\|^{2 \alpha} \|x_j\|^{2 (1 - \alpha)} + h)`
       * - ``"jaccard"``
         - :math:`x_i^\top x_j / (\|x_i\|^2 + \|x_j\|^2 - x_i^\top x_j + h)`
       * - ``"conditional-probability"`` [2]_
         - :math:`\sum_{u: x_{ui} \ne 0} x_{uj} / (n_i n_j^\alpha + h)`

    The Jaccard index is that of sets of users if the values are ones; for other values it is
    known as the Tanimoto coefficient.

    Parameters
    ----------
    n_neighbors : int, default=100
        Number of most similar items of each item that contribute to its score. Typical range: 20
        to 1,000.
    metric : {"cosine", "asymmetric-cosine", "jaccard", "conditional-probability"}, default="cosine"
        Similarity of two items.
    alpha : float, default=0.5
        Exponent of ``"asymmetric-cosine"``, which is the cosine at 0.5 and favours popular items
        above, and of ``"conditional-probability"``, which favours them below. Typical range: 0 to
        1.
    shrinkage : float, default=0.0
        Number added to the denominator, which lowers similarities of items with few users. It
        has the scale of the squares of the values. Typical range: 1 to 1,000, on a logarithmic
        scale.

    Attributes
    ----------
    coef_ : csr_array of shape (n_items, n_items)
        Similarity of each item (row) to each item (column) that it is a neighbour of, in the
        precision of X. At most `n_neighbors` entries of a column are positive, all others are not
        stored.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items. Only if X is a DataFrame with names.

    See Also
    --------
    RP3beta : Neighbours by random walks.
    UserKNN : Neighbours of users.
    sklrec.preprocessing.BM25Transformer : Weighting of the interactions before ItemKNN.
    sklearn.feature_extraction.text.TfidfTransformer : The same by TF-IDF.

    Notes
    -----
    Similarities are computed in blocks of items and never held for all pairs. Memory is
    proportional to the number of interactions and to items times `n_neighbors`: 1.5 GiB at the peak
    for 1,000,000 items, 10 million interactions and 50 neighbours in float32. Ties at the last
    place go to the item with the lower index. Similarities that are not positive are not kept.

    The neighbours of an item by ``"conditional-probability"`` are rare items if there is no
    `shrinkage`, as those often have one user who has the other item too.

    References
    ----------
    .. [1] B. Sarwar, G. Karypis, J. Konstan and J. Riedl, "Item-Based Collaborative Filtering
       Recommendation Algorithms", WWW 2001.
    .. [2] M. Deshpande and G. Karypis, "Item-Based Top-N Recommendation Algorithms", ACM
       Transactions on Information Systems 22(1), 2004.
    .. [3] F. Aiolli, "Efficient Top-N Recommendation for Very Large Scale Binary Rated Datasets",
       RecSys 2013.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklrec.neighbors import ItemKNN
    >>> X = csr_array([[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
    >>> knn = ItemKNN(n_neighbors=2).fit(X)
    >>> knn.predict_ranking(X[:1], k=2)
    array([[3, 2]])
    >>> knn.similar_items(0, k=1)
    array([1])

    Neighbours by content:

    >>> genres = [[1, 0], [1, 0], [0, 1], [1, 1]]
    >>> by_genre = ItemKNN(n_neighbors=2).fit(X, item_features=genres)
    >>> by_genre.predict_ranking(X[:1], k=1)
    array([[3]])
    """

    coef_: sp.csr_array

    _parameter_constraints: dict = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        **PARAMETER_CONSTRAINTS,
    }
    _suggested_distributions: dict = {
        "n_neighbors": [20, 50, 100, 200, 500, 1000],
        "alpha": uniform(0, 1),
        "shrinkage": loguniform(1, 1000),
    }

    def __init__(
        self,
        n_neighbors: int = 100,
        *,
        metric: str = "cosine",
        alpha: float = 0.5,
        shrinkage: float = 0.0,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.alpha = alpha
        self.shrinkage = shrinkage

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None, *, item_features: MatrixLike = None) -> ItemKNN:
        """Find the nearest items of each item.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.
        item_features : {array-like, sparse array} of shape (n_items, n_features), \
:class:`~sklrec.pipeline.ItemFeatures` or None, default=None
            Features by which the items are compared, instead of X: counts, embeddings or others.
            Items without training users then have scores too. In a search, pass
            ``ItemFeatures(item_features)``.

        Returns
        -------
        self : ItemKNN
            The fitted model.

        Raises
        ------
        ValueError
            If `item_features` does not have a finite row for each item.
        MemoryError
            If the machine lacks the memory.

        Warns
        -----
        UserWarning
            If there are as many items as users, and `item_features` is not an
            :class:`~sklrec.pipeline.ItemFeatures`: a search would select rows of it.
        """
        X = self._check_X(X, reset=True)
        self._learn_popularity(X)
        F = self._check_item_features(item_features, X)
        self.__dict__.pop("_item_features", None)
        self._n_neighbors = self.n_neighbors
        self._similarity = (self.metric, self.alpha, self.shrinkage)
        with fit_progress(self, X, max_subtasks=1) as step:
            if F is None:
                self._find_neighbors(X.T, X)
            else:
                self._compare_content(F)
            step("neighbors")
        return self

    def _add_items(self, F: Any) -> None:
        stack = sp.vstack if sp.issparse(F) else np.vstack
        self._compare_content(stack([self._item_features, F]))

    def _compare_content(self, F: Any) -> None:
        """Find the neighbours of the items by their features, which are kept for new items."""
        self._item_features = F
        self._find_neighbors(F, F.T)

    def _find_neighbors(self, items: Any, by_user: Any) -> None:
        """Set the weights from vectors of the items and their transpose."""
        similarity = Similarity(*self._similarity)
        what = f"ItemKNN(n_neighbors={self._n_neighbors}) of {items.shape[0]:,} items"
        check_memory_of_largest(items, by_user, self._n_neighbors, f"{what} in {items.dtype}")
        items = items.tocsr() if sp.issparse(items) else items
        given, target = similarity.sizes(items)

        def to_similarity(products: np.ndarray, j: np.ndarray, i: np.ndarray) -> None:
            similarity.divide(products, given[i], target[j])

        by_user = similarity.of_given(by_user)
        nearest = largest_of_rows(
            items, by_user, self._n_neighbors, finish=to_similarity, diagonal=False
        )
        self._keep(nearest)

    def _set_nearest(self, nearest: sp.csr_array, popularity: np.ndarray) -> ItemKNN:
        """Fit on the nearest items of each item, and the column sums of X."""
        self.n_features_in_ = popularity.size
        self._popularity = popularity
        self._check_item_features(None, nearest)
        self._keep(nearest)
        return self

    def _keep(self, nearest: sp.csr_array) -> None:
        self.coef_ = nearest.T.tocsr()
        # Items without users may be neighbors by content, those with users may have none.
        self._has_neighbors = (np.diff(nearest.indptr) > 0) | (np.diff(self.coef_.indptr) > 0)

    def _known_items(self, items: Any = slice(None)) -> np.ndarray:
        return self._has_neighbors[items]

    def _item_similarity(self, items: np.ndarray) -> np.ndarray:
        # The neighbours of an item are in its column.
        return self.coef_[:, items].toarray().T
