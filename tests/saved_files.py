"""Saved files: whether the estimator that is loaded is the saved one, and how to change them."""

import json

import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

safetensors = pytest.importorskip("safetensors")
from safetensors.numpy import load_file, save_file  # noqa: E402


def outputs(estimator, X):
    for method in ("decision_function", "transform"):
        if hasattr(estimator, method):
            output = getattr(estimator, method)(X)
            yield output.toarray() if sp.issparse(output) else output


def assert_same(loaded, saved, X):
    assert type(loaded) is type(saved)
    assert repr(loaded.get_params()) == repr(saved.get_params())
    for got, wanted in zip(outputs(loaded, X), outputs(saved, X), strict=True):
        assert got.dtype == wanted.dtype
        assert_array_equal(got, wanted)


def rewrite(path, change=None, tensors=None):
    """Change the text of a saved file in place, or its tensors."""
    with safetensors.safe_open(path, framework="numpy") as file:
        document = json.loads(file.metadata()["sklrec"])
    arrays = {**load_file(path), **(tensors or {})}
    if change is not None:
        change(document)
    save_file(arrays, path, metadata={"sklrec": json.dumps(document)})
