"""Files are whole or absent, and what a killed process left goes away."""

import contextlib
import errno
import fcntl
import hashlib
import os
import pathlib
import re
import stat
import subprocess
import sys
import tempfile

import pytest

from tests.support.repository import ROOT
from tfpipeline.system import locks
from tfpipeline.system.errors import UserError
from tfpipeline.system.files import (
    MARK,
    PARTIAL,
    new_directory,
    remove_leftovers,
    scratch_directory,
    sha256_of_file,
    temporary_directory,
    write_file,
)
from tfpipeline.system.locks import NO_LOCKS


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


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
    (tmp_path / f".dead.01234567{PARTIAL}").write_bytes(b"half")
    mine = [f".dead{PARTIAL}", f".dead.0123456{PARTIAL}", f".thesis.01234567{PARTIAL}", "other"]
    for name in mine:
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / f".dead.directory{PARTIAL}").mkdir()
    (tmp_path / f".dead.76543210{PARTIAL}").mkdir()
    kept = sorted([*mine, f".dead.directory{PARTIAL}", f".dead.76543210{PARTIAL}"])
    with open(tmp_path / f".alive.01234567{PARTIAL}", "wb") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        remove_leftovers(tmp_path, "dead|alive")
        assert names_in(tmp_path) == sorted([f".alive.01234567{PARTIAL}", *kept])
    remove_leftovers(tmp_path, "dead|alive")
    assert names_in(tmp_path) == kept


def test_what_a_killed_process_left_of_a_file_goes_when_it_is_written_again(tmp_path):
    (tmp_path / f".a[1].png.01234567{PARTIAL}").write_bytes(b"half")
    (tmp_path / f".b.png.01234567{PARTIAL}").write_bytes(b"half")
    write_file(tmp_path / "a[1].png", b"content")
    assert names_in(tmp_path) == [f".b.png.01234567{PARTIAL}", "a[1].png"]


def test_a_file_by_a_living_process_is_never_removed(tmp_path, monkeypatch):
    """The pattern is that of the names which write_file gives."""
    rename = type(tmp_path).rename

    def killed(path, _target):
        assert re.fullmatch(rf"\.a\.b\.[0-9a-f]{{8}}{PARTIAL}", path.name)
        remove_leftovers(tmp_path, r"a\.b")
        assert path.exists()
        return rename(path, tmp_path / path.name)

    monkeypatch.setattr(type(tmp_path), "rename", killed)
    write_file(tmp_path / "a.b", b"content")
    (left,) = tmp_path.iterdir()
    remove_leftovers(tmp_path, r"a\.b")
    assert not left.exists()


def strange_scratch(parent):
    """What looks like a scratch directory and is not the program's."""
    (parent / ".mine.scratch").mkdir()
    (parent / ".mine.scratch" / "notes").write_text("precious")
    (parent / ".mine.01234567.scratch" / "content").mkdir(parents=True)
    (parent / ".mine.01234567.scratch" / "content" / "notes").write_text("precious")
    (parent / ".file.01234567.scratch").write_text("precious")
    marked = parent / "elsewhere"
    (marked / "content").mkdir(parents=True)
    (marked / MARK).touch()
    (marked / "content" / "notes").write_text("precious")
    (parent / ".link.01234567.scratch").symlink_to(marked)


