"""The views of an image that a teacher answered, shown to the student: each answer is learned on what it answers.

That is function matching (Beyer et al. 2022, arXiv 2106.05237): teacher and student see the same pixels. A view is

    identity                   the image
    flip                       left and right swapped
    crop:TOP:LEFT:SIZE         a square box in pixels, enlarged to the size of the image
    crop:TOP:LEFT:SIZE:flip    its mirror image
"""

from collections.abc import Callable, Sequence

import numpy as np

from tfpipeline.batches.counter_random import integers


def drawn(seed: int, counters: np.ndarray, count: int) -> np.ndarray:
    """Which of `count` views each sample shows, and so which answer belongs to it.

    Args:
        seed: the run's seed.
        counters: int64 (B,), epoch * number of images + index of the image.
        count: number of views.

    Returns:
        int64 (B,), in 0..count-1.
    """
    return integers(seed, counters, "replay", count)


def replay(views: Sequence[str]) -> Callable:
    """The augmentation that shows each sample as the view that `drawn` draws for it.

    Args:
        views: their names, in the order of the answers.
    """

    def augmented(images, seed, counters):
        which = drawn(seed, counters, len(views))
        seen = np.empty_like(images)
        for number, view in enumerate(views):
            seen[which == number] = shown(images[which == number], view)
        return seen

    return augmented


def shown(images: np.ndarray, view: str) -> np.ndarray:
    """The images as a view shows them, crops enlarged bilinearly from their own pixels alone.

    Args:
        images: uint8 (B, H, W, C).
        view: the name of a view, whose box lies within the images.

    Returns:
        uint8 (B, H, W, C).
    """
    height, width = images.shape[1:3]
    kind, *box = view.removesuffix(":flip").split(":")
    if kind == "crop":
        top, left, size = map(int, box)
        images = _enlarged(images[:, top : top + size, left : left + size], height, width)
    return images[:, :, ::-1] if view.endswith("flip") else images


def _enlarged(images, height, width):
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
