"""Locks on files and directories, which the operating system frees however the process that holds them ends.

On drives where locks do not reach, such as some network drives, nobody is kept out, and a note says so once.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import platform
import sys
from collections.abc import Iterator
from typing import IO, BinaryIO

# What a file system without locks answers. On NFS EBADF also means that the file is not open for writing.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)

_said: set[str] = set()


def lock(file: int | IO, wait: bool = True) -> bool:
    """Whether an open file or directory is locked now, until it is closed; false where there are no locks.

    Args:
        file: the file, or a descriptor; on NFS it must be open for writing.
        wait: whether to wait while another process holds the lock.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _say_once(f"files cannot be locked here ({error.strerror}): let only one command at a time work in a directory")
        return False
    return True


def lock_shared(file: IO) -> None:
    """Locks an open file until it is closed, as any number of processes may at a time; where there are no locks, not.

    Args:
        file: the file, for reading; waits while a process has it locked for itself.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_SH)


def _say_once(line):
    if line not in _said:
        _said.add(line)
        print(line, file=sys.stderr, flush=True)


def open_locked(path: pathlib.Path, wait: bool = True, for_all: bool = False) -> BinaryIO:
    """The file, open for writing and locked until it is closed; made where it is missing.

    Whoever holds its lock may remove it: where that happens between its opening and its lock, it is made anew.

    Args:
        path: the file.
        wait: whether to wait while another process holds the lock.
        for_all: whether every user who may write into the directory may lock the file, as a file without content.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
    """
    while True:
        file = open(path, "ab")  # noqa: SIM115 - the caller closes it
        try:
            if for_all:
                _open_to_all(file)
            lock(file, wait)
        except BaseException:
            file.close()
            raise
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _open_to_all(file):
    with contextlib.suppress(PermissionError):  # It is another user's, who has done the same.
        os.fchmod(file.fileno(), 0o666)


@contextlib.contextmanager
def lock_file(path: pathlib.Path, work: str) -> Iterator[None]:
    """A context that one process at a time is in: the file, which stays, is locked. The others say for whom they wait.

    Args:
        path: the file; its directory is made where it is missing.
        work: what a process does in this context, such as "fetches the teacher".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        _open_to_all(file)
        try:
            lock(file, wait=False)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).decode(errors="replace").strip() or "another process"
            print(f"waiting for {holder}, which {work}", file=sys.stderr, flush=True)
            lock(file)
        file.truncate(0)
        file.write(f"{this_process()}\n".encode())
        file.flush()
        yield


@contextlib.contextmanager
def lock_directory(directory: pathlib.Path) -> Iterator[None]:
    """A context that one process at a time is in, the others wait: the directory itself is locked.

    Another one may have its name by the time: who removes or renames it must look whether it is the same still.

    Args:
        directory: it exists.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def this_process() -> str:
    """What a lock says of who holds it."""
    return f"process {os.getpid()} on {platform.node()}"
