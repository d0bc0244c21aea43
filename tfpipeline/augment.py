"""Changes to training images, vectorized and stateless: what happens to a sample depends on its counter alone.

Every augmentation is a function (images, seed, counters) -> images:

    images    uint8 (B, H, W, C)
    seed      the run's seed, 0 <= seed < 2^64
    counters  int64 (B,), epoch * number of images + index of the image

so that batches from any step on can be replayed, in any order and with any batch size.
"""

import zlib
from collections.abc import Callable

import numpy as np

from tfpipeline.errors import FlagError

Augmentation = Callable[[np.ndarray, int, np.ndarray], np.ndarray]

_WORD = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15


def uniform(seed: int, counters: np.ndarray, stream: str) -> np.ndarray:
    """A number in [0, 1) for every counter.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) at position `counters` of the sequence that starts at a hash of seed
    and stream; NumPy's own generators are sequential and cannot be asked for scattered positions at once.

    Args:
        seed: the run's seed.
        counters: int64 (B,).
        stream: a name for what is drawn; different names draw independently.

    Returns:
        float64 (B,).
    """
    start = _mix(np.array([(seed + _GAMMA * zlib.crc32(stream.encode())) & _WORD], np.uint64))
    bits = _mix(start + counters.astype(np.uint64) * np.uint64(_GAMMA))
    return (bits >> np.uint64(11)) * 2.0**-53


def flip() -> Augmentation:
    """Mirrors half of the samples left to right."""

    def augmented(images, seed, counters):
        return _mirrored(images, uniform(seed, counters, "flip") < 0.5)

    return augmented


def translate(pixels: int) -> Augmentation:
    """Shifts each sample by up to so many pixels in each direction; what comes in is the image reflected at its edge.

    Args:
        pixels: the largest shift, 0 < pixels < H, W.
    """

    def augmented(images, seed, counters):
        _, height, width, _ = images.shape
        padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="reflect")
        tops = _integers(seed, counters, "translate rows", 2 * pixels + 1)
        lefts = _integers(seed, counters, "translate columns", 2 * pixels + 1)
        shifted = np.empty_like(images)
        for sample, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            shifted[sample] = padded[sample, top : top + height, left : left + width]
        return shifted

    return augmented


AUGMENTATIONS = {"flip": flip, "translate": translate}


def parse(text: str) -> Augmentation:
    """The augmentation that a flag describes, such as "flip,translate:4": from left to right, each with its number.

    Raises:
        FlagError: a name is unknown, or its number is missing, superfluous or no number.
    """
    chain = [_parse_one(part) for part in text.split(",") if part]

    def augmented(images, seed, counters):
        for augmentation in chain:
            images = augmentation(images, seed, counters)
        return images

    return augmented


def _parse_one(part):
    name, _, number = part.partition(":")
    if name not in AUGMENTATIONS:
        raise FlagError(f"--augment {part}: there is no {name}; choose from {', '.join(AUGMENTATIONS)}")
    try:
        return AUGMENTATIONS[name](*[int(number)] if number else [])
    except (TypeError, ValueError) as error:
        raise FlagError(f"--augment {part}: {error}; write for example flip,translate:4") from error


def _mirrored(images, chosen):
    """A copy of images with the chosen samples mirrored left to right."""
    mirrored = np.array(images, order="C")
    pixels = mirrored.view(f"V{images.shape[-1]}")  # Whole pixels move twice as fast as single bytes.
    pixels[chosen] = pixels[chosen, :, ::-1]
    return mirrored


def _integers(seed, counters, stream, count):
    """A number in 0..count-1 for every counter."""
    return (uniform(seed, counters, stream) * count).astype(np.int64)


def _mix(words):
    """SplitMix64's finalizer: every bit of the 64 depends on every other."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
