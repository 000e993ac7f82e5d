"""Names of estimators in files, and the classes that have them."""

from __future__ import annotations

import inspect
from importlib import import_module

from sklearn.base import BaseEstimator

import sklrec

# Modules of scikit-learn with estimators that come before recommenders in a pipeline, or that a
# recommender holds.
SKLEARN_MODULES = (
    "sklearn.decomposition",
    "sklearn.feature_extraction.text",
    "sklearn.frozen",
    "sklearn.linear_model",
    "sklearn.neural_network",
    "sklearn.pipeline",
    "sklearn.preprocessing",
)


def class_named(name: str) -> type[BaseEstimator] | None:
    """Return the public estimator with this name in files, or None.

    Unlike :func:`sklrec.utils.all_estimators`, it imports torch only for neural models.

    Parameters
    ----------
    name : str
        Name of a class of sklrec, or ``sklearn.<module>.<class>``.

    Returns
    -------
    estimator_class : type or None
        None if there is no such class, or none that files may have.
    """
    module_name, _, class_name = name.rpartition(".")
    if module_name:
        known = module_name in SKLEARN_MODULES
        modules = [import_module(module_name)] if known else []
    else:
        modules = [getattr(sklrec, module) for module in sklrec.__all__]
    if class_name.startswith("Base"):
        return None
    for module in modules:
        if class_name in module.__all__:
            value = getattr(module, class_name)
            if inspect.isclass(value) and issubclass(value, BaseEstimator):
                return value
    return None


def name_of(estimator_class: type) -> str | None:
    """Return the name of a class in files, or None if :func:`class_named` does not find it."""
    name = estimator_class.__name__
    names = [name]
    if estimator_class.__module__.startswith("sklearn."):
        names = [f"{module}.{name}" for module in SKLEARN_MODULES]
    return next((name for name in names if class_named(name) is estimator_class), None)
