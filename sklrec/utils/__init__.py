"""Tools for those who write recommenders."""

from .discovery import all_estimators

__all__ = ["all_estimators"]
