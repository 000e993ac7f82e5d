"""Predictions and rankings of a trained net."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import scipy.sparse as sp
import torch

from ..._device import free_memory
from ..._linalg import blocks
from ..._ranking import Excluded
from ._data import SparseBatch
from ._net import TorchNet

# Number of users in a batch on a CPU: enough that the product with the last layer is not limited
# by reading its weights, and few enough that the scores stay in the caches.
PREDICTION_ROWS = 64

# The last digits of a product of matrices depend on the shapes, except where the number of rows is
# a multiple of this. Batches of the tiny matrices of scikit-learn's checks are filled up to it, as
# these ask for the same scores of a user alone and among others to the last digits of float64; with
# any other matrix they agree to rounding.
MULTIPLE_OF_ROWS = 8
FEW_ITEMS = 16

# Share of the free memory of a GPU that scoring and ranking a batch may take.
SHARE_OF_DEVICE = 0.5

# Number of tensors with the size of the scores that a ranking needs at a time.
TENSORS_OF_A_RANKING = 4

# Most scores at once on a GPU, some of whose kernels count to 2**31; more are no faster.
MOST_SCORES = 2**29

_IMPORTED_IN = os.getpid()


def spare_threads_after_fork() -> None:
    """Compute on one thread in a process that was forked after torch was imported.

    The threads that torch has started do not exist in the child, which would wait for them
    forever (pytorch issue 49555).
    """
    if os.getpid() != _IMPORTED_IN:
        torch.set_num_threads(1)


def outputs_of(
    net: TorchNet,
    X: sp.csr_array,
    function: Callable[[sp.csr_array, torch.Tensor | None], torch.Tensor],
    n_outputs: int,
) -> np.ndarray:
    """Apply a function to batches of X in evaluation mode; the result has the precision of X.

    The function also gets the rows of the result, where it may write to, or None.
    """
    outputs = np.empty((X.shape[0], n_outputs), dtype=X.dtype)
    device = torch.device(net.device)
    n_rows = rows_in_memory(device, max(n_outputs, X.shape[1])) or PREDICTION_ROWS
    filled_up = X.shape[1] <= FEW_ITEMS
    shared = None
    if X.dtype == np.float32 and device.type == "cpu" and not filled_up:
        shared = torch.from_numpy(outputs)
    with predicting(net, n_rows):
        for rows in blocks(X.shape[0], n_rows):
            batch = X if X.shape[0] == 1 else X[rows]
            n_missing = -batch.shape[0] % MULTIPLE_OF_ROWS
            if n_missing and filled_up:
                batch = batch.copy()
                batch.resize(batch.shape[0] + n_missing, X.shape[1])
            out = None if shared is None else shared[rows]
            found = function(batch, out)
            if found is out:
                continue
            found = found[: rows.stop - rows.start].float().cpu().numpy()
            if found.shape == outputs.shape and found.dtype == outputs.dtype:
                return found  # without a copy
            outputs[rows] = found
    return outputs


def scores_of_row(net: TorchNet, X: sp.csr_array) -> np.ndarray | None:
    """Return the scores of a single row on a CPU by numpy if the module has ``score_row``.

    For one row of a catalogue of thousands, torch takes longer to begin than numpy to finish. The
    method gets the values and the items of the row; it may return None, and its class must be that
    of the module, as a subclass may score in another way.
    """
    if X.shape[0] > 1 or X.shape[1] <= FEW_ITEMS or not net.on_cpu:
        return None
    module = net.plain_module
    score_row = vars(type(module)).get("score_row")
    if score_row is None:
        return None
    scores = score_row(module, X.data.astype(np.float32, copy=False), X.indices)
    return None if scores is None else scores[None].astype(X.dtype, copy=False)


def batch_of(X: sp.csr_array, net: TorchNet) -> SparseBatch:
    """Return all rows of X as one batch on the device of a net."""
    batch = SparseBatch.of(X)
    return batch if net.on_cpu else batch.to(torch.device(net.device))


@contextmanager
def predicting(net: TorchNet, n_rows: int) -> Iterator[None]:
    """Context manager in which a net is in evaluation mode and no gradients are computed."""
    spare_threads_after_fork()
    module = net.plain_module
    if any(part.training for part in module.modules()):
        module.eval()  # it takes longer than the question
    with torch.inference_mode():
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise _explained(error, n_rows) from error


def rank_on_device(
    net: TorchNet,
    X: sp.csr_array,
    k: int,
    excluded: Excluded,
    function: Callable[[sp.csr_array], torch.Tensor],
) -> tuple[np.ndarray, np.ndarray]:
    """Rank the best `k` items for each row of X, on the device of the net.

    Parameters
    ----------
    net : TorchNet
        The trained net.
    X : CSR array of shape (n_rows, n_items)
        Interactions.
    k : int
        Number of ranks, at most n_items.
    excluded : Excluded
        Items that must not be ranked.
    function : callable
        Maps rows of X to scores of shape (n_rows, n_items) on the device.

    Returns
    -------
    ranking : ndarray of shape (n_rows, k), dtype int64
        Item indices, best first; equal scores go to the lower index; -1 past the last item.
    scores : ndarray of shape (n_rows, k)
        Their scores, in the precision of X; minus infinity beside -1.
    """
    ranking = np.empty((X.shape[0], k), dtype=np.int64)
    values = np.empty((X.shape[0], k), dtype=X.dtype)
    n_rows = rows_in_memory(torch.device(net.device), X.shape[1]) or PREDICTION_ROWS
    with predicting(net, n_rows):
        for rows in blocks(X.shape[0], n_rows):
            scores = function(X[rows]).float()
            mask_excluded(scores, excluded[rows])
            best, ranked = best_columns(scores, k)
            ranking[rows], values[rows] = ranked.cpu().numpy(), best.cpu().numpy()
    return ranking, values


def rows_in_memory(device: torch.device, n_items: int) -> int | None:
    """Return how many rows a GPU can rank at once with its free memory; None on a CPU."""
    if device.type != "cuda":
        return None
    n_scores = int(SHARE_OF_DEVICE * free_memory(device)) // (4 * TENSORS_OF_A_RANKING)
    return max(1, min(n_scores, MOST_SCORES) // n_items)


def mask_excluded(scores: torch.Tensor, excluded: Excluded) -> None:
    """Set the scores of excluded items to minus infinity, in place."""
    if excluded.all_but is not None:
        at = _entries(excluded.all_but, scores.device)
        candidates = scores[at]
        scores.fill_(-torch.inf)
        scores[at] = candidates
    if excluded.items is not None:
        items = torch.from_numpy(np.flatnonzero(excluded.items)).to(scores.device)
        scores.index_fill_(1, items, -torch.inf)
    if excluded.entries is not None:
        scores[_entries(excluded.entries, scores.device)] = -torch.inf


def _entries(X: sp.csr_array, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    return (
        torch.from_numpy(rows).to(device),
        torch.from_numpy(X.indices.astype(np.int64)).to(device),
    )


def best_columns(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `k` largest scores of each row and their columns, best first.

    Equal scores are ranked by index, which ``torch.topk`` does not guarantee: all scores above
    the k-th largest are taken, and then the first of those that are equal to it.

    Raises
    ------
    ValueError
        If a score is NaN.
    """
    if scores.isnan().any():
        raise ValueError("Scores must not be NaN.")
    bound = scores.topk(k, dim=1, sorted=True).values[:, -1:]
    above = scores > bound
    level = scores == bound
    n_level = k - above.sum(dim=1, keepdim=True)
    taken = above | (level & (level.cumsum(dim=1, dtype=torch.int32) <= n_level))
    columns = taken.nonzero()[:, 1].view(scores.shape[0], k)  # k in each row, ascending
    best, order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return best, columns.gather(1, order).masked_fill(best == -torch.inf, -1)


@contextmanager
def explained_out_of_memory(n_rows: int) -> Iterator[None]:
    """Raise a MemoryError that says what to change if a GPU is out of memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _explained(error, n_rows) from error


def _explained(error: torch.OutOfMemoryError, n_rows: int) -> MemoryError:
    return MemoryError(
        f"The GPU is out of memory with {n_rows} users at once; use a smaller batch_size, "
        f"a smaller network, mixed_precision=True or device='cpu'. ({error})"
    )
