"""Where the windows of a kernel or a pool lie on an image: strides, padding and the size of what comes out."""

import tensorflow as tf


def dimensions(tensor):
    """The shape of a tensor: an int where it is known when the graph is built, else a scalar int32 tensor."""
    known = list(tensor.shape)
    if None not in known:
        return known
    dynamic = tf.shape(tensor)
    return [dynamic[axis] if length is None else length for axis, length in enumerate(known)]


def pair(value, name):
    """(vertical, horizontal) of an int or a pair of positive ints.

    Args:
        value: an int, or two.
        name: what to call it in the error.

    Raises:
        ValueError: it is neither, or not positive.
    """
    numbers = (value, value) if isinstance(value, int) else tuple(value)
    if len(numbers) != 2 or any(not isinstance(number, int) or number < 1 for number in numbers):
        raise ValueError(f"{name} must be a positive integer or two of them, got {value!r}")
    return numbers


def pads(length, window, stride, padding):
    """(before, after): how many zeros stand at the two ends of an axis.

    With "same", ceil(length / stride) windows fit, and the odd zero stands at the end, as everywhere in TensorFlow.

    Args:
        length: of the image along the axis, an int or a scalar int32 tensor.
        window: length of the window.
        stride: distance between two windows.
        padding: "same", "valid", or (before, after).
    """
    if padding == "valid":
        return 0, 0
    if padding != "same":
        return tuple(padding)
    needed = (-(-length // stride) - 1) * stride + window - length
    total = max(needed, 0) if isinstance(needed, int) else tf.maximum(needed, 0)
    return total // 2, total - total // 2


def paddings(images, window, strides, padding, inside=False):
    """((top, bottom), (left, right)) of images (B, H, W, C), ints where H and W are known.

    Args:
        images: (B, H, W, C).
        window: (height, width) of the window.
        strides: (vertical, horizontal).
        padding: "same", "valid", or ((top, bottom), (left, right)).
        inside: whether each window must hold a place inside the image, as a pool needs it.

    Raises:
        ValueError: the padding is none of these, or a window is larger than the padded image.
    """
    if padding not in ("same", "valid"):
        padding = _explicit(padding)
        if inside and any(max(side) >= size for side, size in zip(padding, window, strict=True)):
            raise ValueError(f"padding {padding} leaves a pool of {window[0]}x{window[1]} outside of the image")
    vertical, horizontal = (padding, padding) if isinstance(padding, str) else padding
    _, height, width, _ = dimensions(images)
    both = pads(height, window[0], strides[0], vertical), pads(width, window[1], strides[1], horizontal)
    for length, size, (before, after) in zip((height, width), window, both, strict=True):
        if isinstance(length, int) and length + before + after < size:
            raise ValueError(
                f"a window of {window[0]}x{window[1]} does not fit into images of {height}x{width} with padding {both}"
            )
    return both


def _explicit(padding):
    """The padding as a pair of pairs of ints."""
    if not isinstance(padding, str):
        sides = tuple(tuple(side) for side in padding)
        if [len(side) for side in sides] == [2, 2] and all(n >= 0 for side in sides for n in side):
            return sides
    raise ValueError(f'padding must be "same", "valid" or ((top, bottom), (left, right)), got {padding!r}')


def is_unpadded(both):
    """Whether the padding ((top, bottom), (left, right)) is known to be nothing when the graph is built."""
    return all(isinstance(zeros, int) and zeros == 0 for side in both for zeros in side)


def pad_images(images, both, value):
    """The images with `value` around them.

    Args:
        images: (B, H, W, C).
        both: ((top, bottom), (left, right)).
        value: a number.
    """
    if is_unpadded(both):
        return images
    return tf.pad(images, ((0, 0), *both, (0, 0)), constant_values=tf.cast(value, images.dtype))


def inner(padded, both, images):
    """What stands at the places of the images after `pad_images`: its inverse, and its gradient.

    Args:
        padded: (B, top + H + bottom, left + W + right, C).
        both: ((top, bottom), (left, right)).
        images: the images, (B, H, W, C), for their shape.
    """
    if is_unpadded(both):
        return padded
    return tf.slice(padded, (0, both[0][0], both[1][0], 0), tf.shape(images))


def output_length(length, window, stride, pad):
    """How many windows fit: floor((length + before + after - window) / stride) + 1."""
    return (length + pad[0] + pad[1] - window) // stride + 1


def check_channels(images, kernel):
    """Raises ValueError unless the images have as many channels as the kernel takes.

    Args:
        images: (..., C).
        kernel: (..., C, F).
    """
    if images.shape[-1] != kernel.shape[-2]:
        raise ValueError(
            f"inputs of shape {tuple(images.shape)} have {images.shape[-1]} channels, "
            f"but the kernel of shape {tuple(kernel.shape)} takes {kernel.shape[-2]}"
        )
