"""Models of users and items by a few factors each."""

from ._lfm import LFM
from ._wmf import WMF

__all__ = ["LFM", "WMF"]
