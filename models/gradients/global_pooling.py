"""One number per channel of an image of any size: the mean or the largest."""

import tensorflow as tf

from models.gradients.windows import dimensions


@tf.custom_gradient
def global_mean_pooling(images):
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
def global_max_pooling(images):
    """y[b,c] = max_hw x[b,h,w,c]

    Args:
        images: x, (B, H, W, C).

    Returns:
        y, (B, C). With g = dL/dy, and (h*,w*) the first place, row by row, where x[b,.,.,c] is largest:
            dL/dx[b,h,w,c] = g[b,c] [(h,w) = (h*,w*)]
    """
    batch, height, width, channels = dimensions(images)
    pixels = tf.reshape(images, (batch, height * width, channels))

    def gradient(g):
        first = tf.argmax(pixels, axis=1, output_type=tf.int32)  # (B, C)
        places = tf.range(height * width)[None, :, None]
        chosen = tf.where(places == first[:, None, :], g[:, None, :], tf.zeros((), g.dtype))
        return tf.reshape(chosen, tf.shape(images))

    return tf.reduce_max(pixels, axis=1), gradient
