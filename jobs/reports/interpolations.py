"""Pictures of a comparison of interpolations: the images side by side with the answers, and the figures as bars."""

import dataclasses

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from labeling.enlarging import interpolation
from labeling.enlarging.comparison import Answers, Figures
from tfpipeline.pictures import PLAIN, RIGHT, WRONG

DOTS_PER_INCH = 110  # as tfpipeline.pictures.figures.save writes figures
LEAST_DOTS = 120  # a side of a shown image
GAP_INCHES, LINE_INCHES = 4 / DOTS_PER_INCH, 21 / DOTS_PER_INCH
LETTERS_PER_INCH = 11  # at 10 points
BAND = "#dafbe1"  # behind what is recommended
TEACHER_COLORS = ("#0969da", "#bf8700", "#8250df", "#1b7c83")
SHARES = {
    "top1": "top-1",
    "top5": "top-5",
    "top_probability": "mean top probability",
    "flip_agreement": "same answer to the mirror image",
    "agreement": "same answer as other interpolations",
    "teacher_agreement": "same answer as other teachers",
}


@dataclasses.dataclass(frozen=True)
class Compared:
    """One teacher's part of a comparison.

    Attributes:
        name: of the teacher.
        answers: method -> Answers to the sample.
        figures: method -> Figures.
        recommended: a method, told without truth.
        class_names: a name for each class.
        truth: int (N,) in the teacher's classes, -1 where unknown; None without truth.
    """

    name: str
    answers: dict[str, Answers]
    figures: dict[str, Figures]
    recommended: str
    class_names: list[str]
    truth: np.ndarray | None


def contact_sheet(images: np.ndarray, positions: np.ndarray, compared: list[Compared], size: int) -> Figure:
    """A row for each image: as it is, then enlarged in each way with every teacher's answer below.

    Args:
        images: uint8 (n, H, W, 3).
        positions: int (n,), where the images stand in the sample.
        compared: the teachers.
        size: height and width that the images are enlarged to, in pixels.
    """
    columns = ("as it is", *interpolation.METHODS)
    # Every pixel of an enlarged image is a square of whole dots: nothing is resampled once more.
    side = size * -(-LEAST_DOTS // size) / DOTS_PER_INCH + 2 * GAP_INCHES
    heading = LINE_INCHES * (5 + len(compared))
    row_inches = side + LINE_INCHES * len(compared)
    width, height = len(columns) * side, heading + len(images) * row_inches
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1), aspect="equal")  # in inches, from above
    axis.set_axis_off()
    title = "The teachers' answers to every way of enlarging"
    axis.text(GAP_INCHES, 1.2 * LINE_INCHES, title, fontsize=14, weight="bold", va="center", color=PLAIN)
    axis.text(GAP_INCHES, 2.7 * LINE_INCHES, _legend(compared), fontsize=10, va="center", color=PLAIN)
    for column, method in enumerate(columns):
        left = column * side
        if any(method == part.recommended for part in compared):
            above = heading - LINE_INCHES * (1 + len(compared))
            axis.add_patch(Rectangle((left, above), side, height, color=BAND, zorder=-1))
        _write(axis, left, side, heading, [(method, PLAIN, "bold"), *_heading(method, compared, side)], above=True)
        enlarged = images if column == 0 else _enlarged(images, size, method)
        for row, image in enumerate(enlarged):
            top = heading + row * row_inches
            corners = (left + GAP_INCHES, left + side - GAP_INCHES, top + side - GAP_INCHES, top + GAP_INCHES)
            axis.imshow(image, extent=corners, interpolation="nearest")
            if column == 0:
                lines = _truth(positions[row], compared, side)
            else:
                lines = _answers(positions[row], method, compared, side)
            _write(axis, left, side, top + side, lines)
    axis.set(xlim=(0, width), ylim=(height, 0))
    return figure


def _enlarged(images, size, method):
    return np.rint(np.asarray(interpolation.enlarge(images, size, method))).astype(np.uint8)


def _write(axis, left, side, top, lines, above=False):
    """Writes (text, color, weight) lines below `top`, or above it, in the middle of the cell that begins at `left`."""
    first = top - LINE_INCHES * len(lines) if above else top
    for number, (text, color, weight) in enumerate(lines):
        place = left + side / 2, first + LINE_INCHES * (number + 0.5)
        axis.text(*place, text, fontsize=10, ha="center", va="center", color=color, weight=weight)


