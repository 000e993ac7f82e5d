"""The examples of the documentation run, and its recommender passes the checks."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from check_links import broken_links
from item_cosine import ItemCosine

import sklrec
from sklrec.utils.estimator_checks import parametrize_with_checks

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.rst")) if ">>>" in path.read_text("utf-8")]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@parametrize_with_checks([ItemCosine(), ItemCosine(shrinkage=0)])
def test_recommender_of_the_docs_passes_all_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_examples_of_the_page_give_what_it_shows(page):
    for needed in ("pandas", "torch", "skorch", "safetensors"):
        pytest.importorskip(needed)
    if "import onnxruntime" in page.read_text("utf-8"):
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    result = doctest.testfile(str(page), module_relative=False, optionflags=FLAGS, encoding="utf-8")
    assert result.attempted > 0
    assert result.failed == 0


def test_api_page_lists_every_public_name():
    names = [module.name for module in pkgutil.walk_packages(sklrec.__path__, "sklrec.")]
    modules = [importlib.import_module(name) for name in names if "._" not in name]
    public = [f"{m.__name__}.{name}" for m in modules for name in getattr(m, "__all__", ())]
    page = (DOCS / "api.rst").read_text("utf-8")
    assert sorted(re.findall(r"^   (sklrec\.[\w.]+)$", page, flags=re.MULTILINE)) == sorted(public)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "guide").mkdir()
    (tmp_path / "_static").mkdir()
    (tmp_path / "figure.png").touch()
    (tmp_path / "_static" / "layout.html").write_text('<a href="{{ path }}">', "utf-8")
    (tmp_path / "index.html").write_text(
        '<a href="guide/a%20b.html#one">one</a> <img src="figure.png?v=1"> <a href="guide/">all</a>'
        '<a href="https://example.org/missing">elsewhere</a> <a href="#">up</a>',
        "utf-8",
    )
    (tmp_path / "guide" / "index.html").write_text('<a href="../index.html">home</a>', "utf-8")
    (tmp_path / "guide" / "a b.html").write_text('<h1 id="one">One</h1>', "utf-8")
    return tmp_path


def test_links_that_lead_somewhere_are_not_reported(site):
    assert list(broken_links(site)) == []


@pytest.mark.parametrize(
    ("tag", "report"),
    [
        ('<a href="two.html">', "no file for two.html"),
        ('<img src="two.png">', "no file for two.png"),
        ('<script src="_static/two.js"></script>', "no file for _static/two.js"),
        ('<a href="guide/a b.html#two">', "no anchor for guide/a b.html#two"),
        ('<a href="#two">', "no anchor for #two"),
    ],
)
def test_link_that_leads_nowhere_is_reported(site, tag, report):
    with (site / "index.html").open("a", encoding="utf-8") as page:
        page.write(tag)
    assert list(broken_links(site)) == [f"index.html: {report}"]


def test_site_without_pages_is_reported(tmp_path):
    (report,) = broken_links(tmp_path)
    assert "no pages" in report
