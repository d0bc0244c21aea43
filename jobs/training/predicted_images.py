"""The images that a run's network is asked about: files one by one, or images of any source, at the run's size."""

import dataclasses
import itertools
import pathlib

import numpy as np

from tfpipeline.images import GivenFiles, ImageFlags, Pixels, names_a_file, open_images
from tfpipeline.system import Console, FlagError, UserError, flags
from tfpipeline.system.flags import Flags, Range, flag, required
from tfpipeline.training import run_directory


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictedImageFlags(Flags):
    """Which images; they are made as large as those that the run learned from."""

    images: tuple[str, ...] = required("an image file, or images as of jobs.train; may be repeated", metavar="SPEC")
    split: str = flag("all", "the split of images that are no single files", metavar="SPLIT")
    size: int | None = flag(
        None,
        "pixels a side, for a network that takes any (default: those of the run)",
        metavar="PIXELS",
        within=Range(at_least=1),
    )
    limit: int | None = flag(
        None, "only the first so many images of each source", metavar="N", within=Range(at_least=1)
    )
    skip_broken: bool = flag(False, "leave unreadable images out and list them")
    archives: str | None = flag(None, "folder with a TFDS source's archives that you already have", metavar="DIR")
    data_dir: str | None = flag(None, "TFDS's data_dir, for sources that TFDS has prepared", metavar="DIR")
    cache: str | None = flag(None, "where opened images are kept, as of jobs.train", metavar="DIR")


@dataclasses.dataclass(frozen=True, eq=False)
class PredictedImages:
    """Images as a network takes them.

    Attributes:
        names: what each of N images is called.
        pixels: uint8 (N, H, W, 3).
        skipped: how many more there were that cannot be read.
    """

    names: list[str]
    pixels: Pixels
    skipped: int


def open_predicted(
    directory: pathlib.Path, wanted: PredictedImageFlags, image_shape: tuple[int | None, ...], console: Console
) -> PredictedImages:
    """The images that are named, in that order, made as large as a run's network takes them.

    Args:
        directory: of the run.
        wanted: which.
        image_shape: (H, W, 3) of what the network takes; None where it takes any.
        console: where notes go.

    Raises:
        UserError: they cannot be read, or are of another size than the network takes and cannot be made so.
    """
    size = _size_of(directory, wanted.size, image_shape)
    given = {name: value for name, value in flags.flat(wanted).items() if name != "images"}
    parts = []
    for is_files, specs in itertools.groupby(wanted.images, names_a_file):
        if is_files:
            files = flags.from_flat(ImageFlags, {"images": "files", "size": size, "skip_broken": wanted.skip_broken})
            parts.append(_read_files(GivenFiles(tuple(specs), files), console))
            continue
        for spec in specs:
            store = open_images(flags.from_flat(ImageFlags, given | {"images": spec, "size": size}), console)
            parts.append(PredictedImages(store.names, store.images, store.counts["skipped"]))
    whole = _join(parts)
    if tuple(whole.pixels.shape[1:3]) != tuple(image_shape[:2]) and None not in image_shape:
        raise UserError(
            f"--images are {whole.pixels.shape[1]}x{whole.pixels.shape[2]}, the network of {directory} takes "
            f"{image_shape[0]}x{image_shape[1]}; bring them to that size"
        )
    return whole


def _size_of(directory, size, image_shape):
    """The side of the square that images become; None where the network takes no squares."""
    height, width = image_shape[:2]
    if height is not None and size not in (None, height):
        raise FlagError(f"--size {size}: the network of {directory} takes images of {height} pixels a side")
    if height is not None:
        return height if height == width else None
    size = size or ((run_directory.read_config(directory) or {"flags": {}})["flags"].get("size"))
    if size is None:
        raise FlagError(f"the network of {directory} takes images of any size; give --size, such as 64")
    return size


def _read_files(source, console):
    names, pixels = [], []
    for name, image, _ in source:
        names.append(name)
        pixels.append(image)
    for name, reason in source.left_out:
        console.say(f"left out: {name} {reason}")
    if not pixels:
        raise UserError("none of the image files can be read; see what was left out")
    if len({image.shape for image in pixels}) > 1:
        raise UserError("the image files are of different sizes, and the network takes no squares; bring them to one")
    return PredictedImages(names, np.stack(pixels), len(source.left_out))


def _join(parts):
    if len(parts) == 1:
        return parts[0]
    if len({part.pixels.shape[1:] for part in parts}) > 1:
        raise UserError("--images are of different sizes, and the network takes no squares; bring them to one")
    return PredictedImages(
        [name for part in parts for name in part.names],
        np.concatenate([np.asarray(part.pixels[:]) for part in parts]),
        sum(part.skipped for part in parts),
    )
