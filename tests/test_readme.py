"""The example of the README runs, and its figures are those of the code."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import Binarizer

import sklrec
from sklrec.dummy import PopularityRecommender
from sklrec.linear import EASE
from sklrec.metrics import evaluate
from sklrec.model_selection import strong_generalization_split

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
METRICS = ["ndcg@100", "recall@20", "recall@50"]


def figures_of(name):
    """Return means and standard errors of the row of the table, each of shape (3,)."""
    row = re.search(rf"^\| {name} \|(.*)", README, flags=re.MULTILINE)[1]
    figures = np.array(re.findall(r"\.\d{4}", row), dtype=float)
    return figures[0::2], figures[1::2]


@pytest.fixture(scope="module")
def split(ml1m):
    return strong_generalization_split(Binarizer(threshold=3.5).transform(ml1m), n_heldout=1000)


def test_python_example_ranks_ten_items_for_five_users():
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names = {}
    exec(code, names)
    assert names["ranking"].shape == (5, 10)


@pytest.mark.parametrize(
    ("name", "model"), [("Popularity", PopularityRecommender()), ("EASE", EASE(lambda_=500))]
)
def test_figures_of_the_table_are_computed(name, model, split):
    means, errors = figures_of(name)
    found = evaluate(model.fit(split.train), split.test_fold_in, split.test_held_out, METRICS)
    assert [found.mean[name] for name in METRICS] == pytest.approx(means, abs=2e-4)
    assert [found.standard_error[name] for name in METRICS] == pytest.approx(errors, abs=2e-4)


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)]+)\)", README))
def test_links_lead_somewhere(path):
    assert (ROOT / path).exists()


def test_citation_names_the_version_of_the_package():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {sklrec.__version__}\n" in citation
