"""Where images come from: a spec such as `folder:DIR`, opened to a series of pixels in a fixed order."""

import pathlib

import numpy as np

from tfpipeline.images import shapes
from tfpipeline.images.decoding import resample_pixels
from tfpipeline.images.file_source import FileSource
from tfpipeline.images.flags import ImageFlags
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


def open_source(flags: ImageFlags) -> Source:
    """The images that the flags name.

    Args:
        flags: `images` is `shapes`, `folder:DIR`, `archive:FILE`, `npz:FILE_OR_DIR` or the name of a TensorFlow
            dataset.

    Raises:
        UserError: the images are not there or not readable.
        FlagError: the spec is none, or another flag does not go with it.
    """
    spec, split = str(flags.images), flags.split
    kind, colon, place = spec.partition(":")
    of_files = kind in ("folder", "archive", "npz") and colon == ":"
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
        path = pathlib.Path(place).expanduser()
        if kind == "npz":
            return NpzSource(path, split, flags.size, flags.limit)
        return FileSource(kind, path, split, _path(flags.truth), flags.size, flags.skip_broken, flags.limit)
    if spec == "shapes":
        return ShapesSource(split, flags.size, flags.limit)
    from tfpipeline.images.tfds_source import TfdsSource  # Here, because it imports TensorFlow Datasets.

    return TfdsSource(
        spec, split, flags.size, flags.skip_broken, flags.limit, _path(flags.data_dir), _path(flags.archives)
    )


def _path(value):
    return None if value is None else pathlib.Path(value).expanduser()
