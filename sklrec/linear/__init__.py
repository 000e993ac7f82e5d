"""Item-item models with closed-form or coordinate-wise solutions."""

from ._ease import EASE

__all__ = ["EASE"]
