"""Models of users and items by a few factors each."""

from ._bpr import BPR
from ._lfm import LFM
from ._wmf import WMF

__all__ = ["BPR", "LFM", "WMF"]
