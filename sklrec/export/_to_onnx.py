"""The export of fitted recommenders to ONNX."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import IO, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

import sklrec

from .._classes import name_of
from .._files import write_whole
from ..dummy import PopularityRecommender
from ._graph import Graph

# The module and the function that add the scores of a model to a graph.
_BUILDERS = {
    "AddEASE": ("_items", "weighted_items"),
    "CDAE": ("_cdae", "cdae"),
    "CDL": ("_factors", "factors"),
    "CTR": ("_factors", "factors"),
    "CVAE": ("_factors", "factors"),
    "CoVAE": ("_networks", "mult_vae"),
    "CollectiveEASE": ("_items", "weighted_items"),
    "CondVAE": ("_networks", "cond_vae"),
    "ContentELSA": ("_networks", "elsa"),
    "DICER": ("_factors", "factors"),
    "DeepMusic": ("_factors", "factors_from_content"),
    "EASE": ("_items", "weighted_items"),
    "ELSA": ("_networks", "elsa"),
    "FLVAE": ("_networks", "flvae"),
    "FactorizationMachine": ("_networks", "factorization_machine"),
    "FactorsFromContent": ("_factors", "factors_from_content"),
    "HVampVAE": ("_networks", "hvamp_vae"),
    "HadamardEnsemble": ("_items", "log_product"),
    "ItemKNN": ("_items", "weighted_items"),
    "LFM": ("_factors", "factors_and_biases"),
    "MDCVAE": ("_networks", "mdcvae"),
    "MultDAE": ("_networks", "mult_dae"),
    "MultVAE": ("_networks", "mult_vae"),
    "NeuMF": ("_pairs", "neumf"),
    "NeuralEASE": ("_items", "weighted_items"),
    "PopularityRecommender": ("_items", "popularity"),
    "RP3beta": ("_items", "weighted_items"),
    "RecVAE": ("_networks", "rec_vae"),
    "SLIM": ("_items", "weighted_items"),
    "SparseEASE": ("_items", "weighted_items"),
    "VASP": ("_networks", "vasp"),
    "WMF": ("_factors", "factors"),
}


def to_onnx(model: BaseEstimator, file: str | os.PathLike | IO[bytes]) -> None:
    """Write the scores of a fitted recommender as a function in ONNX.

    The file can be run without sklrec and without Python, for example by onnxruntime. It has one
    input, ``interactions``, with dense rows of shape (n_users, n_items) in float32, and one output,
    ``scores``, of the same shape and type: what ``decision_function`` returns for these rows, to
    about 1e-5 of the largest score of a row. The number of rows is free. Seen items are not
    excluded.

    Parameters
    ----------
    model : estimator
        A fitted recommender of sklrec: any but :class:`~sklrec.neighbors.UserKNN`,
        :class:`~sklrec.factorization.BPR`, :class:`~sklrec.hybrid.DAVE` and
        :class:`~sklrec.dummy.RandomRecommender`. For a pipeline, export its last step, and apply
        the others to the rows.
    file : str, path-like or binary file object
        Path of the file, usually with the suffix ``.onnx``, or an object with ``write``. A file
        with this path is replaced as a whole.

    Raises
    ------
    TypeError
        If the model is none that can be exported; the error names those that can.
    ValueError
        If the file would have 2 GiB or more, which ONNX does not allow. Dense weights of items by
        items have this size from 23,170 items on. Models with sparse weights are larger only if an
        item has very many neighbours.
    NotFittedError
        If the model is not fitted.
    ImportError
        If onnx is not installed.

    See Also
    --------
    sklrec.persistence.save : A file from which the model itself can be loaded.

    Notes
    -----
    As in ``decision_function``, rows without known items are scored by popularity. Nothing is
    checked by the file: rows must be finite and not negative.

    The metadata of the file are ``model``, the class; ``sklrec_version``; and ``n_items``.

    The factors of a user, as of :class:`~sklrec.factorization.WMF`, are found by conjugate
    gradients in float64, until they have converged. The first product of a model reads the weights
    of the items in the rows only, which makes single users fast; many users at once need the memory
    for a copy of the weights.

    Sparse weights stay sparse, in a table of as many neighbours of each item as the item with most
    of them has, unless this is more than a sixteenth of all items. Each user in a batch then needs
    the memory of such a table.

    Examples
    --------
    >>> from io import BytesIO
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.export import to_onnx
    >>> from sklrec.linear import EASE
    >>> X = make_interactions(50, 20, random_state=0).data
    >>> file = BytesIO()
    >>> to_onnx(EASE(lambda_=10.0).fit(X), file)
    >>> import onnxruntime
    >>> session = onnxruntime.InferenceSession(file.getvalue())
    >>> rows = X[:2].toarray().astype("float32")
    >>> session.run(["scores"], {"interactions": rows})[0].shape
    (2, 20)
    """
    onnx = _import_onnx()
    _builder_of(model)
    check_is_fitted(model)
    name = type(model).__name__
    graph = Graph(onnx, name, model.n_features_in_)
    scores = _scores_of(graph, model, graph.x)
    metadata = {
        "model": name,
        "sklrec_version": sklrec.__version__,
        "n_items": str(model.n_features_in_),
    }
    write_whole(graph.to_bytes(scores, metadata), file)


def _builder_of(model: Any) -> Callable[..., str]:
    """Return the function that adds the scores of a model to a graph."""
    name = name_of(type(model))
    if name not in _BUILDERS:
        advice = (
            "export the last step of a pipeline, and apply the others to the rows"
            if isinstance(model, Pipeline)
            else "the recommenders that can be are " + ", ".join(sorted(_BUILDERS))
        )
        raise TypeError(f"{type(model).__name__} cannot be exported to ONNX; {advice}.")
    module, function = _BUILDERS[name]
    builder = getattr(import_module(f".{module}", __package__), function)
    return partial(builder, scores_of=_scores_of) if name == "HadamardEnsemble" else builder


def _scores_of(graph: Graph, model: Any, x: str) -> str:
    """Add the scores of a model to a graph, with popularity where nothing is known of a user."""
    scores = _builder_of(model)(graph, model, x)
    if isinstance(model, PopularityRecommender):
        return scores
    known = model._known_items()
    of_known = x if known.all() else graph.op("Mul", x, known.astype(np.float32))
    is_known = graph.is_positive(graph.reduce("ReduceMax", of_known))
    most, least = graph.reduce("ReduceMax", scores), graph.reduce("ReduceMin", scores)
    is_ranking = graph.op("And", is_known, graph.op("Greater", most, least))
    return graph.op("Where", is_ranking, scores, model._popularity.astype(np.float32))


def _import_onnx() -> ModuleType:
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ImportError(
            "sklrec.export needs onnx, which is not installed: pip install 'sklrec[onnx]'"
        ) from error
    return onnx
