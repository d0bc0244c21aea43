"""python -m jobs.export: labels as TFRecord, Parquet or CSV; a trained network as SavedModel, LiteRT or ONNX."""

import dataclasses
import json
import pathlib
import tempfile

from jobs import command, evaluate
from jobs.command import flag, required
from jobs.image_flags import ImageFlags, open_images
from tfpipeline.system import FlagError, UserError

EXAMPLE = """python -m jobs.export --labels labels/shapes --to tfrecord --out exported/labels
  python -m jobs.export --run runs/shapes --to litert --out shapes.tflite"""
LABEL_FORMS = ("tfrecord", "parquet", "csv")
NETWORK_FORMS = ("savedmodel", "litert", "onnx")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageFlags):
    """Exports the labels of a label store, or the network of a run, for other programs.

    A network is published only when it answers real images as Keras does.
    """

    labels: str | None = flag(None, "label store to export", metavar="DIR")
    run: str | None = flag(None, "run directory of jobs.train whose network to export", metavar="DIR")
    to: str = required(
        f"{', '.join(LABEL_FORMS)} for labels; {', '.join(NETWORK_FORMS)} for a network",
        choices=(*LABEL_FORMS, *NETWORK_FORMS),
    )
    out: str = required(
        "what to write: a new directory, for litert and onnx a file; it is there whole or not at all", metavar="PATH"
    )
    images: str | None = flag(
        None,
        "with --labels: the labeled images, for their names; with --run: the images of the check, by default the run's",
        metavar="SPEC",
    )
    check: int = flag(256, "images on which an exported network is compared with Keras", metavar="N")


def run(config: Config) -> dict:
    """Exports and returns the figures."""
    if (config.labels is None) == (config.run is None):
        raise FlagError("give either --labels, to export labels, or --run, to export a network")
    forms = LABEL_FORMS if config.labels else NETWORK_FORMS
    if config.to not in forms:
        raise FlagError(
            f"--to {config.to} does not go with {'--labels' if config.labels else '--run'}; choose {', '.join(forms)}"
        )
    if config.check < 1:
        raise FlagError(f"--check is {config.check}; it must be at least 1")

    from tfpipeline.system import Console

    console = Console(config.quiet)
    return export_labels(config, console) if config.labels else export_network(config, console)


def export_labels(config: Config, console) -> dict:
    """Writes the labels into a new directory."""
    from labeling.labels import export, open_labels
    from tfpipeline.system import StopRequest, new_directory

    store = open_labels(config.labels)
    names = None
    if config.images is not None:
        images = open_images(config, console)
        if note := store.check_joins(images):
            console.say(note)
        names = images.names
    out = pathlib.Path(config.out)
    with StopRequest() as stop, new_directory(out) as directory:
        rows = export.export(store, config.to, directory, names, stop, console)
    return {"images": store.spec.count, "rows": rows, "bytes": size_of(out), "to": config.to, "out": config.out}


def export_network(config: Config, console) -> dict:
    """Writes the run's network, if it answers like Keras."""
    from models import export
    from tfpipeline.system import new_directory, write_file

    model = export.in_float32(evaluate.load_model(pathlib.Path(config.run)))
    store = open_images(config if config.images is not None else image_flags_of_run(config), console)
    images = store.images[:: -(-len(store) // config.check)]
    out = pathlib.Path(config.out)
    if config.to == "savedmodel":
        with new_directory(out) as directory:
            found = write_and_check(config.to, model, directory, images)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / out.name
            found = write_and_check(config.to, model, path, images)
            write_file(out, path.read_bytes())
    print(f"{out}: the first answer is Keras's on {found.same_top1:,} of {found.images:,} images, ", end="")
    print(f"log-probabilities differ by at most {found.max_difference:.1e}")
    return {
        "images_checked": found.images,
        "same_top1": found.same_top1,
        "max_log_prob_difference": found.max_difference,
        "bytes": size_of(out),
        "to": config.to,
        "out": config.out,
    }


def write_and_check(form: str, model, path: pathlib.Path, images):
    """Writes the network and asks it about the images.

    Raises:
        UserError: it does not answer as Keras does.
    """
    from models import export

    export.WRITERS[form](model, path)
    found = export.check(model, export.OPENERS[form](path), images)
    if not found.passed:
        raise UserError(
            f"--to {form}: the exported network is not the one that Keras runs: the same first answer on "
            f"{found.same_top1:,} of {found.images:,} images, log-probabilities that differ by up to "
            f"{found.max_difference:.2g} (at most {export.MAX_DIFFERENCE} is allowed); nothing was written: choose "
            "another form"
        )
    return found


def image_flags_of_run(config: Config) -> ImageFlags:
    """The images that the run was trained on.

    Raises:
        UserError: the run does not say.
    """
    path = pathlib.Path(config.run) / "config.json"
    try:
        flags = json.loads(path.read_text(encoding="utf-8"))["flags"]
        chosen = {field.name: flags[field.name] for field in dataclasses.fields(ImageFlags)}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} does not say which images the run had ({error}); give --images and --split") from error
    return ImageFlags(**chosen | {"cache": config.cache or chosen["cache"], "quiet": config.quiet})


def size_of(path: pathlib.Path) -> int:
    """Bytes of a file, or of all files in a directory."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
