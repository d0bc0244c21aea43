"""Files that are there whole or not at all, and directories that live no longer than the process that fills them."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator

from tfpipeline.system.errors import UserError
from tfpipeline.system.locks import lock, open_locked

PARTIAL = ".partial"
SCRATCH = ".scratch"


def sha256_of_file(path: pathlib.Path) -> str:
    """The sha256 of a file's content, in hexadecimal, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_directory(directory: pathlib.Path) -> None:
    """Makes the names in a directory survive a power cut: a rename is durable only after this."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: pathlib.Path, content: bytes) -> None:
    """Writes `content` under `path`: temporary sibling, flush, fsync, rename, fsync of the directory.

    Readers see the old file or the new one, never a part. The temporary file is locked while it is written, so that
    `remove_leftovers` tells the file of a living process from that of a killed one.

    Args:
        path: the final name; its directory exists.
        content: the bytes of the whole file.

    Raises:
        OSError: the disk is full, or the directory cannot be written; the previous file is intact.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    try:
        with open_locked(partial) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def publish_directory(partial: pathlib.Path, final: pathlib.Path) -> None:
    """Renames a finished directory into place, its files and its name durable.

    Args:
        partial: a directory on the same file system as `final`, whose files are complete.
        final: the name to give it; must not exist as a non-empty directory.
    """
    for path in partial.rglob("*"):
        if path.is_dir():
            sync_directory(path)
            continue
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_directory(partial)
    partial.rename(final)
    sync_directory(final.parent)


@contextlib.contextmanager
def new_directory(final: pathlib.Path) -> Iterator[pathlib.Path]:
    """A context that yields an empty directory to fill: it is renamed to `final` at the end, or vanishes on failure.

    Args:
        final: the name to be; its parents are made. What a killed process left of it is removed.

    Raises:
        UserError: `final` exists and is not an empty directory; perhaps another process made it in the meantime.
    """
    _refuse_existing(final)
    with scratch_directory(final.parent, final.name) as partial:
        yield partial
        try:
            publish_directory(partial, final)
        except OSError:
            _refuse_existing(final)
            raise


def _refuse_existing(final):
    if final.exists() and not (final.is_dir() and not any(final.iterdir())):
        raise UserError(f"{final} exists already; remove it or give another directory")


def remove_leftovers(directory: pathlib.Path) -> None:
    """Removes the temporary files in `directory` that killed processes left; those of living ones stay."""
    for partial in directory.glob(f".*{PARTIAL}"):
        try:
            with open(partial, "rb") as file:
                lock(file, wait=False)
                partial.unlink(missing_ok=True)
        except (FileNotFoundError, BlockingIOError):
            continue  # Renamed in the meantime, or being written.


@contextlib.contextmanager
def scratch_directory(parent: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
    """A context that yields a new hidden directory, removed at the end unless it was renamed.

    It is locked while this process lives; what killed processes left in `parent` is removed first.

    Args:
        parent: where to make it; made itself where it is missing.
        name: a part of its name, for people.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_old_scratch(parent)
    scratch, descriptor = _new_scratch(parent, name)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(descriptor)


def _new_scratch(parent, name):
    """A cleaner may take the directory between its creation and its lock: then it is made anew."""
    while True:
        scratch = parent / f".{name}.{uuid.uuid4().hex[:8]}{SCRATCH}"
        scratch.mkdir()
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(scratch, os.O_RDONLY)
            lock(descriptor)
            if scratch.exists():
                return scratch, descriptor
            os.close(descriptor)


def _remove_old_scratch(parent):
    for scratch in parent.glob(f".*{SCRATCH}"):
        try:
            descriptor = os.open(scratch, os.O_RDONLY)
        except FileNotFoundError:
            continue  # Renamed or removed in the meantime.
        try:
            lock(descriptor, wait=False)
            shutil.rmtree(scratch, ignore_errors=True)
        except BlockingIOError:
            continue  # Its process lives.
        finally:
            os.close(descriptor)
