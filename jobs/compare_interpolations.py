"""python -m jobs.compare_interpolations: the ways to enlarge images for a teacher, measured and pictured."""

import dataclasses
import pathlib

from jobs import command
from tfpipeline.images import ImageFlags, open_images, spread_evenly
from tfpipeline.system import Console, FlagError
from tfpipeline.system.flags import Flags, Range, flag, required

EXAMPLE = "python -m jobs.compare_interpolations --images shapes --teacher bundled --out comparison"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonFlags(Flags):
    """Which teachers are compared on what, and where that is written."""

    teacher: tuple[str, ...] = required("as in jobs.label_imagenet64; may be repeated", metavar="SPEC")
    trust_teacher: bool = flag(False, "as in jobs.label_imagenet64")
    out: str = required("directory for contact_sheet.png, comparison.png and comparison.csv", metavar="DIR")
    sample: int = flag(1000, "images to compare on, evenly spread over all", metavar="N", within=Range(at_least=1))
    rows: int = flag(
        12, "images on the contact sheet, evenly spread over the sample", metavar="N", within=Range(at_least=1)
    )
    batch_size: int = flag(50, "images that a teacher answers at a time", metavar="N", within=Range(at_least=1))

    def __post_init__(self):
        super().__post_init__()
        for spec in self.teacher:
            if self.teacher.count(spec) > 1:
                raise FlagError(f"--teacher {spec} is given more than once")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Compares the ways of enlarging images for every teacher and recommends one, without the truth.

    Where the truth is known, it says how good the recommendation was.
    """

    images: ImageFlags
    comparison: ComparisonFlags
    quiet: bool = flag(False, "no progress")


def run(config: Config) -> dict:
    """Compares, writes the pictures and the table, and returns the figures."""
    command.import_tensorflow()
    from jobs.reports import interpolations as report
    from labeling.teachers import load_teacher
    from tfpipeline import pictures

    flags, console, out = config.comparison, Console(config.quiet), pathlib.Path(config.comparison.out)
    images = open_images(config.images, console)
    teachers = [load_teacher(spec, trust=flags.trust_teacher) for spec in flags.teacher]
    positions = spread_evenly(len(images), flags.sample)
    comparisons = report.compare(teachers, images, positions, flags.batch_size, console)
    out.mkdir(parents=True, exist_ok=True)
    report.write_table(comparisons, out / "comparison.csv")
    pictures.save(report.bars(comparisons), out / "comparison.png")
    rows = spread_evenly(len(positions), flags.rows)
    size = max(teacher.size for teacher in teachers)
    sheet = report.contact_sheet(images.images[positions[rows]], rows, comparisons, size)
    pictures.save(sheet, out / "contact_sheet.png")
    report.print_comparisons(comparisons)
    return {
        "images": len(positions),
        "table": {
            each.name: {
                method: {"top1": figures.top1, "top5": figures.top5} for method, figures in each.figures.items()
            }
            for each in comparisons
        },
        "recommended": {each.name: each.recommendation for each in comparisons},
        "loss": {each.name: each.loss for each in comparisons},
        "out": flags.out,
    }


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
