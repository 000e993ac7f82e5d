"""Accuracy on the canonical split of MovieLens-1M: ``python benchmarks/accuracy_ml1m.py FOLDER``.

FOLDER holds ``ml-1m.npz``. The weights of the neural models are those of the epoch with the best
NDCG@100 on the validation users; test users are looked at once, at the end. Writes
``results/accuracy_ml1m.csv``, about ten minutes on one core.
"""

import csv
import sys
import time
from pathlib import Path

from _data import load_ml1m
from sklearn.preprocessing import Binarizer

import sklrec
from sklrec.dummy import PopularityRecommender
from sklrec.linear import EASE
from sklrec.metrics import evaluate
from sklrec.model_selection import strong_generalization_split
from sklrec.neural import MultDAE, MultVAE

METRICS = ["ndcg@100", "recall@20", "recall@50"]
# 10,000 steps to a weight of 1 are 2,000 to the cap of .2, more than half of the 1,800 steps of
# 200 epochs; without a hidden layer is how the paper found both models best.
VAE = {"n_annealing_steps": 10_000, "random_state": 0}
MODELS = {
    "popularity": PopularityRecommender(),
    "EASE": EASE(lambda_=500),
    "Mult-VAE 600-200-600": MultVAE(**VAE),
    "Mult-VAE 200": MultVAE(hidden_layer_sizes=(), **VAE),
    "Mult-VAE 200, gaussian": MultVAE(hidden_layer_sizes=(), likelihood="gaussian", **VAE),
    "Mult-VAE 200, logistic": MultVAE(hidden_layer_sizes=(), likelihood="logistic", **VAE),
    "Mult-DAE 600-200-600": MultDAE(random_state=0),
    "Mult-DAE 200": MultDAE(hidden_layer_sizes=(), random_state=0),
}


def main() -> None:
    X = Binarizer(threshold=3.5).fit_transform(load_ml1m(sys.argv[1]).data)
    split = strong_generalization_split(X, n_heldout=1000)
    whole = split.valid_fold_in + split.valid_held_out
    rows = []
    for name, model in MODELS.items():
        start = time.perf_counter()
        neural = isinstance(model, MultVAE | MultDAE)
        validation = {"X_val": whole, "y_val": split.valid_held_out} if neural else {}
        model.fit(split.train, **validation)
        seconds = time.perf_counter() - start
        found = evaluate(model, split.test_fold_in, split.test_held_out, METRICS)
        rows.append(
            {
                "model": name,
                "settings": repr(model).replace("\n", "").replace("  ", ""),
                "version": sklrec.__version__,
                "seconds": f"{seconds:.1f}",
                "best_epoch": getattr(model, "best_epoch_", ""),
                "valid_ndcg@100": f"{max(model.validation_scores_):.4f}" if neural else "",
            }
            | {metric: f"{found.mean[metric]:.4f}" for metric in METRICS}
            | {f"{metric}_se": f"{found.standard_error[metric]:.4f}" for metric in METRICS}
        )
        print(name, found.mean, flush=True)
    path = Path(__file__).parent / "results" / "accuracy_ml1m.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
