"""Users as sparse batches: never a dense history, never a list of Python rows."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F

# Share of the free memory of a GPU that the interactions may take; where they take more, they
# stay in main memory and batches are fetched ahead.
SHARE_OF_DEVICE = 0.25


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
    """

    values: torch.Tensor
    items: torch.Tensor
    offsets: torch.Tensor
    n_entries: torch.Tensor
    total: torch.Tensor
    norm: torch.Tensor
    n_items: int

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
        shuffled = (
            rows + torch.rand(rows.shape, dtype=torch.float64, device=rows.device)
        ).argsort()
        place = torch.arange(rows.shape[0], device=rows.device) - self.offsets[rows]
        second = torch.empty_like(rows, dtype=torch.bool)
        second[shuffled] = place < self.n_entries[rows] // 2
        return self._keep(~second), self._keep(second)

    def _keep(self, kept: torch.Tensor) -> SparseBatch:
        """Return the rows with the entries where `kept` is true."""
        values, rows = self.values[kept], self.rows[kept]
        n_entries = torch.bincount(rows, minlength=len(self))
        norm = torch.zeros_like(self.norm).index_add_(0, rows, values.square()).sqrt_()
        return SparseBatch(
            values=values,
            items=self.items[kept],
            offsets=torch.cumsum(n_entries, 0) - n_entries,
            n_entries=n_entries,
            total=torch.zeros_like(self.total).index_add_(0, rows, values),
            norm=norm.masked_fill_(norm == 0, 1),
            n_items=self.n_items,
        )

    @torch.compiler.disable
    def dropout(self, p: float, *, training: bool) -> SparseBatch:
        """Return the rows with each entry dropped with probability `p`, and the others scaled."""
        return replace(self, values=F.dropout(self.values, p, training)) if p else self

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
        fields = vars(self) | {
            name: function(value) for name, value in vars(self).items() if name != "n_items"
        }
        return SparseBatch(**fields)


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
        if (
            device.type == "cuda"
            and n_bytes <= SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]
        ):
            stored = [tensor.to(device) for tensor in stored]
        self.values, self.indices, self.total, self.norm = stored

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: torch.Tensor) -> SparseBatch:
        """Return the rows of an int64 tensor in main memory, on the device the entries are on."""
        start, end = self.indptr[rows], self.indptr[rows + 1]
        n_entries = end - start
        nnz = int(n_entries.sum())
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
        )


class SparseBatches:
    """Iterate over the rows of a :class:`SparseRows` in batches, as input and as target.

    Takes the place of torch's DataLoader, which would collate rows one by one.
    """

    def __init__(
        self,
        dataset: SparseRows,
        batch_size: int,
        *,
        shuffle: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.device = torch.device(device)

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[SparseBatch, SparseBatch]]:
        return ((batch, batch) for batch in self._batches())

    def _batches(self) -> Iterator[SparseBatch]:
        n_rows = len(self.dataset)
        order = torch.randperm(n_rows) if self.shuffle else torch.arange(n_rows)
        batches = (self.dataset[rows] for rows in order.split(self.batch_size))
        if self.dataset.values.device.type != self.device.type:
            batches = (batch.to(self.device) for batch in _ahead(b.pin_memory() for b in batches))
        return batches


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
