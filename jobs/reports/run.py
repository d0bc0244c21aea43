"""The report of a run: sample images with the answers to them, the curves, the picture and the page."""

import contextlib
import dataclasses
import pathlib
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jobs.reports import page
from jobs.reports.evaluation import pictures_of_network
from jobs.training import Config, LabeledImages, labeling_command, open_data, read_classes, training_command
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
        "teacher_top1": "teacher against the truth",
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


def learning(history: list[dict]) -> list[pictures.Panel]:
    """The curves, a panel each for loss, accuracy and learning rate.

    Args:
        history: a row for each epoch; runs of older versions have fewer columns.
    """
    panels = []
    for title, names in PANELS.items():
        curves: dict[str, list[float | None]] = {name: column(history, key) for key, name in names.items()}
        panels.append(pictures.Panel("epoch", title, curves, percent=title.endswith("(%)")))
    return panels


def describe(
    sample: Sample,
    predictions: Predictions,
    directory: pathlib.Path,
    saved: dict,
    history: list[dict],
    console: Console,
) -> page.Page:
    """The page of a run.

    Args:
        sample: images of the run.
        predictions: of the student, to them.
        directory: of the run; the pictures of an evaluation in it are shown, too, where they are of its network.
        saved: config.json of the run.
        history: a row for each epoch.
        console: where it is said that a picture is left out.
    """
    evaluation, flags = directory / "evaluation", saved["flags"]
    figures = run_directory.read_figures(directory)
    with contextlib.suppress(UserError):  # What is wrong with it was said with its pictures.
        figures |= run_directory.read_evaluation(evaluation, directory) or {}
    columns = list(history[0])
    rows = [["" if row[name] is None else f"{row[name]:.4g}" for name in columns] for row in history]
    told = {name: value for name, value in flags.items() if value not in (None, False, [])}
    return page.Page(
        name=directory.resolve().name,
        about=f"The network {made_from(saved, history[-1]['step'])}.",
        headline=headline(figures, history[-1], directory / run_directory.MODEL),
        commands=commands_of(flags, console),
        sections=[
            _answers(sample, predictions),
            page.Section("Learning", pictures=page.pictures_of(learning(history))),
            *sections_of_evaluation(pictures_of_network(evaluation, directory, console)),
            page.Section("Epochs", table=page.Table(rows, [name.replace("_", " ") for name in columns])),
            page.Section("Flags", table=page.Table([(f"--{n.replace('_', '-')}", str(v)) for n, v in told.items()])),
            *environment(saved),
        ],
    )


def commands_of(flags: dict, console: Console) -> list[str]:
    """The commands that repeat a run: the labeling, where the labels tell it, and the training.

    Args:
        flags: in config.json of the run.
        console: where it is said that the labels tell nothing because they are damaged.
    """
    labeling = None
    try:
        labeling = labeling_command(flags.get("labels"))
    except UserError as error:
        console.say(str(error))
    return [*([labeling] if labeling else []), training_command(flags)]


def sections_of_evaluation(paths: list[pathlib.Path]) -> list[page.Section]:
    """A section for each picture of an evaluation.

    Args:
        paths: of the pictures.
    """
    found = {path.stem: path for path in paths}
    return [
        page.Section(title, [f"{what[0].upper()}{what[1:]}."], pictures=[_picture(found[name], f"{title}: {what}")])
        for name, (title, what) in SHOWN.items()
        if name in found
    ]


def _picture(path, alt):
    return page.Picture(path.read_bytes(), alt)


def environment(saved: dict) -> list[page.Section]:
    """The machine and the versions of a run, as far as its config.json tells them."""
    rows = [
        (what, " ".join(map(str, value)) if isinstance(value, list) else str(value))
        for what, value in saved.get("machine", {}).items()
    ]
    return [page.Section("Environment", table=page.Table(rows))] if rows else []


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
    return [*found, ("size of model.keras", page.text_of_size(model.stat().st_size))]


def _answers(sample, predictions):
    """What teacher and student answer to sample images."""
    images = sample.images
    text, legend = ["S, the answer of the student, with its probability."], {"unknown": "not known"}
    if images.has_truth:
        text = [
            "First the truth, then T, the answer of the teacher where there is one, and S, the answer of the student."
        ]
        legend = {"right": "the student is right", "wrong": "it is wrong", **legend}
    elif images.answers is not None:
        text = ["No truth is known. T, the answer of the teacher, and S, the answer of the student."]
        legend = {"right": "the student answers as the teacher", "wrong": "it answers otherwise"}
    samples = []
    for i in range(len(images.images)):
        lines, color = caption(sample, predictions, i)
        samples.append(page.sample_of(images.images[i], color, lines.split("\n"), i + 1))
    return page.Section("Answers", text, legend, samples)


def made_from(saved: dict, step: float) -> str:
    """What the network was made from, by the first digits of the hashes that decide whether a run goes on.

    Args:
        saved: config.json of the run.
        step: after which the network is.
    """
    experiment = saved.get("experiment", {})
    names = ("images", "labels", "validation_images", "validation_labels")
    hashes = [f"{name.replace('_', ' ')} {str(experiment[name])[:12]}" for name in names if experiment.get(name)]
    when = "of the best epoch up to step" if saved["flags"].get("best") else "after step"
    return ", ".join([f"{when} {step:,.0f}", *hashes])
