"""What every source of images is, and how one pass over it goes."""

from collections.abc import Callable, Iterator

import numpy as np
import PIL

from tfpipeline.images.decoding import BrokenImage
from tfpipeline.images.truth import Classes
from tfpipeline.system import UserError


class Source:
    """A series of images. Iterating yields (name, pixels, truth), the same series in the same order each time.

    `name` is one line of text and unique; `pixels` is uint8 (H, W, 3), C order; `truth` is the index of the class or
    None where it is not known.

    Attributes:
        spec: what the images are, without the folder that they lie in: moved images stay the same images.
        split: the part of the source.
        version: of the source, where it has one.
        depends_on: all that decides about the images, as a dict of JSON values: unchanged, it needs no second look.
        notes: what the person should know about the source, one line each.
        left_out: (name, reason) of each image left out in the latest pass because it is broken.
    """

    version = ""

    def __init__(self, spec: str, split: str, depends_on: dict, skip_broken: bool, limit: int | None):
        self.spec, self.split, self.skip_broken, self.limit = spec, split, skip_broken, limit
        self.depends_on = {
            "spec": spec,
            "split": split,
            "skip_broken": skip_broken,
            "limit": limit,
            "pillow": PIL.__version__,
            **depends_on,
        }
        self.notes: list[str] = []
        self.left_out: list[tuple[str, str]] = []

    @property
    def skipped(self) -> list[str]:
        """Names of the images left out in the latest pass."""
        return [name for name, _ in self.left_out]

    @property
    def count(self) -> int:
        """How many images a pass yields, those included that it may leave out."""
        return self.total if self.limit is None else min(self.limit, self.total)

    @property
    def total(self) -> int:
        """How many images the split has."""
        raise NotImplementedError

    @property
    def classes(self) -> Classes:
        """(WordNet id or name, name to show) of each class, in the order that `truth` counts; empty where unknown."""
        raise NotImplementedError

    def read_all(self) -> Iterator[tuple[str, Callable[[], np.ndarray], int | None]]:
        """Yields (name, function that reads the pixels or raises BrokenImage, truth) of each image of the split."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[tuple[str, np.ndarray, int | None]]:
        self.left_out.clear()
        yielded = 0
        for name, read, class_index in self.read_all():
            if yielded == self.limit:
                return
            try:
                pixels = read()
            except BrokenImage as error:
                if not self.skip_broken:
                    raise UserError(
                        f"{self.spec}: image {name} {error}; get it again, or --skip-broken leaves such images out and"
                        " lists them"
                    ) from error
                self.left_out.append((name, str(error)))
                continue
            yielded += 1
            yield name, pixels, class_index
