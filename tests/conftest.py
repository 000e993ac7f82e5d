"""What several test files need."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp


@pytest.fixture(scope="session")
def data_folder():
    """Return the folder of real data sets that SKLREC_DATA names, or skip."""
    folder = os.environ.get("SKLREC_DATA")
    if not folder:
        pytest.skip("SKLREC_DATA does not name a folder of data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def ml1m(data_folder):
    """Return the ratings of MovieLens-1M, (6,040 users, 3,706 items), as a CSR array."""
    path = data_folder / "ml-1m.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not in the folder of data sets")
    table = np.load(path, allow_pickle=False)
    return sp.csr_array(
        (table["rating"].astype(np.float32), (table["user"], table["item"])), shape=(6040, 3706)
    )


@pytest.fixture
def X():
    """Return 60 users of 20 items with three groups, as a CSR array of float64 ones."""
    rng = np.random.default_rng(0)
    same_group = np.arange(60)[:, None] % 3 == np.arange(20) % 3
    return sp.csr_array((rng.random((60, 20)) < np.where(same_group, 0.6, 0.1)).astype(float))


@pytest.fixture
def command_line(monkeypatch):
    """Return what makes a line and paths the command line of this process, without SKLREC_DATA."""

    def set_command_line(line, *paths):
        monkeypatch.delenv("SKLREC_DATA", raising=False)
        monkeypatch.setattr(sys, "argv", [*line.split(), *map(str, paths)])

    return set_command_line
