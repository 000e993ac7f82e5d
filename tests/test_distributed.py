"""The same fits, rankings and metrics from blocks as from all rows, even if workers are killed."""

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from sklrec import metrics
from sklrec.base import BaseRecommender
from sklrec.datasets import make_interactions
from sklrec.distributed import (
    Blocks,
    _fit_neighbors,
    _fit_wmf,
    encode_parquet,
    evaluate,
    fit,
    rank_to_parquet,
    split_blocks,
)
from sklrec.distributed._tasks import run_tasks
from sklrec.dummy import PopularityRecommender, RandomRecommender
from sklrec.factorization import WMF
from sklrec.linear import EASE, SparseEASE
from sklrec.model_selection import split_interactions
from sklrec.neighbors import ItemKNN, RP3beta
from sklrec.preprocessing import InteractionEncoder

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
from in_blocks import interactions, whole, write  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def client():
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    with (
        # A killed worker is given up if it has not started again by then, on a busy machine.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "300s"}),
        distributed.LocalCluster(
            2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blocks")
    return encode_parquet(write(folder / "table", *interactions()), folder / "blocks", n_blocks=5)


@contextmanager
def a_worker_dies(client, when):
    """Kill a worker by its process id as soon as a condition is met."""

    def kill():
        for _ in range(3000):
            if when():
                break
            time.sleep(0.01)
        os.kill(next(iter(pids)), signal.SIGKILL)
        killed.append(True)

    client.wait_for_workers(2, timeout=300)
    pids = client.run(os.getpid).values()
    killed = []
    thread = Thread(target=kill)
    thread.start()
    yield
    thread.join()
    assert killed
    client.wait_for_workers(2, timeout=300)


def some_files(folder, pattern, n=1):
    return lambda: len(list(folder.rglob(pattern))) >= n


# Fits


@pytest.mark.parametrize("strip", [2**28, 1000], ids=["one strip", "many strips"])
def test_EASE_is_that_of_all_rows(strip, blocks, monkeypatch):
    from sklrec.distributed import _fit

    monkeypatch.setattr(_fit, "_BYTES_OF_A_STRIP", strip)
    monkeypatch.setattr(_fit, "_INTERACTIONS_AT_ONCE", 2000)  # two of the five blocks
    X = whole(blocks)[1]
    found = fit(EASE(lambda_=10.0, dropout=0.3), blocks)
    expected = EASE(lambda_=10.0, dropout=0.3).fit(X)
    assert_array_equal(found.coef_, expected.coef_)  # sums of small integers are exact
    assert found.n_samples_seen_ == 400
    assert_array_equal(found.predict_ranking(X), expected.predict_ranking(X))
    empty = sp.csr_array((1, 50))
    assert_array_equal(found.predict_ranking(empty), expected.predict_ranking(empty))


def test_strips_cover_the_triangle_in_about_equal_parts():
    from sklrec.distributed import _fit

    strips = _fit._strips(30_000)
    assert strips[0][0] == 0
    assert strips[-1][1] == 30_000
    assert [end for _, end in strips[:-1]] == [start for start, _ in strips[1:]]
    areas = [sum(30_000 - row for row in range(*strip)) for strip in strips]
    assert max(areas) < 1.1 * min(areas)


def test_popularity_is_that_of_all_rows(blocks):
    X = whole(blocks)[1]
    found = fit(PopularityRecommender(), blocks)
    expected = PopularityRecommender().fit(X)
    assert_array_equal(found.popularity_, expected.popularity_)
    assert_array_equal(found.predict_ranking(X), expected.predict_ranking(X))


SPARSE = [
    ItemKNN(7),
    ItemKNN(60, metric="jaccard", shrinkage=2.0),
    ItemKNN(7, metric="asymmetric-cosine", alpha=0.3),
    ItemKNN(7, metric="conditional-probability", shrinkage=2.0),
    RP3beta(7, alpha=0.8, beta=0.4),
    SparseEASE(n_neighbors=7, lambda_=5.0, dropout=0.2),
    SparseEASE(n_neighbors=60, lambda_=5.0),
]


@pytest.mark.parametrize("model", SPARSE, ids=lambda m: repr(m))
@pytest.mark.parametrize("products", [10**9, 1000], ids=["one strip", "many strips"])
def test_nearest_items_are_those_of_all_rows(model, products, blocks, monkeypatch):
    monkeypatch.setattr(_fit_neighbors, "_PRODUCTS_OF_A_TASK", products)
    if products == 1000:
        monkeypatch.setattr(_fit_neighbors, "_GROUPS_OF_A_TASK", 1)
        monkeypatch.setattr(_fit_neighbors, "_INTERACTIONS_AT_ONCE", 200)
    X = whole(blocks)[1]
    found, expected = fit(model, blocks), model.fit(X)
    assert_array_equal(found.coef_.indptr, expected.coef_.indptr)
    assert_array_equal(found.coef_.indices, expected.coef_.indices)
    assert_allclose(found.coef_.data, expected.coef_.data, rtol=1e-5)
    assert_allclose(found.decision_function(X), expected.decision_function(X), rtol=1e-5)
    assert_array_equal(found.similar_items([0, 3]), expected.similar_items([0, 3]))
    assert not list(blocks.path.glob("fit-*"))


@pytest.mark.parametrize("bytes_of_a_task", [2**28, 2000], ids=["one strip", "many strips"])
@pytest.mark.parametrize(
    "model",
    [
        WMF(8, max_iter=3, random_state=0),
        WMF(8, solver="cholesky", max_iter=3, random_state=0),
        WMF(8, zeros="unobserved", frequency_exponent=0.0, max_iter=3, random_state=0),
        WMF(8, binary=True, max_iter=1, random_state=0),
    ],
    ids=lambda model: repr(model),
)
def test_WMF_is_that_of_all_rows(model, bytes_of_a_task, blocks, monkeypatch):
    monkeypatch.setattr(_fit_wmf, "_BYTES_OF_A_TASK", bytes_of_a_task)
    X = whole(blocks)[1]
    found, expected = fit(model, blocks), model.fit(X)
    assert_allclose(found.decision_function(X), expected.decision_function(X), atol=1e-5)
    assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-5)
    more = make_interactions(30, 50, random_state=5).data
    assert_allclose(
        found.partial_fit(more).decision_function(X),
        expected.partial_fit(more).decision_function(X),
        atol=1e-4,
    )


def test_networks_are_trained_block_by_block(blocks):
    neural = pytest.importorskip("sklrec.neural")
    model = neural.MultVAE(4, hidden_layer_sizes=(), max_epochs=2, random_state=0)
    expected = model.__class__(**model.get_params())
    for _ in range(2):
        for X in blocks:
            expected.partial_fit(X)
    X = whole(blocks)[1]
    found = fit(model, blocks)
    assert_array_equal(found.decision_function(X), expected.decision_function(X))
    assert not hasattr(model, "net_")


def test_what_needs_all_users_at_once_is_an_error(blocks):
    with pytest.raises(TypeError, match="RandomRecommender has neither a fit on blocks nor"):
        fit(RandomRecommender(), blocks)


def test_a_bad_parameter_of_the_model_is_an_error(blocks):
    with pytest.raises(ValueError, match="lambda_"):
        fit(EASE(lambda_=-1.0), blocks)


# Rankings and metrics


class FromMemory(Blocks):
    """Blocks of a folder with other interactions."""

    def __init__(self, blocks, parts):
        super().__init__(blocks.path)
        self.parts = parts

    def __getitem__(self, i):
        return self.parts[i]


def read_rankings(folder):
    table = pq.read_table(folder).to_pydict()
    order = np.lexsort((table["rank"], table["user"]))
    return {name: np.array(column)[order] for name, column in table.items()}


def expected_rankings(model, blocks, **params):
    ids, X = whole(blocks)
    ranking, scores = model.predict_ranking(X, return_scores=True, **params)
    row, rank = np.nonzero(ranking >= 0)
    items = blocks.item_ids[ranking[row, rank]]
    return {"user": ids[row], "rank": rank + 1, "item": items, "score": scores[row, rank]}


@pytest.mark.parametrize(
    "params", [{"k": 5}, {"k": 60}, {"k": 3, "items": [1, 2, 3]}, {"k": 2, "exclude_seen": False}]
)
def test_rankings_are_those_of_all_rows_with_their_ids(params, blocks, tmp_path):
    model = fit(EASE(lambda_=10.0), blocks)
    found = read_rankings(rank_to_parquet(model, blocks, tmp_path / "rankings", **params))
    for name, column in expected_rankings(model, blocks, **params).items():
        assert_allclose(found[name], column, rtol=1e-6)


def test_rankings_go_on_after_an_error_and_are_not_mixed(blocks, tmp_path, monkeypatch):
    model = fit(EASE(lambda_=10.0), blocks)
    full = pq.write_table

    def disk_full(table, part):
        if sum(1 for _ in tmp_path.rglob("*.parquet")) >= 2:
            raise OSError(28, "No space left on device")
        full(table, part)

    monkeypatch.setattr(pq, "write_table", disk_full)
    with pytest.raises(OSError, match="No space left"):
        rank_to_parquet(model, blocks, tmp_path / "rankings", k=3)
    assert not list(tmp_path.rglob("*.part-*"))
    assert not list(tmp_path.rglob("*.joblib"))
    monkeypatch.setattr(pq, "write_table", full)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "rankings").glob("*.parquet")}
    rank_to_parquet(model, blocks, tmp_path / "rankings", k=3)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    found = read_rankings(tmp_path / "rankings")
    assert_array_equal(found["item"], expected_rankings(model, blocks, k=3)["item"])
    for other, params in ((model, {"k": 4}), (fit(EASE(lambda_=1.0), blocks), {"k": 3})):
        with pytest.raises(ValueError, match="rankings of another model or with other parameters"):
            rank_to_parquet(other, blocks, tmp_path / "rankings", **params)


