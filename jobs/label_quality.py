"""python -m jobs.label_quality: how far labels can be trusted, in figures and pictures, with the truth or without."""

import dataclasses
import pathlib

from jobs import command
from tfpipeline.images import ImageFlags, open_images
from tfpipeline.system import Console, print_figures
from tfpipeline.system.flags import Flags, flag, required

EXAMPLE = """python -m jobs.label_quality --labels labels/shapes --images shapes --out quality
  python -m jobs.label_quality --labels labels/a --against labels/b --images folder:photos --out quality"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityFlags(Flags):
    """Which labels are judged, by what, and where that is written."""

    labels: str = required("label store to judge", metavar="DIR")
    against: tuple[str, ...] = flag(
        (), "label store of the same images by another teacher; may be repeated", metavar="DIR"
    )
    out: str = required("directory for the pictures and the table", metavar="DIR")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Judges the labels of a label store by second opinions, and by the truth where it is known.

    Second opinions are its further stored views and the labels of other teachers. The temperature of the labels is
    fitted on the answers of the other teachers, without these on those to the other views; never on the truth.
    Writes suspicious.csv and, as far as there is something to show, suspicious.png, disagreement.png, reliability.png,
    class_balance.png, confusion.png and adaptation.png. Where folders or a csv gave the images their classes,
    doubted.csv and doubted.png show those that are most likely wrong, by confident learning (pip install cleanlab).
    """

    quality: QualityFlags
    images: ImageFlags
    quiet: bool = flag(False, "no progress")


def run(config: Config) -> dict:
    """Judges the labels, writes the pictures and returns the figures."""
    from jobs.reports import labels as report
    from labeling.labels import fit_temperature, trust
    from tfpipeline.training import agreement, share_in_top

    console, out = Console(config.quiet), pathlib.Path(config.quality.out)
    images = open_images(config.images, console)
    judgment = report.judge_labels(config.quality.labels, config.quality.against, images, console)
    label, others, truth = judgment.label, judgment.others, judgment.truth
    temperature = fit_temperature(label, judgment.references) if others else None
    out.mkdir(parents=True, exist_ok=True)
    report.write_suspicious(judgment, out)
    report.write_balance(judgment, out)
    error, error_at_temperature = report.write_reliability(judgment, temperature, out)
    report.write_confusion(judgment, out)
    doubted = report.write_doubted(judgment, out, console)
    adapt = report.write_adaptation(judgment, out)
    figures = {
        "top1": None if truth is None else share_in_top(label.answers.top_k, truth, 1),
        "mean_top_probability": float(label.answers.confidence.mean()),
        "mean_trust": float(trust(label, others).mean()),
        "agreement": agreement(label.answers.first, [other.answers.first for other in others]),
        "temperature": temperature,
        "calibration_error": error,
        "calibration_error_at_temperature": error_at_temperature,
        "doubted_classes": doubted,
    }
    print_figures(figures)
    return {"images": len(images), "opinions": 1 + len(others), **figures, "adapt": adapt, "out": config.quality.out}


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
