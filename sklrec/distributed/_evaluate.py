"""Metrics over all users."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from .._matrix import check_matrix
from .._ranking import rank_like
from ..metrics import RankingEvaluation
from ..metrics._beyond_accuracy import FEATURES, OtherUsers
from ..metrics._evaluation import check_sides, evaluation_of
from ..metrics._names import measure_part, of_all_users, parse_metrics
from ._blocks import Blocks
from ._model_file import model_file, read_model
from ._tasks import run_tasks, sum_tasks


def evaluate(
    estimator: Any,
    fold_in: Blocks,
    held_out: Blocks,
    metrics: str | Sequence[str] = ("ndcg@100", "recall@20", "recall@50"),
    *,
    interactions: Blocks | None = None,
    item_features: Any = None,
    items: Any = None,
    targets: Any = None,
    exclude_seen: bool = True,
    client: Any = None,
) -> RankingEvaluation:
    """Evaluate a fitted estimator, as :func:`sklrec.metrics.evaluate` on the rows of all blocks.

    Parameters
    ----------
    estimator : estimator
        Fitted recommender.
    fold_in, held_out : Blocks
        Interactions that are given to the model, and those to find, of the same users. See
        :func:`split_blocks`.
    metrics : str or list of str, default=("ndcg@100", "recall@20", "recall@50")
        Names as in :func:`sklrec.metrics.evaluate`.
    interactions : Blocks or None, default=None
        Interactions of the training users, from which "novelty", "average_popularity" and
        "intra_list_diversity/users" are computed. For the last of these, each task reads all
        blocks.
    item_features : {array-like, sparse array} of shape (n_items, n_features) or None, default=None
        Content of the items, for "intra_list_diversity".
    items, targets : array-like of int or None, default=None
        The only candidates, and the only held-out items that count.
    exclude_seen : bool, default=True
        Whether to exclude the items of the fold-in from the ranking.
    client : distributed.Client or None, default=None
        Cluster that does the work. By default, this process does it.

    Returns
    -------
    evaluation : RankingEvaluation
        Values of the users in the order of the blocks.

    Raises
    ------
    ValueError
        If the blocks are of different users or items, no user has an item held out, or a metric is
        invalid or needs `interactions` or `item_features` that are not given.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, pyarrow as pa, pyarrow.parquet as pq
    >>> from sklrec.distributed import encode_parquet, evaluate, fit, split_blocks
    >>> from sklrec.dummy import PopularityRecommender
    >>> rng = np.random.default_rng(0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     user, item = rng.integers(50, size=999), rng.integers(20, size=999)
    ...     pq.write_table(pa.table({"user": user, "item": item}), f"{folder}/table.parquet")
    ...     blocks = encode_parquet(f"{folder}/table.parquet", f"{folder}/blocks", n_blocks=2)
    ...     model = fit(PopularityRecommender(), blocks)
    ...     fold_in, held_out = split_blocks(blocks, f"{folder}/split")
    ...     evaluate(model, fold_in, held_out, ["recall@10", "gini@10"])
    recall@10: 0.9... ± 0.0...
    gini@10: 0.1...
    """
    parsed = parse_metrics(metrics)
    if fold_in.users_of_blocks != held_out.users_of_blocks or fold_in.n_items != held_out.n_items:
        raise ValueError(f"fold_in and held_out must be of the same users: {fold_in}, {held_out}.")
    given = {"interactions": interactions, "item_features": item_features}
    for name, (metric, _) in parsed.items():
        if metric.needs in given and given[metric.needs] is None:
            raise ValueError(f"{name} needs {metric.needs}, got None.")
    others = None
    if any(metric.needs == "interactions" for metric, _ in parsed.values()):
        others = _other_users(interactions, fold_in.n_items, client)
    if item_features is not None:
        item_features = check_matrix(
            item_features,
            "item_features",
            shape=(fold_in.n_items, None),
            dtype=FEATURES,
            signed=True,
        )
    ranked = {"items": items, "targets": targets, "exclude_seen": exclude_seen}
    with tempfile.TemporaryDirectory(prefix="evaluate-", dir=fold_in.path) as folder:
        # Values are files as well, so that they do not pass through the scheduler.
        parts = [
            (i, Path(folder) / f"{i}.joblib")
            for i, n_users in enumerate(fold_in.users_of_blocks)
            if n_users
        ]
        with model_file((estimator, others, item_features, ranked), Path(folder)) as file:
            n_held_out = run_tasks(
                client,
                _evaluate_block,
                [(file, fold_in, held_out, i, metrics, out) for i, out in parts],
                "evaluating",
            )
        if not sum(n_held_out):
            raise ValueError("No user has an item held out, so there is nothing to evaluate.")
        values = _merged(parsed, [out for _, out in parts])
    return evaluation_of(of_all_users(parsed, values))


def _other_users(interactions: Any, n_items: int, client: Any) -> OtherUsers:
    if not isinstance(interactions, Blocks) or interactions.n_items != n_items:
        raise ValueError(f"interactions must be Blocks of the {n_items} items, got {interactions}.")
    arguments = [(interactions, i) for i in range(len(interactions))]
    (counts,) = sum_tasks(client, _users_of_item, arguments, "counting")
    return OtherUsers(interactions.n_users, counts, interactions)


def _users_of_item(blocks: Blocks, i: int) -> tuple[np.ndarray]:
    return (np.bincount(blocks[i].indices, minlength=blocks.n_items),)


def _evaluate_block(
    file: Path, fold_in: Blocks, held_out: Blocks, i: int, metrics: Any, out: Path
) -> int:
    """Write the values of a block, and return its number of held-out items that count."""
    estimator, others, item_features, ranked = read_model(file)
    parsed = parse_metrics(metrics)
    given, found, excluded = check_sides(fold_in[i], held_out[i], **ranked)
    k = max(k for _, k in parsed.values())
    ranking = rank_like(estimator, given, k=k, like=given, excluded=excluded)
    values = measure_part(
        parsed, ranking, held_out=found, interactions=others, item_features=item_features
    )
    joblib.dump(values, out)
    return found.nnz


def _merged(parsed: Any, parts: list[Path]) -> dict[str, np.ndarray]:
    """Concatenate the values of users, and sum those for all users together."""
    of_users: dict[str, list[np.ndarray]] = {name: [] for name in parsed}
    for path in parts:
        for name, value in joblib.load(path).items():
            if parsed[name][0].needs == "all_users" and of_users[name]:
                of_users[name][0] += value
            else:
                of_users[name].append(value)
    return {name: np.concatenate(values) for name, values in of_users.items()}
