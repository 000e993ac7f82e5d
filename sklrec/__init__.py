"""Top-N recommendation on implicit feedback, the scikit-learn way."""

import importlib
from types import ModuleType

__version__ = "0.1.0.dev0"

__all__ = [
    "base",
    "datasets",
    "dummy",
    "ensemble",
    "export",
    "factorization",
    "hybrid",
    "inspection",
    "linear",
    "metrics",
    "model_selection",
    "neighbors",
    "neural",
    "persistence",
    "pipeline",
    "preprocessing",
    "utils",
]


def __getattr__(name: str) -> ModuleType:
    """Import a submodule when it is first used, so that ``import sklrec`` stays fast."""
    if name in __all__:
        return importlib.import_module(f"sklrec.{name}")
    raise AttributeError(f"module 'sklrec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
