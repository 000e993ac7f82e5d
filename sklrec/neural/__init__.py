"""Neural recommenders, trained with torch and skorch."""

import importlib
from typing import Any

__all__ = [
    "CDAE",
    "ELSA",
    "FLVAE",
    "VASP",
    "HVampVAE",
    "MultDAE",
    "MultVAE",
    "NeuMF",
    "NeuralEASE",
    "RecVAE",
]

_MODULES = {
    "CDAE": "_cdae",
    "ELSA": "_elsa",
    "FLVAE": "_flvae",
    "HVampVAE": "_hvamp_vae",
    "MultDAE": "_mult_dae",
    "MultVAE": "_mult_vae",
    "NeuMF": "_neumf",
    "NeuralEASE": "_neural_ease",
    "RecVAE": "_rec_vae",
    "VASP": "_vasp",
}


def __getattr__(name: str) -> Any:
    """Import a model when it is first used, so that sklrec works without torch."""
    if name not in __all__:
        raise AttributeError(f"module 'sklrec.neural' has no attribute {name!r}")
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
