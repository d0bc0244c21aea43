"""A view of an image: the image, its mirror image, or a box cut out of it.

    identity                   the image
    flip                       left and right swapped
    crop:TOP:LEFT:SIZE         a square box in pixels
    crop:TOP:LEFT:SIZE:flip    its mirror image

The answer to several views joined by "+" is the mean of the answers to each.
"""

import dataclasses
import re
import typing

import numpy as np

from tfpipeline.system import FlagError

JOIN = "+"
_FORM = re.compile(r"identity|flip|crop:(\d+):(\d+):(\d+)(:flip)?")


@dataclasses.dataclass(frozen=True)
class View:
    """One view.

    Attributes:
        box: (top, left, size) in pixels; None for the whole image.
        is_mirrored: whether left and right are swapped, after the box is cut.
    """

    box: tuple[int, int, int] | None = None
    is_mirrored: bool = False

    def __str__(self):
        """The name by which flags and label stores call it."""
        if self.box is None:
            return "flip" if self.is_mirrored else "identity"
        return "crop:" + ":".join(map(str, self.box)) + (":flip" if self.is_mirrored else "")

    def check_fits(self, height: int, width: int) -> None:
        """Checks the view against the size of the images, in pixels.

        Raises:
            FlagError: its box reaches over the edge.
        """
        if self.box is None:
            return
        top, left, size = self.box
        if size < 1 or top + size > height or left + size > width:
            raise FlagError(
                f"--views {self} reaches over the edge of images of {height} x {width} pixels; move the box"
            )

    def cut(self, images: typing.Any) -> typing.Any:
        """The pixels of the view: of an array or a tensor (B, H, W, C), (B, SIZE, SIZE, C) or (B, H, W, C)."""
        if self.box is not None:
            top, left, size = self.box
            images = images[:, top : top + size, left : left + size]
        if not self.is_mirrored:
            return images
        if isinstance(images, np.ndarray):
            return images[:, :, ::-1]
        import tensorflow as tf

        return tf.reverse(images, [2])  # A slice with a negative step takes tensors nine times as long.


IDENTITY = View()


def parse_view(name: str) -> View:
    """The view of a name.

    Raises:
        FlagError: there is no such view.
    """
    form = _FORM.fullmatch(name)
    if form is None:
        raise FlagError(f"--views {name} is none; give identity, flip, crop:TOP:LEFT:SIZE or crop:TOP:LEFT:SIZE:flip")
    box = None if form[1] is None else (int(form[1]), int(form[2]), int(form[3]))
    return View(box, name.endswith("flip"))


def parse_joined(name: str) -> tuple[View, ...]:
    """The views whose answers are one mean, by their names joined with "+"."""
    return tuple(parse_view(part) for part in name.split(JOIN))
