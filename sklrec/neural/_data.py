"""Users as sparse batches: never a dense history, never a list of Python rows."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

# Share of the free memory of a GPU that the interactions may take; where they take more, they
# stay in main memory and batches are fetched ahead.
SHARE_OF_DEVICE = 0.25


class Generators:
    """The random numbers of one fit: nothing is drawn from a global generator.

    Parameters
    ----------
    device : torch.device
        Where the network is trained.

    Attributes
    ----------
    cpu : torch.Generator
        Draws weights and the order of the rows, which do not depend on the device.
    device : torch.Generator
        Draws noise; the same one where the network is trained on the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.cpu = torch.Generator()
        self.device = self.cpu if device.type == "cpu" else torch.Generator(device)

    def seed(self, *entropy: int) -> None:
        """Begin anew, from numbers such as the seed of a fit and the number of an epoch."""
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        for generator in (self.cpu, self.device):
            generator.manual_seed(seed)


@dataclass(frozen=True)
class SparseBatch:
    """Some rows of a CSR matrix, on one device.

    Parameters
    ----------
    values : Tensor of shape (nnz,), float32
        Stored entries, row by row.
    items : Tensor of shape (nnz,), int64
        Column of each entry.
    offsets : Tensor of shape (n_rows,), int64
        Where each row begins.
    n_entries : Tensor of shape (n_rows,), int64
        How many entries each row has.
    total : Tensor of shape (n_rows,)
        Sum of each row.
    norm : Tensor of shape (n_rows,)
        Euclidean norm of each row, 1 for an empty one.
    n_items : int
        Number of columns.
    n_in_halves : int
        Number of entries in the second half of all rows, n // 2 of the n of each; known without
        asking the device.
    generator : torch.Generator or None, default=None
        Source of all noise in training, on the same device. It belongs to one fit, so that fits
        in several threads do not disturb each other.
    """

    values: torch.Tensor
    items: torch.Tensor
    offsets: torch.Tensor
    n_entries: torch.Tensor
    total: torch.Tensor
    norm: torch.Tensor
    n_items: int
    n_in_halves: int
    generator: torch.Generator | None = None

    def __len__(self) -> int:
        return self.offsets.shape[0]

    @property
    def rows(self) -> torch.Tensor:
        """Row of each entry, of shape (nnz,)."""
        rows = torch.arange(len(self), device=self.items.device)
        return rows.repeat_interleave(self.n_entries, output_size=self.items.shape[0])

    @torch.compiler.disable  # sizes differ from batch to batch
    def normalized(self) -> SparseBatch:
        """Return the rows divided by their Euclidean norms."""
        return replace(self, values=self.values / self.norm[self.rows])

    def halved(self) -> tuple[SparseBatch, SparseBatch]:
        """Return the rows in two halves, drawn at random: each entry is in one of them.

        Of n entries the second half has n // 2, so that a single one is in the first.
        """
        rows = self.rows
        # Within each row in random order; float64, for many rows leave float32 few digits.
        noise = torch.rand(
            rows.shape, dtype=torch.float64, device=rows.device, generator=self.generator
        )
        place = torch.arange(rows.shape[0], device=rows.device) - self.offsets[rows]
        in_second = torch.empty_like(rows, dtype=torch.bool)
        in_second[(rows + noise).argsort()] = place < self.n_entries[rows] // 2
        # The sizes of the halves are known, so that a GPU need not be waited for to count them.
        order = in_second.to(torch.uint8).argsort(stable=True)
        n_first = rows.shape[0] - self.n_in_halves
        n_second = self.n_entries // 2
        return (
            self._take(order[:n_first], self.n_entries - n_second),
            self._take(order[n_first:], n_second),
        )

    def _take(self, entries: torch.Tensor, n_entries: torch.Tensor) -> SparseBatch:
        """Return the rows with some of their entries, in order, of which each row has so many."""
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
        )

    @torch.compiler.disable
    def dropout(self, p: float, *, training: bool) -> SparseBatch:
        """Return the rows with each entry dropped with probability `p`, and the others scaled."""
        if not (p and training):
            return self
        kept = torch.empty_like(self.values).bernoulli_(1 - p, generator=self.generator)
        return replace(self, values=self.values * kept.div_(1 - p))

    def to_scipy(self) -> sp.csr_array:
        """Return the rows, which must be in main memory, as a scipy array that shares theirs."""
        indptr = np.append(self.offsets.numpy(), self.items.shape[0])
        values, items = self.values.detach().numpy(), self.items.numpy()
        return sp.csr_array((values, items, indptr), shape=(len(self), self.n_items))

    def to_dense(self) -> torch.Tensor:
        """Return the rows as a tensor of shape (n_rows, n_items)."""
        dense = self.values.new_zeros(len(self), self.n_items)
        dense[self.rows, self.items] = self.values
        return dense

    def to(self, device: torch.device) -> SparseBatch:
        """Return the batch on another device; from pinned memory without waiting."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> SparseBatch:
        """Return the batch in memory that a GPU can read while the processor goes on."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> SparseBatch:
        tensors: dict[str, Any] = {
            name: function(value)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        return replace(self, **tensors)


def row_sums(values: torch.Tensor, n_entries: torch.Tensor) -> torch.Tensor:
    """Return the sum of each row's entries, which stand one row after the other.

    Added up in their order on every device, unlike ``index_add_``, whose last digits differ from
    one run to the next on a GPU.

    Parameters
    ----------
    values : Tensor of shape (nnz,)
        The entries.
    n_entries : Tensor of shape (n_rows,), int64
        How many each row has.

    Returns
    -------
    sums : Tensor of shape (n_rows,)
        0 for a row without entries.
    """
    return torch.segment_reduce(values, "sum", lengths=n_entries, unsafe=True)


class SparseRows(torch.utils.data.Dataset):
    """The rows of a CSR matrix as tensors, for :class:`SparseBatches` to take batches from.

    The arrays of X are shared where they are float32 and the rows stay in main memory.
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
        """Return the rows of an int64 tensor in main memory, on the device the entries are on."""
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
        )


class SparseBatches:
    """Iterate over the rows of a :class:`SparseRows` in batches, as input and as target.

    Takes the place of torch's DataLoader, which would collate rows one by one.

    Parameters
    ----------
    dataset : SparseRows
        The rows.
    batch_size : int
        Rows of a batch; the last may have fewer.
    generators : Generators or None, default=None
        Source of the order of the rows and of the noise of each batch. Without it rows come in
        their order.
    device : torch.device or str, default="cpu"
        Where the batches are to be.
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
    """Iterate over rows in batches whose input and target are two halves of each row.

    The halves are drawn anew in each iteration. A batch comes twice: the second half is to be
    learnt from the first, then the first from the second.
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
    """Yield from an iterator while a thread makes the next batch: two are alive at a time."""
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
    """Return the array, or a copy where it is read-only: torch takes no read-only memory."""
    return array if array.flags.writeable else array.copy()
