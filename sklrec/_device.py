"""Devices that torch computes on; only what computes on one imports this."""

from __future__ import annotations

import torch


def device_named(device: str | torch.device) -> torch.device:
    """Return the CPU or the GPU that the parameter `device` of a model names.

    Raises
    ------
    ValueError
        If it names none, or a GPU that is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
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


def free_memory(device: torch.device) -> int:
    """Return the bytes of a GPU that are free, or that torch holds and does not use."""
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held
