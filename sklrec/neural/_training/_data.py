"""Sparse batches of users."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import joblib
import numpy as np
import scipy.sparse as sp
import torch

from ..._device import free_memory
from ._generators import Generators
from ._prefetch import prefetched
from ._processes import Place, Share, drawn, n_processes, own_part

# Interactions are stored on a GPU if they take at most this share of its free memory. Otherwise
# they stay in main memory and batches are prefetched.
SHARE_OF_DEVICE = 0.25


@dataclass(frozen=True)
class SparseBatch:
    """Batch of rows of a CSR matrix, on one device.

    Parameters
    ----------
    values : Tensor of shape (nnz,), float32
        Stored entries, row by row.
    items : Tensor of shape (nnz,), int64
        Column of each entry.
    offsets : Tensor of shape (n_rows,), int64
        Index of the first entry of each row.
    n_entries : Tensor of shape (n_rows,), int64
        Number of entries of each row.
    total : Tensor of shape (n_rows,)
        Sum of each row.
    norm : Tensor of shape (n_rows,)
        Euclidean norm of each row, 1 for an empty one.
    n_items : int
        Number of columns.
    n_in_halves : int or None
        Number of entries in the second halves of all rows, the sum of n // 2 over rows with n
        entries, or None if it has to be computed on the device.
    generator : torch.Generator or None, default=None
        Generator of all noise in training, on the same device. It belongs to one fit, so that
        fits in several threads do not affect each other.
    index : Tensor of shape (n_rows,), int64, or None, default=None
        Index of each row in the dataset.
    share : Share or None, default=None
        What this is of a batch of several processes; None if it is a whole one.
    """

    values: torch.Tensor
    items: torch.Tensor
    offsets: torch.Tensor
    n_entries: torch.Tensor
    total: torch.Tensor
    norm: torch.Tensor
    n_items: int
    n_in_halves: int | None
    generator: torch.Generator | None = None
    index: torch.Tensor | None = None
    share: Share | None = None

    @classmethod
    def of(cls, X: sp.csr_array) -> SparseBatch:
        """Return all rows of a CSR array as one batch on the CPU, whose memory it may share."""
        indptr = X.indptr.astype(np.int64)
        offsets = indptr[:-1]
        n_entries = indptr[1:] - offsets
        total = _sums_of_rows(X.data, offsets, n_entries)
        norm = np.sqrt(_sums_of_rows(np.square(X.data), offsets, n_entries))
        norm[norm == 0] = 1
        return cls(
            values=torch.from_numpy(_writable(X.data.astype(np.float32, copy=False))),
            items=torch.from_numpy(X.indices.astype(np.int64)),
            offsets=torch.from_numpy(offsets),
            n_entries=torch.from_numpy(n_entries),
            total=torch.from_numpy(total.astype(np.float32, copy=False)),
            norm=torch.from_numpy(norm.astype(np.float32, copy=False)),
            n_items=X.shape[1],
            n_in_halves=None,
        )

    def __len__(self) -> int:
        return self.offsets.shape[0]

    @property
    def weight(self) -> float:
        """Weight of the mean over these rows in that over the rows of all processes."""
        return 1.0 if self.share is None else self.share.weight

    @property
    def n_whole(self) -> int:
        """Number of rows in the batch of all processes."""
        return len(self) if self.share is None else self.share.rows.n_whole

    @property
    def rows(self) -> torch.Tensor:
        """Row of each entry, of shape (nnz,)."""
        rows = torch.arange(len(self), device=self.items.device)
        return rows.repeat_interleave(self.n_entries, output_size=self.items.shape[0])

    def normalized(self) -> SparseBatch:
        """Return the rows divided by their Euclidean norms."""
        if len(self) == 1 and not torch.is_grad_enabled():
            return replace(self, values=self.values / self.norm)
        return self._normalized()

    @torch.compiler.disable  # sizes differ from batch to batch
    def _normalized(self) -> SparseBatch:
        return replace(self, values=self.values / self.norm[self.rows])

    def halved(self) -> tuple[SparseBatch, SparseBatch]:
        """Split the entries of each row at random into two halves.

        Of n entries, n // 2 are in the second half, so that a single entry is in the first.
        """
        rows = self.rows
        # Sorting by row + noise shuffles within rows. In float32 large row numbers would leave
        # few digits for the noise.
        noise = self._drawn_for_entries(
            lambda whole: whole.uniform_(generator=self.generator),
            torch.empty(rows.shape, dtype=torch.float64, device=rows.device),
        )
        place = torch.arange(rows.shape[0], device=rows.device) - self.offsets[rows]
        in_second = torch.empty_like(rows, dtype=torch.bool)
        in_second[(rows + noise).argsort()] = place < self.n_entries[rows] // 2
        # With known sizes of the halves there is no need to wait for a GPU to count them.
        order = in_second.to(torch.uint8).argsort(stable=True)
        n_second = self.n_entries // 2
        n_in_second = int(n_second.sum()) if self.n_in_halves is None else self.n_in_halves
        n_first = rows.shape[0] - n_in_second
        shares = (None, None) if self.share is None else self.share.halved()
        return (
            self._take(order[:n_first], self.n_entries - n_second, shares[0]),
            self._take(order[n_first:], n_second, shares[1]),
        )

    def _take(
        self, entries: torch.Tensor, n_entries: torch.Tensor, share: Share | None
    ) -> SparseBatch:
        """Return the rows with the given entries only, of which each row has `n_entries`."""
        values = self.values[entries]
        norm = row_sums(values.square(), n_entries).sqrt_()
        return replace(
            self,
            values=values,
            items=self.items[entries],
            offsets=torch.cumsum(n_entries, 0) - n_entries,
            n_entries=n_entries,
            total=row_sums(values, n_entries),
            norm=norm.masked_fill_(norm == 0, 1),
            n_in_halves=None,
            share=share,
        )

    def dropout(self, p: float, *, training: bool) -> SparseBatch:
        """Drop each entry with probability `p`, and divide the others by 1 - p."""
        return self._dropped(p) if p and training else self

    @torch.compiler.disable
    def _dropped(self, p: float) -> SparseBatch:
        kept = self._drawn_for_entries(
            lambda whole: whole.bernoulli_(1 - p, generator=self.generator), self.values
        )
        return replace(self, values=self.values * kept.div_(1 - p))

    def _drawn_for_entries(
        self, fill: Callable[[torch.Tensor], torch.Tensor], like: torch.Tensor
    ) -> torch.Tensor:
        return drawn(fill, like, None if self.share is None else self.share.entries)

    def standard_normal(self, like: torch.Tensor) -> torch.Tensor:
        """Draw standard normal numbers in the shape of a tensor with a row for each of these."""
        place = None if self.share is None else self.share.rows
        return drawn(lambda whole: whole.normal_(generator=self.generator), like, place)

    def without_zeros(self) -> SparseBatch:
        """Return the rows without entries of zero, with the same norms and totals."""
        kept = self.values.nonzero().squeeze(1)
        ends = torch.searchsorted(kept, self.offsets + self.n_entries)
        offsets = torch.searchsorted(kept, self.offsets)
        return replace(
            self,
            values=self.values[kept],
            items=self.items[kept],
            offsets=offsets,
            n_entries=ends - offsets,
            n_in_halves=None,
        )

    def to_scipy(self) -> sp.csr_array:
        """Return the rows, which must be on the CPU, as a scipy array that shares their memory."""
        indptr = np.append(self.offsets.numpy(), self.items.shape[0])
        values, items = self.values.detach().numpy(), self.items.numpy()
        return sp.csr_array((values, items, indptr), shape=(len(self), self.n_items))

    def to_dense(self) -> torch.Tensor:
        """Return the rows as a tensor of shape (n_rows, n_items)."""
        dense = self.values.new_zeros(len(self), self.n_items)
        dense[self.rows, self.items] = self.values
        return dense

    def to(self, device: torch.device) -> SparseBatch:
        """Copy the batch to a device, to a GPU asynchronously if it is in pinned memory."""
        # A copy to main memory that does not block may be read before it is there.
        to_gpu = device.type == "cuda"
        return self._map(lambda tensor: tensor.to(device, non_blocking=to_gpu))

    def pin_memory(self) -> SparseBatch:
        """Copy the batch to pinned memory, which a GPU can read asynchronously."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> SparseBatch:
        tensors: dict[str, Any] = {
            name: function(value)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        return replace(self, **tensors)


def _sums_of_rows(values: np.ndarray, offsets: np.ndarray, n_entries: np.ndarray) -> np.ndarray:
    """Return the sum of each row's entries, which depends on the row alone; 0 without entries."""
    if n_entries.all():
        return np.add.reduceat(values, offsets)
    sums = np.zeros(n_entries.size, dtype=values.dtype)
    filled = np.flatnonzero(n_entries)
    sums[filled] = np.add.reduceat(values, offsets[filled]) if filled.size else 0
    return sums


def row_sums(values: torch.Tensor, n_entries: torch.Tensor) -> torch.Tensor:
    """Return the sum of each row's entries.

    The entries are added in order on every device. With ``index_add_``, the rounding would differ
    between runs on a GPU.

    Parameters
    ----------
    values : Tensor of shape (nnz,)
        The entries, row by row.
    n_entries : Tensor of shape (n_rows,), int64
        Number of entries of each row.

    Returns
    -------
    sums : Tensor of shape (n_rows,)
        0 for a row without entries.
    """
    return torch.segment_reduce(values, "sum", lengths=n_entries, unsafe=True)


class SparseRows(torch.utils.data.Dataset):
    """Dataset of the rows of a CSR matrix, from which :class:`SparseBatches` takes batches.

    Memory is shared with X if X is float32 and the rows stay in main memory.
    """

    def __init__(self, X: sp.csr_array, device: torch.device | str = "cpu") -> None:
        device = torch.device(device)
        square = sp.csr_array((np.square(X.data), X.indices, X.indptr), shape=X.shape)
        norm = np.sqrt(square.sum(axis=1))
        self.shape = X.shape
        self.indptr = torch.from_numpy(X.indptr.astype(np.int64))
        stored = [
            torch.from_numpy(_writable(X.data.astype(np.float32, copy=False))),
            torch.from_numpy(_writable(X.indices)),
            torch.from_numpy(np.asarray(X.sum(axis=1), dtype=np.float32)),
            torch.from_numpy(np.where(norm > 0, norm, 1).astype(np.float32)),
        ]
        n_bytes = sum(tensor.nbytes for tensor in stored)
        if device.type == "cuda" and n_bytes <= SHARE_OF_DEVICE * free_memory(device):
            stored = [tensor.to(device) for tensor in stored]
        self.values, self.indices, self.total, self.norm = stored

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: torch.Tensor) -> SparseBatch:
        """Return a batch on the device of the entries; `rows` is an int64 tensor on the CPU."""
        start, end = self.indptr[rows], self.indptr[rows + 1]
        n_entries = end - start
        nnz, n_in_halves = int(n_entries.sum()), int((n_entries // 2).sum())
        offsets = torch.cumsum(n_entries, 0) - n_entries
        device = self.values.device
        rows, start, n_entries, offsets = (
            tensor.to(device, non_blocking=True) for tensor in (rows, start, n_entries, offsets)
        )
        shift = (start - offsets).repeat_interleave(n_entries, output_size=nnz)
        entries = torch.arange(nnz, device=device) + shift
        return SparseBatch(
            values=self.values[entries],
            items=self.indices[entries].long(),
            offsets=offsets,
            n_entries=n_entries,
            total=self.total[rows],
            norm=self.norm[rows],
            n_items=self.shape[1],
            n_in_halves=n_in_halves,
            index=rows,
        )


class SparseBatches:
    """Iterate over batches of rows, each of which is both input and target.

    It replaces torch's DataLoader, which would collate rows one by one.

    Parameters
    ----------
    dataset : SparseRows
        The rows.
    batch_size : int
        Number of rows in a batch; the last one may have fewer.
    generators : Generators or None, default=None
        Generators of the order of rows and of the noise of each batch. With None, rows are not
        shuffled.
    device : torch.device or str, default="cpu"
        Device of the batches.
    """

    def __init__(
        self,
        dataset: SparseRows,
        batch_size: int,
        *,
        generators: Generators | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.generators = generators
        self.device = torch.device(device)

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[SparseBatch, SparseBatch]]:
        return ((batch, batch) for batch in self._batches())

    def _batches(self) -> Iterator[SparseBatch]:
        order = torch.arange(len(self.dataset))
        noise = None
        if self.generators is not None:
            order = torch.randperm(len(self.dataset), generator=self.generators.cpu)
            noise = self.generators.device
        batches = (self._own_part(rows) for rows in order.split(self.batch_size))
        if self.dataset.values.device.type != self.device.type:
            batches = (
                batch.to(self.device) for batch in prefetched(b.pin_memory() for b in batches)
            )
        return (replace(batch, generator=noise) for batch in batches)

    def _own_part(self, rows: torch.Tensor) -> SparseBatch:
        """Return what this process computes of a batch of training."""
        if n_processes() == 1 or self.generators is None:
            return self.dataset[rows]
        own, weight = own_part(len(rows))
        n_entries = self.dataset.indptr[rows + 1] - self.dataset.indptr[rows]
        share = Share(
            weight,
            Place(own.start, len(rows)),
            *(Place(int(n[: own.start].sum()), int(n.sum())) for n in (n_entries, n_entries // 2)),
        )
        return replace(self.dataset[rows[own]], share=share)


class HalvedBatches(SparseBatches):
    """Iterate over batches whose input and target are two random halves of each row.

    The halves are drawn again in each epoch. Each batch is used twice: the target is the second
    half first, then the first half.
    """

    def __len__(self) -> int:
        return 2 * super().__len__()

    def __iter__(self) -> Iterator[tuple[SparseBatch, SparseBatch]]:
        for batch in self._batches():
            first, second = batch.halved()
            yield first, second
            yield second, first


def _writable(array: np.ndarray) -> np.ndarray:
    """Return the array, or a copy if it is read-only, which torch does not support."""
    return array if array.flags.writeable else array.copy()


def hash_of(X: sp.csr_array) -> str:
    """Return a hash of the rows of X."""
    return str(joblib.hash((X.indptr.astype(np.int64), X.indices.astype(np.int64), X.data)))