def _legend(compared):
    """What the numbers, the letters and the colors are."""
    known = any(part.truth is not None for part in compared)
    told = "top-1" if known else "nats that the answers tell about an image"
    count = f"{len(next(iter(compared[0].answers.values())).top):,} images"
    names = ", ".join(_letter(number, compared) + part.name for number, part in enumerate(compared))
    right = "; green: right, red: wrong" if known else ""
    return f"{names}; above the columns: {told} on {count}, *: recommended without truth{right}"


def _letter(number, compared):
    """A short name of a teacher, where there are several."""
    return f"{chr(ord('A') + number)} " if len(compared) > 1 else ""


def _heading(method, compared, side):
    """A line for each teacher above a column: its name, or how good this way is and whether it is recommended."""
    lines = []
    for number, part in enumerate(compared):
        weight, words = "normal", part.name
        if method in part.figures:
            top1 = part.figures[method].top1
            words = f"{part.figures[method].information:.2f} nats" if top1 is None else f"{100 * top1:.1f} %"
            if method == part.recommended:
                weight, words = "bold", f"{words} *"
        letter = _letter(number, compared)
        words = letter + _short(words, side, len(letter))
        lines.append((words, TEACHER_COLORS[number % len(TEACHER_COLORS)], weight))
    return lines


def _truth(position, compared, side):
    """The true class, once, where it is known."""
    for part in compared:
        if part.truth is not None and part.truth[position] >= 0:
            return [(_short(part.class_names[part.truth[position]], side), PLAIN, "normal")]
    return []


def _answers(position, method, compared, side):
    """A line for each teacher: class and probability, green where right, red where wrong."""
    lines = []
    for number, part in enumerate(compared):
        index, share = part.answers[method].top[position, 0], f" {part.answers[method].probability[position]:.0%}"
        known = part.truth is not None and part.truth[position] >= 0
        color = (RIGHT if index == part.truth[position] else WRONG) if known else PLAIN
        letter = _letter(number, compared)
        lines.append((letter + _short(part.class_names[index], side, len(letter + share)) + share, color, "normal"))
    return lines


def _short(name, side, taken=0):
    """The name up to its first comma, cut to what fits into a cell beside `taken` letters."""
    name, letters = name.split(",")[0], int(side * LETTERS_PER_INCH) - taken
    return name if len(name) <= letters else name[: letters - 1].rstrip() + "…"


def bars(compared: list[Compared]) -> Figure:
    """For each teacher the information that recommends, and beside it the shares, over the ways of enlarging.

    Args:
        compared: the teachers.
    """
    figure = Figure(figsize=(12, 3.6 * len(compared)), layout="constrained")
    axes = figure.subplots(len(compared), 2, squeeze=False, width_ratios=(2, 3))
    for (left, right), part in zip(axes, compared, strict=True):
        methods = list(part.figures)
        heights = [part.figures[method].information for method in methods]
        colors = [RIGHT if method == part.recommended else "#afb8c1" for method in methods]
        left.bar_label(left.bar(methods, heights, color=colors), fmt="%.2f", fontsize=8)
        left.set(ylabel="information (nats)")
        left.margins(y=0.12)
        left.set_title(f"{part.name}: {part.recommended} is recommended", fontsize=10)
        shown = []
        for name, label in SHARES.items():
            shares = [getattr(part.figures[method], name) for method in methods]
            if shares[0] is not None:
                shown += [100 * share for share in shares]
                style = "-" if name in ("top1", "top5") else ":"
                right.plot(methods, shown[-len(methods) :], marker="o", markersize=4, linestyle=style, label=label)
        place = methods.index(part.recommended)
        right.axvspan(place - 0.5, place + 0.5, color=BAND, zorder=0)
        right.set(ylabel="% of the images", ylim=(10 * np.floor(min(shown) / 10), 10 * np.ceil(max(shown) / 10)))
        right.grid(alpha=0.3)
        right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        for axis in (left, right):
            axis.set_xticks(range(len(methods)), methods, rotation=35, ha="right", rotation_mode="anchor", fontsize=8)
    return figure
