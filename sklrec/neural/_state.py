"""Seeds and weights, in and out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def seeded(entropy: list[int]) -> Iterator[None]:
    """Seed torch inside the block and put the global generators back afterwards."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def to_arrays(state: Any) -> Any:
    """Replace the tensors of a state by numpy arrays."""
    if isinstance(state, torch.Tensor):
        return state.detach().cpu().numpy()
    if isinstance(state, dict):
        return {key: to_arrays(value) for key, value in state.items()}
    if isinstance(state, list):
        return [to_arrays(value) for value in state]
    return state


def to_tensors(state: Any) -> Any:
    """Undo :func:`to_arrays`."""
    if isinstance(state, np.ndarray):
        return torch.from_numpy(state.copy())
    if isinstance(state, dict):
        return {key: to_tensors(value) for key, value in state.items()}
    if isinstance(state, list):
        return [to_tensors(value) for value in state]
    return state
