"""Rankings for all users."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from .._files import replacing
from ._blocks import Blocks
from ._model_file import model_file, read_model
from ._tasks import check_goes_on, check_pyarrow, new_folder, run_tasks


def rank_to_parquet(
    estimator: Any,
    blocks: Blocks,
    target: str | os.PathLike,
    *,
    k: int = 10,
    client: Any = None,
    **ranking_params: Any,
) -> Path:
    """Rank items for all users, and write the rankings with the original ids.

    There is a file for each block, with a row for each ranked item: ``user``, ``rank`` from 1,
    ``item`` and ``score``. A file that is complete is not written again, so that a second call
    after an error does what is missing.

    Parameters
    ----------
    estimator : estimator
        Fitted recommender. Each worker reads it once, from a file with mapped arrays.
    blocks : Blocks
        Interactions of the users.
    target : str or path-like
        Folder of the rankings, which all workers must be able to write to.
    k : int, default=10
        Number of items to rank for each user.
    client : distributed.Client or None, default=None
        Cluster that does the work. By default, this process does it.
    **ranking_params : object
        Parameters of ``predict_ranking``: ``exclude_seen``, ``items``, ``exclude``.

    Returns
    -------
    target : Path
        The folder.

    Raises
    ------
    ValueError
        If the estimator was fitted on other items, a parameter is out of range, or `target` has
        rankings with other parameters.
    OSError
        If a file cannot be written, for example because the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> import pyarrow as pa, pyarrow.parquet as pq
    >>> from sklrec.distributed import encode_parquet, fit, rank_to_parquet
    >>> from sklrec.dummy import PopularityRecommender
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pa.table({"user": ["ann", "bob", "bob"], "item": ["tea", "tea", "jam"]})
    ...     pq.write_table(table, f"{folder}/table.parquet")
    ...     blocks = encode_parquet(f"{folder}/table.parquet", f"{folder}/blocks")
    ...     model = fit(PopularityRecommender(), blocks)
    ...     rankings = rank_to_parquet(model, blocks, f"{folder}/rankings", k=1)
    ...     pq.read_table(rankings).to_pylist()
    [{'user': 'ann', 'rank': 1, 'item': 'jam', 'score': 1.0}]
    """
    check_pyarrow()
    target = Path(target).absolute()
    new_folder(target)
    params = {"k": k, **ranking_params}
    check_goes_on(
        target / "_ranking.json",
        [joblib.hash(estimator), str(blocks.path), joblib.hash(params)],
        "rankings of another model or with other parameters",
    )
    with model_file((estimator, params), target) as file:
        run_tasks(
            client,
            _rank_block,
            [(file, blocks, i, target / f"{i:05d}.parquet") for i in range(len(blocks))],
            "ranking",
        )
    return target


def _rank_block(file: Path, blocks: Blocks, i: int, out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if out.exists():
        return
    model, params = read_model(file)
    ranking, scores = model.predict_ranking(blocks[i], return_scores=True, **params)
    row, rank = np.nonzero(ranking >= 0)
    table = {
        "user": pa.array(blocks.user_ids(i)).take(pa.array(row)),
        "rank": pa.array(rank.astype(np.int32) + 1),
        "item": pa.array(blocks.item_ids).take(pa.array(ranking[row, rank])),
        "score": pa.array(scores[row, rank]),
    }
    with replacing(out) as part:
        pq.write_table(pa.table(table), part)
