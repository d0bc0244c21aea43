"""python -m jobs.compare_interpolations: the ways to enlarge images for a teacher, measured and pictured."""

import csv
import dataclasses
import io
import pathlib

from jobs import command
from jobs.command import flag, required
from jobs.image_flags import ImageFlags, open_images
from tfpipeline.system import FlagError

EXAMPLE = "python -m jobs.compare_interpolations --images shapes --teacher bundled --out comparison"
COLUMNS = ("top1", "top5", "top_probability", "flip_agreement", "agreement", "teacher_agreement")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageFlags):
    """Compares the ways of enlarging images for every teacher and recommends one, without the truth.

    Where the truth is known, it says how good the recommendation was.
    """

    teacher: tuple[str, ...] = required("as in jobs.label_imagenet64; may be repeated", metavar="SPEC")
    out: str = required("directory for contact_sheet.png, comparison.png and comparison.csv", metavar="DIR")
    sample: int = flag(1000, "images to compare on, evenly spread over all", metavar="N")
    rows: int = flag(12, "images on the contact sheet, evenly spread over the sample", metavar="N")
    batch_size: int = flag(50, "images that a teacher answers at a time", metavar="N")


def run(config: Config) -> dict:
    """Compares, writes the pictures and the table, and returns the figures."""
    for name in ("sample", "rows", "batch_size"):
        if getattr(config, name) < 1:
            raise FlagError(f"--{name.replace('_', '-')} is {getattr(config, name)}; it must be at least 1")
    for spec in config.teacher:
        if config.teacher.count(spec) > 1:
            raise FlagError(f"--teacher {spec} is given more than once")

    from labeling.enlarging import comparison, comparison_pictures
    from labeling.teachers import load_teacher
    from tfpipeline import pictures
    from tfpipeline.system import Console

    console = Console(config.quiet)
    store = open_images(config, console)
    loaded = [load_teacher(spec) for spec in config.teacher]
    positions = comparison.sample(len(store), config.sample)
    images = store.images[positions]
    answers = [comparison.answer_all(teacher, images, config.batch_size, console) for teacher in loaded]
    compared = compare(loaded, config.teacher, answers, store, positions, console)
    out = pathlib.Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "comparison.csv", compared)
    pictures.save(comparison_pictures.bars(compared), out / "comparison.png")
    shown = comparison.sample(len(images), config.rows)
    size = max(teacher.size for teacher in loaded)
    pictures.save(comparison_pictures.contact_sheet(images[shown], shown, compared, size), out / "contact_sheet.png")
    print_tables(compared)
    return {
        "images": len(images),
        "table": {
            part.name: {
                method: {"top1": figures.top1, "top5": figures.top5} for method, figures in part.figures.items()
            }
            for part in compared
        },
        "recommended": {part.name: part.recommended for part in compared},
        "loss": {part.name: loss_of(part) for part in compared},
        "out": config.out,
    }


def compare(loaded, specs, answers, store, positions, console) -> list:
    """One Compared for each teacher."""
    from labeling.enlarging import comparison, comparison_pictures
    from labeling.labels import quality

    compared = []
    names = [teacher.name for teacher in loaded]
    for number, teacher in enumerate(loaded):
        truth, note = quality.truth_in_classes_of(teacher, store)
        if note:
            console.say(note)
        truth = None if truth is None else truth[positions]
        others = answers[:number] + answers[number + 1 :]
        compared.append(
            comparison_pictures.Compared(
                name=teacher.name if names.count(teacher.name) == 1 else specs[number],
                answers=answers[number],
                figures=comparison.figures(answers[number], others, truth),
                recommended=comparison.recommended(answers[number]),
                class_names=quality.class_names(teacher, store),
                truth=truth,
            )
        )
    return compared


def loss_of(part) -> float | None:
    """The points of top-1, in 0..1, that the recommendation loses against the best way; None without truth."""
    top1 = {method: figures.top1 for method, figures in part.figures.items()}
    return None if part.truth is None else max(top1.values()) - top1[part.recommended]


def write_table(path: pathlib.Path, compared) -> None:
    """Writes all figures as a csv, a row for each teacher and interpolation; empty where unknown."""
    from tfpipeline.system import write_file

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    for part in compared:
        for method, figures in part.figures.items():
            row = {"teacher": part.name, "interpolation": method, **dataclasses.asdict(figures)}
            if not text.tell():
                table.writerow([*row, "recommended"])
            numbers = ["" if value is None else value for value in row.values()]
            table.writerow([*numbers, int(method == part.recommended)])
    write_file(path, text.getvalue().encode())


def print_tables(compared) -> None:
    """Prints a table for each teacher, shares in percent, and what is recommended."""
    for part in compared:
        print(f"{part.name}\n{'':14}{'information':>12}{'entropy':>9}", end="")
        print("".join(f"{name.replace('_', ' '):>19}" for name in COLUMNS))
        for method, figures in part.figures.items():
            print(f"{method:14}{figures.information:>12.3f}{figures.entropy:>9.3f}", end="")
            shares = (getattr(figures, name) for name in COLUMNS)
            print("".join(f"{'-' if share is None else f'{100 * share:.1f} %':>19}" for share in shares))
        print(f"recommended without truth: {part.recommended}", end="")
        top1 = {method: figures.top1 for method, figures in part.figures.items()}
        if (loss := loss_of(part)) is None:
            print()
        else:
            print(f", which loses {100 * loss:.1f} points of top-1 against {max(top1, key=top1.get)}")


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
