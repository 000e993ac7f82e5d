"""Metrics of rankings, and a scorer for scikit-learn's searches."""

from ._beyond_accuracy import (
    average_popularity_at_k,
    catalogue_coverage_at_k,
    gini_at_k,
    intra_list_diversity_at_k,
    novelty_at_k,
)
from ._evaluation import RankingEvaluation, evaluate
from ._new_items import evaluate_new_items
from ._ranking import (
    average_precision_at_k,
    hit_rate_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
)
from ._scorer import RankingScorer

__all__ = [
    "RankingEvaluation",
    "RankingScorer",
    "average_popularity_at_k",
    "average_precision_at_k",
    "catalogue_coverage_at_k",
    "evaluate",
    "evaluate_new_items",
    "gini_at_k",
    "hit_rate_at_k",
    "intra_list_diversity_at_k",
    "ndcg_at_k",
    "novelty_at_k",
    "precision_at_k",
    "recall_at_k",
    "reciprocal_rank_at_k",
]
