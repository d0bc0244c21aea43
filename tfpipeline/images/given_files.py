"""Image files that are named one by one, as a source."""

import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tfpipeline.images.decoding import BrokenImage, decode
from tfpipeline.images.file_names import escape_name, examine
from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.places import expand
from tfpipeline.images.source import Source
from tfpipeline.images.splits import Splits, WholeSplit
from tfpipeline.images.truth import Classes
from tfpipeline.system import UserError


def names_a_file(spec: str) -> bool:
    """Whether a spec is the path of an image file, there or not, and no source of many images."""
    return expand(spec).is_file() or (":" not in spec and examine(spec).left_out is None)


class GivenFiles(Source):
    """The files in the order in which they are named.

    Args:
        paths: as the person wrote them, which is what the images are called.
        flags: their size, and whether broken ones are left out.

    Raises:
        UserError: one is not there.
    """

    def __init__(self, paths: Sequence[str], flags: ImageFlags):
        super().__init__("--images", flags, {"files": list(paths)})
        self.paths = paths
        for path in paths:
            if not expand(path).is_file():
                raise UserError(f"no such image file: {path}; check the path after --images")

    @property
    def splits(self) -> Splits:
        return Splits("--images", {"train": WholeSplit(lambda: self.total)})

    @property
    def total(self) -> int:
        return len(self.paths)

    @property
    def classes(self) -> Classes:
        return ()

    def read_all(self) -> Iterator[tuple[str, Callable[[], np.ndarray], int | None]]:
        for path in self.paths:
            yield escape_name(path), functools.partial(_read, expand(path), self.flags.size), None


def _read(path: pathlib.Path, size: int | None) -> np.ndarray:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BrokenImage(f"cannot be read ({error.strerror})") from error
    return decode(content, size)
