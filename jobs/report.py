"""python -m jobs.report: one self-contained page, and one picture, of what a run learned."""

import dataclasses
import pathlib

from jobs import command
from tfpipeline.system import Console, UserError, write_file
from tfpipeline.system.flags import Flags, flag, required
from tfpipeline.training import run_directory

EXAMPLE = "python -m jobs.report --run runs/shapes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Writes report.html and report.png into a run's directory: answers on sample images, curves, figures, flags."""

    run: str = required("run directory of jobs.train", metavar="DIR")
    quiet: bool = flag(False, "no progress")


def run(config: Config) -> dict:
    """Writes the report and returns where it is."""
    directory, console = pathlib.Path(config.run), Console(config.quiet)
    saved = run_directory.read_config(directory)
    if saved is None:
        raise UserError(
            f"{directory / run_directory.CONFIG} is not there: {directory} holds no finished epoch of jobs.train"
        )
    history = run_directory.read_history(directory)
    command.import_tensorflow()
    from jobs.reports import run as reports
    from jobs.training import config_of, load_model
    from tfpipeline import pictures
    from tfpipeline.training import predict_images

    sample = reports.draw_sample(config_of(saved["flags"]), directory, console)
    predictions = predict_images(load_model(directory), sample.images.images, console=console)
    figure = reports.draw(sample, predictions, history)
    png, page = directory / "report.png", directory / "report.html"
    pictures.save(figure, png)
    text = reports.write_page(sample, predictions, directory, saved, history, console)
    write_file(page, text.encode(errors="backslashreplace"))  # A path that is no UTF-8 is shown with its bytes.
    return {"png": str(png), "html": str(page), "epochs": len(history), "run": config.run}


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
