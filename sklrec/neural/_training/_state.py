"""Conversion of a trained net to numpy arrays and back, for pickles and files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from skorch.history import History

from ._net import TorchNet


def net_to_arrays(net: TorchNet) -> dict[str, Any]:
    """Return the state of a trained net: weights, counters, the optimizer's state, history.

    The history has the values of each epoch, but not those of each batch.
    """
    arrays = {
        "module": _to_arrays(net.plain_module.state_dict()),
        "criterion": _to_arrays(net.plain_criterion.state_dict()),
        "history": [
            {name: value for name, value in epoch.items() if isinstance(value, (int, float))}
            for epoch in net.history
        ],
    }
    if net.optimizer_.state:
        arrays["optimizer"] = _to_arrays(net.optimizer_.state_dict())
    return arrays


def net_from_arrays(net: TorchNet, arrays: dict[str, Any]) -> TorchNet:
    """Initialize a net with the state that :func:`net_to_arrays` has returned."""
    net.initialize()
    net.plain_module.load_state_dict(_to_tensors(arrays["module"]))
    net.plain_criterion.load_state_dict(_to_tensors(arrays["criterion"]))
    net.history_ = History({**epoch, "batches": []} for epoch in arrays["history"])
    if "optimizer" in arrays:
        net.optimizer_.load_state_dict(_to_tensors(arrays["optimizer"]))
    return net


def _to_arrays(state: Any) -> Any:
    """Replace the tensors in a state by numpy arrays."""
    if isinstance(state, torch.Tensor):
        return state.detach().cpu().numpy()
    if isinstance(state, dict):
        return {key: _to_arrays(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_to_arrays(value) for value in state]
    return state


def _to_tensors(state: Any) -> Any:
    """Replace the numpy arrays in a state by tensors."""
    if isinstance(state, np.ndarray):
        return torch.from_numpy(state.copy())
    if isinstance(state, dict):
        return {key: _to_tensors(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_to_tensors(value) for value in state]
    return state
