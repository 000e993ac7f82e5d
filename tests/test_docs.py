"""The examples of the documentation run, and its recommender passes the checks."""

import doctest
import importlib
import pkgutil
import re
import sys
from pathlib import Path

import pytest

import sklrec
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
    for needed in ("pandas", "torch", "skorch", "safetensors"):
        pytest.importorskip(needed)
    result = doctest.testfile(str(page), module_relative=False, optionflags=FLAGS, encoding="utf-8")
    assert result.attempted > 0
    assert result.failed == 0


def test_api_page_lists_every_public_name():
    names = [module.name for module in pkgutil.walk_packages(sklrec.__path__, "sklrec.")]
    modules = [importlib.import_module(name) for name in names if "._" not in name]
    public = [f"{m.__name__}.{name}" for m in modules for name in getattr(m, "__all__", ())]
    page = (DOCS / "api.rst").read_text("utf-8")
    assert sorted(re.findall(r"^   (sklrec\.[\w.]+)$", page, flags=re.MULTILINE)) == sorted(public)
