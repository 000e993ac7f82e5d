"""Large tensors that are made anew in each step, on huge pages."""

from __future__ import annotations

import math

import numpy as np
import torch

ALIGNMENT = 64  # bytes of a cache line, as in torch


def empty_on_huge_pages(*shape: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return a tensor that is not initialized, in main memory on huge pages if it is large.

    numpy asks Linux for huge pages and torch does not: to get 48 MB in pages of 4 KB, and to give
    them back, takes longer than to fill them.
    """
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    n_bytes = math.prod(shape) * dtype.itemsize
    buffer = np.empty(n_bytes + ALIGNMENT, dtype=np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    aligned = buffer[start : start + n_bytes].view(f"i{dtype.itemsize}")
    return torch.from_numpy(aligned).view(dtype).view(shape)


def mm_on_huge_pages(a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return ``a @ b``, computed in the precision of the factors, as `dtype` on huge pages."""
    out = empty_on_huge_pages(a.shape[0], b.shape[1], dtype=dtype, device=a.device)
    return torch.mm(a, b, out=out) if a.dtype == dtype else out.copy_(a @ b)
