"""The convolution by TensorFlow's primitives, which oneDNN computes on a CPU.

Their own explicit padding is a trap: with it both gradients leave oneDNN, and bfloat16 takes 60 times as long. So
images whose padding has no name get their zeros first.

Another is a machine where oneDNN has no bfloat16. TensorFlow's own code adds up both gradients in bfloat16 there, where
a sum stops growing once it is 256 times its terms: over 16,384 pixels dL/dK was half of what it is. There they are
computed in float32, which takes less time as well.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import tensorflow as tf

from models.gradients.windows import Length, Padding, dimensions, windows_on

GradientT = TypeVar("GradientT", bound=Callable)


def forward(images: tf.Tensor, kernel: tf.Tensor, strides: tuple[int, int], padding: Padding) -> tf.Tensor:
    """y, (B, H', W', F); the arguments are those of `models.gradients.convolution.convolution`."""
    if isinstance(padding, str):
        return tf.raw_ops.Conv2D(input=images, filter=kernel, **_options(strides, padding))
    windows = windows_on(dimensions(images), kernel.shape[:2], strides, padding)
    return forward(windows.pad(images), kernel, strides, "valid")


def _add_in_float32(gradient: GradientT) -> GradientT:
    """The gradient of two tensors, cast where the primitives would add up its terms in a smaller type."""

    @functools.wraps(gradient)
    def wide(first, second, *others):
        if gradients_add_in_float32(first.dtype):
            return gradient(first, second, *others)
        total = gradient(tf.cast(first, tf.float32), tf.cast(second, tf.float32), *others)
        return tf.cast(total, first.dtype)

    return cast(GradientT, wide)


@_add_in_float32
def images_gradient(
    g: tf.Tensor, kernel: tf.Tensor, shape: Sequence[Length], strides: tuple[int, int], padding: Padding
) -> tf.Tensor:
    """dL/dx, of the shape given."""
    if isinstance(padding, str):
        options = _options(strides, padding)
        return tf.raw_ops.Conv2DBackpropInput(input_sizes=shape, filter=kernel, out_backprop=g, **options)
    windows = windows_on(shape, kernel.shape[:2], strides, padding)
    padded_shape = shape[0], *windows.padded, shape[3]
    return windows.crop(images_gradient(g, kernel, padded_shape, strides, "valid"))


@_add_in_float32
def kernel_gradient(
    images: tf.Tensor, g: tf.Tensor, shape: tuple[int, int, int, int], strides: tuple[int, int], padding: Padding
) -> tf.Tensor:
    """dL/dK, of the shape given."""
    if isinstance(padding, str):
        options = _options(strides, padding)
        return tf.raw_ops.Conv2DBackpropFilter(input=images, filter_sizes=shape, out_backprop=g, **options)
    windows = windows_on(dimensions(images), shape[:2], strides, padding)
    return kernel_gradient(windows.pad(images), g, shape, strides, "valid")


@functools.cache
def gradients_add_in_float32(dtype: tf.DType) -> bool:
    """Whether the primitives add up gradients of this type in float32, or a larger type, on this machine.

    Asked of the primitive itself, by 65,536 terms of 1/64: in bfloat16 their sum stops at 4, in float16 at 32.
    """
    if dtype.size >= 4:
        return True
    with tf.init_scope():
        terms = tf.ones((1, 256, 256, 1), dtype)
        options = _options((1, 1), "valid")
        total = tf.raw_ops.Conv2DBackpropFilter(
            input=terms, filter_sizes=(1, 1, 1, 1), out_backprop=terms / 64, **options
        )
        return float(tf.reshape(total, ())) == 1024


def _options(strides: tuple[int, int], padding: str) -> dict[str, Any]:
    return {"strides": (1, *strides, 1), "padding": padding.upper()}
