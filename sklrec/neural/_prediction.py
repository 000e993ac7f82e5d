"""What a trained net makes of users."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import gen_batches

from ._data import SparseBatch, SparseRows
from ._net import TorchNet

# Users predicted at once: few enough to answer for one user without delay, and enough to make
# the product with the last layer more than a walk through its weights.
PREDICTION_ROWS = 64


def in_equal_batches(
    net: TorchNet,
    X: sp.csr_array,
    function: Callable[[SparseBatch], torch.Tensor],
    n_outputs: int,
) -> np.ndarray:
    """Apply `function` to all rows of X, without training, in batches of one size.

    The last digits of a product of matrices depend on their shapes. In batches of one size, the
    last one filled up with empty rows, what comes out for a user does not depend on the others.
    """
    outputs = np.empty((X.shape[0], n_outputs), dtype=X.dtype)
    net.plain_module.eval()
    with torch.inference_mode(), explained_out_of_memory(PREDICTION_ROWS):
        for rows in gen_batches(X.shape[0], PREDICTION_ROWS):
            n_rows = rows.stop - rows.start
            padded = X[rows]
            padded.resize(PREDICTION_ROWS, X.shape[1])
            batch = SparseRows(padded)[torch.arange(PREDICTION_ROWS)]
            output = function(batch.to(torch.device(net.device)))
            outputs[rows] = output[:n_rows].float().cpu().numpy()
    return outputs


@contextmanager
def explained_out_of_memory(n_rows: int) -> Iterator[None]:
    """Say what to change when the GPU lacks the memory for `n_rows` users at once."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"The GPU is out of memory with {n_rows} users at once; use a smaller batch_size, "
            f"a smaller network, mixed_precision=True or device='cpu'. ({error})"
        ) from error
