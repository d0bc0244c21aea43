"""A range of consecutive images."""

from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
    """The images first..last-1.

    Attributes:
        first: index of the first image.
        last: one past the index of the last.
    """

    first: int
    last: int

    @property
    def images(self) -> int:
        """How many they are."""
        return self.last - self.first


def images_in(spans: Iterable[Span]) -> int:
    """How many images all of the spans hold."""
    return sum(span.images for span in spans)
