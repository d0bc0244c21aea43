"""The ways to enlarge an image to the size that a teacher wants."""

import functools
import typing

import numpy as np
import tensorflow as tf

from labeling.enlarging.flags import Method

METHODS: tuple[Method, ...] = typing.get_args(Method)


def enlarge(pixels: np.ndarray | tf.Tensor, size: int, method: str) -> tf.Tensor:
    """y[b,H,W,c] = sum_hw R[H,h] C[W,w] x[b,h,w,c], clipped to 0..255

    Equals `tf.image.resize(x, (size, size), method)`, antialiased along an axis that shrinks.

    Args:
        pixels: x, (B, h, w, C) in 0..255, of any numeric dtype; h, w and C are static.
        size: height and width of the result.
        method: one of METHODS.

    Returns:
        y, float32 (B, size, size, C) in 0..255.
    """
    height, width = pixels.shape[1:3]
    pixels = tf.cast(pixels, tf.float32)
    if (height, width) == (size, size):
        return pixels
    enlarged = _product(pixels, resampling_matrix(height, size, method), resampling_matrix(width, size, method))
    return tf.clip_by_value(enlarged, 0.0, 255.0)  # Where a kernel overshoots, and where rounding does.


def _product(pixels, rows, columns):
    """R x Cᵀ for each channel, as (xᵀ Rᵀ)ᵀ Cᵀ: runtimes multiply fastest by a constant on the right.

    Where operations of resizing exist, they are little faster, and each runtime has only some of the methods.
    """
    stretched = tf.matmul(tf.transpose(pixels, (0, 3, 2, 1)), rows.T)  # (B, C, w, H)
    return tf.transpose(tf.matmul(tf.transpose(stretched, (0, 1, 3, 2)), columns.T), (0, 2, 3, 1))


@functools.cache
def resampling_matrix(length: int, size: int, method: str) -> np.ndarray:
    """The matrix of resampling along one axis: what `tf.image.resize` makes of the unit vectors.

    Args:
        length: number of pixels before.
        size: number of pixels after.
        method: one of METHODS.

    Returns:
        float32 (size, length), not writable; its rows sum to 1.
    """
    with tf.init_scope(), tf.device("CPU:0"):
        units = tf.reshape(tf.eye(length), (1, length, 1, length))
        resized = tf.image.resize(units, (size, 1), method, antialias=size < length)
        matrix = resized.numpy().reshape(size, length)
    matrix.setflags(write=False)
    return matrix
