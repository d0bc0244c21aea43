"""Pictures of images, answers and curves, drawn on a matplotlib figure that no global state knows."""

import io
import pathlib

import numpy as np
from matplotlib.figure import Figure

from tfpipeline import durable

INCHES_PER_IMAGE = 1.25
LETTERS_PER_IMAGE = 18
RIGHT, WRONG, PLAIN = "#1a7f37", "#cf222e", "#24292f"


def save(figure: Figure, path: pathlib.Path, dots_per_inch: int = 110) -> pathlib.Path:
    """Writes the figure as a PNG, whole or not at all, and returns its path."""
    durable.write_file(path, png(figure, dots_per_inch))
    return path


def png(figure: Figure, dots_per_inch: int = 110) -> bytes:
    """The figure as the bytes of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return content.getvalue()


def contact_sheet(images, captions, colors=None, columns=8, title=None) -> Figure:
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
    height = rows * INCHES_PER_IMAGE * (1 + 0.16 * lines) + (0.4 if title else 0.1)
    figure = Figure(figsize=(columns * INCHES_PER_IMAGE, height), layout="constrained")
    draw_contact_sheet(figure, images, captions, colors, columns, title)
    return figure


def draw_contact_sheet(figure, images, captions, colors=None, columns=8, title=None) -> None:
    """Draws `contact_sheet` into a figure or a part of one."""
    rows = -(-len(images) // columns)
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axis in axes:
        axis.set_axis_off()
    for i, (axis, image, caption) in enumerate(zip(axes, images, captions, strict=False)):
        axis.imshow(image, interpolation="nearest")
        folded = "\n".join(_shortened(line) for line in caption.split("\n"))
        axis.text(
            0.5, -0.04, folded, transform=axis.transAxes, ha="center", va="top", fontsize=7,
            color=colors[i] if colors is not None else PLAIN,
        )  # fmt: skip
    if title:
        figure.suptitle(title, fontsize=10)


def draw_curves(axis, x, curves, xlabel, ylabel, percent=False) -> None:
    """Draws curves over the same x, each with its name; a curve whose values are all missing is left out.

    Args:
        axis: where to draw.
        x: (N,) positions.
        curves: name -> (N,) values, None or NaN where there is none; a float is a horizontal line.
        xlabel: what x is, with its unit.
        ylabel: what the values are, with their unit.
        percent: values are fractions, shown in percent.
    """
    scale = 100 if percent else 1
    for name, values in curves.items():
        if np.isscalar(values):
            axis.axhline(scale * values, color="gray", linestyle="--", linewidth=1, label=name)
            continue
        heights = scale * np.array([np.nan if value is None else value for value in values], float)
        if np.isfinite(heights).any():
            axis.plot(x, heights, marker="o", markersize=3, label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)


def confusion_matrix(matrix, names, title=None, reference="truth") -> Figure:
    """The confusion matrix as a picture, rows in percent; numbers above 0 are written up to 20 classes.

    Args:
        matrix: int (K, K), counts; row: reference, column: answer.
        names: K class names.
        title: a line above.
        reference: what the rows are.
    """
    count = len(matrix)
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(4 + 0.35 * count, 14)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.subplots()
    shown = axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(shown, ax=axis, label="% of the images of a row")
    axis.set(xlabel="answer", ylabel=reference, title=title)
    if count <= 40:
        axis.set_xticks(range(count), names, rotation=90, fontsize=7)
        axis.set_yticks(range(count), names, fontsize=7)
    if count <= 20:
        for row, column in np.argwhere(matrix):
            color = "white" if share[row, column] > 50 else PLAIN
            text = f"{share[row, column]:.0f}" if share[row, column] >= 0.5 else "<1"
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    return figure


def frequent_confusions(confusions, title=None) -> Figure:
    """A bar for each confusion, the most frequent one on top.

    Args:
        confusions: (what it is, what it was taken for, number of images, share of all that it is) of each.
        title: a line above.
    """
    figure = Figure(figsize=(8, 1.2 + 0.24 * len(confusions)), layout="constrained")
    axis = figure.subplots()
    bars = axis.barh(range(len(confusions)), [images for _, _, images, _ in confusions])
    axis.bar_label(bars, [f"{images:,} ({share:.0%})" for _, _, images, share in confusions], fontsize=7, padding=2)
    axis.set_yticks(range(len(confusions)), [f"{one} → {other}" for one, other, _, _ in confusions], fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.12, y=0.01)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_xlabel("images (share of the class)")
    axis.set_title(title, fontsize=10)
    return figure


def reliability_diagram(confidence, correct, bins=10, title=None) -> Figure:
    """Accuracy against confidence in equal bins, and below how many images a bin has: the diagonal is perfect.

    Args:
        confidence: (N,) top probabilities in [0, 1].
        correct: (N,) whether the answer is right.
        bins: how many.
        title: a line above; the expected calibration error (Guo et al. 2017, eq. 3) is added to it.
    """
    figure = Figure(figsize=(5, 5.4), layout="constrained")
    axis, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    which = np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    filled = counts > 0
    accuracy = np.bincount(which, np.asarray(correct, float), bins)[filled] / counts[filled]
    middle = np.bincount(which, confidence, bins)[filled] / counts[filled]
    error = float(np.sum(counts[filled] * np.abs(accuracy - middle)) / max(counts.sum(), 1))
    places = (np.flatnonzero(filled) + 0.5) / bins
    axis.bar(places, accuracy, width=0.95 / bins, label="accuracy")
    axis.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1, label="perfect calibration")
    axis.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axis.set_title(f"{title + ': ' if title else ''}expected calibration error {100 * error:.1f} %", fontsize=10)
    axis.legend(fontsize=8)
    drawn = below.bar(places, counts[filled], width=0.95 / bins, color="gray")
    below.bar_label(drawn, [f"{count:,}" for count in counts[filled]], fontsize=6)
    below.margins(y=0.25)
    below.set(xlabel="confidence", ylabel="images")
    return figure


def _shortened(line):
    return line if len(line) <= LETTERS_PER_IMAGE else line[: LETTERS_PER_IMAGE - 1] + "…"
