"""Where the windows of a kernel or a pool lie on images, and what each of their places sees."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import tensorflow as tf

# A length of an image: an int, or where the graph is built for any size a scalar int32 tensor.
Length: TypeAlias = int | tf.Tensor
# ((top, bottom), (left, right)), or a name for it: "same" or "valid".
Padding: TypeAlias = str | tuple[tuple[int, int], tuple[int, int]]


class TooSmall(ValueError):
    """No window fits into the images."""


def dimensions(tensor: tf.Tensor) -> list[Length]:
    """The shape of a tensor: an int where it is known when the graph is built, else a scalar int32 tensor."""
    known = list(tensor.shape)
    if None not in known:
        return known
    dynamic = tf.shape(tensor)
    return [dynamic[axis] if length is None else length for axis, length in enumerate(known)]


def pair(value: int | Iterable[int], name: str) -> tuple[int, int]:
    """(vertical, horizontal) of an int or a pair of positive ints.

    Args:
        value: an int, or two.
        name: what to call it in the error.

    Raises:
        ValueError: it is neither, or not positive.
    """
    numbers = tuple(value) if isinstance(value, Iterable) else (value, value)
    if len(numbers) != 2 or any(not isinstance(number, int) or number < 1 for number in numbers):
        raise ValueError(f"{name} must be a positive integer or two of them, got {value!r}")
    return numbers[0], numbers[1]


def padding_of(value: Padding) -> Padding:
    """The padding with tuples in the place of lists, which it becomes in JSON."""
    if isinstance(value, str):
        return value
    (top, bottom), (left, right) = value
    return (top, bottom), (left, right)


def rows(tensor: tf.Tensor) -> tf.Tensor:
    """The matrix (n, C) whose rows are the vectors along the last axis of a tensor (..., C)."""
    return tf.reshape(tensor, (-1, tensor.shape[-1]))


def add(terms: Sequence[tf.Tensor]) -> tf.Tensor:
    """The sum of tensors of one shape and type, added up in float32 where their type is smaller.

    In bfloat16 a sum stops growing once it is 256 times its terms.
    """
    dtype = terms[0].dtype
    if dtype.size >= 4:
        return tf.add_n(terms)
    return tf.cast(tf.add_n([tf.cast(term, tf.float32) for term in terms]), dtype)


def check_channels(shape: Sequence[int | None], kernel_shape: Sequence[int]) -> None:
    """Raises ValueError unless the inputs have as many channels as the kernel takes.

    Args:
        shape: of the inputs, (..., C).
        kernel_shape: (..., C, F).
    """
    if shape[-1] != kernel_shape[-2]:
        raise ValueError(
            f"inputs of shape {tuple(shape)} have {shape[-1]} channels, "
            f"but the kernel of shape {tuple(kernel_shape)} takes {kernel_shape[-2]}"
        )


@dataclasses.dataclass(frozen=True)
class Windows:
    """The windows on images (B, H, W, C): window (h,w) sees the place (hS+p-top, wT+q-left) of the image at its (p,q).

    Lengths of images, and padding that depends on them, are scalar tensors where the graph is built for any size.

    Attributes:
        image: (H, W).
        size: (P, Q).
        strides: (S, T).
        padding: ((top, bottom), (left, right)).
    """

    image: tuple[Length, Length]
    size: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[tuple[Length, Length], tuple[Length, Length]]

    @property
    def output(self) -> tuple[Length, ...]:
        """(H', W'), how many windows there are: H' = floor((H + top + bottom - P) / S) + 1."""
        return tuple(
            (length - size) // stride + 1
            for length, size, stride in zip(self.padded, self.size, self.strides, strict=True)
        )

    @property
    def padded(self) -> tuple[Length, ...]:
        """(top + H + bottom, left + W + right)."""
        return tuple(length + sum(ends) for length, ends in zip(self.image, self.padding, strict=True))

    @property
    def places(self) -> Iterator[tuple[int, int]]:
        """All (p,q) of a window, row by row."""
        return itertools.product(range(self.size[0]), range(self.size[1]))

    @property
    def is_padded(self) -> bool:
        """Whether there is, or may be, anything around the images."""
        return any(not isinstance(length, int) or length for ends in self.padding for length in ends)

    def fit(self, images: tf.Tensor) -> tf.Tensor:
        """The images. If their size is known only when the graph runs, InvalidArgumentError then if no window fits."""
        unknown = [(n, size) for n, size in zip(self.padded, self.size, strict=True) if not isinstance(n, int)]
        message = f"windows of {self.size[0]}x{self.size[1]} do not fit into the images"
        with tf.control_dependencies([tf.debugging.assert_greater_equal(n, size, message) for n, size in unknown]):
            return tf.identity(images) if unknown else images

    def pad(self, images: tf.Tensor, value: float = 0) -> tf.Tensor:
        """x', (B, top + H + bottom, left + W + right, C): the images with `value` around them."""
        if not self.is_padded:
            return images
        return tf.pad(images, ((0, 0), *self.padding, (0, 0)), constant_values=tf.cast(value, images.dtype))

    def crop(self, padded: tf.Tensor) -> tf.Tensor:
        """The part of x' that is the images: the inverse of `pad`, and what turns dL/dx' into dL/dx."""
        if not self.is_padded:
            return padded
        (top, _), (left, _) = self.padding
        return padded[:, top : top + self.image[0], left : left + self.image[1]]

    def take(self, padded: tf.Tensor, place: tuple[int, int]) -> tf.Tensor:
        """s[b,h,w,c] = x'[b,hS+p,wT+q,c], (B, H', W', C): what all windows see at one of their places.

        Args:
            padded: x'.
            place: (p, q).
        """
        (top, bottom, down), (left, right, across) = self._slices(place)
        return padded[:, top:bottom:down, left:right:across]

    def put_back(self, values: tf.Tensor, place: tuple[int, int]) -> tf.Tensor:
        """x', zeros but for x'[b,hS+p,wT+q,c] = s[b,h,w,c]: `seen` transposed, so its gradient.

        Args:
            values: s, (B, H', W', C).
            place: (p, q).
        """
        spread = self._spread(values)
        (top, left), (height, width) = place, self.padded
        _, rows_taken, columns_taken, _ = dimensions(spread)
        ends = (top, height - rows_taken - top), (left, width - columns_taken - left)
        return tf.pad(spread, ((0, 0), *ends, (0, 0)))

    def _spread(self, values):
        """(B, (H'-1)S+1, (W'-1)T+1, C): the values at the distance of the strides, with zeros in between."""
        if self.strides == (1, 1):
            return values
        (height, width), (down, across) = self.output, self.strides
        channels = values.shape[-1]
        spread = tf.reshape(values, (-1, height, 1, width, 1, channels))
        spread = tf.pad(spread, ((0, 0), (0, 0), (0, down - 1), (0, 0), (0, across - 1), (0, 0)))
        spread = tf.reshape(spread, (-1, height * down, width * across, channels))
        return spread[:, : (height - 1) * down + 1, : (width - 1) * across + 1]

    def _slices(self, place):
        """(start, stop, step) of the rows and of the columns that all windows see at a place."""
        return tuple(
            (first, first + (count - 1) * stride + 1, stride)
            for first, count, stride in zip(place, self.output, self.strides, strict=True)
        )


