"""Training in several processes together, each of which computes a part of every batch.

The processes are those of torch's default process group, where there is one when a model is fitted.
Each has all of the data and of the network, and draws the random numbers of whole batches, so that
together they take the steps that one process takes alone, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist


def n_processes() -> int:
    """Return the number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, counted from 0."""
    return dist.get_rank() if n_processes() > 1 else 0


def gathered(value: Any) -> list:
    """Return the values of all processes, in their order."""
    values: list[Any] = [value]
    if n_processes() > 1:
        values *= n_processes()
        dist.all_gather_object(values, value)
    return values


class Place(NamedTuple):
    """Where the rows or entries of a process are among those of a whole batch."""

    first: int
    n_whole: int


@dataclass(frozen=True)
class Share:
    """What a process computes of a batch.

    Parameters
    ----------
    weight : float
        Weight of the mean over its rows in the mean over all rows.
    rows, entries : Place
        Of its rows, and of their entries.
    in_halves : Place or None, default=None
        Of its entries in the second halves of all rows, see :meth:`SparseBatch.halved`.
    """

    weight: float
    rows: Place
    entries: Place
    in_halves: Place | None = None

    def halved(self) -> tuple[Share, Share]:
        """Return the shares in the first halves of all rows, and in the second halves."""
        assert self.in_halves is not None
        place = Place(*(n - m for n, m in zip(self.entries, self.in_halves, strict=True)))
        return (
            Share(self.weight, self.rows, place),
            Share(self.weight, self.rows, self.in_halves),
        )


def own_part(n_rows: int) -> tuple[slice, float]:
    """Return the part of a batch that this process computes, and its weight in a mean over rows.

    If there are fewer rows than processes, some compute the first row with a weight of 0, so that
    all take part in each step.
    """
    start, stop = (n_rows * k // n_processes() for k in (rank(), rank() + 1))
    if start == stop:
        return slice(0, 1), 0.0
    return slice(start, stop), (stop - start) / n_rows


def drawn(
    fill: Callable[[torch.Tensor], torch.Tensor], like: torch.Tensor, place: Place | None
) -> torch.Tensor:
    """Return random numbers in the shape of a tensor, one row for each row or entry of a batch.

    Parameters
    ----------
    fill : callable
        Fills a tensor with random numbers in place, and returns it.
    like : Tensor of shape (n, ...)
        Determines shape, type and device.
    place : Place or None
        Place of the n rows or entries in the whole batch, whose numbers are all drawn; with None
        they are the whole.
    """
    if place is None:
        return fill(torch.empty_like(like))
    whole = fill(like.new_empty(place.n_whole, *like.shape[1:]))
    return whole[place.first : place.first + len(like)]


def add_up(loss: torch.Tensor, parameters: Iterable[torch.Tensor], weight: float) -> torch.Tensor:
    """Replace gradients by their weighted sums over all processes, and return that of the loss."""
    loss = loss.detach() * weight
    gradients = [one.grad for one in parameters if one.grad is not None]
    for gradient in gradients:
        gradient.mul_(weight)
    for work in [dist.all_reduce(tensor, async_op=True) for tensor in (*gradients, loss)]:
        work.wait()  # type: ignore[union-attr]
    return loss


def check_same(about: dict[str, Any]) -> None:
    """Raise an error in all processes if one of them trains another model, or on other data."""
    others = gathered(about)
    for name, value in others[0].items():
        for process, other in enumerate(others):
            if other.get(name) != value:
                raise ValueError(
                    "The processes of a process group train one model together, so that all must "
                    f"have the same data and parameters; {name} is {value!r} in process 0 and "
                    f"{other.get(name)!r} in process {process}."
                )
