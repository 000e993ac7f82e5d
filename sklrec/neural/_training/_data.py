"""Sparse batches of users."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

# Interactions are stored on a GPU if they take at most this share of its free memory. Otherwise
# they stay in main memory and batches are prefetched.
SHARE_OF_DEVICE = 0.25


class Generators:
    """Random number generators of one fit, which uses no global generator.

    Parameters
    ----------
    device : torch.device
        Device on which the network is trained.

    Attributes
    ----------
    cpu : torch.Generator
        Generator of weights and of the order of rows, which are the same on every device.
    device : torch.Generator
        Generator of noise, on the device; it is `cpu` if the network is trained on the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.cpu = torch.Generator()
        self.device = self.cpu if device.type == "cpu" else torch.Generator(device)

    def seed(self, *entropy: int) -> None:
        """Seed both generators, with numbers such as the seed of a fit and that of the epoch."""
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        for generator in (self.cpu, self.device):
            generator.manual_seed(seed)

    def numpy(self) -> np.random.Generator:
        """Return a generator of numpy, whose seed is drawn from `cpu`."""
        return np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=self.cpu)))


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
        noise = torch.rand(
            rows.shape, dtype=torch.float64, device=rows.device, generator=self.generator
        )
        place = torch.arange(rows.shape[0], device=rows.device) - self.offsets[rows]
        in_second = torch.empty_like(rows, dtype=torch.bool)
        in_second[(rows + noise).argsort()] = place < self.n_entries[rows] // 2
        # With known sizes of the halves there is no need to wait for a GPU to count them.
        order = in_second.to(torch.uint8).argsort(stable=True)
        n_second = self.n_entries // 2
        n_in_second = int(n_second.sum()) if self.n_in_halves is None else self.n_in_halves
        n_first = rows.shape[0] - n_in_second
        return (
            self._take(order[:n_first], self.n_entries - n_second),
            self._take(order[n_first:], n_second),
        )

    def _take(self, entries: torch.Tensor, n_entries: torch.Tensor) -> SparseBatch:
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
        )

    def dropout(self, p: float, *, training: bool) -> SparseBatch:
        """Drop each entry with probability `p`, and divide the others by 1 - p."""
        return self._dropped(p) if p and training else self

    @torch.compiler.disable
    def _dropped(self, p: float) -> SparseBatch:
        kept = torch.empty_like(self.values).bernoulli_(1 - p, generator=self.generator)
        return replace(self, values=self.values * kept.div_(1 - p))

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
        """Copy the batch to a device, asynchronously if it is in pinned memory."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

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
        batches = (self.dataset[rows] for rows in order.split(self.batch_size))
        if self.dataset.values.device.type != self.device.type:
            batches = (batch.to(self.device) for batch in _ahead(b.pin_memory() for b in batches))
        return (replace(batch, generator=noise) for batch in batches)


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


def free_memory(device: torch.device) -> int:
    """Return the bytes of a GPU that are free, or that torch holds and does not use."""
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held


def _ahead(batches: Iterator[SparseBatch]) -> Iterator[SparseBatch]:
    """Yield from an iterator while a thread prepares the next batches."""
    ready: queue.Queue = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put(batch):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:  # also when the consumer stops early
        stopped.set()
        thread.join()


def _writable(array: np.ndarray) -> np.ndarray:
    """Return the array, or a copy if it is read-only, which torch does not support."""
    return array if array.flags.writeable else array.copy()
