"""What second opinions, and the truth, say of labels: a table of the suspicious ones, and pictures."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from labeling.labels import (
    LabelSpec,
    Opinion,
    adaptation,
    confident_disagreement,
    count_alike,
    doubt_given,
    open_labels,
    opinions_of,
    quality,
    trust,
    worst_classes,
)
from tfpipeline import pictures
from tfpipeline.images import ImageStore, short_name
from tfpipeline.system import Console, UserError, write_csv
from tfpipeline.training import reliability

IN_PICTURES, IN_TABLE = 48, 1000
WORST_CLASSES = 20
MOST_BARS = 40
LETTERS = 24  # of a class's name, at the most


@dataclasses.dataclass(frozen=True, eq=False)
class Judgment:
    """Labels with what they are judged by.

    Attributes:
        images: the labeled images.
        label: the opinion that is judgment.
        other_views: second opinions, of the same teacher.
        other_teachers: second opinions, of others.
        truth: int (N,) in the teacher's classes, -1 where unknown; None without truth.
        class_names: short ones.
        spec: of the labels.
    """

    images: ImageStore
    label: Opinion
    other_views: list[Opinion]
    other_teachers: list[Opinion]
    truth: np.ndarray | None
    class_names: list[str]
    spec: LabelSpec

    @property
    def others(self) -> list[Opinion]:
        """All second opinions."""
        return [*self.other_views, *self.other_teachers]

    @property
    def references(self) -> list[np.ndarray]:
        """The second opinions' answers that the label should predict, each int (N,).

        A teacher repeats its own errors on its own views: other teachers are the better reference, where there are any.
        """
        return [other.answers.first for other in (self.other_teachers or self.other_views)]


def judge_labels(labels: str, against: Sequence[str], images: ImageStore, console: Console) -> Judgment:
    """The labels in a directory, with what judges them.

    Args:
        labels: the directory.
        against: directories of labels of the same images, by other teachers.
        images: the images.
        console: where notes go.

    Raises:
        UserError: labels are of other images or other classes, or incomplete.
    """
    spec, found = open_labels(labels).spec, []
    for directory in (labels, *against):
        store = open_labels(directory)
        if note := store.check_same_images(images):
            console.say(note)
        if not count_alike(spec, store.spec):
            raise UserError(
                f"--against {directory} counts {store.spec.classes:,} classes, --labels {labels} "
                f"{spec.classes:,}, or in another order; give labels over the same classes"
            )
        teacher = "+".join(dict.fromkeys(teacher["name"] for teacher in store.spec.teachers))
        views = [f"{teacher} ({view})" for view in store.spec.views]
        found += opinions_of(store.read_all(), store.spec.classes, views)
    truth = quality.known_truth(spec, images, console)
    names = [short_name(name) for name in quality.class_names(spec, images.classes)]
    count = len(spec.views)
    return Judgment(images, found[0], found[1:count], found[count:], truth, names, spec)


def write_suspicious(judgment: Judgment, out: pathlib.Path) -> None:
    """Writes suspicious.csv, and pictures of the least trusted images and of the most confident disagreements."""
    label, others, names = judgment.label, judgment.others, judgment.class_names
    trusted = trust(label, others)
    order = np.argsort(trusted, kind="stable")
    rows = []
    for i in order[:IN_TABLE].tolist():
        seconds = [names[other.answers.first[i]] for other in others]
        answer, probability = names[label.answers.first[i]], f"{label.answers.confidence[i]:.4f}"
        rows.append([i, judgment.images.names[i], f"{trusted[i]:.4f}", answer, probability, *seconds])
    second_answers = [f"answer of {other.name}" for other in others]
    write_csv(out / "suspicious.csv", ["index", "name", "trust", "answer", "probability", *second_answers], rows)
    _write_sheet(judgment, order[:IN_PICTURES], "the least trusted labels", out / "suspicious.png")
    if others:
        strength = confident_disagreement(label, others)
        strongest = np.argsort(-strength, kind="stable")[:IN_PICTURES]
        chosen = strongest[strength[strongest] > 0]
        _write_sheet(judgment, chosen, "the most confident disagreements", out / "disagreement.png")


def write_doubted(judgment: Judgment, out: pathlib.Path, console: Console) -> int | None:
    """Writes doubted.csv and doubted.png: the images whose given class the teacher doubts most.

    Args:
        judgment: the labels; their truth is the classes that folders or a csv gave the images.
        out: where the files go.
        console: where it is said why there are none.

    Returns:
        How many given classes confident learning counts as errors; None where nothing is given, or cleanlab missing.
    """
    given, names = judgment.truth, judgment.class_names
    if given is None or len(np.unique(given[given >= 0])) < 2:
        return None
    try:
        doubt = doubt_given(judgment.label, given)
    except UserError as error:
        console.say(str(error))
        return None
    rows = zip(doubt.images.tolist(), doubt.score, doubt.probability, doubt.instead, doubt.is_error, strict=True)
    table = [
        [i, judgment.images.names[i], names[given[i]], f"{score:.4f}", f"{p:.4f}", names[instead], int(is_error)]
        for i, score, p, instead, is_error in rows
    ]
    header = ["index", "name", "given", "score", "probability", "answer", "is_error"]
    write_csv(out / "doubted.csv", header, table[:IN_TABLE])
    shown = range(min(IN_PICTURES, len(table)))
    captions = [f"given: {names[given[doubt.images[k]]]}\n{names[doubt.instead[k]]}?" for k in shown]
    colors = [pictures.WRONG if doubt.is_error[k] else pictures.PLAIN for k in shown]
    title = "the given classes that the teacher doubts most, and what it answers (red: counted as errors)"
    sheet = pictures.contact_sheet(judgment.images.images[doubt.images[: len(shown)]], captions, colors, title=title)
    pictures.save(sheet, out / "doubted.png")
    return int(doubt.is_error.sum())


def _write_sheet(judgment, chosen, title, path):
    """Writes images with what each opinion says, green and red where the truth of them is known; nothing for none."""
    if not len(chosen):
        return
    opinions, truth, names = [judgment.label, *judgment.others], judgment.truth, judgment.class_names
    captions, colors = [], []
    for i in chosen.tolist():
        lines = [f"{each.answers.confidence[i]:.0%} {names[each.answers.first[i]]}" for each in opinions]
        known = truth is not None and truth[i] >= 0
        captions.append("\n".join([*lines, f"truth: {names[truth[i]]}"] if known else lines))
        right = known and truth[i] == judgment.label.answers.first[i]
        colors.append(pictures.RIGHT if right else pictures.WRONG if known else pictures.PLAIN)
    title += ": the label, then the second opinions" if judgment.others else ": the label"
    title += " (green: the label is right)" if truth is not None else ""
    pictures.save(pictures.contact_sheet(judgment.images.images[chosen], captions, colors, title=title), path)


def write_balance(judgment: Judgment, out: pathlib.Path) -> None:
    """Writes class_balance.png: images by first answer, the largest class first, beside the truth where it is known."""
    figure = draw_balance(judgment.label.answers.first, judgment.truth, judgment.class_names)
    pictures.save(figure, out / "class_balance.png")


def draw_balance(first: np.ndarray, truth: np.ndarray | None, names: list[str]) -> Figure:
    """The images of each class, the largest class first.

    Args:
        first: first answers, int (N,).
        truth: int (N,), -1 where unknown; None without truth.
        names: of the classes.
    """
    counts = np.bincount(first, minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    figure = Figure(figsize=(11, 4), layout="constrained")
    axis = figure.subplots()
    place = np.arange(len(names))
    axis.bar(place, counts[order], width=1 if len(names) > MOST_BARS else 0.8, label="labels")
    if truth is not None:
        true_counts = np.bincount(truth[truth >= 0], minlength=len(names))[order]
        axis.plot(place, true_counts, ".", color="black", markersize=4, label="truth")
    axis.axhline(counts.mean(), color="gray", linestyle="--", linewidth=1, label="mean")
    unused = int(np.count_nonzero(counts == 0))
    axis.set(ylabel="images", title=f"images by their first answer; {unused:,} of {len(names):,} classes have none")
    if len(names) <= MOST_BARS:
        axis.set_xticks(
            place, [pictures.cut(names[index], LETTERS) for index in order], rotation=60, ha="right", fontsize=8
        )
    else:
        axis.set_xlabel(f"class, from {names[order[0]]} ({counts[order[0]]:,} images) down")
    axis.legend()
    return figure


def write_reliability(
    judgment: Judgment, temperature: float | None, out: pathlib.Path
) -> tuple[float | None, float | None]:
    """Writes reliability.png, the confidence at the fitted temperature against the truth or the second opinions.

    Args:
        judgment: the labels; without truth and second opinions there is no picture.
        temperature: at which the label predicts the second opinions best; None without any.
        out: where the picture goes.

    Returns:
        The expected calibration errors at temperature 1 and at the fitted one; None where there is no such thing.
    """
    references = judgment.references if judgment.truth is None else [judgment.truth]
    if not references:
        return None, None
    right = np.concatenate([(judgment.label.answers.first == each)[each >= 0] for each in references])

    def reliability_of(opinion):
        confidence = np.concatenate([opinion.answers.confidence[each >= 0] for each in references])
        return reliability(confidence.clip(0, 1), right)

    plain = reliability_of(judgment.label)
    fitted = None if temperature is None else reliability_of(judgment.label.at(temperature))
    title = "against the truth" if judgment.truth is not None else "against the second opinions"
    title += "" if temperature is None else f", T = {temperature:.2f}"
    best = fitted or plain
    figure = pictures.reliability_diagram(best.counts, best.accuracy, best.error, title)
    pictures.save(figure, out / "reliability.png")
    return plain.error, fitted and fitted.error


def write_confusion(judgment: Judgment, out: pathlib.Path) -> None:
    """Writes confusion.png where the truth is known: the classes with the most wrong answers, all others as one."""
    if judgment.truth is None:
        return
    names = judgment.class_names
    chosen, matrix = worst_classes(judgment.label.answers.first, judgment.truth, len(names), WORST_CLASSES)
    if len(chosen):
        rows = [*(names[index] for index in chosen), "all others"]
        figure = pictures.confusion_matrix(matrix, rows, f"the {len(chosen)} classes that are confused most")
        pictures.save(figure, out / "confusion.png")


def write_adaptation(judgment: Judgment, out: pathlib.Path) -> dict | None:
    """Writes adaptation.png, the classes that were favored most and those found most often; returns what was found.

    Args:
        judgment: the labels; without a vector that is used there is no picture.
        out: where the picture goes.

    Returns:
        As `adaptation.describe`; None for labels that are not adapted.
    """
    spec = judgment.spec
    if spec.adaptation is None:
        return None
    told = adaptation.describe(spec.adaptation, judgment.class_names, spec.subset)
    titles = {
        "favored": "favored whatever is shown, in nats above the median class: taken away",
        "most_found": "found most often in the sample, as shares",
    }
    shown = {title: told[name] for name, title in titles.items() if name in told}
    if shown:
        figure = Figure(figsize=(11, 1 + 2.6 * len(shown)), layout="constrained")
        for axis, (title, values) in zip(figure.subplots(len(shown), squeeze=False)[:, 0], shown.items(), strict=True):
            axis.barh(range(len(values)), list(values.values()))
            axis.set_yticks(range(len(values)), [name[:LETTERS] for name in values], fontsize=8)
            axis.invert_yaxis()
            axis.set_title(title, fontsize=10)
        pictures.save(figure, out / "adaptation.png")
    return told
