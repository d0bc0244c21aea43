"""The views of an image that a teacher answered, shown to the student: each answer is learned on what it answers.

That is function matching (Beyer et al. 2022, arXiv 2106.05237): teacher and student see the same pixels.
"""

from collections.abc import Sequence

import numpy as np

from tfpipeline.batches.counter_random import integers
from tfpipeline.images import JOIN, View, parse_view
from tfpipeline.system import FlagError

REPLAY = "replay"


def views_to_replay(names: Sequence[str]) -> tuple[View, ...]:
    """The views that labels keep apart, by their names there.

    Raises:
        FlagError: the labels keep none, or the mean of several alone.
    """
    if not names:
        raise FlagError(
            f"--augment {REPLAY}: there are no answers to views; give --labels that jobs.label_imagenet64 made"
        )
    if joined := [name for name in names if JOIN in name]:
        raise FlagError(
            f"--augment {REPLAY}: the labels hold only the mean of the answers to {joined[0].replace(JOIN, ' and ')}; "
            "label with --keep-views, or leave it out"
        )
    return tuple(map(parse_view, names))


def draw_views(seed: int, counters: np.ndarray, count: int) -> np.ndarray:
    """Which of `count` views each sample shows, and so which answer belongs to it.

    Args:
        seed: the run's seed.
        counters: int64 (B,), epoch * number of images + index of the image.
        count: number of views.

    Returns:
        int64 (B,), in 0..count-1.
    """
    return integers(seed, counters, "replay", count)


def show_views(images: np.ndarray, views: Sequence[View], which: np.ndarray) -> np.ndarray:
    """Each image as one of the views shows it.

    Args:
        images: uint8 (B, H, W, C).
        views: their boxes lie within the images.
        which: int (B,), the number of each image's view.

    Returns:
        uint8 (B, H, W, C).
    """
    seen = np.empty_like(images)
    for number, view in enumerate(views):
        seen[which == number] = show_view(images[which == number], view)
    return seen


def show_view(images: np.ndarray, view: View) -> np.ndarray:
    """The images as a view shows them, boxes enlarged bilinearly from their own pixels alone.

    Args:
        images: uint8 (B, H, W, C).
        view: its box lies within the images.

    Returns:
        uint8 (B, H, W, C).
    """
    height, width = images.shape[1:3]
    pixels = View(view.box).cut(images)
    pixels = pixels if view.box is None else _enlarge(pixels, height, width)
    return pixels[:, :, ::-1] if view.is_mirrored else pixels


def _enlarge(images, height, width):
    """y[h,w] = x[(h + 1/2) SIZE / H - 1/2, (w + 1/2) SIZE / W - 1/2], bilinear, repeated at the edge; rounded."""
    left, right, share = _neighbors(images.shape[2], width)
    images = images[:, :, left] + (images[:, :, right].astype(np.float32) - images[:, :, left]) * share[:, None]
    above, below, share = _neighbors(images.shape[1], height)
    images = images[:, above] + (images[:, below] - images[:, above]) * share[:, None, None]
    return np.rint(images).astype(np.uint8)


def _neighbors(size, length):
    """The two pixels of an axis between which each of `length` ones lies, and the second's share, float32."""
    places = np.clip((np.arange(length) + 0.5) * size / length - 0.5, 0, size - 1)
    first = places.astype(np.int64)
    return first, np.minimum(first + 1, size - 1), (places - first).astype(np.float32)