def test_a_model_of_other_items_is_an_error(blocks, tmp_path):
    model = PopularityRecommender().fit(np.ones((3, 4)))
    with pytest.raises(ValueError, match="features"):
        rank_to_parquet(model, blocks, tmp_path / "rankings")


def test_metrics_are_those_of_all_rows(blocks, tmp_path):
    model = fit(EASE(lambda_=10.0), blocks)
    fold_in, held_out = split_blocks(blocks, tmp_path / "split", random_state=3)
    found = evaluate(model, fold_in, held_out, ["ndcg@10", "recall@5"], items=range(40))
    rows = [sp.csr_array(sp.vstack(list(side))) for side in (fold_in, held_out)]
    expected = metrics.evaluate(model, *rows, ["ndcg@10", "recall@5"], items=range(40))
    for name in ("ndcg@10", "recall@5"):
        assert_allclose(found.per_user[name], expected.per_user[name], rtol=1e-6)
        assert found.mean[name] == pytest.approx(expected.mean[name], rel=1e-6)
    assert_array_equal((rows[0] + rows[1]).toarray(), sp.vstack(list(blocks)).toarray())


def test_each_block_is_split_by_a_generator_of_its_own(blocks, tmp_path):
    first = split_blocks(blocks, tmp_path / "first")[1]
    again = split_blocks(blocks, tmp_path / "again")[1]
    other = split_blocks(blocks, tmp_path / "other", random_state=1)[1]
    assert_array_equal(first[1].toarray(), again[1].toarray())
    assert not np.array_equal(first[1].toarray(), other[1].toarray())
    share = split_interactions(blocks[0], random_state=0)[1].nnz
    assert first[0].nnz == share


