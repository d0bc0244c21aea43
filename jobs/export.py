"""python -m jobs.export: labels, with their images or without; a trained network as SavedModel, LiteRT or ONNX."""

import dataclasses
import pathlib
import typing

from jobs import command
from labeling.labels import ExportForm, ImageExportForm
from tfpipeline.images import ImageFlags, open_images
from tfpipeline.system import Console, FlagError, StopRequest, new_directory, require_utf8
from tfpipeline.system.flags import Flags, Range, flag, part, required

EXAMPLE = """python -m jobs.export --labels labels/shapes --to tfrecord --out exported/labels
  python -m jobs.export --labels labels/shapes --images shapes --to imagefolder --above 0.9 --out exported/images
  python -m jobs.export --run runs/shapes --to litert --out shapes.tflite"""
NetworkForm = typing.Literal["savedmodel", "litert", "onnx"]
LABEL_FORMS, NETWORK_FORMS = typing.get_args(ExportForm), typing.get_args(NetworkForm)
IMAGE_FORMS = typing.get_args(ImageExportForm)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportFlags(Flags):
    """What is exported, and where that is written."""

    labels: str | None = flag(None, "label store to export", metavar="DIR")
    run: str | None = flag(None, "run directory of jobs.train whose network to export", metavar="DIR")
    to: typing.Literal[ExportForm, ImageExportForm, NetworkForm] = required(
        f"{', '.join(LABEL_FORMS)} for labels; {', '.join(IMAGE_FORMS)} for them with their images; "
        f"{', '.join(NETWORK_FORMS)} for a network"
    )
    out: str = required(
        "what to write: a new directory, for litert and onnx a file; it is there whole or not at all", metavar="PATH"
    )
    above: float | None = flag(
        None,
        f"with {' and '.join(IMAGE_FORMS)}: only images whose most probable class has at least this probability",
        metavar="P",
        within=Range(at_least=0, at_most=1),
    )
    check: int = flag(
        256, "images on which an exported network is compared with Keras", metavar="N", within=Range(at_least=1)
    )

    def __post_init__(self):
        super().__post_init__()
        if (self.labels is None) == (self.run is None):
            raise FlagError("give either --labels, to export labels, or --run, to export a network")
        source, forms = ("--run", NETWORK_FORMS) if self.labels is None else ("--labels", LABEL_FORMS + IMAGE_FORMS)
        if self.to not in forms:
            raise FlagError(f"--to {self.to} does not go with {source}; choose {', '.join(forms)}")
        if self.above is not None and self.to not in IMAGE_FORMS:
            raise FlagError(f"--above does not go with --to {self.to}, which takes all labels; leave it out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptionalImageFlags(ImageFlags):
    """Which images, and where they come from."""

    images: str | None = flag(  # type: ignore[assignment]  # What takes ImageFlags is asked only where there are some.
        None,
        "with --labels: the labeled images, for their names or pixels; with --run: the images of the check, by default "
        "the run's",
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

    def __post_init__(self):
        super().__post_init__()
        if self.export.to in IMAGE_FORMS and self.images.images is None:
            raise FlagError(f"--to {self.export.to} needs the labeled images; give --images, as they were labeled")


def run(config: Config) -> dict:
    """Exports and returns the figures."""
    wanted, out, console = config.export, pathlib.Path(config.export.out), Console(config.quiet)
    images: ImageFlags | None = None if config.images.images is None else config.images
    figures: dict = {}
    if wanted.to in ("tfrecord", "savedmodel"):
        require_utf8(out, "give another --out")
    if wanted.labels is not None:
        figures = export_labels(wanted, out, images, console)
    if wanted.run is not None:
        command.import_tensorflow()
        from jobs.training import CARD, describe, export_network, image_flags_of_run, load_model, write_card
        from tfpipeline.training import run_directory

        directory = pathlib.Path(wanted.run)
        model = load_model(directory)
        store = open_images(images or image_flags_of_run(directory, config.images.cache), console)
        shown = store.images[:: -(-len(store) // wanted.check)]
        found = export_network(model, wanted.to, out, shown, describe(directory, model))
        card = (out if out.is_dir() else out.parent) / CARD
        if not write_card(directory, model, card.parent):
            console.say(f"{card} was written by another hand and stays; the run's own is {directory / CARD}")
        print(f"{out}: the first answer is Keras's on {found.same_top1:,} of {found.images:,} images, ", end="")
        print(f"log-probabilities differ by at most {found.max_difference:.1e}")
        figures = {
            "step": run_directory.newest_step(directory) or None,
            "images_checked": found.images,
            "same_top1": found.same_top1,
            "max_log_prob_difference": found.max_difference,
        }
    return {**figures, "bytes": size_of(out), "to": wanted.to, "out": wanted.out}


def export_labels(wanted: ExportFlags, out: pathlib.Path, images: ImageFlags | None, console: Console) -> dict:
    """Writes the labels of a label store into a new directory, with what the form takes of the images, where given."""
    if wanted.to == "tfrecord":
        command.import_tensorflow()
    from labeling.labels import SPEC_FILE, export, image_export, open_labels

    store, labeled = open_labels(str(wanted.labels)), None
    if images is not None:
        labeled = open_images(images, console)
        if note := store.check_same_images(labeled):
            console.say(note)
    head = (SPEC_FILE, store.spec.to_json().encode())
    with StopRequest() as stop, new_directory(out, head) as directory:
        if wanted.to in IMAGE_FORMS and labeled is not None and images is not None:
            kind, _, place = str(images.images).partition(":")
            originals = pathlib.Path(place).expanduser() if kind == "folder" else None
            target = image_export.Place(directory, wanted.to, originals)
            rows = image_export.export_images(store, labeled, target, wanted.above or 0.0, stop, console)
        else:
            names = None if labeled is None else labeled.names
            rows = export.export(store, wanted.to, directory, names, stop, console)
    return {"images": store.spec.count, "rows": rows}


def size_of(path: pathlib.Path) -> int:
    """Bytes of a file, or of all files in a directory."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
