"""A comparison of interpolations: tables of its figures, bars of them, and images side by side with the answers."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from labeling.enlarging import comparison, interpolation
from labeling.labels import quality
from labeling.teachers import Teacher
from tfpipeline.images import ImageStore, short_name
from tfpipeline.pictures import PLAIN, RIGHT, WRONG, cut
from tfpipeline.system import Console, print_table, write_csv

COLUMNS = ("top1", "top5", "top_probability", "flip_agreement", "agreement", "teacher_agreement")
DOTS_PER_INCH = 110  # as tfpipeline.pictures.save writes figures
LEAST_DOTS = 120  # a side of an image
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


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """The interpolations for one teacher.

    Attributes:
        name: of the teacher.
        responses: by method, what it answers to the sample.
        figures: by method.
        recommendation: a method, found without truth.
        class_names: a name for each class.
        truth: int (N,) in the teacher's classes, -1 where unknown; None without truth.
    """

    name: str
    responses: Mapping[str, comparison.Response]
    figures: Mapping[str, comparison.Figures]
    recommendation: str
    class_names: list[str]
    truth: np.ndarray | None

    @property
    def best(self) -> str | None:
        """The method with the highest top-1; None without truth."""
        top1 = {method: figures.top1 for method, figures in self.figures.items() if figures.top1 is not None}
        return max(top1, key=lambda method: top1[method]) if top1 else None

    @property
    def loss(self) -> float | None:
        """The top-1, in 0..1, that the recommendation loses against the best way; None without truth."""
        top1 = {method: figures.top1 for method, figures in self.figures.items() if figures.top1 is not None}
        return max(top1.values()) - top1[self.recommendation] if top1 else None


def compare(
    teachers: Sequence[Teacher], images: ImageStore, positions: np.ndarray, batch_size: int, console: Console
) -> list[Comparison]:
    """The comparison of the interpolations for each teacher.

    Args:
        teachers: those to compare for.
        images: the store of the sample.
        positions: int (n,), the images of the sample.
        batch_size: images that a teacher answers at a time.
        console: where progress and notes go.
    """
    pixels = images.images[positions]
    responses = [comparison.answer_all(teacher, pixels, batch_size, console) for teacher in teachers]
    names = [teacher.name for teacher in teachers]
    comparisons = []
    for number, teacher in enumerate(teachers):
        truth = quality.known_truth(teacher, images, console)
        truth = None if truth is None else truth[positions]
        others = responses[:number] + responses[number + 1 :]
        comparisons.append(
            Comparison(
                name=teacher.name if names.count(teacher.name) == 1 else teacher.spec,
                responses=responses[number],
                figures=comparison.figures(responses[number], others, truth),
                recommendation=comparison.recommend(responses[number]),
                class_names=quality.class_names(teacher, images.classes),
                truth=truth,
            )
        )
    return comparisons


def write_table(comparisons: Sequence[Comparison], path: pathlib.Path) -> None:
    """Writes all figures as a csv, a row for each teacher and interpolation; empty where unknown."""
    names = [field.name for field in dataclasses.fields(comparison.Figures)]
    rows = [
        [each.name, method, *dataclasses.astuple(figures), int(method == each.recommendation)]
        for each in comparisons
        for method, figures in each.figures.items()
    ]
    write_csv(path, ["teacher", "interpolation", *names, "recommended"], rows)


def print_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Prints a table for each teacher, shares in percent, and what is recommended."""
    for each in comparisons:
        rows = [[each.name, "information", "entropy", *(name.replace("_", " ") for name in COLUMNS)]]
        for method, figures in each.figures.items():
            shares = (getattr(figures, name) for name in COLUMNS)
            percent = ("-" if share is None else f"{100 * share:.1f} %" for share in shares)
            rows.append([method, f"{figures.information:.3f}", f"{figures.entropy:.3f}", *percent])
        print_table(rows)
        print(f"recommended without truth: {each.recommendation}", end="")
        print("" if each.loss is None else f", which loses {100 * each.loss:.1f} points of top-1 against {each.best}")


def contact_sheet(images: np.ndarray, positions: np.ndarray, comparisons: Sequence[Comparison], size: int) -> Figure:
    """A row for each image: as it is, then enlarged in each way with every teacher's answer below.

    Args:
        images: uint8 (n, H, W, 3).
        positions: int (n,), where the images stand in the sample.
        comparisons: of the teachers.
        size: height and width that the images are enlarged to, in pixels.
    """
    columns = ("as it is", *interpolation.METHODS)
    # Every pixel of an enlarged image is a square of whole dots: nothing is resampled once more.
    side = size * -(-LEAST_DOTS // size) / DOTS_PER_INCH + 2 * GAP_INCHES
    heading = LINE_INCHES * (5 + len(comparisons))
    row_inches = side + LINE_INCHES * len(comparisons)
    width, height = len(columns) * side, heading + len(images) * row_inches
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1), aspect="equal")  # in inches, from above
    axis.set_axis_off()
    title = "The teachers' answers to every way of enlarging"
    axis.text(GAP_INCHES, 1.2 * LINE_INCHES, title, fontsize=14, weight="bold", va="center", color=PLAIN)
    axis.text(GAP_INCHES, 2.7 * LINE_INCHES, _legend(comparisons), fontsize=10, va="center", color=PLAIN)
    for column, method in enumerate(columns):
        left = column * side
        if any(method == each.recommendation for each in comparisons):
            above = heading - LINE_INCHES * (1 + len(comparisons))
            axis.add_patch(Rectangle((left, above), side, height, color=BAND, zorder=-1))
        _write(axis, left, side, heading, [(method, PLAIN, "bold"), *_heading(method, comparisons, side)], above=True)
        pictures = images if column == 0 else _enlarge(images, size, method)
        for row, image in enumerate(pictures):
            top = heading + row * row_inches
            corners = (left + GAP_INCHES, left + side - GAP_INCHES, top + side - GAP_INCHES, top + GAP_INCHES)
            axis.imshow(image, extent=corners, interpolation="nearest")
            if column == 0:
                lines = _truth(positions[row], comparisons, side)
            else:
                lines = _answers(positions[row], method, comparisons, side)
            _write(axis, left, side, top + side, lines)
    axis.set(xlim=(0, width), ylim=(height, 0))
    return figure


