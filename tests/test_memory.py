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


def test_the_tighter_limit_counts(monkeypatch, tmp_path):
    (tmp_path / "max").write_text("1000\n")
    (tmp_path / "current").write_text("400\n")
    monkeypatch.setattr(_memory, "_machine_memory", lambda: 5000)
    monkeypatch.setattr(
        _memory, "_CGROUP_FILES", [(str(tmp_path / "max"), str(tmp_path / "current"))]
    )
    assert available_memory() == 600


def test_a_container_without_limit_leaves_the_machine_s_memory(monkeypatch, tmp_path):
    (tmp_path / "max").write_text("max\n")
    monkeypatch.setattr(_memory, "_machine_memory", lambda: 5000)
    monkeypatch.setattr(_memory, "_CGROUP_FILES", [(str(tmp_path / "max"), "nowhere")])
    assert available_memory() == 5000


def test_this_machine_has_some_memory():
    available = available_memory()
    assert available is None or available > 0
