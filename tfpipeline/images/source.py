"""What every source of images is, and how one pass over it goes."""

import typing
from collections.abc import Callable, Iterator

import numpy as np
import PIL

from tfpipeline.images.decoding import BrokenImage
from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.splits import Splits
from tfpipeline.images.truth import Classes
from tfpipeline.system import UserError

# Of which files are images and of how they become pixels: goes up with every change, so that no older copy is used.
RULES = 2
_LONGEST = 250  # characters of a name, at each of its ends
_NAMED = 5  # of the images that cannot be read, in the message that refuses them


class Source:
    """A series of images. Iterating yields (name, pixels, truth), the same series in the same order each time.

    `name` is one line of text and unique; `pixels` is uint8 (H, W, 3), C order; `truth` is the index of the class or
    None where it is not known. Of images that cannot be read, a pass names the first at its end, and fails; with
    `flags.skip_broken` it leaves them out.

    Args:
        spec: what the images are, without the folder that they lie in: moved images stay the same images.
        flags: the split, size and number of images, and whether broken ones are left out.
        state: all else that decides about the images, as a dict of JSON values.

    Attributes:
        version: of the source, where it has one.
        depends_on: all that decides about the images: unchanged, it needs no second look.
        notes: what the person should know about the source, one line each; more may come with a pass.
        left_out: (name, reason) of each image that the latest pass could not read.
    """

    version = ""

    def __init__(self, spec: str, flags: ImageFlags, state: dict[str, typing.Any]):
        self.spec, self.flags = spec, flags
        self.depends_on = {
            "rules": RULES,
            "spec": spec,
            "split": flags.split,
            "skip_broken": flags.skip_broken,
            "limit": flags.limit,
            "size": flags.size,
            "pillow": PIL.__version__,
            **state,
        }
        self.notes: list[str] = []
        self.left_out: list[tuple[str, str]] = []

    @property
    def split(self) -> str:
        """What was asked for of the source: a split, or a slice of it."""
        return self.flags.split

    @property
    def skipped(self) -> list[str]:
        """Names of the images left out in the latest pass."""
        return [name for name, _ in self.left_out]

    @property
    def count(self) -> int:
        """How many images a pass yields, those included that it may leave out."""
        return self.total if self.flags.limit is None else min(self.flags.limit, self.total)

    @property
    def splits(self) -> Splits:
        """The splits that the source has."""
        raise NotImplementedError

    @property
    def total(self) -> int:
        """How many images were asked for, but for the limit."""
        raise NotImplementedError

    @property
    def classes(self) -> Classes:
        """(WordNet id or name, name to show) of each class, in the order that `truth` counts; empty where unknown."""
        raise NotImplementedError

    def read_all(self) -> Iterator[tuple[str, Callable[[], np.ndarray], int | None]]:
        """Yields (name, function that reads the pixels or raises BrokenImage, truth) of each image asked for."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[tuple[str, np.ndarray, int | None]]:
        self.left_out.clear()
        yielded = 0
        for name, read, class_index in self.read_all():
            if yielded == self.flags.limit:
                break
            try:
                pixels = read()
            except BrokenImage as error:
                self.left_out.append((name, str(error)))
                continue
            yielded += 1
            yield name, pixels, class_index
        if self.left_out and not self.flags.skip_broken:
            raise UserError(self._refusal(yielded + len(self.left_out)))

    def _refusal(self, tried: int) -> str:
        broken = len(self.left_out)
        named = "; ".join(f"image {_abridge(name)} {reason}" for name, reason in self.left_out[:_NAMED])
        number = "" if broken == 1 else f"{broken:,} of {tried:,} images cannot be read: "
        more = f"; and {broken - _NAMED:,} more" if broken > _NAMED else ""
        return (
            f"{self.spec}: {number}{named}{more}; get {'it' if broken == 1 else 'them'} again, or --skip-broken leaves"
            " such images out and lists them"
        )


def _abridge(name):
    """The name of an image, for a message; paths may have thousands of characters."""
    return name if len(name) <= 2 * _LONGEST else f"{name[:_LONGEST]}...{name[-_LONGEST:]}"
