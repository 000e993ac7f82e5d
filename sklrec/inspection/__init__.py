"""Displays of data sets, of training, and of recommendations."""

from ._activity import ActivityDisplay
from ._item_map import ItemMapDisplay
from ._popularity import PopularityDisplay
from ._ranking_curve import RankingCurveDisplay
from ._rating_histogram import RatingHistogramDisplay
from ._training_curve import TrainingCurveDisplay
from ._user_mean_histogram import UserMeanHistogramDisplay

__all__ = [
    "ActivityDisplay",
    "ItemMapDisplay",
    "PopularityDisplay",
    "RankingCurveDisplay",
    "RatingHistogramDisplay",
    "TrainingCurveDisplay",
    "UserMeanHistogramDisplay",
]
