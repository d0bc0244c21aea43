"""How a convolution may begin: as the identity."""

from typing import Any

import keras
import tensorflow as tf

from models.layers import register


@register
class PartialIdentity(keras.initializers.Initializer):
    """Of the kernel of a convolution (P, Q, C, F): the first min(C, F) filters pass a channel each on as it is

    K[p,q,c,f] = [p = P // 2, q = Q // 2, c = f] for f < min(C, F); the others are uniform, of variance 1 / (3 PQC).
    What the layers before found out is not lost at the beginning, however deep the network is (Jordan 2024, after the
    "dirac" initialization of Zagoruyko and Komodakis 2017).

    Args:
        seed: of the random filters.
    """

    def __init__(self, seed: int | keras.random.SeedGenerator | None = None):
        self.random = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed)

    def __call__(self, shape: tuple[int, int, int, int], dtype: Any = None) -> tf.Tensor:
        """The kernel."""
        height, width, channels, filters = shape
        center = tf.one_hot([height // 2 * width + width // 2], height * width)
        identity = tf.reshape(center, (height, width, 1, 1)) * tf.eye(channels, filters)
        random = self.random(shape, dtype)
        return tf.where(tf.range(filters) < channels, tf.cast(identity, random.dtype), random)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"seed": self.random.get_config()["seed"]}
