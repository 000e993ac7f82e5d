"""
===================
Search on a cluster
===================

A search fits many candidates that do not depend on each other. On a cluster of Dask each of them is
fitted by one worker, and the interactions are sent to the workers once. Here the cluster is two
processes of this machine; for many machines, only the address of the scheduler differs.
"""

# %%
# The search
# ----------
# scikit-learn's searches do all their fits through joblib, whose backend ``"dask"`` sends them to
# the workers of a ``Client``. What is in ``scatter`` is sent to each worker once. Without it, the
# matrix would be sent again with each fit, as Dask does not know the size of sparse arrays.
import joblib
from distributed import Client
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingRandomSearchCV

from sklrec.datasets import make_interactions
from sklrec.linear import EASE
from sklrec.metrics import RankingScorer
from sklrec.model_selection import StrongGeneralizationSplit, suggested_distributions
from sklrec.pipeline import make_pipeline
from sklrec.preprocessing import BM25Transformer


def search(X, client):
    """Search the suggested ranges in three rounds of more and more users."""
    model = make_pipeline(BM25Transformer(), EASE())
    halving = HalvingRandomSearchCV(
        model,
        suggested_distributions(model),
        n_candidates=18,
        min_resources=500,
        scoring=RankingScorer("ndcg@20"),
        cv=StrongGeneralizationSplit(2, test_size=0.2, random_state=0),
        random_state=0,
        refit=False,
        n_jobs=-1,
        error_score="raise",
    )
    with joblib.parallel_config(backend="dask", client=client, scatter=[X]):
        return halving.fit(X)


# %%
# Its result
# ----------
# The first of three rounds fits 18 candidates to 500 users, and each round keeps the best third for
# three times as many users. Worker processes import the file that starts them, so that what is to
# run once is under ``if __name__ == "__main__"``.
if __name__ == "__main__":
    import matplotlib.pyplot as plt

    X = make_interactions(4500, 400, random_state=0).data
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        found = search(X, client)
    for name, value in found.best_params_.items():
        print(f"{name}: {value:.3g}")

    results = found.cv_results_
    fig, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    for n_users in sorted(set(results["n_resources"])):
        these = results["n_resources"] == n_users
        ax.semilogx(
            results["param_ease__lambda_"][these].astype(float),
            results["mean_test_score"][these],
            "o",
            label=f"{n_users} users",
        )
    ax.set(xlabel="lambda_ of EASE", ylabel="NDCG@20")
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)

    if plt.get_backend().lower() != "agg":  # show the figure in a window
        plt.show()
