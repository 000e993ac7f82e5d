"""The examples of the documentation run, and its recommender passes the checks."""

import doctest
import sys
from pathlib import Path

import pytest

from sklrec.utils.estimator_checks import parametrize_with_checks

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.rst")) if ">>>" in path.read_text("utf-8")]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

sys.path.insert(0, str(DOCS))  # worker processes take sys.path over
from item_cosine import ItemCosine  # noqa: E402


@parametrize_with_checks([ItemCosine(), ItemCosine(shrinkage=0)])
def test_recommender_of_the_docs_passes_all_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_examples_of_the_page_give_what_it_shows(page):
    pytest.importorskip("pandas")
    result = doctest.testfile(str(page), module_relative=False, optionflags=FLAGS, encoding="utf-8")
    assert result.attempted > 0
    assert result.failed == 0
