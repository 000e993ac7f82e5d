"""Say what a fit would need before it is tried."""

from __future__ import annotations

import os
from pathlib import Path

GIB = 2**30

# Where Linux keeps the limit of the container a process runs in (control groups, versions 2 and 1)
# and what the container uses of it.
_CGROUP_FILES = [
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
]


def available_memory() -> int | None:
    """Return the bytes of main memory that can still be allocated, None where it is not known."""
    found = [_machine_memory()] + [_container_memory(*files) for files in _CGROUP_FILES]
    return min((n_bytes for n_bytes in found if n_bytes is not None), default=None)


def _machine_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    try:  # macOS tells the memory it has, not what is free: better than nothing
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _container_memory(limit_file: str, usage_file: str) -> int | None:
    try:
        limit = Path(limit_file).read_text().strip()
        return None if limit == "max" else int(limit) - int(Path(usage_file).read_text())
    except (OSError, ValueError):
        return None


def check_memory(n_bytes: int, what: str) -> None:
    """Raise a MemoryError if the machine has fewer than `n_bytes` left.

    Parameters
    ----------
    n_bytes : int
        What the next step allocates at its peak.
    what : str
        The step and the reason, the beginning of the error message.

    Raises
    ------
    MemoryError
        Before anything is allocated.
    """
    available = available_memory()
    if available is not None and n_bytes > available:
        raise MemoryError(
            f"{what} needs {n_bytes / GIB:,.1f} GiB of memory, "
            f"but only {available / GIB:,.1f} GiB are available."
        )
