"""The mean of each window's elements inside the image."""

import tensorflow as tf

from models.gradients.windows import Length, Padding, Windows, dimensions, pair, pools_on


def mean_pooling(
    images: tf.Tensor,
    window: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: Padding = "valid",
) -> tf.Tensor:
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
    # All in float32 for the smaller types, in which the primitive's sums stop growing: the mean of 64x64 elements was
    # twice what it is.
    @tf.custom_gradient
    def pooled(images):
        wide = tf.float32 if images.dtype.size < 4 else images.dtype
        padded = windows.pad(tf.cast(windows.fit(images), wide))
        ratio = _ratio(windows, wide)

        def gradient(g):
            g = tf.cast(g, wide)
            padded_gradient = tf.raw_ops.AvgPoolGrad(orig_input_shape=tf.shape(padded), grad=g * ratio, **options)
            return tf.cast(windows.crop(padded_gradient), images.dtype)

        return tf.cast(tf.raw_ops.AvgPool(value=padded, **options) * ratio, images.dtype), gradient

    return pooled(images)


def _ratio(windows: Windows, dtype: tf.DType) -> tf.Tensor:
    """r[h,w] = PQ / n[h,w], (H', W', 1); 1 without padding. n is the product of a count per axis."""
    if not windows.is_padded:
        return tf.ones((), dtype)
    rows, columns = map(_inside, windows.output, windows.strides, windows.padding, windows.size, windows.image)
    places = rows[:, None, None] * columns[None, :, None]
    return tf.cast(windows.size[0] * windows.size[1] / places, dtype)


def _inside(count: Length, stride: int, ends: tuple[Length, Length], size: int, length: Length) -> tf.Tensor:
    """How many places of each window along an axis are inside the images, (count,) int32."""
    first = tf.range(count) * stride - ends[0]
    return tf.minimum(first + size, length) - tf.maximum(first, 0)
