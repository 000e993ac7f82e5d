"""Find the estimators of the package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from sklearn.base import BaseEstimator

import sklrec

from ..base import RecommenderMixin


def all_estimators(kind: str | None = None) -> list[tuple[str, type[BaseEstimator]]]:
    """List the public estimators of sklrec, except those with required parameters.

    Estimators that need a dependency which is not installed, such as torch, are left out.

    Parameters
    ----------
    kind : {"recommender", "transformer"} or None, default=None
        Kind of estimators to list; None means both.

    Returns
    -------
    estimators : list of (str, type)
        Names and classes, sorted by name.

    Raises
    ------
    ValueError
        If `kind` is unknown.

    Examples
    --------
    >>> dict(all_estimators("recommender"))["EASE"]
    <class 'sklrec.linear._ease.EASE'>
    """
    if kind not in (None, "recommender", "transformer"):
        raise ValueError(f"kind must be 'recommender', 'transformer' or None, got {kind!r}.")
    found = {}
    for package in pkgutil.iter_modules(sklrec.__path__, "sklrec."):
        if package.name.rpartition(".")[2].startswith("_"):
            continue
        module = importlib.import_module(package.name)
        for name in getattr(module, "__all__", ()):
            try:
                value = getattr(module, name)
            except ImportError:  # a dependency is not installed
                continue
            if _is_estimator(value) and kind in (None, _kind_of(value)):
                found[name] = value
    return sorted(found.items())


def _is_estimator(value: object) -> bool:
    return (
        inspect.isclass(value)
        and issubclass(value, BaseEstimator)
        and not value.__name__.startswith("Base")
        and not any(
            parameter.default is parameter.empty
            and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            for parameter in inspect.signature(value).parameters.values()
        )
    )


def _kind_of(estimator: type) -> str:
    return "recommender" if issubclass(estimator, RecommenderMixin) else "transformer"
