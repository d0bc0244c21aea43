"""Changes to training images, vectorized and stateless: what happens to a sample depends on its counter alone.

Every augmentation is a function (images, seed, counters) -> images:

    images    uint8 (B, H, W, C)
    seed      the run's seed, 0 <= seed < 2^64
    counters  int64 (B,), epoch * number of images + index of the image

so that batches from any step on can be replayed, in any order and with any batch size.
"""

from collections.abc import Callable

import numpy as np

from tfpipeline.batches.counter_random import integers, uniform
from tfpipeline.batches.replay import REPLAY
from tfpipeline.system import FlagError

Augmentation = Callable[[np.ndarray, int, np.ndarray], np.ndarray]

GRAY = 128
NONE = "none"
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_IN_CACHE = 8  # Images of 64x64 whose float32 values a processor's cache holds.


def flip() -> Augmentation:
    """Mirrors half of the samples left to right."""

    def augment(images, seed, counters):
        return _mirror(images, uniform(seed, counters, "flip") < 0.5)

    return augment


def alternate(count: int) -> Augmentation:
    """Mirrors each image in every second epoch: a random half of them in the even ones, the others in the odd ones.

    So two consecutive epochs show every image both ways, which independent flips miss for half of them (Jordan 2024,
    arXiv 2404.00498).

    Args:
        count: number of images, by which the counters tell epochs and images.
    """

    def augment(images, seed, counters):
        epochs, indices = np.divmod(counters, count)
        return _mirror(images, (uniform(seed, indices, "alternate") < 0.5) ^ (epochs % 2 == 1))

    return augment


def translate(pixels: int) -> Augmentation:
    """Shifts each sample by up to so many pixels in each direction; what comes in is the image reflected at its edge.

    Args:
        pixels: the largest shift, 0 < pixels < H, W.
    """
    _check(pixels > 0, f"the largest shift is {pixels} pixels; it must be above 0")

    def augment(images, seed, counters):
        _, height, width, _ = images.shape
        padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="reflect")
        tops = integers(seed, counters, "translate rows", 2 * pixels + 1)
        lefts = integers(seed, counters, "translate columns", 2 * pixels + 1)
        shifted = np.empty_like(images)
        for sample, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            shifted[sample] = padded[sample, top : top + height, left : left + width]
        return shifted

    return augment


def cutout(pixels: int) -> Augmentation:
    """Grays out a square, whose center lies anywhere in the image (DeVries and Taylor 2017)

    Args:
        pixels: the side of the square, above 0.
    """
    _check(pixels > 0, f"the side of the square is {pixels} pixels; it must be above 0")

    def augment(images, seed, counters):
        _, height, width, _ = images.shape
        covered = images.copy()
        tops = integers(seed, counters, "cutout rows", height) - pixels // 2
        lefts = integers(seed, counters, "cutout columns", width) - pixels // 2
        for sample, top, left in zip(covered, tops, lefts, strict=True):
            sample[max(top, 0) : top + pixels, max(left, 0) : left + pixels] = GRAY
        return covered

    return augment


def color(percent: int) -> Augmentation:
    """Scales brightness, contrast and saturation, each by a factor from 1 - p to 1 + p

        y = a (m + b (c x + (1 - c) luma(x) - m)),  m = the mean of luma(x) over the image

    Args:
        percent: 100 p, 0 < p < 1.
    """
    _check(0 < percent < 100, f"color changes by {percent} percent; it must be between 0 and 100")

    def augment(images, seed, counters):
        brightness, contrast, saturation = (
            (1 + (2 * uniform(seed, counters, name) - 1) * percent / 100).astype(np.float32)[:, None, None, None]
            for name in ("brightness", "contrast", "saturation")
        )
        colored = np.empty_like(images)
        for first in range(0, len(images), _IN_CACHE):
            part = slice(first, first + _IN_CACHE)
            luma = images[part] @ LUMA[:, None]
            mean = luma.mean((1, 2, 3), keepdims=True)
            values = saturation[part] * images[part]
            values += (1 - saturation[part]) * luma
            values -= mean
            values *= contrast[part]
            values += mean
            values *= brightness[part]
            colored[part] = _as_pixels(values)
        return colored

    return augment


