"""Pictures of a comparison of interpolations: the images side by side with the answers, and the figures as bars."""

import dataclasses

import numpy as np
from matplotlib.figure import Figure

from labeling import interpolation
from labeling.comparison import Answers, Figures
from tfpipeline.pictures import PLAIN, RIGHT, WRONG

ROWS = 12
CELL_INCHES, GAP_INCHES, LINE_INCHES = 2.1, 0.04, 0.18
LETTERS_IN_CELL = 26
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
    heading = 0.6 + LINE_INCHES * (1 + len(compared))
    row_inches = CELL_INCHES + LINE_INCHES * len(compared)
    width, height = len(columns) * CELL_INCHES, heading + len(images) * row_inches
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), aspect="equal")  # in inches, from above
    axis.set_axis_off()
    axis.text(GAP_INCHES, 0.25, _title(compared), fontsize=13, weight="bold", color=PLAIN, va="center")
    for column, method in enumerate(columns):
        left = column * CELL_INCHES
        _write(axis, left, 0.6, [(method, PLAIN, "bold"), *_heading(method, compared)])
        enlarged = images if column == 0 else _enlarged(images, size, method)
        for row, image in enumerate(enlarged):
            top = heading + row * row_inches
            corners = (left + GAP_INCHES, left + CELL_INCHES - GAP_INCHES, top + CELL_INCHES - 2 * GAP_INCHES, top)
            axis.imshow(image, extent=corners, interpolation="nearest" if column == 0 else "antialiased")
            lines = _truth(positions[row], compared) if column == 0 else _answers(positions[row], method, compared)
            _write(axis, left, top + CELL_INCHES - 2 * GAP_INCHES, lines)
    axis.set(xlim=(0, width), ylim=(height, 0))
    return figure


def _enlarged(images, size, method):
    return np.rint(np.asarray(interpolation.enlarge(images, size, method))).astype(np.uint8)


def _write(axis, left, top, lines):
    """Writes (text, color, weight) lines below `top`, in the middle of the cell that begins at `left`."""
    for number, (text, color, weight) in enumerate(lines):
        place = left + CELL_INCHES / 2, top + LINE_INCHES * (number + 0.5)
        axis.text(*place, text, fontsize=9, ha="center", va="center", color=color, weight=weight)


def _title(compared):
    known = any(part.truth is not None for part in compared)
    return "The teachers' answers to every way of enlarging" + (" (green: right, red: wrong)" if known else "")


def _letter(number, compared):
    """A short name of a teacher, where there are several."""
    return f"{chr(ord('A') + number)} " if len(compared) > 1 else ""


def _heading(method, compared):
    """A line for each teacher above a column: its name, or how good this way is and whether it is recommended."""
    lines = []
    for number, part in enumerate(compared):
        weight, words = "normal", _short(part.name, LETTERS_IN_CELL - 2)
        if method in part.figures:
            top1 = part.figures[method].top1
            words = f"{part.figures[method].information:.2f} nats" if top1 is None else f"{100 * top1:.1f} %"
            if method == part.recommended:
                weight, words = "bold", f"{words} recommended"
        lines.append((_letter(number, compared) + words, TEACHER_COLORS[number % len(TEACHER_COLORS)], weight))
    return lines


def _truth(position, compared):
    """The true class, once, where it is known."""
    for part in compared:
        if part.truth is not None and part.truth[position] >= 0:
            return [(_short(part.class_names[part.truth[position]]), PLAIN, "normal")]
    return []


def _answers(position, method, compared):
    """A line for each teacher: class and probability, green where right, red where wrong."""
    lines = []
    for number, part in enumerate(compared):
        index, share = part.answers[method].top[position, 0], f" {part.answers[method].probability[position]:.0%}"
        known = part.truth is not None and part.truth[position] >= 0
        color = (RIGHT if index == part.truth[position] else WRONG) if known else PLAIN
        letter = _letter(number, compared)
        name = _short(part.class_names[index], LETTERS_IN_CELL - len(letter) - len(share))
        lines.append((letter + name + share, color, "normal"))
    return lines


def _short(name, letters=LETTERS_IN_CELL):
    name = name.split(",")[0]
    return name if len(name) <= letters else name[: letters - 1].rstrip() + "…"


def bars(compared: list[Compared]) -> Figure:
    """For each teacher the information that recommends, and beside it the shares, over the ways of enlarging.

    Args:
        compared: the teachers.
    """
    figure = Figure(figsize=(12, 3.6 * len(compared)), layout="constrained")
    axes = figure.subplots(len(compared), 2, squeeze=False, width_ratios=(2, 3))
    for number, part in enumerate(compared):
        methods = list(part.figures)
        left, right = axes[number]
        heights = [part.figures[method].information for method in methods]
        colors = [RIGHT if method == part.recommended else "#afb8c1" for method in methods]
        left.bar(methods, heights, color=colors)
        left.set(title=f"{part.name}: {part.recommended} is recommended", ylabel="information (nats)")
        left.title.set_fontsize(10)
        left.tick_params(axis="x", rotation=35, labelsize=8)
        for name, label in SHARES.items():
            shares = [getattr(part.figures[method], name) for method in methods]
            if shares[0] is not None:
                style = "-" if name in ("top1", "top5") else ":"
                right.plot(methods, [100 * share for share in shares], marker="o", linestyle=style, label=label)
        right.set(ylabel="% of the images", ylim=(0, 100))
        right.tick_params(axis="x", rotation=35, labelsize=8)
        right.grid(alpha=0.3)
        right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
