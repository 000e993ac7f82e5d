"""Checks of the available memory before large allocations."""

from __future__ import annotations

import os
from pathlib import Path

GIB = 2**30

# Files of Linux with the memory limit of the container of a process (control groups, versions 2 and
# 1), its use, and the parts of this use. The use includes the cache of files, whose inactive part
# is available, as the kernel frees it when memory is needed.
_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_FILES = [
    (_CGROUP / "memory.max", _CGROUP / "memory.current", _CGROUP / "memory.stat", "inactive_file"),
    (
        _CGROUP / "memory" / "memory.limit_in_bytes",
        _CGROUP / "memory" / "memory.usage_in_bytes",
        _CGROUP / "memory" / "memory.stat",
        "total_inactive_file",
    ),
]


def available_memory() -> int | None:
    """Return how many bytes of main memory are available, or None if this is unknown."""
    found = [_machine_memory()] + [_container_memory(*files) for files in _CGROUP_FILES]
    return min((n_bytes for n_bytes in found if n_bytes is not None), default=None)


def _machine_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    try:  # macOS reports its total memory, not what is available
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _container_memory(limit: Path, usage: Path, stat: Path, reclaimable: str) -> int | None:
    try:
        most = limit.read_text().strip()
        if most == "max":
            return None
        left = int(most) - int(usage.read_text())
    except (OSError, ValueError):
        return None
    try:
        counts = dict(line.split() for line in stat.read_text().splitlines())
        return left + int(counts.get(reclaimable, 0))
    except (OSError, ValueError):
        return left


def check_memory(n_bytes: int, what: str, *, available: int | None = None) -> None:
    """Raise a MemoryError if fewer than `n_bytes` of memory are available.

    Parameters
    ----------
    n_bytes : int
        Memory that the next step needs at its peak.
    what : str
        The step, as the beginning of the error message.
    available : int or None, default=None
        Memory that there is; None means that of the machine.

    Raises
    ------
    MemoryError
        Before anything is allocated.
    """
    available = available_memory() if available is None else available
    if available is not None and n_bytes > available:
        raise MemoryError(
            f"{what} needs {n_bytes / GIB:,.1f} GiB of memory, "
            f"but only {available / GIB:,.1f} GiB are available."
        )
