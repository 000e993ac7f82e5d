"""Item-item models with closed-form or coordinate-wise solutions."""

from ._ease import EASE
from ._sparse_ease import SparseEASE

__all__ = ["EASE", "SparseEASE"]
