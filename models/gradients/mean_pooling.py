"""The mean of each window's elements inside the image."""

import tensorflow as tf

from models.gradients.windows import dimensions, inner, is_unpadded, output_length, pad_images, paddings, pair


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
    both = paddings(images, window, strides, padding, inside=True)
    options = {"ksize": (1, *window, 1), "strides": (1, *strides, 1), "padding": "VALID"}

    # 1. Over the zero-padded image, the primitive gives a[h,w] = sum_pq x / (PQ), so y = a r with r[h,w] = PQ / n[h,w].
    # 2. r does not depend on x: dL/da = g r, and the primitive's gradient hands dL/da / (PQ) to each place of a window.
    # 3. What the zeros around the image get is dropped.
    @tf.custom_gradient
    def pooled(images):
        padded = pad_images(images, both, 0)
        ratio = _ratio(images, window, strides, both)

        def gradient(g):
            padded_gradient = tf.raw_ops.AvgPoolGrad(orig_input_shape=tf.shape(padded), grad=g * ratio, **options)
            return inner(padded_gradient, both, images)

        return tf.raw_ops.AvgPool(value=padded, **options) * ratio, gradient

    return pooled(images)


def _ratio(images, window, strides, both):
    """r[h,w] = PQ / n[h,w], (H', W', 1); 1 without padding. n is the product of one count per axis."""
    if is_unpadded(both):
        return tf.ones((), images.dtype)
    _, height, width, _ = dimensions(images)
    rows, columns = (
        _inside(length, size, stride, pad)
        for length, size, stride, pad in zip((height, width), window, strides, both, strict=True)
    )
    places = rows[:, None, None] * columns[None, :, None]
    return tf.cast(window[0] * window[1] / places, images.dtype)


def _inside(length, window, stride, pad):
    """How many places of each window along an axis are inside the image, (L',) int32."""
    first = tf.range(output_length(length, window, stride, pad)) * stride - pad[0]
    return tf.minimum(first + window, length) - tf.maximum(first, 0)
