"""Models of users and items by a bias and a few factors each."""

from ._lfm import LFM

__all__ = ["LFM"]