BEYOND = [
    "gini@5",
    "neg_gini@3",
    "catalogue_coverage@5",
    "novelty@5",
    "average_popularity@4",
    "neg_average_popularity@4",
    "intra_list_diversity@5",
    "intra_list_diversity/users@5",
]


def test_metrics_beyond_accuracy_are_those_of_all_rows(blocks, tmp_path):
    model = fit(EASE(lambda_=10.0), blocks)
    fold_in, held_out = split_blocks(blocks, tmp_path / "split")
    # Users of a block in which nothing is held out count beyond accuracy.
    parts = list(held_out)
    parts[2] = sp.csr_array(parts[2].shape, dtype=np.float32)
    held_out = FromMemory(held_out, parts)
    features = sp.random_array((50, 7), density=0.3, rng=np.random.default_rng(0))
    found = evaluate(
        model, fold_in, held_out, ["ndcg@10", *BEYOND], interactions=blocks, item_features=features
    )
    rows = [sp.csr_array(sp.vstack(side)) for side in (list(fold_in), parts, list(blocks))]
    expected = metrics.evaluate(
        model, *rows[:2], ["ndcg@10", *BEYOND], interactions=rows[2], item_features=features
    )
    assert list(found.mean) == list(expected.mean)
    for name in found.per_user:
        assert_allclose(found.per_user[name], expected.per_user[name], rtol=1e-12)
    for name in found.together:
        assert found.together[name] == expected.together[name]


