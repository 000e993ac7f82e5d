"""Splits of users and interactions for honest evaluation."""

from ._split import StrongGeneralizationSplit, split_interactions, strong_generalization_split

__all__ = ["StrongGeneralizationSplit", "split_interactions", "strong_generalization_split"]
