"""Contact sheets: images in rows, each with its caption."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure, SubFigure

from tfpipeline.pictures.figure import PLAIN, cut

INCHES_PER_IMAGE = 1.4
LETTERS_PER_IMAGE = 18


def contact_sheet(
    images: np.ndarray,
    captions: Sequence[str],
    colors: Sequence[str] | None = None,
    columns: int = 8,
    title: str | None = None,
) -> Figure:
    """Images in rows, each with its caption below.

    Args:
        images: uint8 (N, H, W, 3).
        captions: N texts; long lines are cut.
        colors: N matplotlib colors of the captions; `PLAIN` by default.
        columns: images in a row.
        title: a line above all.
    """
    rows = -(-len(images) // columns)
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    height = rows * INCHES_PER_IMAGE * (1 + 0.12 * lines) + (0.4 if title else 0.1)
    figure = Figure(figsize=(columns * INCHES_PER_IMAGE, height), layout="constrained")
    draw_contact_sheet(figure, images, captions, colors, columns, title)
    return figure


def draw_contact_sheet(
    figure: Figure | SubFigure,
    images: np.ndarray,
    captions: Sequence[str],
    colors: Sequence[str] | None = None,
    columns: int = 8,
    title: str | None = None,
) -> None:
    """Draws `contact_sheet` into a figure or a part of one."""
    rows = -(-len(images) // columns)
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axis in axes:
        axis.set_axis_off()
    for i, (axis, image, caption) in enumerate(zip(axes, images, captions, strict=False)):
        axis.imshow(image, interpolation="nearest")
        folded = "\n".join(cut(line, LETTERS_PER_IMAGE) for line in caption.split("\n"))
        axis.text(
            0.5, -0.04, folded, transform=axis.transAxes, ha="center", va="top", fontsize=8,
            color=colors[i] if colors is not None else PLAIN,
        )  # fmt: skip
    if title:
        figure.suptitle(title, fontsize=10)
