"""Files that are there whole or not at all, and directories that live no longer than the process that fills them."""

import contextlib
import filecmp
import hashlib
import os
import pathlib
import re
import shutil
import tempfile
import uuid
from collections.abc import Container, Iterator

from tfpipeline.system.errors import UserError
from tfpipeline.system.locks import lock, open_locked

PARTIAL = ".partial"
SCRATCH = ".scratch"
# In each scratch directory: by it the program knows its own. It is locked while the process that made it lives.
MARK = "made-by-tfpipeline"
_CONTENT = "content"
_SCRATCH_NAME = re.compile(r"\..+\.[0-9a-f]{8}" + re.escape(SCRATCH))


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
    `remove_leftovers` tells the file of a living process from that of a killed one. What a killed process left of this
    very file is removed.

    Args:
        path: the final name; its directory exists.
        content: the bytes of the whole file.

    Raises:
        OSError: the disk is full, or the directory cannot be written; the previous file is intact, and named.
    """
    remove_leftovers(path.parent, re.escape(path.name))
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    try:
        with open_locked(partial) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            partial.rename(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
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
def new_directory(
    final: pathlib.Path, head: tuple[str, bytes] | None = None, varying: Container[str] = ()
) -> Iterator[pathlib.Path]:
    """A context that yields an empty directory to fill: it is renamed to `final` at the end, or vanishes on failure.

    Where a process published `final` and was killed after that, the same work again ends well, and leaves it as it is.

    Args:
        final: the name to be; its parents are made. What a killed process left of it is removed.
        head: name and content of a file that will be in it and tells one work from another; None where work that was
            done before is refused.
        varying: names of files whose bytes may be others each time; one that is not made here may be there.

    Raises:
        UserError: `final` exists, is not an empty directory and does not have the same files; perhaps another process
            made it in the meantime.
    """
    remove_old_scratch(final.parent)  # Also of one that was killed when `final` was there already.
    if head is None or not _has_file(final, *head):
        _refuse_existing(final)
    with scratch_directory(final.parent, final.name) as partial:
        yield partial
        try:
            publish_directory(partial, final)
        except OSError:
            if head is None or not _have_same_files(partial, final, varying):
                _refuse_existing(final)
                raise


def _has_file(directory, name, content):
    path = directory / name
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def _have_same_files(new, old, varying):
    names, known = ({path.relative_to(place).as_posix() for path in place.rglob("*")} for place in (new, old))
    if names - known or not all(name in varying for name in known - names):
        return False
    pairs = [(new / name, old / name) for name in names if name not in varying and not (new / name).is_dir()]
    return all(
        other.is_file() and (one.samefile(other) or filecmp.cmp(one, other, shallow=False)) for one, other in pairs
    )


def _refuse_existing(final):
    if final.exists() and not (final.is_dir() and not any(final.iterdir())):
        raise UserError(f"{final} exists already; remove it or give another directory")


def remove_leftovers(directory: pathlib.Path, names: str) -> None:
    """Removes the temporary files in `directory` that killed processes left; those of living ones stay.

    Only names of the form that `write_file` gives are removed, `.NAME.01234567.partial`, and only of files that the
    program writes there.

    Args:
        directory: where they are; may be missing.
        names: a regular expression that the names of the program's own files there match as a whole.
    """
    own = re.compile(rf"\.(?:{names})\.[0-9a-f]{{8}}{re.escape(PARTIAL)}")
    for partial in list(directory.glob(f".*{PARTIAL}")):
        if own.fullmatch(partial.name):
            remove_unless_locked(partial)


def remove_unless_locked(path: pathlib.Path) -> None:
    """Removes a file of a killed process; one that a living process has locked stays."""
    try:
        with open(path, "r+b") as file:
            if lock(file, wait=False):  # Where there are no locks, nobody knows whether its process lives.
                path.unlink(missing_ok=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError, BlockingIOError):
        return  # Renamed in the meantime, or no file, or another user's, or being written.


@contextlib.contextmanager
def scratch_directory(parent: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
    """A context that yields a new directory inside a hidden one, removed at the end unless it was renamed.

    Beside it lies a mark, locked while this process lives. What killed processes left in `parent` is removed first:
    directories with that mark, and nothing else.

    Args:
        parent: where to make it; made itself where it is missing.
        name: a part of its name, for people.
    """
    parent.mkdir(parents=True, exist_ok=True)
    remove_old_scratch(parent)
    scratch, mark = _new_scratch(parent, name)
    with mark:
        try:
            (scratch / _CONTENT).mkdir()
            yield scratch / _CONTENT
        finally:
            _remove_scratch(scratch)


@contextlib.contextmanager
def path_without_pattern(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """A context that yields a path to a directory that is no pattern: its own, else that of a link to it.

    TensorFlow looks for the variables of a SavedModel by a pattern, in which brackets and backslashes mean other names.
    """
    if not re.search(r"[\[\]\\]", str(directory)):
        yield directory
        return
    with tempfile.TemporaryDirectory() as place:
        link = pathlib.Path(place, "directory")
        link.symlink_to(directory.absolute(), target_is_directory=True)
        yield link


@contextlib.contextmanager
def temporary_directory() -> Iterator[pathlib.Path]:
    """A context in which this process and its children keep their temporary files in a directory of their own.

    TensorFlow's autograph, TFDS and others leave files behind when they are killed, and some whenever they are used.
    This directory goes at the end, and where the process was killed the next one removes it.

    Yields:
        The directory that held the temporary files before, for what is to outlive the process.

    Raises:
        UserError: its path is not UTF-8, which TensorFlow cannot read.
    """
    before = _place_of_temporary_files()
    require_utf8(before, "set TMPDIR to another directory")
    variable, known = os.environ.get("TMPDIR"), tempfile.tempdir
    with scratch_directory(before, "tfpipeline") as own:
        os.environ["TMPDIR"] = tempfile.tempdir = str(own)
        try:
            yield before
        finally:
            tempfile.tempdir = known
            os.environ.pop("TMPDIR")
            if variable is not None:
                os.environ["TMPDIR"] = variable


def _place_of_temporary_files():
    """What tempfile.gettempdir() says, without the file that it writes to try a directory: a kill would leave it."""
    place = tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"
    return pathlib.Path(place if os.access(place, os.W_OK | os.X_OK) else tempfile.gettempdir()).absolute()


def require_utf8(path: pathlib.Path, way_out: str) -> None:
    """Raises UserError where a path is not UTF-8: TensorFlow's own readers and writers take no other.

    Args:
        path: the path.
        way_out: what to do instead.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{path} is no UTF-8, which TensorFlow needs; {way_out}") from error


