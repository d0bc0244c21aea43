"""Which class is taken for which, and how often the answers of a confidence are right."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfpipeline.pictures.figure import PLAIN, cut

LETTERS = 24  # of a class's name, at the most


def confusion_matrix(
    matrix: np.ndarray, names: Sequence[str], title: str | None = None, reference: str = "truth"
) -> Figure:
    """The confusion matrix as a picture, rows in percent; numbers above 0 are written up to 20 classes.

    Args:
        matrix: int (K, K), counts; row: reference, column: answer.
        names: K class names; long ones are cut.
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
        short = [cut(name, LETTERS) for name in names]
        axis.set_xticks(range(count), short, rotation=90, fontsize=8)
        axis.set_yticks(range(count), short, fontsize=8)
    if count <= 20:
        for row, column in np.argwhere(matrix):
            color = "white" if share[row, column] > 50 else PLAIN
            text = f"{share[row, column]:.0f}" if share[row, column] >= 0.5 else "<1"
            axis.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    return figure


def frequent_confusions(confusions: Sequence[tuple[str, str, int, float]], title: str = "") -> Figure:
    """A bar for each confusion, the most frequent one on top.

    Args:
        confusions: (what it is, what it was taken for, number of images, share of all that it is) of each.
        title: a line above.
    """
    figure = Figure(figsize=(8, 1.2 + 0.24 * len(confusions)), layout="constrained")
    axis = figure.subplots()
    bars = axis.barh(range(len(confusions)), [images for _, _, images, _ in confusions])
    axis.bar_label(bars, [f"{images:,} ({share:.0%})" for _, _, images, share in confusions], fontsize=8, padding=2)
    pairs = [f"{cut(one, LETTERS)} → {cut(other, LETTERS)}" for one, other, _, _ in confusions]
    axis.set_yticks(range(len(confusions)), pairs, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.12, y=0.01)
    axis.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axis.set_xlabel("images (share of the class)")
    axis.set_title(title, fontsize=10)
    return figure


def reliability_diagram(counts: np.ndarray, accuracy: np.ndarray, error: float, title: str | None = None) -> Figure:
    """Accuracy against confidence in equal bins, and below how many images a bin has: the diagonal is perfect.

    Args:
        counts: int (bins,), images in each bin.
        accuracy: (bins,), in 0..1; where there are no images it does not count.
        error: the expected calibration error, in 0..1.
        title: a line above; the error is added to it.
    """
    figure = Figure(figsize=(5, 5.4), layout="constrained")
    axis, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    bins, filled = len(counts), counts > 0
    places = (np.flatnonzero(filled) + 0.5) / bins
    axis.bar(places, accuracy[filled], width=0.95 / bins, label="accuracy")
    axis.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1, label="perfect calibration")
    axis.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axis.set_title(f"{title + ': ' if title else ''}expected calibration error {100 * error:.1f} %", fontsize=10)
    axis.legend(fontsize=8)
    drawn = below.bar(places, counts[filled], width=0.95 / bins, color="gray")
    below.bar_label(drawn, [f"{count:,}" for count in counts[filled]], fontsize=8, rotation=90, padding=2)
    below.margins(y=0.8)
    below.set(xlabel="confidence", ylabel="images")
    return figure
