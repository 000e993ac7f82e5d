"""Data sets of user-item interactions: loaders of published ones and a generator."""

from sklrec.datasets._citeulike import fetch_citeulike
from sklrec.datasets._movielens import fetch_movielens
from sklrec.datasets._synthetic import make_interactions

__all__ = ["fetch_citeulike", "fetch_movielens", "make_interactions"]