def rotate(degrees: int) -> Augmentation:
    """Turns each sample about its center by up to so many degrees either way, interpolated bilinearly.

    What comes in at the corners is the image mirrored at its edge.

    Args:
        degrees: the largest angle, 1..30.
    """
    _check(0 < degrees <= 30, f"rotation by {degrees} degrees; it must be from 1 to 30")

    def augment(images, seed, counters):
        angles = np.deg2rad(degrees * (2 * uniform(seed, counters, "rotate") - 1))
        cosines, sines = np.cos(angles), np.sin(angles)
        return _warp(images, np.stack([cosines, -sines, sines, cosines], -1).reshape(-1, 2, 2), 0.0)

    return augment


def crop(percent: int) -> Augmentation:
    """Enlarges a random window to the whole image, bilinearly; its side is `percent` to 100 percent of the image's.

    Args:
        percent: the smallest side, 1..99.
    """
    _check(0 < percent < 100, f"the window has {percent} percent; it must be from 1 to 99")

    def augment(images, seed, counters):
        _, height, width, _ = images.shape
        sides = (percent + (100 - percent) * uniform(seed, counters, "crop side")) / 100
        places = np.stack([uniform(seed, counters, f"crop {axis}") - 0.5 for axis in ("columns", "rows")], -1)
        room = (1 - sides)[:, None] * (width, height)
        return _warp(images, sides[:, None, None] * np.eye(2), places * room)

    return augment


AUGMENTATIONS = {
    "flip": flip,
    "alternate": alternate,
    "translate": translate,
    "crop": crop,
    "rotate": rotate,
    "cutout": cutout,
    "color": color,
}


def parse_augmentation(text: str, count: int) -> Augmentation | None:
    """The augmentation that a flag describes, such as "flip,translate:4": from left to right, each with its number.

    Args:
        text: the value of the flag; "none" or nothing for no augmentation. The teacher's views, which may come first,
            are no augmentation: see `replays`.
        count: number of images in the training set.

    Raises:
        FlagError: a name is unknown, or its number is missing, superfluous or no number.
    """
    if text == NONE:
        return None
    parts = [part for part in text.split(",") if part]
    chain = [_parse_one(part, count) for part in parts[replays(text) :]]

    def augment(images, seed, counters):
        for augmentation in chain:
            images = augmentation(images, seed, counters)
        return images

    return augment


def replays(text: str) -> bool:
    """Whether the augmentation that a flag describes begins with the teacher's views."""
    return text.split(",")[0] == REPLAY


def _parse_one(part, count):
    name, _, number = part.partition(":")
    if name == REPLAY:
        raise FlagError(f"--augment {part}: the teacher's views come first and without a number; write {REPLAY},...")
    if name not in AUGMENTATIONS:
        raise FlagError(f"--augment {part}: there is no {name}; choose from {', '.join([REPLAY, *AUGMENTATIONS])}")
    if name == "alternate" and not number:
        return alternate(count)
    try:
        return AUGMENTATIONS[name](*[int(number)] if number else [])
    except (TypeError, ValueError) as error:
        raise FlagError(f"--augment {part}: {error}; write for example flip,translate:4") from error


def _warp(images, matrices, shifts):
    """y[p] = x[A (p - center) + center + shift], bilinear; TensorFlow's transform does a whole batch at once.

    Args:
        images: x, uint8 (B, H, W, C).
        matrices: A, (B, 2, 2), over (column, row).
        shifts: (B, 2), or 0, in pixels.
    """
    import tensorflow as tf

    batch, height, width, _ = images.shape
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    offsets = center - matrices @ center + shifts
    zeros = np.zeros((batch, 2))  # No perspective.
    transforms = np.concatenate([np.concatenate([matrices, offsets[..., None]], -1).reshape(batch, 6), zeros], -1)
    with tf.device("cpu"):
        warped = tf.raw_ops.ImageProjectiveTransformV3(
            images=images.astype(np.float32),
            transforms=transforms.astype(np.float32),
            output_shape=[height, width],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="REFLECT",
        )
    return _as_pixels(warped.numpy())


def _as_pixels(values):
    """Rounded and clipped to 0..255, uint8; the values are not needed any more."""
    np.rint(values, out=values)
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


def _check(fits, problem):
    if not fits:
        raise ValueError(problem)


def _mirror(images, chosen):
    """A copy of images with the chosen samples mirrored left to right."""
    mirrored = np.array(images, order="C")
    pixels = mirrored.view(f"V{images.shape[-1]}")  # Whole pixels move twice as fast as single bytes.
    pixels[chosen] = pixels[chosen, :, ::-1]
    return mirrored
