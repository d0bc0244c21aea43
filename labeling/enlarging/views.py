"""The views of an image that a teacher answers: the image, its mirror image, boxes cut out of it."""

import re

import tensorflow as tf

from tfpipeline.system import FlagError

JOIN = "+"
_CROP = re.compile(r"crop:(\d+):(\d+):(\d+)(:flip)?")


def check(view: str, height: int, width: int) -> None:
    """Checks one view's name against the size of the images.

    Raises:
        FlagError: there is no such view, or its box reaches over the edge.
    """
    crop = _CROP.fullmatch(view)
    if crop is None:
        if view not in ("identity", "flip"):
            raise FlagError(
                f"--views {view} is none; give identity, flip, crop:TOP:LEFT:SIZE or crop:TOP:LEFT:SIZE:flip"
            )
        return
    top, left, size = map(int, crop.groups()[:3])
    if size < 1 or top + size > height or left + size > width:
        raise FlagError(f"--views {view} reaches over the edge of images of {height} x {width} pixels; move the box")


def look(images: tf.Tensor, view: str) -> tf.Tensor:
    """The images as a view shows them.

    Args:
        images: (B, H, W, C).
        view: "identity"; "flip", left and right swapped; "crop:TOP:LEFT:SIZE", a square box in pixels, and with ":flip"
            its mirror image.

    Returns:
        (B, h, w, C) of the same dtype; h and w are smaller than H and W for a crop.
    """
    crop = _CROP.fullmatch(view)
    if crop:
        top, left, size = map(int, crop.groups()[:3])
        images = images[:, top : top + size, left : left + size]
    return tf.reverse(images, [2]) if view.endswith("flip") else images
