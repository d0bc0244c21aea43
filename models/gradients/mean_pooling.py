"""The mean of each window's elements inside the image."""

import tensorflow as tf

from models.gradients.windows import dimensions, pair, pools_on


def mean_pooling(images, window, strides=None, padding="valid"):
    """y[b,h,w,c] = sum_pq x[b,hS+p-top,wT+q-left,c] / n[h,w], n[h,w] of the window's PQ places being inside the image

    Args:
        images: x, (B, H, W, C), floating point.
        window: (P, Q), or one int for both.
        strides: (S, T), or one int for both; the window by default.
        padding: "same", "valid", or ((top, bottom), (left, right)), each less than the window.

    Returns:
        y, (B, H', W', C). With g = dL/dy:
            dL/dx[b,i,j,c] = sum_hwpq g[b,h,w,c] / n[h,w] [hS+p-top = i] [wT+q-left = j]

    Raises:
        ValueError: no window fits into the padded image, or a window may lie wholly outside of the image.
    """
    window = pair(window, "window")
    strides = window if strides is None else pair(strides, "strides")
    windows = pools_on(dimensions(images), window, strides, padding)
    options = {"ksize": (1, *window, 1), "strides": (1, *strides, 1), "padding": "VALID"}

    # 1. Over the zero-padded image, the primitive gives a[h,w] = sum_pq x / (PQ), so y = a r with r[h,w] = PQ / n[h,w].
    # 2. r does not depend on x: dL/da = g r, and the primitive's gradient hands dL/da / (PQ) to each place of a window.
    # 3. What the zeros around the image get is dropped.
    @tf.custom_gradient
    def pooled(images):
        padded = windows.pad(images)
        ratio = _ratio(windows, images.dtype)

        def gradient(g):
            padded_gradient = tf.raw_ops.AvgPoolGrad(orig_input_shape=tf.shape(padded), grad=g * ratio, **options)
            return windows.crop(padded_gradient)

        return tf.raw_ops.AvgPool(value=padded, **options) * ratio, gradient

    return pooled(images)


def _ratio(windows, dtype):
    """r[h,w] = PQ / n[h,w], (H', W', 1); 1 without padding. n is the product of a count per axis."""
    if not windows.is_padded:
        return tf.ones((), dtype)
    rows, columns = map(_inside, windows.output, windows.strides, windows.padding, windows.size, windows.image)
    places = rows[:, None, None] * columns[None, :, None]
    return tf.cast(windows.size[0] * windows.size[1] / places, dtype)


def _inside(count, stride, ends, size, length):
    """How many places of each window along an axis are inside the images, (count,) int32."""
    first = tf.range(count) * stride - ends[0]
    return tf.minimum(first + size, length) - tf.maximum(first, 0)
