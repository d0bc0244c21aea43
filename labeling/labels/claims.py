"""Which ranges of images the processes that label into one directory are at work on."""

import collections.abc
import fcntl
import os
import pathlib

from tfpipeline.system import PARTIAL


class Claims:
    """The ranges that this process has taken, each by a lock on a file that the operating system ends with the process.

    A claim only spares work. Where locks do not reach (some network drives), two processes do the same range and write
    the same shard.

    Args:
        directory: of the label store.
    """

    def __init__(self, directory: pathlib.Path):
        self.directory, self._files = directory, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for reached in list(self._files):
            self.release(reached)

    def take(self, ranges: collections.abc.Iterable[tuple[int, int]], is_done) -> collections.abc.Iterator:
        """Yields the ranges that nobody else has taken and that are not done, each taken at the time it is yielded.

        Args:
            ranges: (first, last) of each.
            is_done: (first, last) -> bool, asked when the range is taken.
        """
        for reached in ranges:
            if self._lock(reached):
                if is_done(reached):
                    self.release(reached)
                else:
                    yield reached

    def release(self, reached: tuple[int, int]) -> None:
        """Gives a range back, done or not."""
        path, descriptor = self._files.pop(reached)
        path.unlink(missing_ok=True)
        os.close(descriptor)

    def _lock(self, reached):
        # files.remove_leftovers removes the file when its process was killed.
        path = self.directory / f".labels-{reached[0]:08d}.claim{PARTIAL}"
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            if os.fstat(descriptor).st_nlink:
                self._files[reached] = path, descriptor
                return True
            os.close(descriptor)  # Its owner gave it back between our opening and our lock.
