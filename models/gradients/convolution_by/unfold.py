"""The convolution as one product, after every window has been written out as a row.

Unfolding repeats each pixel for every window that sees it, up to PQ times: the price of having one large product.
"""

from collections.abc import Sequence

import tensorflow as tf

from models.gradients.windows import Length, Padding, add, dimensions, pair, rows, windows_on


def unfold(
    images: tf.Tensor,
    size: int | tuple[int, int],
    strides: int | tuple[int, int] = 1,
    padding: Padding = "valid",
) -> tf.Tensor:
    """M[b,h,w,(pQ+q)C+c] = x[b,hS+p-top,wT+q-left,c], x being 0 outside of the images

    Args:
        images: x, (B, H, W, C).
        size: (P, Q), or one int for both.
        strides: (S, T), or one int for both.
        padding: "same", "valid", or ((top, bottom), (left, right)).

    Returns:
        M, (B, H', W', PQC), of the dtype of `images`. With G = dL/dM: dL/dx = fold(G).
    """
    geometry = pair(size, "size"), pair(strides, "strides"), padding
    windows = windows_on(dimensions(images), *geometry)

    @tf.custom_gradient
    def unfolded(images):
        padded = windows.pad(images)
        columns = tf.concat([windows.take(padded, place) for place in windows.places], axis=-1)
        return columns, lambda g: fold(g, dimensions(images), *geometry)

    return unfolded(images)


def fold(
    columns: tf.Tensor,
    output_shape: Sequence[Length],
    size: int | tuple[int, int],
    strides: int | tuple[int, int] = 1,
    padding: Padding = "valid",
) -> tf.Tensor:
    """x[b,i,j,c] = sum_hwpq M[b,h,w,(pQ+q)C+c] [hS+p-top = i] [wT+q-left = j]

    Unfolding copies, so its transpose adds the copies up. It is no inverse: a pixel in n windows comes back n times.

    Args:
        columns: M, (B, H', W', PQC).
        output_shape: (B, H, W, C): with strides above 1, images of several sizes have H' x W' windows.
        size: (P, Q), or one int for both.
        strides: (S, T), or one int for both.
        padding: "same", "valid", or ((top, bottom), (left, right)).

    Returns:
        x, (B, H, W, C), of the dtype of `columns`. With g = dL/dx: dL/dM = unfold(g).
    """
    geometry = pair(size, "size"), pair(strides, "strides"), padding
    windows = windows_on(output_shape, *geometry)

    @tf.custom_gradient
    def folded(columns):
        values = tf.split(columns, windows.size[0] * windows.size[1], axis=-1)
        parts = [windows.put_back(value, place) for value, place in zip(values, windows.places, strict=True)]
        return windows.crop(add(parts)), lambda g: unfold(g, *geometry)

    return folded(columns)


# The convolution is y = M K, with M as (BH'W', PQC) and K as (PQC, F) in the same order. With G = dL/dy as (BH'W', F):
#     1. dL/dM = G K^T, and M is x unfolded, so dL/dx = fold(G K^T).
#     2. dL/dK = M^T G, for which x is unfolded again: M would fill up to PQ times the memory of x until then.


def forward(images: tf.Tensor, kernel: tf.Tensor, strides: tuple[int, int], padding: Padding) -> tf.Tensor:
    """y, (B, H', W', F); the arguments are those of `models.gradients.convolution.convolution`."""
    columns = unfold(images, kernel.shape[:2], strides, padding)
    return tf.reshape(tf.matmul(rows(columns), rows(kernel)), (*dimensions(columns)[:3], kernel.shape[3]))


def images_gradient(
    g: tf.Tensor, kernel: tf.Tensor, shape: Sequence[Length], strides: tuple[int, int], padding: Padding
) -> tf.Tensor:
    """dL/dx, of the shape given."""
    columns = tf.matmul(rows(g), rows(kernel), transpose_b=True)
    columns = tf.reshape(columns, (*dimensions(g)[:3], columns.shape[-1]))
    return fold(columns, shape, kernel.shape[:2], strides, padding)


def kernel_gradient(
    images: tf.Tensor, g: tf.Tensor, shape: tuple[int, int, int, int], strides: tuple[int, int], padding: Padding
) -> tf.Tensor:
    """dL/dK, of the shape given."""
    columns = unfold(images, shape[:2], strides, padding)
    return tf.reshape(tf.matmul(rows(columns), rows(g), transpose_a=True), shape)
