"""One number per channel of an image of any size: the mean or the largest."""

import tensorflow as tf

from models.gradients.windows import dimensions


@tf.custom_gradient
def global_mean_pooling(images: tf.Tensor) -> tf.Tensor:
    """y[b,c] = sum_hw x[b,h,w,c] / (HW)

    Args:
        images: x, (B, H, W, C).

    Returns:
        y, (B, C). With g = dL/dy: dL/dx[b,h,w,c] = g[b,c] / (HW).
    """
    # In float16 HW itself may be too large a number, and the sum of the pixels much sooner.
    wide = tf.float32 if images.dtype.size < 4 else images.dtype
    shape = tf.shape(images)
    pixels = tf.cast(shape[1] * shape[2], wide)

    def gradient(g):
        share = tf.cast(tf.cast(g, wide) / pixels, images.dtype)
        return tf.broadcast_to(share[:, None, None, :], shape)

    return tf.cast(tf.reduce_mean(tf.cast(images, wide), axis=(1, 2)), images.dtype), gradient


@tf.custom_gradient
def global_max_pooling(images: tf.Tensor) -> tf.Tensor:
    """y[b,c] = max_hw x[b,h,w,c], where NaN counts as larger than every number

    Args:
        images: x, (B, H, W, C).

    Returns:
        y, (B, C). With g = dL/dy, and (h*,w*) the first place, row by row, where x[b,.,.,c] is largest:
            dL/dx[b,h,w,c] = g[b,c] [(h,w) = (h*,w*)]
    """
    batch, height, width, channels = dimensions(images)
    pixels = tf.reshape(images, (batch, height * width, channels))
    largest, is_largest = largest_along(pixels, axis=1)

    def gradient(g):
        first = tf.argmax(tf.cast(is_largest, tf.int32), axis=1, output_type=tf.int32)  # (B, C)
        places = tf.range(height * width)[None, :, None]
        chosen = tf.where(places == first[:, None, :], g[:, None, :], tf.zeros((), g.dtype))
        return tf.reshape(chosen, tf.shape(images))

    return largest, gradient


def largest_along(elements: tf.Tensor, axis: int) -> tuple[tf.Tensor, tf.Tensor]:
    """(the largest elements along an axis, whether each element is the largest), NaN being above every number."""
    # XLA's maximum passes over NaN.
    is_nan = tf.math.is_nan(elements)
    some_nan = tf.reduce_any(is_nan, axis, keepdims=True)
    largest = tf.reduce_max(elements, axis, keepdims=True)
    is_largest = is_nan | (~some_nan & (elements == largest))
    nan = tf.constant(float("nan"), elements.dtype)
    return tf.squeeze(tf.where(some_nan, nan, largest), axis), is_largest
