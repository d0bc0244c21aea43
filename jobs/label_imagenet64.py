"""python -m jobs.label_imagenet64: a teacher's answers to images, in a label store."""

import dataclasses
import pathlib
import time

from jobs import command
from jobs.command import flag, required
from jobs.image_flags import ImageFlags, open_images
from jobs.labeling import task
from tfpipeline.system import Console, FlagError, StopRequest

EXAMPLE = "python -m jobs.label_imagenet64 --images shapes --teacher bundled --out labels/shapes"
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5", "area", "gaussian", "mitchellcubic")
CHOICES = (*INTERPOLATIONS, "auto")
RANGES = ("auto", "0..1", "0..255", "tf", "caffe", "torch")
CLASSES_SHOWN = 10
RUNNERS = ("local", "beam")
RUNTIMES = ("auto", "tensorflow", "openvino")
PRECISIONS = ("float32", "bfloat16")
MODES = ("status", "dry_run", "verify", "repair")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageFlags):
    """Labels images with a teacher. The same command again goes on where it stopped, or shows the figures again.

    With several teachers, or several views, the answer is their weighted geometric mean. The flags of a teacher are
    given once for all teachers or once for each, in the order of --teacher.
    """

    teacher: tuple[str, ...] = required(
        "bundled, a SavedModel directory, a TF-Hub URL, hub:NAME (mobilenet_v2, inception_v3, ...; a wrong NAME lists "
        "all), kaggle:OWNER/MODEL/..., keras:NAME, or a .keras or .h5 file; may be repeated",
        metavar="SPEC",
    )
    out: str = required("the label store, a directory", metavar="DIR")
    interpolation: tuple[str, ...] = flag(
        (),
        "how images are enlarged to the teacher's size; auto measures a sample, without truth (default: bilinear)",
        choices=CHOICES,
    )
    weight: tuple[float, ...] = flag((), "weight of the teacher among several (default: 1)", metavar="W")
    teacher_range: tuple[str, ...] = flag(
        (),
        "the numbers that the teacher is fed: 0..1, 0..255, or as Keras Applications say tf (-1..1), caffe (BGR minus "
        "means), torch (normalized) (default: auto, what its weights, layers or conventions tell)",
        choices=RANGES,
    )
    teacher_size: tuple[int, ...] = flag((), "pixels a side, for a teacher that takes any", metavar="PIXELS")
    teacher_classes: tuple[int, ...] = flag(
        (), "number of classes; one less than the teacher answers means that its first is the background", metavar="N"
    )
    classes: str | None = flag(
        None,
        "text file of the only classes that images may have, one per line, by name, WordNet id or index; the answers "
        "are renormalized over them (default: all that the teacher knows)",
        metavar="FILE",
    )
    views: str = flag("identity", "what the teacher sees: identity, flip, crop:TOP:LEFT:SIZE, joined by commas")
    keep_views: bool = flag(
        False, "store the answer to each view instead of their mean, for training on the same views"
    )
    top_k: int = flag(32, "answers to keep per image; all classes where they are fewer", metavar="K")
    precision: str = flag(
        "float32", "arithmetic of the teachers; bfloat16 is faster where a processor has it", choices=PRECISIONS
    )
    runtime: str = flag(
        "auto", "what computes the answers; auto measures, where the work is long, which is fastest", choices=RUNTIMES
    )
    batch_size: int | None = flag(
        None, "images that the teacher answers at a time (default: measured with the runtime, or 64)", metavar="N"
    )
    shard_size: int = flag(1024, "images per shard; a killed command loses at most two shards' work", metavar="N")
    no_gate: bool = flag(False, "label even if the teacher seems to be fed wrongly")
    status: bool = flag(False, "only tell what is labeled; loads no teacher and no images")
    dry_run: bool = flag(False, "only tell what would be done and how long it would take; writes no labels")
    verify: bool = flag(False, "only check every shard, and a sample of the answers by asking the teacher again")
    repair: bool = flag(False, "set damaged shards aside into DIR/damaged and make those ranges again")
    runner: str = flag("local", "who labels: this process, or the workers of Apache Beam", choices=RUNNERS)
    beam_option: tuple[str, ...] = flag(
        (),
        "an option of Beam's own with --runner beam, such as direct_num_workers=2; may be repeated",
        metavar="NAME=VALUE",
    )
    sample: int = flag(256, "images that --verify asks the teacher about again", metavar="N")


