"""python -m jobs.report: one self-contained page, and one picture, of what a run learned."""

import base64
import csv
import dataclasses
import json
import pathlib

import numpy as np

from jobs import command, evaluate
from jobs.command import flag, required
from tfpipeline.system import UserError

EXAMPLE = "python -m jobs.report --run runs/shapes"
SAMPLES, COLUMNS = 24, 6
CURVES = {
    "validation_top1": "student against the truth",
    "agreement_top1": "student against the teacher",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Writes report.html and report.png into a run's directory: answers on sample images, curves, figures, flags."""

    run: str = required("run directory of jobs.train", metavar="DIR")
    quiet: bool = flag(False, "no progress")


def run(config: Config) -> dict:
    """Writes the report and returns where it is."""
    command.import_tensorflow()
    from tfpipeline import pictures
    from tfpipeline.system import Console, write_file
    from tfpipeline.training import answer_images

    directory = pathlib.Path(config.run)
    flags, history = read_run(directory)
    images, names = sample_images(flags, Console(config.quiet))
    model = evaluate.load_model(directory)
    answers = answer_images(model, images.images, console=Console(config.quiet))
    figure = draw(images, names, answers, history)
    pictures.save(figure, directory / "report.png")
    page = directory / "report.html"
    write_file(page, write_page(directory, flags, history, pictures.png(figure)).encode())
    return {"png": str(directory / "report.png"), "html": str(page), "epochs": len(history), "run": config.run}


def read_run(directory: pathlib.Path) -> tuple[dict, list[dict]]:
    """(the flags of the run, the rows of its history: floats, None where empty).

    Raises:
        UserError: the directory holds no run, or no epoch of it is done.
    """
    try:
        flags = json.loads((directory / "config.json").read_text())["flags"]
        with open(directory / "history.csv", newline="") as file:
            rows = [
                {name: float(value) if value else None for name, value in row.items()} for row in csv.DictReader(file)
            ]
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is not there: {directory} holds no finished epoch of jobs.train") from error
    if not rows:
        raise UserError(f"{directory} has no finished epoch yet; go on with jobs.train --resume")
    return flags, rows


def sample_images(flags: dict, console):
    """Sample images of the run with what is known of them, and their class names.

    Args:
        flags: of the run; its held-out images are taken where it has some, else its training images.
        console: where progress goes.

    Returns:
        (training_data.Data of at most `SAMPLES` images, names of the classes).
    """
    from jobs import train
    from jobs.image_flags import open_images
    from jobs.training import data as training_data
    from jobs.training import open_validation
    from tfpipeline.batches import replays

    fields = {field.name for field in dataclasses.fields(train.Config)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in flags.items()}
    config = train.Config(**{name: value for name, value in values.items() if name in fields})
    store = open_images(config, console)
    data = training_data.training_data(store, config.labels, console, replays(config.augment))
    shown = open_validation(config, data, console) or data
    chosen = np.linspace(0, len(shown.images) - 1, SAMPLES).astype(int)
    answers = shown.answers and {name: array[chosen] for name, array in shown.answers.items()}
    sample = dataclasses.replace(shown, images=shown.images[chosen], truth=shown.truth[chosen], answers=answers)
    spec = None if config.labels == "truth" else data.counting
    return sample, evaluate.class_names(store, shown.classes, spec)


def draw(sample, names, answers, history):
    """The picture: sample images with the teacher's and the student's answers, and the curves beside them."""
    from matplotlib.figure import Figure

    from tfpipeline import pictures

    figure = Figure(figsize=(15, 8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.35, 1))
    captions, colors = zip(*(caption(sample, names, answers, i) for i in range(len(sample.images))), strict=True)
    title = "truth, teacher (T) and student (S); green: the student is right"
    pictures.draw_contact_sheet(left, sample.images, captions, colors, COLUMNS, title)
    above, below = right.subplots(2, 1)
    epochs = [row["epoch"] for row in history]
    pictures.draw_curves(above, epochs, {"training loss": column(history, "loss")}, "epoch", "loss per image (nats)")
    curves = {name: column(history, key) for key, name in CURVES.items()}
    teacher = history[-1].get("teacher_top1")
    if teacher is not None:
        curves["teacher against the truth"] = teacher
    pictures.draw_curves(below, epochs, curves, "epoch", "held-out images (%)", percent=True)
    return figure


def caption(sample, names, answers, i) -> tuple[str, str]:
    """(what is written below image i, its color)."""
    from tfpipeline import pictures

    student, truth = int(answers.top[i, 0]), int(sample.truth[i])
    lines = [names[truth]] if truth >= 0 else []
    reference = truth
    if sample.answers is not None:
        teacher = int(sample.teacher_top[i])
        lines.append(f"T {np.exp(sample.answers['log_probs'][i, 0]):.0%} {names[teacher]}")
        reference = truth if truth >= 0 else teacher
    lines.append(f"S {answers.probability[i]:.0%} {names[student]}")
    color = pictures.PLAIN if reference < 0 else pictures.RIGHT if student == reference else pictures.WRONG
    return "\n".join(lines), color


def column(history, name) -> list:
    """One column of the history, None where it is empty."""
    return [row.get(name) for row in history]


def write_page(directory, flags, history, picture: bytes) -> str:
    """The text of report.html, its pictures inside."""
    import jinja2

    found = sorted((directory / "evaluation").glob("*.png")) if (directory / "evaluation").is_dir() else []
    embedded = [("Answers and curves", picture), *((path.stem, path.read_bytes()) for path in found)]
    template = pathlib.Path(__file__).with_name("reports").joinpath("report.html.jinja").read_text()
    return (
        jinja2.Environment(autoescape=True)
        .from_string(template)
        .render(
            name=directory.name,
            flags={name: value for name, value in flags.items() if value not in (None, False, [])},
            columns=list(history[0]),
            history=history,
            pictures=[(name, base64.b64encode(content).decode()) for name, content in embedded],
        )
    )


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
