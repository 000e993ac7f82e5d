"""Devices that torch computes on. Torch is imported when one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def device_named(device: str | torch.device) -> torch.device:
    """Return the CPU or the GPU that the parameter `device` of a model names.

    Raises
    ------
    ValueError
        If it names none, or a GPU that is not there.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda' or 'cuda:<number>', got {device!r}."
        )
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device={str(device)!r} asks for a CUDA device, but torch finds none; "
            "use device='auto' or 'cpu'."
        )
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device={str(device)!r} asks for a CUDA device that is not there: torch "
            f"finds {torch.cuda.device_count()}, numbered from 0."
        )
    return found


def gpu_named(device: str | torch.device) -> torch.device | None:
    """Return the GPU that a parameter names, or None for the CPU, which needs no torch.

    Raises
    ------
    ImportError
        If torch is not installed, and the device is not "cpu".
    ValueError
        As :func:`device_named`.
    """
    if isinstance(device, str) and device == "cpu":
        return None
    try:
        found = device_named(device)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"device={str(device)!r} needs torch, which is not installed: "
            "pip install 'sklrec[neural]'"
        ) from error
    return None if found.type == "cpu" else found


def free_memory(device: torch.device) -> int:
    """Return the bytes of a GPU that are free, or that torch holds and does not use."""
    import torch

    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held


def check_float32_products(model: str) -> None:
    """Raise an error if torch may compute products of float32 with fewer digits (TF32).

    This is a global setting. What networks are trained with is too imprecise to solve equations.
    """
    import torch

    precision = torch.get_float32_matmul_precision()
    if precision != "highest":
        raise ValueError(
            f"{model} on a GPU needs products in float32, but torch's setting is {precision!r}; "
            "call torch.set_float32_matmul_precision('highest') first."
        )


def torch_dtype(dtype: np.dtype) -> torch.dtype:
    """Return torch's name of float32 or float64."""
    import torch

    return torch.float32 if dtype == np.float32 else torch.float64