def test_only_marked_scratch_directories_are_removed(tmp_path):
    strange_scratch(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    dead = tmp_path / ".out.89abcdef.scratch"
    (dead / "content" / "deep").mkdir(parents=True)
    (dead / MARK).touch()
    (tmp_path / ".out.00000000.scratch").mkdir()  # Killed before it had a mark.
    with scratch_directory(tmp_path, "out") as place:
        assert not dead.exists() and list(place.iterdir()) == []
        with scratch_directory(tmp_path, "out"):
            assert place.exists(), "its process lives"
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_stranger_put_beside_the_content_stays(tmp_path):
    dead = tmp_path / ".out.89abcdef.scratch"
    (dead / "content").mkdir(parents=True)
    (dead / MARK).touch()
    (dead / "notes").write_text("precious")
    with scratch_directory(tmp_path, "out"):
        assert [path.name for path in dead.iterdir()] == ["notes"]


KILLED = """
import os, pathlib, signal, sys
from tfpipeline.system import new_directory
with new_directory(pathlib.Path(sys.argv[1])) as place:
    (place / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_a_directory_that_the_next_one_removes(tmp_path):
    for _ in range(2):
        subprocess.run([sys.executable, "-c", KILLED, tmp_path / "store"], cwd=ROOT, check=False)
        assert len(list(tmp_path.iterdir())) == 1
    with new_directory(tmp_path / "store") as place:
        (place / "whole").write_text("whole")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["store", "store/whole"]


def test_what_was_left_when_the_directory_was_there_already_goes_with_the_next_command(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "whole").touch()
    (tmp_path / ".store.01234567.scratch").mkdir()  # Its mark is gone already: so far had its removal come.
    with pytest.raises(UserError, match="exists already"), new_directory(tmp_path / "store"):
        raise AssertionError("nothing is to be written")
    assert names_in(tmp_path) == ["store"]


def fill(final, files, **known):
    with new_directory(final, **known) as place:
        for name, content in files.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(content)


FILES = {"head": b"h", "a/b": b"b", "stamp": b"1"}
KNOWN = {"head": ("head", b"h"), "varying": ("stamp", "later")}


@pytest.mark.parametrize("change", [{}, {"stamp": b"2"}, {"later": b"x"}, {"a/b": b"c"}, {"c": b"c"}, {"head": b"i"}])
def test_the_same_files_again_are_well_and_others_are_refused(tmp_path, change):
    fill(tmp_path / "store", FILES | change)
    same = change.keys() <= {"stamp", "later"}
    with contextlib.nullcontext() if same else pytest.raises(UserError, match="store exists already"):
        fill(tmp_path / "store", FILES, **KNOWN)
    assert {name: (tmp_path / "store" / name).read_bytes() for name in FILES | change} == FILES | change
    assert names_in(tmp_path) == ["store"]


def test_a_file_that_is_missing_is_not_the_same(tmp_path):
    fill(tmp_path / "store", {"head": b"h"})
    with pytest.raises(UserError, match="store exists already"):
        fill(tmp_path / "store", FILES, **KNOWN)


KILLED_WITH_FILES = """
import os, signal, tempfile
from tfpipeline.system import temporary_directory
with temporary_directory():
    tempfile.mkstemp(), tempfile.mkdtemp()
    os.system("mktemp > /dev/null")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_temporary_files_go_at_the_end_and_those_of_killed_processes_with_the_next_one(tmp_path, monkeypatch):
    for _ in range(2):
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        subprocess.run([sys.executable, "-c", KILLED_WITH_FILES], cwd=ROOT, env=environment, check=False)
        (left,) = tmp_path.iterdir()
        assert len(list((left / "content").iterdir())) == 3
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TMPDIR")
    with temporary_directory() as before:
        assert before == tmp_path and not left.exists()
        file, path = tempfile.mkstemp()
        os.close(file)
        assert pathlib.Path(path).parent == pathlib.Path(os.environ["TMPDIR"])
    assert list(tmp_path.iterdir()) == []
    assert tempfile.gettempdir() == str(tmp_path) and "TMPDIR" not in os.environ


@pytest.mark.parametrize("number", NO_LOCKS)
def test_without_locks_work_is_done_and_nothing_of_others_removed(tmp_path, monkeypatch, capsys, number):
    def refuse(_file, _operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "_said", set())
    perhaps_alive = tmp_path / ".store.01234567.scratch"
    (perhaps_alive / "content").mkdir(parents=True)
    (perhaps_alive / MARK).touch()
    (tmp_path / f".a.01234567{PARTIAL}").touch()
    remove_leftovers(tmp_path, "a")
    write_file(tmp_path / "a", b"content")
    with new_directory(tmp_path / "store") as place:
        (place / "whole").write_text("whole")
    assert names_in(tmp_path) == [f".a.01234567{PARTIAL}", perhaps_alive.name, "a", "store"]
    note = f"files cannot be locked here ({os.strerror(number)}): let only one command at a time work in a directory\n"
    assert capsys.readouterr().err == note


def test_another_failure_of_a_lock_is_no_lack_of_locks(tmp_path, monkeypatch):
    def fail(_file, _operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(locks.fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output error"), scratch_directory(tmp_path, "out"):
        raise AssertionError("nothing is to be written")
    assert names_in(tmp_path) == []


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
