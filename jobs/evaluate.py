"""python -m jobs.evaluate: how good a run's network is on images, in figures and pictures."""

import dataclasses
import pathlib

from jobs import command
from tfpipeline.images import ImageFlags
from tfpipeline.system import Console, lock_directory
from tfpipeline.system.flags import Flags, Range, flag, required, told_by

EXAMPLE = "python -m jobs.evaluate --run runs/shapes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationFlags(Flags):
    """What is evaluated, and where that is written."""

    run: str = required("run directory of jobs.train, with model.keras", metavar="DIR")
    labels: str | None = flag(None, "label store of these images, for the agreement with the teacher", metavar="DIR")
    out: str | None = flag(
        None,
        "where tables and pictures go, by default RUN/evaluation, and for other images than those that the run held "
        "out a directory beside it that is named after them",
        metavar="DIR",
    )
    flip: bool = flag(False, "average the answers on each image and on its mirror image")
    batch_size: int = flag(250, "images at a time", metavar="N", within=Range(at_least=1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluatedImages(ImageFlags):
    """Which images; by default those that the run held out."""

    images: str | None = flag(  # type: ignore[assignment]
        None, "as of jobs.train, by default those of the run", metavar="SPEC"
    )
    split: str | None = flag(  # type: ignore[assignment]
        None, "the source's split, by default the one that was held out", metavar="SPLIT"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Evaluates a trained run on a split: accuracy, agreement with the teacher, confusion, calibration, mistakes."""

    evaluation: EvaluationFlags
    images: EvaluatedImages
    quiet: bool = flag(False, "no progress")


def run(config: Config) -> dict:
    """Evaluates, writes the tables and pictures, and returns the figures."""
    command.import_tensorflow()
    from jobs.reports import evaluation as reports
    from jobs.training import load_model, open_evaluated, read_answers, read_classes, write_card
    from models.losses import distillation
    from tfpipeline.training import Reference, measure, predict_images, run_directory

    console, wanted = Console(config.quiet), config.evaluation
    directory = pathlib.Path(wanted.run)
    model = load_model(directory)
    images = open_evaluated(directory, config.images, model.input_shape[1:], wanted.labels, console)
    store, count = images.store, model.output_shape[-1]
    teacher = None if images.labels is None else read_answers(images.labels, store, count, console)
    classes = read_classes(directory, count, images.labels)
    truth = classes.truth_of(store, console)
    reference = Reference(truth, teacher, distillation)
    predictions = predict_images(model, store.images, wanted.batch_size, wanted.flip, console, reference)
    out = pathlib.Path(wanted.out or directory / images.place)
    names = classes.short_names(store.classes)
    evaluated = reports.Evaluated(predictions, truth, teacher, names)
    figures = measure(predictions, truth, None if teacher is None else teacher.first)
    figures |= {"calibration_error": reports.calibration_error(evaluated)}
    step = run_directory.newest_step(directory) or None
    origin: dict = {"step": step, "images": store.fingerprint, "count": len(store)}
    told = {name: value for name, value in told_by(config).items() if name not in ("cache", "quiet")}
    origin |= {"labels": images.labels, "flip": wanted.flip, "flags": told}
    out.mkdir(parents=True, exist_ok=True)
    with lock_directory(out):  # Another evaluation may end at the same time: the files are of one of them.
        reports.write_all(out, store.images, evaluated)
        reports.write_origin(out, directory, {**origin, **figures})
    if out == directory / "evaluation":
        write_card(directory, model, directory)
    reports.print_table(figures)
    return {"images": len(store), "step": step, **figures, "out": str(out), "run": wanted.run}


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
