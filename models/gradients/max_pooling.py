"""The largest element of each window."""

import functools

import tensorflow as tf

from models.gradients.convolution_by.unfold import fold, unfold
from models.gradients.global_pooling import largest_along
from models.gradients.windows import Padding, Windows, dimensions, pair, pools_on


def max_pooling(
    images: tf.Tensor,
    window: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: Padding = "valid",
) -> tf.Tensor:
    """y[b,h,w,c] = max_pq x[b,hS+p-top,wT+q-left,c], over the places inside the image

    NaN counts as larger than every number, so that it comes out of every window that sees it: a network that has
    broken down shows it. The largest of nothing but -inf is -inf.

    Args:
        images: x, (B, H, W, C), floating point.
        window: (P, Q), or one int for both.
        strides: (S, T), or one int for both; the window by default.
        padding: "same", "valid", or ((top, bottom), (left, right)), each less than the window.

    Returns:
        y, (B, H', W', C). With g = dL/dy, and (p*,q*) the first place of the window, row by row, where x is largest:
            dL/dx[b,i,j,c] = sum_hw g[b,h,w,c] [hS+p*-top = i] [wT+q*-left = j]
        So among equal elements the first one gets all of g: one of the subgradients, and the usual choice.

    Raises:
        ValueError: no window fits into the padded image, or a window may lie wholly outside of the image.
    """
    window = pair(window, "window")
    strides = window if strides is None else pair(strides, "strides")
    windows = pools_on(dimensions(images), window, strides, padding)
    options = {"ksize": (1, *window, 1), "strides": (1, *strides, 1), "padding": "VALID"}

    # The primitives are for finite numbers: each passes over NaN in a way of its own, and -inf may become the lowest
    # finite number, which stands around the images. One sweep, a sum, tells whether there is anything else.
    @tf.custom_gradient
    def pooled(images):
        images = windows.fit(images)
        finite = tf.math.is_finite(tf.reduce_sum(images))
        padded = windows.pad(images, images.dtype.min)
        largest = tf.raw_ops.MaxPool(input=padded, **options)

        def gradient(g):
            # Outside of the condition, where oneDNN finds it beside its forward pass.
            padded_gradient = tf.raw_ops.MaxPoolGrad(orig_input=padded, orig_output=largest, grad=g, **options)
            by_elements = functools.partial(_gradient_by_elements, g, windows.crop(padded), windows)
            return tf.cond(finite, lambda: windows.crop(padded_gradient), by_elements)

        return tf.cond(finite, lambda: largest, lambda: largest_along(_elements(images, windows), 3)[0]), gradient

    return pooled(images)


def _elements(images: tf.Tensor, windows: Windows) -> tf.Tensor:
    """The elements of each window, (B, H', W', PQ, C), row by row; -inf outside of the images."""
    columns = unfold(windows.pad(images, -float("inf")), windows.size, windows.strides)
    return tf.reshape(columns, (-1, *windows.output, windows.size[0] * windows.size[1], images.shape[-1]))


def _gradient_by_elements(g: tf.Tensor, images: tf.Tensor, windows: Windows) -> tf.Tensor:
    """dL/dx for any x: g goes to the first of the largest elements, and `fold` puts these back in their places."""
    elements = _elements(images, windows)
    inside = _elements(tf.ones_like(images), windows) > 0
    is_largest = largest_along(elements, 3)[1] & inside
    first = tf.argmax(tf.cast(is_largest, tf.int32), axis=3)  # (B, H', W', C)
    chosen = tf.one_hot(first, elements.shape[3], axis=3, dtype=g.dtype) * g[:, :, :, None, :]
    columns = tf.reshape(chosen, (-1, *windows.output, elements.shape[3] * images.shape[-1]))
    padded_shape = tf.shape(images)[0], *windows.padded, images.shape[-1]
    return windows.crop(fold(columns, padded_shape, windows.size, windows.strides))
