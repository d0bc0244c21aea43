"""The report of a run: sample images with the answers to them, the curves, and the page around the picture."""

import base64
import contextlib
import dataclasses
import io
import pathlib
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from jobs.reports.evaluation import pictures_of_network
from jobs.training import Config, LabeledImages, open_data, read_classes, training_command
from tfpipeline import pictures
from tfpipeline.images import open_images, spread_evenly
from tfpipeline.system import Console, UserError
from tfpipeline.training import Predictions, run_directory

SAMPLES, COLUMNS = 24, 6
CURVES = {
    "validation_top1": "student against the truth",
    "agreement_top1": "student against the teacher",
}
PANELS = {
    "loss per image (nats)": {"loss": "in training", "validation_loss": "held-out images"},
    "accuracy (%)": {
        "training_top1": "in training, against the truth",
        "training_agreement_top1": "in training, against the teacher",
        **CURVES,
    },
    "learning rate": {"learning_rate": "learning rate"},
}
# The pictures of an evaluation: title, and what each shows.
SHOWN = {
    "confusion": ("Confusion", "how often a class, the row, is answered as another, the column"),
    "mistakes": ("Worst mistakes", "the images that are answered wrongly with the highest probability"),
    "reliability": ("Calibration", "the share of right answers at each probability; on the diagonal it is as stated"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Sample images of a run.

    Attributes:
        images: at most `SAMPLES` of them, with what is known of them.
        names: of the classes.
    """

    images: LabeledImages
    names: list[str]


def draw_sample(config: Config, directory: pathlib.Path, console: Console) -> Sample:
    """Sample images, evenly spread over the held-out ones of a run, or where it has none over those it was trained on.

    Args:
        config: of the run.
        directory: of the run.
        console: where progress goes.
    """
    data, validation = open_data(config, console)
    images = validation or data
    names = read_classes(directory, images.classes).short_names(open_images(config.images, console).classes)
    return Sample(images[spread_evenly(len(images.images), SAMPLES)], names)


def draw(sample: Sample, predictions: Predictions, history: list[dict]) -> Figure:
    """The picture: sample images with the teacher's and the student's answers, and the curves beside them.

    Args:
        sample: the images.
        predictions: of the student.
        history: a row for each epoch.
    """
    figure = Figure(figsize=(15, 8), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.35, 1))
    left, right = halves
    count = len(sample.images.images)
    captions, colors = zip(*(caption(sample, predictions, i) for i in range(count)), strict=True)
    title = "truth, teacher (T) and student (S); green: the student is right"
    pictures.draw_contact_sheet(left, np.asarray(sample.images.images), captions, colors, COLUMNS, title)
    above, below = right.subplots(2, 1)
    epochs = [row["epoch"] for row in history]
    pictures.draw_curves(above, epochs, {"training loss": column(history, "loss")}, "epoch", "loss per image (nats)")
    curves = {name: column(history, key) for key, name in CURVES.items()}
    teacher = history[-1].get("teacher_top1")
    if teacher is not None:
        curves["teacher against the truth"] = teacher
    pictures.draw_curves(below, epochs, curves, "epoch", "held-out images (%)", percent=True)
    return figure


def caption(sample: Sample, predictions: Predictions, i: int) -> tuple[str, str]:
    """(what is written below image i, its color)."""
    images, names = sample.images, sample.names
    student, truth = int(predictions.top[i, 0]), int(images.truth[i])
    lines = [names[truth]] if truth >= 0 else []
    reference = truth
    if images.answers is not None:
        teacher = int(images.answers.first[i])
        lines.append(f"T {images.answers.confidence[i]:.0%} {names[teacher]}")
        reference = truth if truth >= 0 else teacher
    lines.append(f"S {predictions.probability[i]:.0%} {names[student]}")
    color = pictures.PLAIN if reference < 0 else pictures.RIGHT if student == reference else pictures.WRONG
    return "\n".join(lines), color


def column(history: list[dict], name: str) -> list[float | None]:
    """One column of the history, None where it is empty."""
    return [row.get(name) for row in history]


def draw_learning(history: list[dict]) -> Figure:
    """The curves alone, a panel each for loss, accuracy and learning rate, large enough to be read on a phone.

    Args:
        history: a row for each epoch; runs of older versions have fewer columns.
    """
    panels = [
        (title, {name: column(history, key) for key, name in curves.items() if history[-1].get(key) is not None})
        for title, curves in PANELS.items()
    ]
    teacher = history[-1].get("teacher_top1")
    if teacher is not None:
        panels[1][1]["teacher against the truth"] = [teacher] * len(history)
    panels = [(title, curves) for title, curves in panels if curves]
    figure = Figure(figsize=(7, 2.6 * len(panels)), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axis, (title, curves) in zip(np.atleast_1d(figure.subplots(len(panels), 1)), panels, strict=True):
        pictures.draw_curves(axis, epochs, curves, "epoch", title, percent=title.endswith("(%)"))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))  # There are no half epochs.
    return figure


def write_page(
    sample: Sample,
    predictions: Predictions,
    directory: pathlib.Path,
    saved: dict,
    history: list[dict],
    console: Console,
) -> str:
    """The text of report.html: one file with all of its pictures, which asks nothing of the network.

    Args:
        sample: images of the run.
        predictions: of the student, to them.
        directory: of the run; the pictures of an evaluation in it are shown, too, where they are of its network.
        saved: config.json of the run.
        history: a row for each epoch.
        console: where it is said that a picture is left out.
    """
    evaluation, flags = directory / "evaluation", saved["flags"]
    found = {path.stem: path for path in pictures_of_network(evaluation, directory, console)}
    figures = run_directory.read_figures(directory)
    with contextlib.suppress(UserError):  # What is wrong with it was said with its pictures.
        figures |= run_directory.read_evaluation(evaluation, directory) or {}
    template = pathlib.Path(__file__).with_name("run.html.jinja").read_text(encoding="utf-8")
    return (
        jinja2.Environment(autoescape=True, trim_blocks=True)
        .from_string(template)
        .render(
            name=directory.resolve().name,
            made_from=_made_from(saved, history[-1]["step"]),
            headline=headline(figures, history[-1], directory / run_directory.MODEL),
            command=training_command(flags),
            samples=[_shown(sample, predictions, i) for i in range(len(sample.images.images))],
            judge="truth" if sample.images.has_truth else None if sample.images.answers is None else "teacher",
            curves=_embed(pictures.png(draw_learning(history))),
            learned=_in_words(history),
            pictures=[(*SHOWN[name], _embed(found[name].read_bytes())) for name in SHOWN if name in found],
            flags={name: value for name, value in flags.items() if value not in (None, False, [])},
            environment=saved.get("machine", {}),
            columns=list(history[0]),
            history=history,
        )
    )


def headline(figures: dict, last: dict, model: pathlib.Path) -> list[tuple[str, str]]:
    """What the page begins with: (what, value) of each figure that is known.

    Args:
        figures: of the run and of its evaluation.
        last: the row of the last epoch.
        model: the file of the network.
    """
    shares = {
        "true top-1": figures.get("top1", last.get("validation_top1")),
        "of the teacher's true top-1": figures.get("relative_top1", last.get("relative_top1")),
        "same answer as the teacher": figures.get("agreement_top1", last.get("agreement_top1")),
    }
    found = [(name, f"{value:.1%}") for name, value in shares.items() if value is not None]
    for name, key in (("images measured on", "count"), ("parameters", "parameters")):
        if figures.get(key) is not None:
            found.append((name, f"{figures[key]:,}"))
    if figures.get("seconds") is not None:
        found.append(("seconds of training", f"{figures['seconds']:,.0f}"))
    return [*found, ("size of model.keras", f"{model.stat().st_size / 1e6:.1f} MB")]


def _shown(sample, predictions, i):
    """What the page shows of an image: its picture, a sign beside the color, and the lines below it."""
    text, color = caption(sample, predictions, i)
    sign = {pictures.RIGHT: "right", pictures.WRONG: "wrong", pictures.PLAIN: "unknown"}[color]
    content = io.BytesIO()
    Image.fromarray(np.asarray(sample.images.images[i])).save(content, "PNG")
    return {"picture": _embed(content.getvalue()), "sign": sign, "lines": text.split("\n")}


def _in_words(history):
    """What the curves show, for who does not see them."""
    last = history[-1]
    parts = [f"after {len(history)} epochs the loss is {last['loss']:.3g}"]
    for key, name in (("validation_top1", "of the truth"), ("agreement_top1", "of the teacher's answers")):
        if last.get(key) is not None:
            parts.append(f"{last[key]:.1%} {name} is met on held-out images, {history[0][key]:.1%} after the first")
    return "; ".join(parts)


def _embed(content):
    return base64.b64encode(content).decode()


def _made_from(saved, step):
    """What the network was made from, by the first digits of the hashes that decide whether a run goes on."""
    experiment = saved.get("experiment", {})
    names = ("images", "labels", "validation_images", "validation_labels")
    hashes = [f"{name.replace('_', ' ')} {str(experiment[name])[:12]}" for name in names if experiment.get(name)]
    when = "of the best epoch up to step" if saved["flags"].get("best") else "after step"
    return ", ".join([f"{when} {step:,.0f}", *hashes])
