"""Recommenders that read the content of items."""

import importlib
from typing import Any

_MODULES = {
    "AddEASE": "_add_ease",
    "CDL": "_cdl",
    "CTR": "_ctr",
    "CVAE": "_cvae",
    "CollectiveEASE": "_collective_ease",
    "CoVAE": "_covae",
    "CondVAE": "_cond_vae",
    "ContentELSA": "_content_elsa",
    "DAVE": "_dave",
    "DICER": "_dicer",
    "DeepMusic": "_deep_music",
    "FactorizationMachine": "_factorization_machine",
    "FactorsFromContent": "_factors_from_content",
    "MDCVAE": "_mdcvae",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a model when it is first used, so that those without torch work without it."""
    if name not in __all__:
        raise AttributeError(f"module 'sklrec.hybrid' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "skorch"):
            raise
        raise ImportError(
            f"{name} needs {error.name}, which is not installed: pip install 'sklrec[neural]'"
        ) from error


def __dir__() -> list[str]:
    return __all__
