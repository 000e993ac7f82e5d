"""Neural recommenders as transformers."""

from __future__ import annotations

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.metrics.pairwise import cosine_similarity

from .._typing import MatrixLike
from ..base import SimilarItemsMixin
from ._prediction import in_equal_batches


class EmbeddingMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SimilarItemsMixin):
    """Makes a transformer of a neural recommender, and gives its item vectors.

    The module has ``encode(batch)``, which returns a tensor of shape (n_rows, n_components), and
    ``item_layer``, an :class:`ItemLayer`; a model without one has its own ``item_embeddings_``.
    """

    def transform(self, X: MatrixLike) -> np.ndarray:
        """Embed each user.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, known from ``fit`` or not.

        Returns
        -------
        embeddings : ndarray of shape (n_users, n_components)
            The latent mean, in the precision of X.
        """
        X = self._check_X(X, reset=False)
        module = self.net_.plain_module
        return in_equal_batches(self.net_, X, module.encode, self._n_features_out)

    @property
    def item_embeddings_(self) -> np.ndarray:
        """Weights of the last layer, ndarray of shape (n_items, n_hidden), float32."""
        return self.net_.plain_module.item_layer.weight.detach().cpu().numpy()

    @property
    def _n_features_out(self) -> int:
        return self._made_with["n_components"]

    def _item_similarity(self, items: np.ndarray) -> np.ndarray:
        vectors = self.item_embeddings_
        return cosine_similarity(vectors[items], vectors)
