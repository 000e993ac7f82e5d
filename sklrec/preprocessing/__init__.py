"""Encoding of interaction tables as matrices, filtering and weighting.

Transformers of scikit-learn can be applied to the sparse arrays of this package:
:class:`~sklearn.preprocessing.Binarizer` turns ratings into positives,
:class:`~sklearn.preprocessing.Normalizer` gives every user the same weight, and
:class:`~sklearn.feature_extraction.text.TfidfTransformer` reduces the weight of popular items.
"""

from ._encoder import InteractionEncoder
from ._filter import filter_interactions
from ._hide_items import HideItems
from ._weighting import BM25Transformer

__all__ = ["BM25Transformer", "HideItems", "InteractionEncoder", "filter_interactions"]
