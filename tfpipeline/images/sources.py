"""Where images come from: a spec such as `folder:DIR`, opened to a series of pixels in a fixed order."""

import dataclasses
import difflib
import typing

from tfpipeline.images.file_source import FileSource
from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.npz_source import NpzSource
from tfpipeline.images.places import expand
from tfpipeline.images.shapes_source import ShapesSource
from tfpipeline.images.source import Source
from tfpipeline.images.splits import held_out_split
from tfpipeline.system import FlagError

_KINDS_OF_FILES = ("folder", "archive", "npz")


def open_source(images: ImageFlags | str, split: str = "train", **others: typing.Any) -> Source:
    """The images that a spec, or all flags of a command, name.

    Args:
        images: the flags; or a spec alone: `shapes`, `folder:DIR`, `archive:FILE`, `npz:FILE_OR_DIR` or a TensorFlow
            dataset's name.
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
    is_tfds = not of_files and spec != "shapes"
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
        return NpzSource(path, flags) if kind == "npz" else FileSource(kind, path, flags)
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
        f"--images {spec} is not known{question}; give shapes, folder:DIR, archive:FILE, npz:FILE or a TFDS name like"
        " cifar10"
    )


def _offer(spec):
    """What a person who gave `spec` may have meant, or None."""
    kind, colon, place = spec.partition(":")
    if colon and (close := difflib.get_close_matches(kind.lower(), _KINDS_OF_FILES, 1)):
        return f"{close[0]}:{place}"
    path = expand(spec)
    if spec and path.is_dir():
        return f"{'npz' if any(path.glob('*_data*.npz')) else 'folder'}:{spec}"
    if path.is_file():
        return f"{'npz' if path.suffix == '.npz' else 'archive'}:{spec}"
    return None
