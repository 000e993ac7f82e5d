"""Metrics over all users."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..metrics import RankingEvaluation
from ..metrics import evaluate as evaluate_rows
from ..metrics._names import parse_metrics
from ._blocks import Blocks
from ._model_file import model_file, read_model
from ._tasks import run_tasks


def evaluate(
    estimator: Any,
    fold_in: Blocks,
    held_out: Blocks,
    metrics: str | Sequence[str] = ("ndcg@100", "recall@20", "recall@50"),
    *,
    client: Any = None,
    **evaluation_params: Any,
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
        Metrics with a value for each user.
    client : distributed.Client or None, default=None
        Cluster that does the work. By default, this process does it.
    **evaluation_params : object
        Parameters of :func:`sklrec.metrics.evaluate`, such as ``items``.

    Returns
    -------
    evaluation : RankingEvaluation
        Values of the users in the order of the blocks.

    Raises
    ------
    ValueError
        If the blocks are of different users, no user has an item held out, or a metric is invalid
        or has one value for all users together.

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
    ...     evaluate(model, *split_blocks(blocks, f"{folder}/split"), "recall@10")
    recall@10: 0.9... ± 0.0...
    """
    for name, (metric, _) in parse_metrics(metrics).items():
        if metric.needs == "n_items":
            raise ValueError(f"{name} has one value for all users together, not one for each.")
    if fold_in.users_of_blocks != held_out.users_of_blocks or fold_in.n_items != held_out.n_items:
        raise ValueError(f"fold_in and held_out must be of the same users: {fold_in}, {held_out}.")
    with (
        tempfile.TemporaryDirectory(prefix="evaluate-", dir=fold_in.path) as folder,
        model_file(estimator, Path(folder)) as model,
    ):
        parts = run_tasks(
            client,
            _evaluate_block,
            [
                (model, fold_in, held_out, i, metrics, evaluation_params)
                for i in range(len(fold_in))
            ],
            "evaluating",
        )
    names = parse_metrics(metrics)
    per_user = {
        name: np.concatenate(
            [
                np.full(n_users, np.nan) if part is None else part[name]
                for part, n_users in zip(parts, fold_in.users_of_blocks, strict=True)
            ]
        )
        for name in names
    }
    if all(part is None for part in parts):
        raise ValueError("No user has an item held out, so there is nothing to evaluate.")
    return RankingEvaluation(per_user)


def _evaluate_block(
    model: Path, fold_in: Blocks, held_out: Blocks, i: int, metrics: Any, params: dict
) -> Mapping[str, np.ndarray] | None:
    """Return the value of each user of a block, None if nothing is held out in it."""
    found = held_out[i]
    if not found.nnz:
        return None
    return evaluate_rows(read_model(model), fold_in[i], found, metrics, **params).per_user
