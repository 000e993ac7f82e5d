"""Searches of scikit-learn on a cluster: the same results, and data that are sent once."""

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingRandomSearchCV

from sklrec.datasets import make_interactions
from sklrec.dummy import RandomRecommender
from sklrec.linear import EASE
from sklrec.metrics import RankingScorer
from sklrec.model_selection import StrongGeneralizationSplit, suggested_distributions

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

SETTINGS = {
    "scoring": RankingScorer("ndcg@10"),
    "cv": StrongGeneralizationSplit(2, test_size=0.2, random_state=0),
    "n_jobs": -1,
    "error_score": "raise",
}


@pytest.fixture(scope="module")
def processes():
    with (
        distributed.LocalCluster(
            2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def threads():
    with (
        distributed.LocalCluster(
            1, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def searches():
    yield GridSearchCV(EASE(), {"lambda_": [1, 10, 100]}, **SETTINGS)
    yield HalvingRandomSearchCV(
        EASE(),
        suggested_distributions(EASE()),
        n_candidates=6,
        min_resources=60,
        random_state=0,
        **SETTINGS,
    )
    neural = pytest.importorskip("sklrec.neural")
    model = neural.MultVAE(4, hidden_layer_sizes=(), max_epochs=1, random_state=0)
    yield GridSearchCV(model, {"learning_rate": [0.01, 0.1]}, **SETTINGS)


@pytest.mark.parametrize("number", range(3), ids=["grid", "halving", "network"])
def test_workers_of_processes_and_of_threads_have_the_results_of_one_process(
    number, processes, threads
):
    X = make_interactions(300, 40, random_state=0).data
    with joblib.parallel_config(backend="sequential"):
        expected = list(searches())[number].fit(X)
    for client in (processes, threads):
        with joblib.parallel_config(backend="dask", client=client, scatter=[X]):
            found = list(searches())[number].fit(X)
        assert found.best_params_ == expected.best_params_
        for name in ("mean_test_score", "split0_test_score"):
            assert_allclose(found.cv_results_[name], expected.cv_results_[name], rtol=1e-6)
        assert_allclose(
            found.best_estimator_.decision_function(X),
            expected.best_estimator_.decision_function(X),
            rtol=1e-5,
            atol=1e-6,
        )


def test_interactions_are_sent_once_to_each_worker(processes, monkeypatch):
    from distributed.comm.tcp import TCP

    sent = []
    write = TCP.write

    async def counted(self, *arguments, **named):
        n_bytes = await write(self, *arguments, **named)
        sent.append(n_bytes)
        return n_bytes

    monkeypatch.setattr(TCP, "write", counted)  # of this process, the client and the scheduler
    X = sp.random_array((5000, 400), density=0.1, format="csr", rng=np.random.default_rng(0))
    size = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    search = GridSearchCV(
        RandomRecommender(), {"random_state": list(range(8))}, refit=False, **SETTINGS
    )
    with joblib.parallel_config(backend="dask", client=processes, scatter=[X]):
        search.fit(X)
    assert 0.9 * size < sum(sent) < 2.5 * size
