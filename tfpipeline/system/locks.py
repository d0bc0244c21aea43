"""Locks on files and directories, which the operating system frees however the process that holds them ends.

On drives where locks do not reach, such as some network drives, nobody is kept out.
"""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator
from typing import IO, BinaryIO


def lock(file: int | IO, wait: bool = True) -> None:
    """Locks an open file or directory until it is closed.

    Args:
        file: the file, or a descriptor.
        wait: whether to wait while another process holds the lock.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
    """
    fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def open_locked(path: pathlib.Path, wait: bool = True) -> BinaryIO:
    """The file, open for writing and locked until it is closed; made where it is missing.

    Whoever holds its lock may remove it: where that happens between its opening and its lock, it is made anew.

    Args:
        path: the file.
        wait: whether to wait while another process holds the lock.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
    """
    while True:
        file = open(path, "ab")  # noqa: SIM115 - the caller closes it
        try:
            lock(file, wait)
        except BaseException:
            file.close()
            raise
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


@contextlib.contextmanager
def lock_file(path: pathlib.Path) -> Iterator[None]:
    """A context that one process at a time is in, the others wait: the file, which stays, is locked.

    Args:
        path: the file; its directory is made where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        lock(file)
        yield
