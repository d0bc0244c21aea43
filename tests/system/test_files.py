"""Files are whole or absent, and what a killed process left goes away."""

import fcntl
import hashlib
import os
import stat

import pytest

from tfpipeline.system.errors import UserError
from tfpipeline.system.files import PARTIAL, new_directory, remove_leftovers, sha256_of_file, write_file


def test_a_written_file_is_whole_and_alone(tmp_path):
    write_file(tmp_path / "a", b"first")
    write_file(tmp_path / "a", b"second")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"second")]
    assert sha256_of_file(tmp_path / "a") == hashlib.sha256(b"second").hexdigest()


def test_a_failed_write_leaves_the_previous_file(tmp_path, monkeypatch):
    write_file(tmp_path / "a", b"first")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "a", b"second")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"first")]


def test_the_order_of_the_commit(tmp_path, monkeypatch):
    """The content is on the disk before it has its name, and the name before the function returns."""
    calls, fsync, rename = [], os.fsync, type(tmp_path).rename

    def logged_fsync(descriptor):
        calls.append("fsync " + ("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"))
        fsync(descriptor)

    def logged_rename(path, target):
        calls.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(type(tmp_path), "rename", logged_rename)
    write_file(tmp_path / "a", b"content")
    assert calls == ["fsync file", "rename", "fsync directory"]


def test_leftovers_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path):
    (tmp_path / f".dead{PARTIAL}").write_bytes(b"half")
    (tmp_path / "other").write_bytes(b"mine")
    with open(tmp_path / f".alive{PARTIAL}", "wb") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        remove_leftovers(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [f".alive{PARTIAL}", "other"]
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_new_directory_is_there_whole_or_not_at_all(tmp_path):
    final = tmp_path / "deep" / "store"
    with pytest.raises(ZeroDivisionError), new_directory(final) as partial:
        (partial / "half").write_bytes(b"pixels")
        raise ZeroDivisionError
    assert list(final.parent.iterdir()) == []
    with new_directory(final) as partial:
        (partial / "images.npy").write_bytes(b"pixels")
        assert not final.exists()
    assert [path.name for path in final.parent.iterdir()] == ["store"]
    assert (final / "images.npy").read_bytes() == b"pixels"
    with pytest.raises(UserError, match="store exists already"), new_directory(final):
        raise AssertionError("nothing is to be written")
