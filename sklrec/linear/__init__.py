"""Item-item models with closed-form or coordinate-wise solutions."""

from ._ease import EASE
from ._slim import SLIM
from ._sparse_ease import SparseEASE

__all__ = ["EASE", "SLIM", "SparseEASE"]
