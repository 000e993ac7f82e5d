"""The memory that is left, and the error when it is too little."""

import pytest

from sklrec import _memory
from sklrec._memory import GIB, available_memory, check_memory


def test_error_says_what_is_needed_and_what_is_there(monkeypatch):
    monkeypatch.setattr(_memory, "available_memory", lambda: 3 * GIB)
    with pytest.raises(
        MemoryError, match=r"This fit needs 4\.0 GiB .* only 3\.0 GiB are available"
    ):
        check_memory(4 * GIB, "This fit")


def test_enough_memory_is_no_error(monkeypatch):
    monkeypatch.setattr(_memory, "available_memory", lambda: 3 * GIB)
    check_memory(3 * GIB, "This fit")


def test_unknown_memory_is_no_error(monkeypatch):
    monkeypatch.setattr(_memory, "available_memory", lambda: None)
    check_memory(10**30, "This fit")


@pytest.fixture
def container(monkeypatch, tmp_path):
    """Return a function that makes a container of one version, on a machine of 5,000 bytes."""

    def make(version, limit, usage=None, stat=None):
        (tmp_path / "limit").write_text(limit)
        if usage is not None:
            (tmp_path / "usage").write_text(usage)
        if stat is not None:
            (tmp_path / "stat").write_text(stat)
        *_, reclaimable = _memory._CGROUP_FILES[version - 1]
        files = (tmp_path / "limit", tmp_path / "usage", tmp_path / "stat", reclaimable)
        monkeypatch.setattr(_memory, "_machine_memory", lambda: 5000)
        monkeypatch.setattr(_memory, "_CGROUP_FILES", [files])

    # In the order of the files: version 2 first.
    return lambda version, *files: make(3 - version, *files)


def test_the_tighter_limit_counts(container):
    container(2, "1000\n", "400\n", "anon 400\n")
    assert available_memory() == 600


@pytest.mark.parametrize(
    ("version", "stat"),
    [
        (2, "anon 100\nfile 800\ninactive_file 700\nactive_file 100\n"),
        (1, "cache 20\ninactive_file 5\ntotal_cache 800\ntotal_inactive_file 700\n"),
    ],
)
def test_cache_that_can_be_dropped_is_not_used_memory(container, version, stat):
    container(version, "1000\n", "900\n", stat)
    assert available_memory() == 100 + 700


@pytest.mark.parametrize("stat", [None, "what is this\n"])
def test_unreadable_statistics_leave_what_is_not_used(container, stat):
    container(2, "1000\n", "400\n", stat)
    assert available_memory() == 600


def test_a_container_without_limit_leaves_the_machine_s_memory(container):
    container(2, "max\n")
    assert available_memory() == 5000


def test_an_unknown_use_of_a_container_leaves_the_machine_s_memory(container):
    container(2, "1000\n")
    assert available_memory() == 5000


def test_this_machine_has_some_memory():
    available = available_memory()
    assert available is None or available > 0
