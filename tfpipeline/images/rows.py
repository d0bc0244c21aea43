"""Some rows of an array: as if they were one, each read when it is asked for; and which ones stand for all."""

import typing

import numpy as np

from tfpipeline.images.mapped import MappedImages


class Rows:
    """The rows `indices` of an array, in their order. What is taken of them is in memory, the rest stays on disk.

    Args:
        array: (M, ...), may be memory-mapped.
        indices: int64 (N,), 0..M-1.
    """

    def __init__(self, array: np.ndarray | MappedImages, indices: np.ndarray):
        self.array, self.indices = array, indices

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)"""
        return (len(self.indices), *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """That of the array."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.array.ndim

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: typing.Any) -> np.ndarray:
        """As of an array: for an index, a slice, an array of indices or bools, or a tuple that begins with one."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        rows = self.array[self.indices[first]]
        if not rest:
            return rows
        # As arrays do it, an index takes its axis away.
        return rows[tuple(rest)] if np.ndim(self.indices[first]) == 0 else rows[(slice(None), *rest)]

    def __array__(self, dtype: typing.Any = None, copy: bool | None = None) -> np.ndarray:
        """All rows in memory."""
        if copy is False:
            raise ValueError("the rows lie on disk; an array of them is a copy")
        return np.asarray(self.array[self.indices], dtype)


def spread_evenly(count: int, at_most: int) -> np.ndarray:
    """The indices of rows that stand for all, the first and the last among them, int64 (min(count, at_most),).

    Args:
        count: of all rows.
        at_most: how many to take; at least 1.
    """
    return np.linspace(0, count - 1, min(count, at_most)).astype(np.int64)


Pixels = np.ndarray | MappedImages | Rows  # of many images, uint8 (N, H, W, 3): in memory, on disk, or some of those


def check_pixels(images: Pixels) -> None:
    """Raises UserError where the file that images lie in was damaged since it was verified."""
    if isinstance(images, Rows):
        images = images.array
    if isinstance(images, MappedImages):
        images.check()
