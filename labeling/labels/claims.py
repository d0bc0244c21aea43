"""Which spans of images the processes that label into one directory are at work on."""

import contextlib
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from labeling.labels.span import Span
from tfpipeline.system import PARTIAL, open_locked, remove_unless_locked

# What the answers to a sample, before all others, are called.
SAMPLE = "sample"
CLAIM = f".claim{PARTIAL}"


class Claims:
    """The spans that this process has taken, each by a lock on a file that the operating system ends with the process.

    A claim only spares work. Where locks do not reach (some network drives), two processes do the same span and write
    the same shard.

    Args:
        directory: of the label store.
    """

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self._files: dict[Span, tuple[pathlib.Path, BinaryIO | None]] = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for span in list(self._files):
            self.release(span)

    def take(self, spans: Iterable[Span], is_done: Callable[[Span], bool]) -> Iterator[Span]:
        """Yields the spans that nobody else has taken and that are not done, each taken at the time it is yielded.

        Args:
            spans: those to take, in this order.
            is_done: asked when the span is taken.
        """
        for span in spans:
            if self._lock(span):
                if is_done(span):
                    self.release(span)
                else:
                    yield span

    def release(self, span: Span) -> None:
        """Gives a span back, done or not."""
        path, file = self._files.pop(span)
        if file is not None:
            with contextlib.suppress(PermissionError):  # It was another user's, in a directory such as /tmp.
                path.unlink(missing_ok=True)
            file.close()

    def _lock(self, span):
        path = self.directory / f".labels-{span.first:08d}{CLAIM}"
        try:
            self._files[span] = path, open_locked(path, wait=False, for_all=True)
        except BlockingIOError:
            return False
        except PermissionError:
            self._files[span] = path, None  # Another user's claim that nobody may ask: done twice is better than never.
        return True


def remove_old_claims(directory: pathlib.Path) -> None:
    """Removes the claims that killed processes left in a label store."""
    for path in directory.glob(f".*{CLAIM}"):
        if re.fullmatch(rf"\.(labels-\d{{8,}}|{SAMPLE}){re.escape(CLAIM)}", path.name):
            remove_unless_locked(path)
