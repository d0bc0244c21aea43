"""The report of a run: sample images with the answers to them, the curves, and the page around the picture."""

import base64
import dataclasses
import pathlib
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from jobs.reports.evaluation import pictures_of_network
from jobs.training import Config, LabeledImages, open_data, read_classes
from tfpipeline import pictures
from tfpipeline.images import open_images, spread_evenly
from tfpipeline.system import Console
from tfpipeline.training import Predictions

SAMPLES, COLUMNS = 24, 6
CURVES = {
    "validation_top1": "student against the truth",
    "agreement_top1": "student against the teacher",
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


def write_page(directory: pathlib.Path, saved: dict, history: list[dict], picture: bytes, console: Console) -> str:
    """The text of report.html, its pictures inside.

    Args:
        directory: of the run; the pictures of an evaluation in it are shown, too, where they are of its network.
        saved: what config.json of the run says.
        history: a row for each epoch.
        picture: a PNG.
        console: where it is said that a picture is left out.
    """
    found = pictures_of_network(directory / "evaluation", directory, console)
    embedded = [("Answers and curves", picture), *((path.stem, path.read_bytes()) for path in found)]
    template = pathlib.Path(__file__).with_name("run.html.jinja").read_text(encoding="utf-8")
    return (
        jinja2.Environment(autoescape=True)
        .from_string(template)
        .render(
            name=directory.name,
            made_from=_made_from(saved, history[-1]["step"]),
            flags={name: value for name, value in saved["flags"].items() if value not in (None, False, [])},
            columns=list(history[0]),
            history=history,
            pictures=[(name, base64.b64encode(content).decode()) for name, content in embedded],
        )
    )


def _made_from(saved, step):
    """What the network was made from, by the first digits of the hashes that decide whether a run goes on."""
    experiment = saved.get("experiment", {})
    names = ("images", "labels", "validation_images", "validation_labels")
    hashes = [f"{name.replace('_', ' ')} {str(experiment[name])[:12]}" for name in names if experiment.get(name)]
    when = "of the best epoch up to step" if saved["flags"].get("best") else "after step"
    return ", ".join([f"{when} {step:,.0f}", *hashes])
