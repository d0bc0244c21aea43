"""Where images come from: a spec such as `folder:DIR`, opened to a series of pixels in a fixed order."""

import dataclasses
import difflib
import pathlib
import typing
from collections.abc import Callable

from tfpipeline.images.file_source import FileSource
from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.hugging_face import open_hub
from tfpipeline.images.npz_source import NpzSource
from tfpipeline.images.parquet_source import ParquetSource
from tfpipeline.images.places import expand
from tfpipeline.images.shapes_source import ShapesSource
from tfpipeline.images.source import Source
from tfpipeline.images.splits import held_out_split
from tfpipeline.images.webdataset_source import WebDatasetSource
from tfpipeline.system import FlagError

_KINDS_OF_FILES = ("folder", "archive", "npz", "parquet", "webdataset")
_OF_PATH: dict[str, Callable[[pathlib.Path, ImageFlags], Source]] = {
    "npz": NpzSource,
    "parquet": ParquetSource.of_path,
    "webdataset": WebDatasetSource,
}
_HUB = "hf"


def open_source(images: ImageFlags | str, split: str = "train", **others: typing.Any) -> Source:
    """The images that a spec, or all flags of a command, name.

    Args:
        images: the flags; or a spec alone: `shapes`, `folder:DIR`, `archive:FILE`, `npz:FILE_OR_DIR`,
            `parquet:FILE_OR_DIR`, `hf:OWNER/NAME`, `webdataset:FILE_OR_DIR` or a TensorFlow dataset's name.
        split: of a spec.
        **others: of a spec, the further flags of `ImageFlags`.

    Raises:
        UserError: the images are not there or not readable.
        FlagError: the spec is none, or another flag does not go with it.
    """
    flags = images if isinstance(images, ImageFlags) else ImageFlags(images=images, split=split, **others)
    spec = str(flags.images)
    kind, colon, place = spec.partition(":")
    of_files = kind in _KINDS_OF_FILES and colon == ":"
    of_hub = kind == _HUB and colon == ":"
    is_tfds = not of_files and not of_hub and spec != "shapes"
    for name, value, fits in (
        ("--truth", flags.truth, kind in ("folder", "archive")),
        ("--archives", flags.archives, is_tfds),
        ("--data-dir", flags.data_dir, is_tfds),
    ):
        if value is not None and not fits:
            raise FlagError(f"{name} does not go with --images {spec}; leave it out")
    if of_files:
        if not place:
            raise FlagError(f"--images {spec} names no place; give {kind}: and a path")
        path = expand(place)
        return FileSource(kind, path, flags) if kind in ("folder", "archive") else _OF_PATH[kind](path, flags)
    if of_hub:
        return open_hub(place, flags)
    if spec == "shapes":
        return ShapesSource(flags)
    if spec.startswith((".", "/", "~")):
        raise FlagError(_unknown(spec))
    from tfpipeline.images import tfds_source  # Here, because it imports TensorFlow Datasets.

    try:
        return tfds_source.TfdsSource(flags)
    except tfds_source.UnknownDataset:
        raise FlagError(_unknown(spec)) from None


def splits_of(flags: ImageFlags) -> tuple[str, ...]:
    """The names of the splits of the source that the flags name; `flags.split` counts for nothing here.

    Raises:
        UserError: as `open_source`.
    """
    return tuple(open_source(dataclasses.replace(flags, split="all")).splits)


def split_to_measure_on(flags: ImageFlags) -> str:
    """The split of images that are given to measure on: the held-out one of their source, else its only one.

    Raises:
        FlagError: there are several, none of them held out.
        UserError: as `open_source`.
    """
    names = splits_of(flags)
    split = held_out_split(names) or (names[0] if len(names) == 1 else None)
    if split is None:
        raise FlagError(
            f"--images {flags.images} has the splits {', '.join(names)}; say which one is to be measured on"
        )
    return split


def _unknown(spec):
    offer = _offer(spec)
    question = f"; did you mean {offer}?" if offer else ""
    return (
        f"--images {spec} is not known{question}; give shapes, folder:DIR, archive:FILE, parquet:FILE, hf:OWNER/NAME,"
        " webdataset:FILE, npz:FILE or a TFDS name like cifar10"
    )


def _offer(spec):
    """What a person who gave `spec` may have meant, or None."""
    kind, colon, place = spec.partition(":")
    if colon and (close := difflib.get_close_matches(kind.lower(), (*_KINDS_OF_FILES, _HUB), 1)):
        return f"{close[0]}:{place}"
    path = expand(spec)
    if spec and path.is_dir():
        patterns = {"npz": "*_data*.npz", "parquet": "**/*.parquet"}
        return f"{next((kind for kind, pattern in patterns.items() if any(path.glob(pattern))), 'folder')}:{spec}"
    if path.is_file():
        kind = path.suffix.removeprefix(".")
        return f"{kind if kind in ('npz', 'parquet') else 'archive'}:{spec}"
    return None