def _enlarge(images, size, method):
    return np.rint(np.asarray(interpolation.enlarge(images, size, method))).astype(np.uint8)


def _write(axis, left, side, top, lines, above=False):
    """Writes (text, color, weight) lines below `top`, or above it, in the middle of the cell that begins at `left`."""
    first = top - LINE_INCHES * len(lines) if above else top
    for number, (text, color, weight) in enumerate(lines):
        place = left + side / 2, first + LINE_INCHES * (number + 0.5)
        axis.text(*place, text, fontsize=10, ha="center", va="center", color=color, weight=weight)


def _legend(comparisons):
    """What the numbers, the letters and the colors are."""
    known = any(each.truth is not None for each in comparisons)
    number = "top-1" if known else "nats that the answers tell about an image"
    count = f"{len(next(iter(comparisons[0].responses.values())).answers):,} images"
    names = ", ".join(_letter(place, comparisons) + each.name for place, each in enumerate(comparisons))
    right = "; green: right, red: wrong" if known else ""
    return f"{names}; above the columns: {number} on {count}, *: recommended without truth{right}"


def _letter(number, comparisons):
    """A short name of a teacher, where there are several."""
    return f"{chr(ord('A') + number)} " if len(comparisons) > 1 else ""


def _heading(method, comparisons, side):
    """A line for each teacher above a column: its name, or how good this way is and whether it is recommended."""
    lines = []
    for number, each in enumerate(comparisons):
        weight, words = "normal", each.name
        if method in each.figures:
            top1 = each.figures[method].top1
            words = f"{each.figures[method].information:.2f} nats" if top1 is None else f"{100 * top1:.1f} %"
            if method == each.recommendation:
                weight, words = "bold", f"{words} *"
        letter = _letter(number, comparisons)
        words = letter + _short(words, side, len(letter))
        lines.append((words, TEACHER_COLORS[number % len(TEACHER_COLORS)], weight))
    return lines


def _truth(position, comparisons, side):
    """The true class, once, where it is known."""
    for each in comparisons:
        if each.truth is not None and each.truth[position] >= 0:
            return [(_short(each.class_names[each.truth[position]], side), PLAIN, "normal")]
    return []


def _answers(position, method, comparisons, side):
    """A line for each teacher: class and probability, green where right, red where wrong."""
    lines = []
    for number, each in enumerate(comparisons):
        answers = each.responses[method].answers
        index, share = answers.first[position], f" {answers.confidence[position]:.0%}"
        known = each.truth is not None and each.truth[position] >= 0
        color = (RIGHT if index == each.truth[position] else WRONG) if known else PLAIN
        letter = _letter(number, comparisons)
        lines.append((letter + _short(each.class_names[index], side, len(letter + share)) + share, color, "normal"))
    return lines


def _short(name, side, taken=0):
    """The name up to its first comma, cut to what fits into a cell beside `taken` letters."""
    return cut(short_name(name), int(side * LETTERS_PER_INCH) - taken)


def bars(comparisons: Sequence[Comparison]) -> Figure:
    """For each teacher the information that recommends, and beside it the shares, over the ways of enlarging.

    Args:
        comparisons: of the teachers.
    """
    figure = Figure(figsize=(12, 3.6 * len(comparisons)), layout="constrained")
    axes = figure.subplots(len(comparisons), 2, squeeze=False, width_ratios=(2, 3))
    for (left, right), each in zip(axes, comparisons, strict=True):
        methods = list(each.figures)
        heights = [each.figures[method].information for method in methods]
        colors = [RIGHT if method == each.recommendation else "#afb8c1" for method in methods]
        left.bar_label(left.bar(methods, heights, color=colors), fmt="%.2f", fontsize=8)
        left.set(ylabel="information (nats)")
        left.margins(y=0.12)
        left.set_title(f"{each.name}: {each.recommendation} is recommended", fontsize=10)
        percentages: list[float] = []
        for name, label in SHARES.items():
            shares = [getattr(each.figures[method], name) for method in methods]
            if shares[0] is not None:
                line = [100 * share for share in shares]
                style = "-" if name in ("top1", "top5") else ":"
                right.plot(methods, line, marker="o", markersize=4, linestyle=style, label=label)
                percentages += line
        place = methods.index(each.recommendation)
        right.axvspan(place - 0.5, place + 0.5, color=BAND, zorder=0)
        lowest, highest = 10 * np.floor(min(percentages) / 10), 10 * np.ceil(max(percentages) / 10)
        right.set(ylabel="% of the images", ylim=(lowest, highest))
        right.grid(alpha=0.3)
        right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        for axis in (left, right):
            axis.set_xticks(range(len(methods)), methods, rotation=35, ha="right", rotation_mode="anchor", fontsize=8)
    return figure
