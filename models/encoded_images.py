"""Image files of any size to the pixels of a network, as TensorFlow operations: for a SavedModel that stands alone.

The rules are those of `tfpipeline.images.decoding`, which uses Pillow, for JPEG, PNG, BMP and GIF; pixels are the same,
but for what another JPEG decoder rounds otherwise. The orientation that EXIF states is not applied: TensorFlow has no
operation that reads it.
"""

import tensorflow as tf

_PNG = b"\x89PNG\r\n\x1a\n"
# The precision of Pillow's weights.
_WEIGHT_STEPS = float(1 << 22)


def decode_images(contents: tf.Tensor, side: int) -> tf.Tensor:
    """The pixels of image files, each its largest centered square.

    Args:
        contents: string (B,), each a whole file.
        side: height and width of the result, in pixels.

    Returns:
        float32 (B, side, side, 3), whole numbers in 0..255.

    Raises:
        tf.errors.InvalidArgumentError: a content is no such file.
    """
    return tf.map_fn(
        lambda content: resample(_decode(content), side),
        contents,
        fn_output_signature=tf.TensorSpec((side, side, 3), tf.float32),
    )


def _decode(content):
    """uint8 (H, W, 3), transparency over white."""

    def opaque():
        return tf.ensure_shape(tf.io.decode_image(content, channels=3, expand_animations=False), (None, None, 3))

    is_png = tf.strings.substr(content, 0, len(_PNG)) == _PNG
    return tf.case(
        [
            # The accurate arithmetic is Pillow's.
            (tf.io.is_jpeg(content), lambda: tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")),
            (is_png, lambda: _over_white(tf.io.decode_png(content))),
        ],
        default=opaque,
    )


def _over_white(image):
    """RGB of gray or color, with transparency or without: uint8 (H, W, 1 to 4), of an even number the last is alpha.

    Asked for four channels, TensorFlow takes opaque pixels of one bit for nearly transparent ones.
    """
    channels, values = tf.shape(image)[2], tf.cast(image, tf.float32)
    color = tf.cond(channels < 3, lambda: tf.repeat(values[..., :1], 3, axis=2), lambda: values[..., :3])
    is_opaque = channels % 2 == 1
    alpha = tf.cond(is_opaque, lambda: tf.ones_like(values[..., :1]), lambda: values[..., channels - 1 :] / 255)
    return tf.ensure_shape(tf.cast(tf.floor(color * alpha + 255 * (1 - alpha) + 0.5), tf.uint8), (None, None, 3))


def resample(image: tf.Tensor, side: int) -> tf.Tensor:
    """The largest centered square of an image, resampled as Pillow does: box averaging or bicubic.

        y[i,j,c] = sum_uv A[i,u] B[j,v] x[u,v,c],  rounded to whole numbers after each of the two sums

    Args:
        image: x, uint8 (H, W, 3).
        side: height and width of the result.

    Returns:
        y, float32 (side, side, 3), whole numbers in 0..255.
    """
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    square = tf.minimum(height, width)
    rows = _weights(height, (height - square) // 2, square, side)
    columns = _weights(width, (width - square) // 2, square, side)
    across = _whole(tf.einsum("jv,uvc->ujc", columns, tf.cast(image, tf.float32)))
    return _whole(tf.einsum("iu,ujc->ijc", rows, across))


def _weights(length, first, square, side):
    """float32 (side, length): how much each pixel counts, of a square that begins at `first`.

    Pixels beyond the square count where the cubic reaches them, as in Pillow.
    """
    shrinks = square > side
    scale = tf.cast(square, tf.float64) / side
    stretch = tf.maximum(scale, 1.0)
    reach = tf.where(shrinks, tf.constant(0.5, tf.float64), 2.0) * stretch
    centers = tf.cast(first, tf.float64) + (tf.range(side, dtype=tf.float64) + 0.5) * scale
    index = tf.cast(tf.range(length), tf.float64)
    within = (index >= tf.floor(centers - reach + 0.5)[:, None]) & (index < tf.floor(centers + reach + 0.5)[:, None])
    distance = (index + 0.5 - centers[:, None]) / stretch
    weights = tf.where(shrinks, _box(distance), _cubic(distance)) * tf.cast(within, tf.float64)
    weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    return tf.cast(tf.round(weights * _WEIGHT_STEPS) / _WEIGHT_STEPS, tf.float32)


def _box(x):
    return tf.cast((x > -0.5) & (x <= 0.5), x.dtype)


def _cubic(x):
    """The cubic convolution with a = -1/2 (Keys 1981)."""
    x = tf.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return tf.where(x < 1, near, tf.where(x < 2, far, tf.zeros_like(x)))


def _whole(values):
    return tf.clip_by_value(tf.floor(values + 0.5), 0.0, 255.0)
