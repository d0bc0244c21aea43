"""Directories that live no longer than the process that fills them, whatever ends it."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator

_SUFFIX = ".scratch"


@contextlib.contextmanager
def scratch_directory(parent: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
    """A context that yields a new hidden directory, removed at the end unless it was renamed.

    It is locked while this process lives; what killed processes left in `parent` is removed first.

    Args:
        parent: where to make it; made itself where it is missing.
        name: a part of its name, for people.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(parent)
    scratch, descriptor = _new_locked(parent, name)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(descriptor)


def _new_locked(parent, name):
    """A cleaner may take the directory between its creation and its lock: then it is made anew."""
    while True:
        scratch = parent / f".{name}.{uuid.uuid4().hex[:8]}{_SUFFIX}"
        scratch.mkdir()
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(scratch, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if scratch.exists():
                return scratch, descriptor
            os.close(descriptor)


def _remove_leftovers(parent):
    for scratch in parent.glob(f".*{_SUFFIX}"):
        try:
            descriptor = os.open(scratch, os.O_RDONLY)
        except FileNotFoundError:
            continue  # Renamed or removed in the meantime.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(scratch, ignore_errors=True)
        except BlockingIOError:
            continue  # Its process lives.
        finally:
            os.close(descriptor)
