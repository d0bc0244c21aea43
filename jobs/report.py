"""python -m jobs.report: one self-contained page of a run, a label store, an evaluation or a sweep."""

import dataclasses
import pathlib

from jobs import command
from tfpipeline.system import Console, FlagError
from tfpipeline.system.flags import Flags, flag
from tfpipeline.training import run_directory

EXAMPLE = """python -m jobs.report --run runs/shapes
  python -m jobs.report --labels labels/shapes
  python -m jobs.report --evaluation runs/shapes/evaluation
  python -m jobs.report --sweep runs/exp1_1-small"""
# By the flag, the file by which a directory is known, and the job that writes it.
KINDS = {
    "run": (run_directory.CONFIG, "jobs.train"),
    "labels": ("spec.json", "jobs.label_imagenet64"),
    "evaluation": (run_directory.EVALUATION, "jobs.evaluate"),
    "sweep": ("sweep.json", "jobs.experiment"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Writes report.html into the directory of a run, a label store, an evaluation or a sweep; of a run a picture, too.

    The page needs no network, and can be sent to somebody as it is.
    """

    run: str | None = flag(None, "run directory of jobs.train", metavar="DIR")
    labels: str | None = flag(None, "label store of jobs.label_imagenet64", metavar="DIR")
    evaluation: str | None = flag(None, "directory of jobs.evaluate, such as RUN/evaluation", metavar="DIR")
    sweep: str | None = flag(None, "directory of jobs.experiment", metavar="DIR")
    quiet: bool = flag(False, "no progress")

    def __post_init__(self):
        super().__post_init__()
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise FlagError(f"{len(given)} of --run, --labels, --evaluation and --sweep are given; give one")

    @property
    def kind(self) -> str:
        """Which of the flags is given."""
        return next(name for name in KINDS if getattr(self, name) is not None)


def run(config: Config) -> dict:
    """Writes the report and returns where it is."""
    kind, console = config.kind, Console(config.quiet)
    directory = pathlib.Path(getattr(config, kind))
    check_kind(kind, directory)
    if kind == "run":
        return report_run(directory, console)
    command.import_tensorflow()
    from jobs.reports import page, pages

    describe = {"labels": pages.describe_labels, "evaluation": pages.describe_evaluation, "sweep": pages.describe_sweep}
    page.write(describe[kind](directory, console), directory / page.NAME)
    return {"html": str(directory / page.NAME), kind: str(directory)}


def check_kind(kind: str, directory: pathlib.Path) -> None:
    """Checks that a directory is what its flag says.

    Raises:
        FlagError: it is something else, which is named where it is known.
    """
    file, job = KINDS[kind]
    if not (directory / file).is_file():
        others = [other for other, (name, _) in KINDS.items() if (directory / name).is_file()]
        rather = f"give --{others[0]} {directory}" if others else f"give a directory of {job}"
        raise FlagError(f"--{kind} {directory} has no {file}, which {job} writes; {rather}")


def report_run(directory: pathlib.Path, console: Console) -> dict:
    """Writes the page and the picture of a run.

    Args:
        directory: of the run, in which both are written.
        console: where progress goes.
    """
    history = run_directory.read_history(directory)
    command.import_tensorflow()
    from jobs.reports import page
    from jobs.reports import run as reports
    from jobs.training import config_of, load_model
    from tfpipeline import pictures
    from tfpipeline.training import predict_images

    saved = run_directory.read_config(directory) or {"flags": {}}
    sample = reports.draw_sample(config_of(saved["flags"]), directory, console)
    predictions = predict_images(load_model(directory), sample.images.images, console=console)
    png = directory / "report.png"
    pictures.save(reports.draw(sample, predictions, history), png)
    page.write(reports.describe(sample, predictions, directory, saved, history, console), directory / page.NAME)
    return {"png": str(png), "html": str(directory / page.NAME), "epochs": len(history), "run": str(directory)}


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
