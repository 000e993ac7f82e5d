"""The same work on more users than one machine holds.

Interactions are encoded once as blocks of users in a folder, :func:`encode_parquet`. The other
functions do what the methods of the estimators do, over all blocks, and have the same results:
:func:`fit` returns a plain fitted estimator, :func:`evaluate` metrics, and
:func:`rank_to_parquet` writes rankings. Blocks are worked on by the workers of a
``distributed.Client``, which all read and write the same folders, or one after the other without a
client.

Each task reads files and writes one, under a temporary name until it is complete. A lost worker
costs time and changes nothing, and a second call after an error does what is missing.
"""

from ._blocks import Blocks
from ._encode import encode_parquet
from ._evaluate import evaluate
from ._fit import fit
from ._rank import rank_to_parquet
from ._split import split_blocks

__all__ = ["Blocks", "encode_parquet", "evaluate", "fit", "rank_to_parquet", "split_blocks"]
