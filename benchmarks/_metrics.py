"""What the accuracy benchmark measures, by the names of ``sklrec.metrics``."""

METRICS = ["ndcg@100", "ndcg@20", "ndcg@10", "recall@50", "recall@20", "recall@10"]
CHOOSE_BY = "ndcg@100"  # of the validation users
TESTED = ["ndcg@100", "recall@20", "recall@50"]  # against the best model
# Of the lists themselves, against what the training users have, and how a table names it.
BEYOND = {
    "catalogue_coverage@10": "coverage",
    "gini@10": "Gini",
    "novelty@10": "novelty",
    "average_popularity@10": "popularity",
    "intra_list_diversity/users@10": "diversity",
}
