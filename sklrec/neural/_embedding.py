"""Neural recommenders as transformers."""

from __future__ import annotations

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.metrics.pairwise import cosine_similarity

from .._typing import MatrixLike
from ..base import SimilarItemsMixin
from ._training._prediction import batch_of, outputs_of


class EmbeddingMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SimilarItemsMixin):
    """Mixin for neural recommenders with latent representations of users and items.

    The module must have ``encode(batch)``, which returns a tensor of shape (n_rows,
    n_components), and ``item_layer``, an :class:`ItemLayer`; a model without this layer overrides
    ``item_embeddings_``.
    """

    def transform(self, X: MatrixLike) -> np.ndarray:
        """Transform users to their latent representations.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, known from ``fit`` or not.

        Returns
        -------
        embeddings : ndarray of shape (n_users, n_components)
            The latent vectors, in the precision of X; for variational autoencoders, the means.
        """
        X = self._check_X(X, reset=False)
        encode = self.net_.plain_module.encode
        return outputs_of(
            self.net_, X, lambda rows, _: encode(batch_of(rows, self.net_)), self._n_features_out
        )

    @property
    def item_embeddings_(self) -> np.ndarray:
        """Weights of the last layer, ndarray of shape (n_items, n_hidden), float32."""
        return self.net_.plain_module.item_layer.weight.detach().cpu().numpy()

    @property
    def _n_features_out(self) -> int:
        return self._trained_with["n_components"]

    def _item_similarity(self, items: np.ndarray) -> np.ndarray:
        vectors = self.item_embeddings_
        return cosine_similarity(vectors[items], vectors)
