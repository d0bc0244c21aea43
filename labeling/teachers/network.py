"""What a loader of teachers hands over: a function of images and what is known about it."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from labeling.teachers.flags import InputRange


@dataclasses.dataclass(frozen=True)
class Network:
    """A pretrained classifier before it is known how it is to be fed and read.

    Attributes:
        call: images in the network's own range, float32 (B, size, size, 3) -> answers (B, n); traceable by tf.function.
        size: height and width of its input in pixels, or None when it takes any.
        range: the range of its input, one of conventions.RANGES, or None when nothing tells it.
        range_reason: what tells it, for the person at the terminal.
        range_is_certain: whether that is evidence from the network itself, not a convention.
        weights_sha256: hash of its weights, in hexadecimal.
        owner: the object that keeps the weights alive.
    """

    call: Callable[[tf.Tensor], tf.Tensor]
    size: int | None
    range: InputRange | None
    range_reason: str
    range_is_certain: bool
    weights_sha256: str
    owner: object
