"""Write made interactions to a file, and an EASE fitted to them, for the speed benchmarks.

In a process of its own, because the one that starts the measurements must stay small.
"""

from __future__ import annotations

import argparse

import joblib
import scipy.sparse as sp

from sklrec.datasets import make_interactions
from sklrec.linear import EASE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="file to write, by scipy.sparse.save_npz")
    parser.add_argument("n_users", type=int)
    parser.add_argument("n_items", type=int)
    parser.add_argument("n_interactions", type=int)
    parser.add_argument("--model", help="file to write a fitted EASE to, by joblib.dump")
    options = parser.parse_args()
    X = make_interactions(
        options.n_users, options.n_items, n_interactions=options.n_interactions, random_state=0
    ).data
    sp.save_npz(options.output, X, compressed=False)
    if options.model:
        joblib.dump(EASE().fit(X), options.model)
    print("{}")


if __name__ == "__main__":
    main()
