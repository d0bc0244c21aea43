"""python -m jobs.label_imagenet64: a teacher's answers to images, in a label store."""

import dataclasses
import pathlib
import time

from jobs import command
from jobs.command import flag, required
from jobs.image_flags import ImageFlags, open_images
from tfpipeline.errors import FlagError

EXAMPLE = "python -m jobs.label_imagenet64 --images shapes --teacher bundled --out labels/shapes"
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5", "area", "gaussian", "mitchellcubic")
RANGES = ("0..1", "0..255", "tf", "caffe", "torch")
CLASSES_SHOWN = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageFlags):
    """Labels images with a teacher. The same command again goes on where it stopped, or shows the figures again."""

    teacher: str = required(
        "bundled, a SavedModel directory, a TF-Hub URL, kaggle:OWNER/MODEL/..., keras:NAME, or a .keras or .h5 file",
        metavar="SPEC",
    )
    out: str = required("the label store, a directory", metavar="DIR")
    interpolation: str = flag("bilinear", "how images are enlarged to the teacher's size", choices=INTERPOLATIONS)
    top_k: int = flag(32, "answers to keep per image; all classes where they are fewer", metavar="K")
    batch_size: int = flag(64, "images that the teacher answers at a time", metavar="N")
    shard_size: int = flag(1024, "images per shard; a killed command loses at most one shard's work", metavar="N")
    teacher_range: str | None = flag(
        None,
        "the numbers that the teacher is fed, where its conventions do not tell: 0..1, 0..255, or Keras Applications' "
        "tf (-1..1), caffe (BGR minus means), torch (normalized)",
        choices=RANGES,
    )
    teacher_size: int | None = flag(None, "pixels a side, for a teacher that takes any", metavar="PIXELS")
    teacher_classes: int | None = flag(
        None, "number of classes; one less than the teacher answers means that its first is the background", metavar="N"
    )


def run(config: Config) -> dict:
    """Labels what has no labels yet and returns the figures of all labels."""
    for name in ("top_k", "batch_size", "shard_size"):
        if getattr(config, name) < 1:
            raise FlagError(f"--{name.replace('_', '-')} is {getattr(config, name)}; it must be at least 1")

    command.import_tensorflow()
    from labeling import answers, label_store, labeler, teachers
    from tfpipeline.progress import Console
    from tfpipeline.stopping import StopRequest

    console = Console(config.quiet)
    out = pathlib.Path(config.out)
    teacher = teachers.load(config.teacher, config.teacher_range, config.teacher_size, config.teacher_classes)
    console.say(teacher.note)
    images = open_images(config, console)
    experts = [answers.Expert(teacher, config.interpolation)]
    spec = labeler.spec_of(images, experts, ("identity",), config.top_k, config.shard_size, "float32")
    start, labeled = time.monotonic(), 0
    with StopRequest() as stop:
        store = label_store.create_labels(out, spec)
        ranges = missing_ranges(store, console)
        if ranges:
            answer = answers.Answerer(experts, spec.views, spec.top_k, images.images.shape[1:], config.batch_size)
            labeled = labeler.label(images.images, store, ranges, answer, config.batch_size, stop, console)
    seconds = time.monotonic() - start
    return {
        "images": len(images),
        "labeled": labeled,
        "skipped": len(images.description["skipped"]),
        "seconds": round(seconds, 3),
        "images_per_second": round(labeled / seconds, 1) if labeled else None,
        **report(store, images, console),
        "out": config.out,
    }


def missing_ranges(store, console) -> list[tuple[int, int]]:
    """The ranges without a verified shard; says what was found."""
    verified, damaged = store.shards()
    for path, problem in damaged.items():
        console.say(f"{path} {problem}; it is not used, and its range is labeled again")
    missing = [reached for reached in store.ranges if reached not in verified]
    if not missing:
        console.say(f"{store.directory}: all {store.spec.count:,} images are labeled")
    elif verified:
        left = sum(last - first for first, last in missing)
        console.say(f"{store.directory}: {left:,} of {store.spec.count:,} images are left to label")
    return missing


def report(store, images, console) -> dict:
    """Prints how the labels are, and returns the figures."""
    from labeling import quality

    labels = store.read_all()
    truth, note = quality.truth_in_classes_of(store.spec, images)
    if note:
        console.say(note)
    figures = quality.figures(labels, truth)
    histogram = quality.class_histogram(labels, store.spec.classes)
    names = quality.class_names(store.spec, images)
    print_table(figures, histogram, names)
    return figures


def print_table(figures, histogram, names) -> None:
    """Prints the figures, and the classes that are answered most."""
    for name, value in figures.items():
        text = "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        print(f"{name.replace('_', ' '):24}{text:>10}")
    print(f"{'images by first answer':24}{'images':>10}{'share':>9}")
    for index in (-histogram).argsort(kind="stable")[:CLASSES_SHOWN]:
        print(f"  {names[index][:21]:22}{histogram[index]:>10,}{histogram[index] / histogram.sum():>9.2%}")


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
