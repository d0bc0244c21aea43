"""python -m jobs.export: labels as TFRecord, Parquet or CSV; a trained network as SavedModel, LiteRT or ONNX."""

import dataclasses
import pathlib
import tempfile
import typing

from jobs import command
from labeling.labels import ExportForm
from tfpipeline.images import ImageFlags, open_images
from tfpipeline.system import Console, FlagError, StopRequest, UserError, flags, new_directory, write_file
from tfpipeline.system.flags import Flags, Range, flag, part, required

EXAMPLE = """python -m jobs.export --labels labels/shapes --to tfrecord --out exported/labels
  python -m jobs.export --run runs/shapes --to litert --out shapes.tflite"""
NetworkForm = typing.Literal["savedmodel", "litert", "onnx"]
LABEL_FORMS, NETWORK_FORMS = typing.get_args(ExportForm), typing.get_args(NetworkForm)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportFlags(Flags):
    """What is exported, and where that is written."""

    labels: str | None = flag(None, "label store to export", metavar="DIR")
    run: str | None = flag(None, "run directory of jobs.train whose network to export", metavar="DIR")
    to: typing.Literal[ExportForm, NetworkForm] = required(
        f"{', '.join(LABEL_FORMS)} for labels; {', '.join(NETWORK_FORMS)} for a network"
    )
    out: str = required(
        "what to write: a new directory, for litert and onnx a file; it is there whole or not at all", metavar="PATH"
    )
    check: int = flag(
        256, "images on which an exported network is compared with Keras", metavar="N", within=Range(at_least=1)
    )

    def __post_init__(self):
        super().__post_init__()
        if (self.labels is None) == (self.run is None):
            raise FlagError("give either --labels, to export labels, or --run, to export a network")
        source, forms = ("--run", NETWORK_FORMS) if self.labels is None else ("--labels", LABEL_FORMS)
        if self.to not in forms:
            raise FlagError(f"--to {self.to} does not go with {source}; choose {', '.join(forms)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptionalImageFlags(ImageFlags):
    """Which images, and where they come from."""

    images: str | None = flag(  # type: ignore[assignment]  # What takes ImageFlags is asked only where there are some.
        None,
        "with --labels: the labeled images, for their names; with --run: the images of the check, by default the run's",
        metavar="SPEC",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Exports the labels of a label store, or the network of a run, for other programs.

    A network is published only when it answers real images as Keras does.
    """

    export: ExportFlags
    images: OptionalImageFlags = part(OptionalImageFlags)
    quiet: bool = flag(False, "no progress")


def run(config: Config) -> dict:
    """Exports and returns the figures."""
    wanted, out, console = config.export, pathlib.Path(config.export.out), Console(config.quiet)
    figures: dict = {}
    if wanted.labels is not None:
        figures = export_labels(wanted.labels, wanted.to, out, config.images, console)
    if wanted.run is not None:
        figures = export_network(wanted.run, wanted, out, config.images, console)
    return {**figures, "bytes": size_of(out), "to": wanted.to, "out": wanted.out}


def export_labels(labels: str, form: str, out: pathlib.Path, images: OptionalImageFlags, console: Console) -> dict:
    """Writes the labels of a label store into a new directory, with the images' names where these are given."""
    if form == "tfrecord":
        command.import_tensorflow()
    from labeling.labels import export, open_labels

    store, names = open_labels(labels), None
    if images.images is not None:
        labeled = open_images(images, console)
        if note := store.check_same_images(labeled):
            console.say(note)
        names = labeled.names
    with StopRequest() as stop, new_directory(out) as directory:
        rows = export.export(store, form, directory, names, stop, console)
    return {"images": store.spec.count, "rows": rows}


def export_network(
    run: str, wanted: ExportFlags, out: pathlib.Path, images: OptionalImageFlags, console: Console
) -> dict:
    """Writes the network of a run, if it answers like Keras."""
    command.import_tensorflow()
    from jobs.training import load_model
    from models import export

    model = export.in_float32(load_model(pathlib.Path(run)))
    store = open_images(image_flags_of_run(run, images.cache) if images.images is None else images, console)
    asked = store.images[:: -(-len(store) // wanted.check)]
    if wanted.to == "savedmodel":
        with new_directory(out) as directory:
            found = write_and_check(wanted.to, model, directory, asked)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / out.name
            found = write_and_check(wanted.to, model, path, asked)
            write_file(out, path.read_bytes())
    print(f"{out}: the first answer is Keras's on {found.same_top1:,} of {found.images:,} images, ", end="")
    print(f"log-probabilities differ by at most {found.max_difference:.1e}")
    return {
        "images_checked": found.images,
        "same_top1": found.same_top1,
        "max_log_prob_difference": found.max_difference,
    }


def write_and_check(form: str, model, path: pathlib.Path, images):
    """Writes the network, asks it about the images, and returns the models.export.Check.

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


def image_flags_of_run(run: str, cache: str | None) -> ImageFlags:
    """The images that a run was trained on.

    Args:
        run: its directory.
        cache: where opened images are kept; None for where the run kept them.

    Raises:
        UserError: the run does not say which images it had.
    """
    from tfpipeline.training import run_directory

    path = pathlib.Path(run) / run_directory.CONFIG
    saved = run_directory.read_config(pathlib.Path(run)) or {"flags": {}}
    known = {field.name for field in flags.fields_of(ImageFlags)}
    try:
        images = flags.from_flat(ImageFlags, {name: value for name, value in saved["flags"].items() if name in known})
    except TypeError as error:
        raise UserError(f"{path} does not say which images the run had ({error}); give --images and --split") from error
    return images if cache is None else flags.change(images, cache=cache)


def size_of(path: pathlib.Path) -> int:
    """Bytes of a file, or of all files in a directory."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