def test_held_out_items_of_a_few_blocks_are_enough(blocks, tmp_path):
    model = fit(PopularityRecommender(), blocks)
    fold_in, held_out = split_blocks(blocks, tmp_path / "split")
    target = held_out[3].indices[0]  # of no user of some blocks
    found = evaluate(model, fold_in, held_out, "recall@5", targets=[target])
    rows = [sp.csr_array(sp.vstack(list(side))) for side in (fold_in, held_out)]
    expected = metrics.evaluate(model, *rows, "recall@5", targets=[target])
    assert_array_equal(found.per_user["recall@5"], expected.per_user["recall@5"])


@pytest.mark.parametrize(
    ("metric", "given", "message"),
    [
        ("novelty@5", {}, "novelty@5 needs interactions, got None"),
        ("novelty@5", {"interactions": np.ones((2, 50))}, "interactions must be Blocks of the 50"),
        ("intra_list_diversity@5", {}, "needs item_features, got None"),
        (
            "intra_list_diversity@5",
            {"item_features": np.ones((49, 2))},
            "item_features must have 50 rows, got shape",
        ),
        ("speed@5", {}, "A metric is one of"),
    ],
)
def test_a_metric_without_what_it_needs_is_an_error(metric, given, message, blocks):
    model = fit(PopularityRecommender(), blocks)
    with pytest.raises(ValueError, match=message):
        evaluate(model, blocks, blocks, metric, **given)


# On a cluster


def test_sums_are_added_by_the_workers(client, blocks, monkeypatch):
    from sklrec.distributed import _tasks

    monkeypatch.setattr(_tasks, "_SUMMED_AT_ONCE", 2)
    gathered = []
    gather = client.gather
    monkeypatch.setattr(
        client, "gather", lambda futures: gathered.append(futures) or gather(futures)
    )
    found = fit(PopularityRecommender(), blocks, client=client)
    assert [len(futures) for futures in gathered] == [1]
    assert_array_equal(found.popularity_, fit(PopularityRecommender(), blocks).popularity_)


class DiesOnce(BaseRecommender):
    """Kills its process when it is first asked for scores."""

    def __init__(self, marker=""):
        self.marker = marker

    def fit(self, X, y=None):
        self._learn_popularity(self._check_X(X, reset=True))
        return self

    def decision_function(self, X):
        if not Path(self.marker).exists():
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.tile(np.arange(X.shape[1], dtype=float), (X.shape[0], 1))


def test_encoding_survives_a_killed_worker(client, tmp_path):
    users, items = interactions(n_users=1500)
    table = write(tmp_path / "table", users, items, n_files=20)
    with a_worker_dies(client, some_files(tmp_path / "blocks", "rows-*.parquet", 3)):
        blocks = encode_parquet(table, tmp_path / "blocks", n_blocks=40, client=client)
    ids, X = whole(blocks)
    encoder = InteractionEncoder()
    assert_array_equal(X.toarray(), encoder.fit_transform((users, items)).toarray())
    assert_array_equal(ids, encoder.user_ids_)


def test_assembling_survives_a_killed_worker(client, tmp_path):
    users, items = interactions(n_users=1500)
    table = write(tmp_path / "table", users, items, n_files=5)
    with a_worker_dies(client, some_files(tmp_path / "blocks", "000*.npz", 3)):
        blocks = encode_parquet(table, tmp_path / "blocks", n_blocks=60, client=client)
    expected = InteractionEncoder().fit_transform((users, items))
    assert_array_equal(whole(blocks)[1].toarray(), expected.toarray())


