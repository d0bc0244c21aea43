"""Locks keep others out for as long as their file is open, and a file that was removed is no lock."""

import fcntl
import os
import platform
import threading

import pytest

from tfpipeline.system import lock, lock_directory, lock_file, open_locked
from tfpipeline.system import locks as module


def test_who_does_not_wait_is_refused_until_the_file_is_closed(tmp_path):
    with open_locked(tmp_path / "lock"), pytest.raises(BlockingIOError):
        open_locked(tmp_path / "lock", wait=False)
    with open_locked(tmp_path / "lock", wait=False) as file:
        file.write(b"mine")
    assert (tmp_path / "lock").read_bytes() == b"mine"


def test_a_directory_is_locked_by_its_descriptor(tmp_path):
    one, other = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    try:
        lock(one)
        with pytest.raises(BlockingIOError):
            lock(other, wait=False)
    finally:
        os.close(one)
    lock(other, wait=False)
    os.close(other)


@pytest.mark.parametrize("wait", [True, False])
def test_a_file_removed_between_opening_and_lock_is_made_anew(tmp_path, monkeypatch, wait):
    path, flock, opened = tmp_path / "lock", fcntl.flock, []

    def remove_the_first(file, operation):
        if not opened:
            path.unlink()
        opened.append(file)
        flock(file, operation)

    monkeypatch.setattr(module.fcntl, "flock", remove_the_first)
    with open_locked(path, wait) as file:
        assert os.path.samestat(os.fstat(file.fileno()), path.stat())
    assert len(opened) == 2


def test_nobody_else_locks_the_file_of_a_context(tmp_path):
    path = tmp_path / "made" / "lock"
    with lock_file(path, "works"), open(path, "rb") as other, pytest.raises(BlockingIOError):
        lock(other, wait=False)
    with open(path, "rb") as other:
        lock(other, wait=False)


def test_nobody_else_locks_the_directory_of_a_context(tmp_path):
    with lock_directory(tmp_path):
        descriptor = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            lock(descriptor, wait=False)
    lock(descriptor, wait=False)
    os.close(descriptor)


def test_who_waits_says_for_whom_and_for_what(tmp_path):
    path = tmp_path / "lock"
    waiting, entered = threading.Event(), threading.Event()

    def second():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("builtins.print", lambda line, **_: (said.append(line), waiting.set()))
            with lock_file(path, "fetches the teacher"):
                entered.set()

    said = []
    thread = threading.Thread(target=second)
    with lock_file(path, "fetches the teacher"):
        thread.start()
        assert waiting.wait(60) and not entered.is_set()
    thread.join()
    assert entered.is_set()
    assert said == [f"waiting for process {os.getpid()} on {platform.node()}, which fetches the teacher"]
