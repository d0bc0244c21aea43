"""Where images come from: a spec such as `folder:DIR`, opened to a series of pixels in a fixed order."""

import pathlib

import numpy as np

from tfpipeline.images import shapes
from tfpipeline.images.decoding import resample_pixels
from tfpipeline.images.file_source import FileSource
from tfpipeline.images.npz_source import NpzSource
from tfpipeline.images.source import Source
from tfpipeline.system import FlagError


class ShapesSource(Source):
    """The built-in pictures; `limit` may ask for more than the default count."""

    version = shapes.VERSION
    classes = tuple((name, name) for name in shapes.NAMES)

    def __init__(self, split, size, limit):
        if split not in shapes.DEFAULT_COUNTS:
            raise FlagError(f"shapes has no split {split!r}; give --split {' or '.join(shapes.DEFAULT_COUNTS)}")
        state = {"version": self.version, "numpy": np.__version__, "size": size}
        super().__init__("shapes", split, state, skip_broken=False, limit=limit)
        self.size = size

    @property
    def total(self):
        return shapes.DEFAULT_COUNTS[self.split] if self.limit is None else self.limit

    def read_all(self):
        for i in range(self.total):
            pixels, class_index = shapes.draw(0, self.split, i)
            yield f"{self.split}-{i:07d}", lambda pixels=pixels: resample_pixels(pixels, self.size), class_index


def open_source(
    spec: str,
    split: str = "train",
    truth: pathlib.Path | None = None,
    size: int | None = None,
    skip_broken: bool = False,
    data_dir: pathlib.Path | None = None,
    limit: int | None = None,
    archives: pathlib.Path | None = None,
) -> Source:
    """The images that a spec names.

    Args:
        spec: `shapes`, `folder:DIR`, `archive:FILE`, `npz:FILE_OR_DIR` or the name of a TensorFlow dataset.
        split: `train`, `valid`, ... as the source has them; TFDS split syntax where the source is TFDS.
        truth: a csv file (file, wnid, class_index) for `folder:` and `archive:`.
        size: height and width to resample to, in pixels; None keeps those of the images.
        skip_broken: leave out images that cannot be read, and list them, rather than refuse.
        data_dir: where TFDS keeps its datasets; None for its own choice.
        limit: the first so many images; None for all.
        archives: a folder with the files that a TensorFlow dataset would download.

    Raises:
        UserError: the images are not there or not readable.
        FlagError: the spec is none, or an argument does not go with it.
    """
    kind, colon, place = str(spec).partition(":")
    of_files = kind in ("folder", "archive", "npz") and colon == ":"
    is_tfds = not of_files and spec != "shapes"
    for name, value, fits in (
        ("--truth", truth, kind in ("folder", "archive")),
        ("--archives", archives, is_tfds),
        ("--data-dir", data_dir, is_tfds),
    ):
        if value is not None and not fits:
            raise FlagError(f"{name} does not go with --images {spec}; leave it out")
    for name, value in (("--size", size), ("--limit", limit)):
        if value is not None and value < 1:
            raise FlagError(f"{name} is {value}; it must be at least 1")
    if of_files:
        if not place:
            raise FlagError(f"--images {spec} names no place; give {kind}: and a path")
        path = pathlib.Path(place).expanduser()
        if kind == "npz":
            return NpzSource(path, split, size, limit)
        return FileSource(kind, path, split, _path(truth), size, skip_broken, limit)
    if spec == "shapes":
        return ShapesSource(split, size, limit)
    from tfpipeline.images.tfds_source import TfdsSource  # Here, because it imports TensorFlow Datasets.

    return TfdsSource(str(spec), split, size, skip_broken, limit, _path(data_dir), _path(archives))


def _path(value):
    return None if value is None else pathlib.Path(value).expanduser()
