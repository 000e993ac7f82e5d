"""From interaction tables to matrices, and the weights of their entries.

scikit-learn's own transformers work on the sparse arrays of this package as they are:
:class:`~sklearn.preprocessing.Binarizer` turns ratings into positives,
:class:`~sklearn.preprocessing.Normalizer` gives every user the same weight, and
:class:`~sklearn.feature_extraction.text.TfidfTransformer` weighs items down that everybody has.
"""

from ._encoder import InteractionEncoder
from ._filter import filter_interactions
from ._weighting import BM25Transformer

__all__ = ["BM25Transformer", "InteractionEncoder", "filter_interactions"]
