"""Splits of users and interactions, and parameter ranges for searches."""

from ._cold_start import cold_start_split
from ._distributions import suggested_distributions
from ._interactions import split_interactions
from ._published import strong_generalization_split
from ._split import StrongGeneralizationSplit
from ._time import TimeSplit

__all__ = [
    "StrongGeneralizationSplit",
    "TimeSplit",
    "cold_start_split",
    "split_interactions",
    "strong_generalization_split",
    "suggested_distributions",
]
