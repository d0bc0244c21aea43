"""What a folder or an archive holds: the image files in it, how one is read, and what is left out."""

import collections
import dataclasses
import typing
from collections.abc import Callable

from tfpipeline.images.decoding import MAX_BYTES
from tfpipeline.images.file_names import NO_IMAGE, examine


@dataclasses.dataclass(frozen=True)
class Entry:
    """An image file: its name (escaped, one line), where its content is, or the fault that keeps it from being read."""

    name: str
    place: typing.Any
    fault: str | None = None


class Listing:
    """The image files of a folder or an archive.

    Args:
        beside: endings of names of further files that have an entry.

    Attributes:
        entries: of the files that are named like images, and of those further ones, in any order.
        left_out: how many other files there are, by the reason.
        read: entry -> its content, at most `MAX_BYTES` and one; raises nearly anything over damaged bytes.
    """

    def __init__(self, beside: tuple[str, ...] = ()) -> None:
        self.beside = beside
        self.entries: list[Entry] = []
        self.left_out: collections.Counter[str] = collections.Counter()
        self.read: Callable[[Entry], bytes] = _read_nothing

    def add(self, path: str, place: typing.Any, fault: Callable[[], str | None]) -> None:
        """Adds a file, or counts it as left out.

        Args:
            path: within the folder or the archive, with "/" between its parts.
            place: where its content is.
            fault: () -> why it cannot be read, or None; asked only of files that have an entry.
        """
        verdict = examine(path)
        if verdict.left_out and not (verdict.left_out == NO_IMAGE and path.endswith(self.beside)):
            self.left_out[verdict.left_out] += 1
        else:
            self.entries.append(Entry(verdict.name, place, verdict.fault or fault()))


def _read_nothing(entry: Entry) -> bytes:
    raise KeyError(entry.name)


def fault_of_size(size: int) -> str | None:
    """Why a file of so many bytes is not read, or None."""
    return f"has more than {MAX_BYTES:,} bytes" if size > MAX_BYTES else None