def test_a_fit_survives_a_killed_worker(client, blocks, monkeypatch):
    from sklrec.distributed import _fit

    monkeypatch.setattr(_fit, "_BYTES_OF_A_STRIP", 200)
    expected = fit(EASE(lambda_=10.0), blocks)
    with a_worker_dies(client, some_files(blocks.path, "gram-*.npy", 3)):
        found = fit(EASE(lambda_=10.0), blocks, client=client)
    assert_array_equal(found.coef_, expected.coef_)
    assert not list(blocks.path.glob("fit-*"))


def test_factors_survive_a_killed_worker(client, blocks, monkeypatch):
    monkeypatch.setattr(_fit_wmf, "_BYTES_OF_A_TASK", 20000)
    model = WMF(8, max_iter=4, random_state=0)
    expected = fit(model, blocks)
    with a_worker_dies(client, some_files(blocks.path, "users-*.npy", 7)):
        found = fit(model, blocks, client=client)
    assert_allclose(found.item_factors_, expected.item_factors_, rtol=1e-5, atol=1e-6)
    assert not list(blocks.path.glob("fit-*"))


def test_nearest_items_survive_a_killed_worker(client, blocks, monkeypatch):
    monkeypatch.setattr(_fit_neighbors, "_PRODUCTS_OF_A_TASK", 1000)
    monkeypatch.setattr(_fit_neighbors, "_GROUPS_OF_A_TASK", 1)
    model = SparseEASE(n_neighbors=7, lambda_=5.0)
    expected = fit(model, blocks)
    with a_worker_dies(client, some_files(blocks.path, "nearest-*.npz", 3)):
        found = fit(model, blocks, client=client)
    assert_allclose(found.coef_.data, expected.coef_.data, rtol=1e-5)


def test_rankings_survive_a_killed_worker(client, blocks, tmp_path):
    model = DiesOnce(str(tmp_path / "marker")).fit(whole(blocks)[1])
    rank_to_parquet(model, blocks, tmp_path / "rankings", k=2, client=client)
    assert (tmp_path / "marker").exists()
    found = read_rankings(tmp_path / "rankings")
    assert_array_equal(found["item"], expected_rankings(model, blocks, k=2)["item"])


def test_metrics_survive_a_killed_worker(client, blocks, tmp_path):
    model = DiesOnce(str(tmp_path / "marker")).fit(whole(blocks)[1])
    fold_in, held_out = split_blocks(blocks, tmp_path / "split", client=client)
    found = evaluate(model, fold_in, held_out, "ndcg@10", client=client)
    assert (tmp_path / "marker").exists()
    expected = evaluate(model, fold_in, held_out, "ndcg@10")
    assert_array_equal(found.per_user["ndcg@10"], expected.per_user["ndcg@10"])


def test_an_error_of_a_task_is_raised_here(client, tmp_path):
    pq.write_table(pa.table({"user": [1, None], "item": [1, 2]}), tmp_path / "table.parquet")
    with pytest.raises(ValueError, match="has 1 missing ids"):
        encode_parquet(tmp_path / "table.parquet", tmp_path / "b", n_blocks=1, client=client)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_lost_scheduler_is_a_clear_error(when, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(1, processes=False, dashboard_address=":0") as cluster:
        client = distributed.Client(cluster)
        if when == "meanwhile":
            thread = Thread(target=lambda: (time.sleep(0.5), cluster.close()))
            thread.start()
            with pytest.raises(RuntimeError, match="scheduler was lost while sleeping"):
                run_tasks(client, time.sleep, [(2,)], "sleeping")
            thread.join()
    table = write(tmp_path / "table", *interactions())
    with pytest.raises(RuntimeError, match="connection to the Dask scheduler was lost while sort"):
        encode_parquet(table, tmp_path / "blocks", n_blocks=2, client=client)
    client.close()
    assert encode_parquet(table, tmp_path / "blocks", n_blocks=2).n_users == 400
