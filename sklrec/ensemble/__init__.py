"""Recommenders made of other recommenders."""

from ._hadamard import HadamardEnsemble

__all__ = ["HadamardEnsemble"]
