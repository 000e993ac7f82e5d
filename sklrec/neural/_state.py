"""A trained net as numpy arrays, for pickles and files, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from skorch.history import History

from ._net import TorchNet


def net_to_arrays(net: TorchNet) -> dict[str, Any]:
    """Return what a trained net has learnt: weights, counters, the optimizer's state, history.

    Of the history what is known of each epoch, but not of each batch.
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
    """Initialize a net and give it what :func:`net_to_arrays` has returned."""
    net.initialize()
    net.plain_module.load_state_dict(_to_tensors(arrays["module"]))
    net.plain_criterion.load_state_dict(_to_tensors(arrays["criterion"]))
    net.history_ = History({**epoch, "batches": []} for epoch in arrays["history"])
    if "optimizer" in arrays:
        net.optimizer_.load_state_dict(_to_tensors(arrays["optimizer"]))
    return net


def _to_arrays(state: Any) -> Any:
    """Replace the tensors of a state by numpy arrays."""
    if isinstance(state, torch.Tensor):
        return state.detach().cpu().numpy()
    if isinstance(state, dict):
        return {key: _to_arrays(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_to_arrays(value) for value in state]
    return state


def _to_tensors(state: Any) -> Any:
    """Undo :func:`_to_arrays`."""
    if isinstance(state, np.ndarray):
        return torch.from_numpy(state.copy())
    if isinstance(state, dict):
        return {key: _to_tensors(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_to_tensors(value) for value in state]
    return state