def windows_on(shape: Sequence[Length], size: tuple[int, int], strides: tuple[int, int], padding: Padding) -> Windows:
    """The windows of a kernel on images.

    Args:
        shape: of the images, (B, H, W, C), as `dimensions` gives it.
        size: (P, Q).
        strides: (S, T).
        padding: "same", "valid", or ((top, bottom), (left, right)). With "same", ceil(H / S) windows fit, and the odd
            zero stands at the end, as everywhere in TensorFlow.

    Raises:
        ValueError: the padding is none of these.
        TooSmall: no window fits into the padded images. See `Windows.fit` for those of unknown size.
    """
    image, size, strides = (shape[1], shape[2]), (size[0], size[1]), (strides[0], strides[1])
    if padding == "same":
        rows, columns = map(_same, image, size, strides)
        return Windows(image, size, strides, (rows, columns))
    ends = ((0, 0), (0, 0)) if padding == "valid" else _pairs_of(padding)
    windows = Windows(image, size, strides, ends)
    for length, window in zip(windows.padded, size, strict=True):
        if isinstance(length, int) and length < window:
            raise TooSmall(
                f"windows of {size[0]}x{size[1]} do not fit into images of {image[0]}x{image[1]} with padding {ends}"
            )
    return windows


def output_lengths(
    windows_on: Callable[..., Windows],
    shape: Sequence[int | None],
    size: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
) -> tuple[int | None, ...]:
    """(H', W'), how many windows there are; None along an axis whose length is unknown.

    Args:
        windows_on: the function of this file that says where the windows lie, which refuses what does not fit.
        shape: of the images, (B, H, W, C); H and W may be None.
        size: (P, Q).
        strides: (S, T).
        padding: as `windows_on` takes it.
    """
    # An unknown length is taken to fit.
    assumed = [window if length is None else length for length, window in zip(shape[1:3], size, strict=True)]
    counts = windows_on((shape[0], *assumed, shape[3]), size, strides, padding).output
    return tuple(None if length is None else count for length, count in zip(shape[1:3], counts, strict=True))


def pools_on(shape: Sequence[Length], size: tuple[int, int], strides: tuple[int, int], padding: Padding) -> Windows:
    """The windows of a pool on images: as `windows_on`, and each window holds a place of the image.

    Raises:
        ValueError: as `windows_on`, or padding as long as the pool, of which a window would see nothing else.
    """
    windows = windows_on(shape, size, strides, padding)
    if not isinstance(padding, str) and any(
        max(ends) >= length for ends, length in zip(windows.padding, size, strict=True)
    ):
        raise ValueError(f"padding {windows.padding} leaves a pool of {size[0]}x{size[1]} outside of the images")
    return windows


def _same(length, window, stride):
    """(before, after) along an axis, so that ceil(length / stride) windows fit."""
    if stride == 1:
        return (window - 1) // 2, window // 2
    needed = (-(-length // stride) - 1) * stride + window - length
    total = max(needed, 0) if isinstance(needed, int) else tf.maximum(needed, 0)
    return total // 2, total - total // 2


def _pairs_of(padding):
    """The padding as a pair of pairs."""
    sides = () if isinstance(padding, str) else tuple(map(tuple, padding))
    if [len(ends) for ends in sides] != [2, 2] or any(isinstance(n, int) and n < 0 for ends in sides for n in ends):
        raise ValueError(f'padding must be "same", "valid" or ((top, bottom), (left, right)), got {padding!r}')
    return sides
