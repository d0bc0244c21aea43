"""Images of several sizes in one training: each batch is shown at one of them, and all are measured."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfpipeline.images import Pixels
from tfpipeline.system import FlagError

_PART = 1000  # images


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes that batches take in turn.

    Attributes:
        pixels: heights and widths of the images; the batch of step s has those of s modulo their number.
        enlarge: whether images are brought back to the size that they had, without what a smaller one does not show.
    """

    pixels: tuple[int, ...]
    enlarge: bool = False

    def at(self, images: np.ndarray, step: int) -> np.ndarray:
        """A batch as a step shows it: uint8 (B, H, W, C) -> uint8 (B, h, w, C)."""
        return self.show(images, self.pixels[step % len(self.pixels)])

    def show(self, images: np.ndarray, pixels: int) -> np.ndarray:
        """Images at one of the sizes, uint8, each pixel the mean of what it covers by a triangle filter."""
        shown = _resize(images, (pixels, pixels))
        return _resize(shown, images.shape[1:3]) if self.enlarge else shown

    def show_all(self, images: Pixels, pixels: int) -> np.ndarray:
        """All images at one of the sizes, in memory, resized a part at a time."""
        parts = [np.asarray(images[first : first + _PART]) for first in range(0, len(images), _PART)]
        return np.concatenate([self.show(part, pixels) for part in parts])


def parse_sizes(text: str, enlarge: bool) -> Sizes:
    """The sizes that `--sizes` names, such as 16,24,32.

    Raises:
        FlagError: a size is no whole number above 0.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise FlagError(f"--sizes {text}: write whole numbers of pixels above 0 with commas between, such as 16,24,32")
    return Sizes(tuple(map(int, parts)), enlarge)


def _resize(images, size):
    if images.shape[1:3] == tuple(size):
        return images
    with tf.device("CPU"):
        resized = tf.image.resize(images, size, antialias=True)
    return np.clip(np.rint(resized.numpy()), 0, 255).astype(np.uint8)