def run(config: Config) -> dict:
    """Labels what has no labels yet and returns the figures of all labels."""
    check_flags(config)
    if config.status:
        return tell_status(config)
    command.import_tensorflow()

    from labeling.labels import SPEC_FILE, check_mixes, create_labels, open_labels, verification
    from labeling.work import labeler

    if config.runner == "beam":
        from labeling.work import on_beam

        pipeline = on_beam.open_pipeline(config.beam_option)
    console, out, start = Console(config.quiet), pathlib.Path(config.out), time.monotonic()
    runtime, batch_size = task.known_way(config)
    images = open_images(config, console)
    experts = task.load_experts(config, images, console)
    views = task.views_of(config, images)
    spec = labeler.spec_of(
        images, experts, views, config.top_k, config.shard_size, config.precision, runtime or "tensorflow", batch_size
    )
    check_mixes(out, spec)

    def answerer():
        return task.answerer_of(config, experts, spec, images, console)

    if config.dry_run:
        task.check_gate(config, experts, spec, images, console)
        return tell_plan(config, spec, images, answerer())
    if config.verify:
        store = open_labels(out)
        verification.check_whole(store, verification.status(store))
        answer = answerer()
        again = verification.recompute(images.images, store, answer, answer.batch_size, config.sample)
        return {"images": len(images), **again, **report(store, images, console), "out": config.out}
    with StopRequest() as stop:
        labeled, seconds = 0, 0.0
        store = create_labels(out, spec) if (out / SPEC_FILE).exists() else None
        if store is None or prepare(config, store, console):
            task.check_gate(config, experts, spec, images, console)
            answer = answerer() if config.runner == "local" else None
            if answer:
                spec = dataclasses.replace(spec, runtime=answer.runtime, batch_size=answer.batch_size)
            store = create_labels(out, spec)
            start = time.monotonic()
            if answer:
                size, parallel = answer.images_per_call, answer.parallel
                labeled = labeler.label(images.images, store, answer, size, stop, console, parallel)
            else:
                labeled = on_beam.label(pipeline, images, store, experts, spec.batch_size, stop, console)
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


def check_flags(config: Config) -> None:
    """Checks what needs no teacher and no images.

    Raises:
        FlagError: a flag has a value that cannot be, or does not go with another.
    """
    for name in ("top_k", "batch_size", "shard_size", "sample"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise FlagError(f"{flag_of(name)} is {value}; it must be at least 1")
    if config.beam_option and config.runner != "beam":
        raise FlagError(f"--beam-option {config.beam_option[0]} is for --runner beam; give both or neither")
    modes = [flag_of(name) for name in MODES if getattr(config, name)]
    if len(modes) > 1:
        raise FlagError(f"{' and '.join(modes)} do not go together; give one of them")
    for name in ("interpolation", "weight", "teacher_range", "teacher_size", "teacher_classes"):
        given = len(getattr(config, name))
        if given not in (0, 1, len(config.teacher)):
            raise FlagError(
                f"{flag_of(name)} is given {given} times for {len(config.teacher)} teachers; "
                "give it once, or once for each"
            )
    if any(weight <= 0 for weight in config.weight):
        raise FlagError(f"--weight {min(config.weight)} must be above 0; leave the teacher out instead")


def flag_of(name: str) -> str:
    """The flag of a field."""
    return "--" + name.replace("_", "-")


def prepare(config: Config, store, console) -> bool:
    """Says what is labeled already, sets damaged shards aside with --repair, and tells whether work is left."""
    from labeling.labels import verification

    found = verification.status(store)
    for path, problem in found.damaged.items():
        fate = "is set aside" if config.repair else "is not used (--repair sets it aside)"
        console.say(f"{path} {problem}; it {fate}, and its range is labeled again")
    if config.repair:
        verification.set_aside(found)
    left = found.figures()["missing"]
    count = f"{store.spec.count:,} images"
    console.say(
        f"{store.directory}: " + (f"{left:,} of {count} are left to label" if left else f"all {count} are labeled")
    )
    return bool(left)


def tell_status(config: Config) -> dict:
    """Prints what is on disk."""
    from labeling.labels import open_labels, verification

    store = open_labels(pathlib.Path(config.out))
    found = verification.status(store)
    for path, problem in found.damaged.items():
        print(f"{path.name} {problem}")
    figures = {"images": store.spec.count, **found.figures()}
    print_figures(figures)
    return {**figures, "out": config.out}


def tell_plan(config: Config, spec, images, answer) -> dict:
    """Prints what labeling would do, its speed measured on a few batches."""
    from labeling.labels import SPEC_FILE, open_labels, verification
    from labeling.work import runtime_choice

    out = pathlib.Path(config.out)
    left = spec.count
    if (out / SPEC_FILE).exists():
        left = verification.status(open_labels(out)).figures()["missing"]
    rate = runtime_choice.images_per_second(answer, images.images)
    figures = {
        "images": len(images),
        "to_label": left,
        "images_per_second": round(rate, 1),
        "seconds": round(left / rate, 1),
        "bytes": left * len(spec.views) * (4 * spec.top_k + 2),
    }
    print_figures(figures)
    return {**figures, "out": config.out}


def report(store, images, console) -> dict:
    """Prints how good the labels are, and returns the figures."""
    from labeling.labels import quality

    labels = store.read_all()
    truth, note = quality.truth_in_classes_of(store.spec, images)
    if note:
        console.say(note)
    figures = quality.figures(labels, truth)
    print_figures(figures)
    histogram = quality.class_histogram(labels, store.spec.classes)
    names = quality.class_names(store.spec, images)
    print(f"{'images by first answer':24}{'images':>12}{'share':>9}")
    for index in (-histogram).argsort(kind="stable")[:CLASSES_SHOWN]:
        print(f"  {names[index][:21]:22}{histogram[index]:>12,}{histogram[index] / histogram.sum():>9.2%}")
    return figures


def print_figures(figures: dict) -> None:
    """Prints one figure per line."""
    for name, value in figures.items():
        text = "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.4f}"
        print(f"{name.replace('_', ' '):24}{text:>12}")


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
