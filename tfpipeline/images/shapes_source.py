"""The built-in sample pictures as a source."""

import functools
from collections.abc import Callable, Iterator

import numpy as np

from tfpipeline.images import shapes
from tfpipeline.images.decoding import resample_pixels
from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.source import Source
from tfpipeline.images.splits import Slice, Splits, WholeSplit
from tfpipeline.images.truth import Classes


class ShapesSource(Source):
    """The built-in pictures. Of a whole split, `flags.limit` may ask for more than the default count."""

    version = shapes.VERSION

    def __init__(self, flags: ImageFlags):
        super().__init__("shapes", flags, {"version": self.version, "numpy": np.__version__})
        self._slices = self.splits.slices(flags.split)
        if flags.split in shapes.DEFAULT_COUNTS and flags.limit is not None:
            self._slices = [Slice(flags.split, 0, flags.limit)]

    @property
    def splits(self) -> Splits:
        counts = shapes.DEFAULT_COUNTS
        return Splits("shapes", {split: WholeSplit(functools.partial(int, counts[split])) for split in counts})

    @property
    def total(self) -> int:
        return sum(each.images for each in self._slices)

    @property
    def classes(self) -> Classes:
        return tuple((name, name) for name in shapes.NAMES)

    def read_all(self) -> Iterator[tuple[str, Callable[[], np.ndarray], int | None]]:
        for each in self._slices:
            for i in range(each.first, each.last):
                pixels, class_index = shapes.draw(0, each.split, i)
                yield f"{each.split}-{i:07d}", functools.partial(resample_pixels, pixels, self.flags.size), class_index
