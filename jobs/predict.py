"""python -m jobs.predict: what a run's network says images show, by name and with probabilities."""

import dataclasses
import pathlib

from jobs import command
from jobs.training import PredictedImageFlags
from tfpipeline.system import Console
from tfpipeline.system.flags import Flags, Range, flag, required

EXAMPLE = """python -m jobs.predict --run runs/photos --images folder:photos/new
  python -m jobs.predict --run runs/photos --images a.jpg --images b.png"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionFlags(Flags):
    """Who answers, and where the answers are written."""

    run: str = required("run directory of jobs.train, with model.keras", metavar="DIR")
    out: str | None = flag(None, "directory of the tables and the picture (default: RUN/predictions)", metavar="DIR")
    batch_size: int = flag(250, "images at a time", metavar="N", within=Range(at_least=1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Names what images show, by the network of a run: the five most probable classes of each.

    Writes predictions.csv, predictions.jsonl and predictions.png.
    """

    prediction: PredictionFlags
    images: PredictedImageFlags
    quiet: bool = flag(False, "no progress")


def run(config: Config) -> dict:
    """Answers, prints and writes the answers, and returns where they are."""
    command.import_tensorflow()
    from jobs.reports import predictions as reports
    from jobs.training import load_model, open_predicted, read_classes
    from tfpipeline.training import predict_images

    console, wanted = Console(config.quiet), config.prediction
    directory = pathlib.Path(wanted.run)
    model = load_model(directory)
    images = open_predicted(directory, config.images, model.input_shape[1:], console)
    classes = read_classes(directory, model.output_shape[-1]).short_names()
    answers = predict_images(model, images.pixels, wanted.batch_size, console=console)
    predicted = reports.Predicted(images.names, answers, classes)
    out = pathlib.Path(wanted.out or directory / "predictions")
    reports.write_all(out, images.pixels, predicted)
    reports.print_answers(predicted)
    return {
        "images": len(images.names),
        "skipped": images.skipped,
        "classes_answered": len(set(answers.top[:, 0].tolist())),
        "mean_top_probability": float(answers.probability.mean()),
        "out": str(out),
        "run": wanted.run,
    }


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
