"""Models of the nearest items, the nearest users, and random walks."""

from ._item_knn import ItemKNN
from ._rp3beta import RP3beta
from ._user_knn import UserKNN

__all__ = ["ItemKNN", "RP3beta", "UserKNN"]
