"""What the cache of image stores holds, and its removal: of stores that nobody uses, and of nothing else."""

import contextlib
import dataclasses
import json
import pathlib
import re
import time

from tfpipeline.images.store import (
    DESCRIPTION,
    IMAGES,
    STORE_FILES,
    is_description,
    is_sealed,
    lock_store,
    remove_store,
)
from tfpipeline.system import lock, remove_unless_locked

_NAME = re.compile(r".+-[0-9a-f]{16}")
_LOCK = re.compile(rf"\.{_NAME.pattern}\.lock")
SECONDS_PER_DAY = 86_400


@dataclasses.dataclass(frozen=True)
class CachedStore:
    """An image store in the cache.

    Attributes:
        directory: where it is.
        source: of its images, such as "folder:photos", and the split; None where its description is damaged.
        count: number of images; None likewise.
        size: of its files, in bytes.
        days: since it was opened last.
        in_use: whether a process has it open; None where files cannot be locked, so that nobody knows.
    """

    directory: pathlib.Path
    source: str | None
    count: int | None
    size: int
    days: float
    in_use: bool | None


def list_stores(cache: pathlib.Path) -> list[CachedStore]:
    """The image stores in a cache, those opened longest ago first; whatever else lies there is none of them.

    Args:
        cache: a directory; may be missing.
    """
    directories = [path for path in cache.glob("*") if _NAME.fullmatch(path.name) and not path.is_symlink()]
    stores = [_describe(path) for path in directories if path.is_dir()]
    return sorted(filter(None, stores), key=lambda store: (-store.days, store.directory.name))


def _describe(directory):
    """The store in a directory; None where there is none, or anything else beside it."""
    files = list(directory.iterdir())
    description = _read_description(directory)
    if not {path.name for path in files} <= set(STORE_FILES) or not (description or is_sealed(directory)):
        return None
    return CachedStore(
        directory,
        description and f"{description['source']}, split {description['split']}",
        description and description["count"],
        sum(path.stat().st_size for path in files),
        max(0.0, time.time() - directory.stat().st_mtime) / SECONDS_PER_DAY,
        _is_open(directory),
    )


def _read_description(directory):
    with contextlib.suppress(OSError, ValueError, RecursionError):
        description = json.loads((directory / DESCRIPTION).read_bytes())
        if is_description(description):
            return description
    return None


def _is_open(directory):
    try:
        with open(directory / IMAGES, "rb") as file:
            return False if lock(file, wait=False) else None
    except BlockingIOError:
        return True
    except OSError:  # It is missing: nobody can have it open.
        return False


def remove_cached(store: CachedStore) -> bool:
    """Removes a store, unless a process has it open; whether it is gone.

    Where files cannot be locked nobody knows whether it is in use, and it stays.
    """
    images = store.directory / IMAGES
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock_store(store.directory))
        if images.exists():
            file = stack.enter_context(open(images, "rb"))
            try:
                if not lock(file, wait=False):
                    return False
            except BlockingIOError:
                return False
        remove_store(store.directory)
    return True


def remove_locks(cache: pathlib.Path) -> None:
    """Removes the files of locks on stores that killed processes left in a cache; those that are held stay."""
    for path in cache.glob(".*.lock"):
        if _LOCK.fullmatch(path.name):
            remove_unless_locked(path)
