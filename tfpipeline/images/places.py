"""Paths as people give them, and the state of what lies there."""

import hashlib
import pathlib

from tfpipeline.images.folders import walk
from tfpipeline.system import FlagError, UserError


def expand(place: str) -> pathlib.Path:
    """The path that `place` names, where "~" is the home directory.

    Raises:
        FlagError: nobody knows that home directory.
    """
    try:
        return pathlib.Path(place).expanduser()
    except RuntimeError as error:
        raise FlagError(f"{place}: the home directory is not known ({error}); give the path without ~") from error


def require(kind: str, path: pathlib.Path) -> None:
    """Raises UserError where there is nothing at `path`."""
    if not path.exists():
        raise UserError(f"no such file or folder: {path}; check the path after {kind}: in --images")


def state_of(path: pathlib.Path) -> str:
    """What changes when the files at `path` change: a hash of the path, size and times of each.

    The time of the latest change of the file's entry tells of other content under the old size and time of writing.
    """
    digest = hashlib.sha256()
    for file in sorted(file for file, _ in walk(path)) if path.is_dir() else [path]:
        digest.update(f"{file.absolute()}\0{_state_of_file(file)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _state_of_file(file):
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
