"""The pixels of an image store where they lie on disk, none of which is used before it is known to be undamaged.

A memory map shows what anybody writes into its file. The system gives the file another time with every write, and a
program can set the time of writing back, but not that of the last change: as long as these stand still the bytes are
those that were verified. Asking for them takes a microsecond; where they moved, the whole file is verified again. By
the same rule a file that was verified within the last day is not read for it at each start: many gigabytes take long.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import threading
import time
import typing
import weakref

import numpy as np

from tfpipeline.system import UserError, lock_shared

VERIFIED = "verified.json"
SECONDS_VERIFIED = 86_400
# Within so many seconds two writes may get the same time, by the coarsest clock of a file system.
_COARSEST = 2.0

_ADVICE = "nothing that was read since is used; run the same command again, which builds the image store anew"


class MappedImages:
    """The images of a store as if they were an array: what is taken of them is read, verified and in memory.

    The file stays open, with a lock that any number of processes share: `cache.prune` leaves such a store alone.

    Args:
        path: images.npy, uint8 (N, H, W, 3).
        sha256: of the file, in hexadecimal.
        verified: whether somebody has verified the file a moment ago, so that it need not be read for it here.

    Raises:
        UserError: the file is missing, or does not have the hash.
        ValueError: the file has the hash, and is no array.
    """

    def __init__(self, path: pathlib.Path, sha256: str, verified: bool = False):
        self.path, self._sha256 = path, sha256
        try:
            self._file = open(path, "rb")  # noqa: SIM115 - as long as there is a map of it
        except OSError as error:
            raise UserError(damage_of(path)) from error
        weakref.finalize(self, self._file.close)
        lock_shared(self._file)
        self._verifying = threading.Lock()
        self._state = self._look()
        if not verified and not self._was_verified():
            if not self._is_whole():
                raise UserError(damage_of(path))
            self._record()
        self._array = self._map()

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, 3)"""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        """uint8"""
        return self._array.dtype

    @property
    def ndim(self) -> int:
        """4"""
        return self._array.ndim

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, key: typing.Any) -> np.ndarray:
        """A copy of what an array has there.

        Raises:
            UserError: the file was damaged since it was verified.
        """
        while True:
            self.check()
            state, pixels = self._state, self._array[key]
            if pixels.base is not None:  # It lies in the file, and not in memory.
                pixels = pixels.copy()
            if self._look() == state:
                return pixels

    def __array__(self, dtype: typing.Any = None, copy: bool | None = None) -> np.ndarray:
        """All images in memory."""
        if copy is False:
            raise ValueError("the images lie on disk; an array of them is a copy")
        return np.asarray(self[:], dtype)

    def check(self) -> None:
        """Raises UserError where the file was damaged since it was verified."""
        if self._look() == self._state:
            return
        with self._verifying:  # The place in the file is that of all threads.
            while (state := self._look()) != self._state:
                if not self._is_whole():
                    raise UserError(f"{self.path} was changed while it was in use, and is damaged; {_ADVICE}")
                self._state = state

    def _is_whole(self):
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest() == self._sha256

    def _was_verified(self):
        """Whether somebody verified the file within the last day, and it has not changed since."""
        try:
            said = json.loads((self.path.parent / VERIFIED).read_bytes())
            return said["file"] == self._identity() and 0 <= time.time() - said["time"] < SECONDS_VERIFIED
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _record(self):
        """Leaves word that the file was verified, unless it is so young that a change might not show."""
        now, (*_, changed) = time.time(), self._state
        if now - changed / 1e9 > _COARSEST:
            said = json.dumps({"file": self._identity(), "time": now})
            with contextlib.suppress(OSError):  # Who may not write here verifies it each time.
                (self.path.parent / VERIFIED).write_text(said)

    def _identity(self):
        return [self._sha256, os.fstat(self._file.fileno()).st_ino, *self._state]

    def _look(self):
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def _map(self):
        self._file.seek(0)
        np.lib.format.read_magic(self._file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(self._file)
        if dtype != np.uint8:
            raise ValueError(f"its images are {dtype}")
        return np.asarray(np.memmap(self._file, dtype, "r", self._file.tell(), shape))


def damage_of(path: pathlib.Path) -> str:
    """What to say of a damaged file of an image store."""
    return f"{path} is damaged or missing; remove the image store {path.parent} and build it anew"
