"""Configuration of Sphinx."""

import re
import subprocess
import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import sklrec

ROOT = Path(__file__).parent.parent

project = "sklrec"
author = "The sklrec developers"
copyright = author
version = release = sklrec.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "changes", "sg_execution_times.rst"]
templates_path = ["_templates"]
default_role = "code"
add_module_names = False

# Every reference must lead somewhere, those to other packages to where they keep their pages.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(skorch|numpy|scipy|pandas|matplotlib)\..*")]
REFERENCES_ELSEWHERE = {
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{}.html",
    "torch": "https://docs.pytorch.org/docs/stable/generated/{}.html",
}

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings hold the types
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "within_subsection_order": "ExampleTitleSortKey",
    "reference_url": {"sklrec": None},
    "doc_module": "sklrec",
    "backreferences_dir": "generated/backreferences",
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "thumbnail_size": (640, 400),
}

FAVICON = "_static/favicon.svg"
html_theme = "pydata_sphinx_theme"
html_title = "sklrec"
html_static_path = ["_static"]
html_css_files = ["sklrec.css"]
html_show_sourcelink = False
html_copy_source = False
html_domain_indices = False  # the API page is the list of modules
html_math_renderer = "mathml"
html_theme_options = {
    "logo": {"text": "sklrec", "image_light": FAVICON, "image_dark": FAVICON, "alt_text": ""},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
}
html_context = {"default_mode": "auto"}
html_favicon = FAVICON
# Pages without others beside them, and those that need the width for code.
html_sidebars = {
    page: []
    for page in (
        "index",
        "install",
        "new_model",
        "contributing",
        "changelog",
        "references",
        "auto_examples/*",
        "benchmarks/*",
    )
}


def visit_math(translator, node):
    """Write a formula as MathML, which browsers draw without any script."""
    is_block = isinstance(node, nodes.math_block)
    # docutils knows neither fixed sizes of brackets nor dots that choose their height.
    source = re.sub(r"\\[Bb]igg?(?=[()|])", "", node.astext()).replace(r"\dots", r"\cdots")
    formula = tex2mathml(source, as_block=is_block)
    translator.body.append(f'<div class="math">{formula}</div>' if is_block else formula)
    raise nodes.SkipNode


def link_elsewhere(app, env, node, contnode):
    """Link a name of another package; its list of names would need a network at every build."""
    target = node.get("reftarget", "")
    if page := REFERENCES_ELSEWHERE.get(target.partition(".")[0]):
        return nodes.reference("", "", contnode, internal=False, refuri=page.format(target))
    return None


def skip_foreign_members(app, what, name, member, skip, options):
    """Leave out what a class inherits from scikit-learn, which documents it."""
    function = getattr(member, "fget", member)
    return skip or not str(getattr(function, "__module__", None)).startswith("sklrec")


def escape_initials(app, what, name, obj, options, lines):
    """Keep a reference that begins with an initial from being read as a list that begins at H."""
    lines[:] = [re.sub(r"^(\.\. \[[^]]+\] )([A-Z])\. ", r"\1\\\2. ", line) for line in lines]


def add_unreleased_changes(app, docname, source):
    """Show the fragments in docs/changes, which a release collects into the changelog."""
    if docname != "changelog":
        return
    for fragment in (ROOT / "docs" / "changes").glob("*.md"):
        app.env.note_dependency(str(fragment))
    marker = "<!-- towncrier release notes start -->\n"
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "Unreleased"]
    draft = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    draft = re.sub(r"^## Unreleased .*", "## Unreleased", draft, flags=re.MULTILINE)
    source[0] = source[0].replace(marker, marker + draft)


def setup(app):
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    app.connect("autodoc-skip-member", skip_foreign_members)
    app.connect("autodoc-process-docstring", escape_initials, priority=900)  # after numpydoc
    app.connect("missing-reference", link_elsewhere)
    app.connect("source-read", add_unreleased_changes)
