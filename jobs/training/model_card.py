"""The model card of a run: what its network is, learned from, reaches and cannot do, in Markdown."""

import contextlib
import pathlib

import jinja2
import keras

from jobs.training.commands import labeling_command, training_command
from jobs.training.data import TRUTH, spec_in
from jobs.training.finished import read_classes
from models.description import Description, tell_apart
from models.networks import parameter_count
from tfpipeline.system import UserError, write_file
from tfpipeline.training import run_directory

CARD = "model_card.md"
MARK = "<!-- written by tfpipeline; the next training, evaluation or export of the run writes it again -->"
_SHOWN = 12  # names of classes
_TITLES = {
    "top1": "true top-1",
    "top5": "true top-5",
    "teacher_top1": "true top-1 of the teacher",
    "relative_top1": "true top-1, relative to the teacher's",
    "agreement_top1": "same first answer as the teacher",
    "kl_nats": "divergence from the teacher, in nats",
    "calibration_error": "expected calibration error",
}


def describe(directory: pathlib.Path, model: keras.Model) -> Description:
    """What the files of a run's network say of themselves.

    Args:
        directory: of the run.
        model: its network.
    """
    height, width = model.input_shape[1:3]
    size = ((run_directory.read_config(directory) or {"flags": {}})["flags"].get("size")) or 0
    names = read_classes(directory, model.output_shape[-1]).short_names()
    return Description(tell_apart(names), (height or size, width or size))


def write_card(directory: pathlib.Path, model: keras.Model, out: pathlib.Path) -> bool:
    """Writes model_card.md of a run; whether it did: a file that another hand wrote stays.

    Args:
        directory: of the run.
        model: its network.
        out: the directory of the card.
    """
    path = out / CARD
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        return False
    write_file(path, card(directory, model).encode())
    return True


def card(directory: pathlib.Path, model: keras.Model) -> str:
    """The text of the card."""
    saved = run_directory.read_config(directory) or {"flags": {}}
    values, description = saved["flags"], describe(directory, model)
    labels = values.get("labels")
    figures, figures_of = _figures(directory)
    spec = spec_in(labels)
    teachers = [] if spec is None else [f"{each['name']} (enlarged: {each['interpolation']})" for each in spec.teachers]
    template = pathlib.Path(__file__).with_name("model_card.md.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(template).render(
        mark=MARK,
        name=directory.resolve().name,
        run=directory,
        network=f"`{values.get('network', model.name)}`, a network",
        parameters=f"{parameter_count(model):,}",
        class_names=description.class_names,
        shown_classes=description.class_names[:_SHOWN],
        description=description.as_json(),
        images=values.get("images"),
        split=values.get("split"),
        teachers=teachers,
        labels="the truth" if labels == TRUTH else f"`{labels}`",
        figures=[
            (title, _text(name, figures[name])) for name, title in _TITLES.items() if figures.get(name) is not None
        ],
        figures_of=figures_of,
        calibration=figures.get("calibration_error"),
        command=training_command(values),
        labeling=_labeling(labels),
        weights=run_directory.read_figures(directory).get("weights_sha256"),
    )


def _labeling(labels):
    """The command that makes the labels again, or None."""
    with contextlib.suppress(UserError):  # What is damaged says nothing.
        return labeling_command(labels)
    return None


def _figures(directory: pathlib.Path) -> tuple[dict, str]:
    """(figures by the names of an evaluation, what they were measured on): of the evaluation, else of the training."""
    found = None
    with contextlib.suppress(UserError):  # The figures of another network are not this one's.
        found = run_directory.read_evaluation(directory / "evaluation", directory)
    if found is not None:
        return found, f"the {found.get('count', '')} images that it did not learn from".replace("  ", " ")
    trained = run_directory.read_figures(directory)
    return (
        {name.removeprefix("validation_"): value for name, value in trained.items()},
        "the images that it did not learn from, after the training",
    )


def _text(name, value):
    return f"{value:.3f}" if name == "kl_nats" else f"{value:.1%}"
