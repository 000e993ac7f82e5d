"""Ensembles of recommenders."""

from ._hadamard import HadamardEnsemble

__all__ = ["HadamardEnsemble"]