def _new_scratch(parent, name):
    """A cleaner may take the directory before its mark is locked: then it is made anew."""
    while True:
        scratch = parent / f".{name}.{uuid.uuid4().hex[:8]}{SCRATCH}"
        scratch.mkdir(mode=0o700)
        try:
            return scratch, open_locked(scratch / MARK)
        except FileNotFoundError:
            continue
        except BaseException:
            _remove_scratch(scratch)
            raise


def _remove_scratch(scratch):
    """Removes what is the program's own, the mark after all else: a removal that is killed goes on the next time."""
    shutil.rmtree(scratch / _CONTENT, ignore_errors=True)
    with contextlib.suppress(OSError):
        (scratch / MARK).unlink(missing_ok=True)
        scratch.rmdir()


def remove_old_scratch(parent: pathlib.Path) -> None:
    """Removes the scratch directories that killed processes left in a directory, and nothing else.

    Args:
        parent: where they are; may be missing.
    """
    for scratch in parent.glob(f".*{SCRATCH}"):
        if not _SCRATCH_NAME.fullmatch(scratch.name) or scratch.is_symlink():
            continue
        try:
            with open(scratch / MARK, "r+b") as mark:
                if lock(mark, wait=False):  # Where there are no locks, nobody knows whether its process lives.
                    _remove_scratch(scratch)
        except FileNotFoundError:
            with contextlib.suppress(OSError):
                scratch.rmdir()  # Only where it is empty: its process was killed before it set the mark.
        except OSError:
            continue  # No directory, or another user's, or its process lives, or nothing can be written there.
