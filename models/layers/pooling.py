"""Pooling as Keras layers."""

import keras

from models.gradients.global_pooling import global_max_pooling, global_mean_pooling
from models.gradients.max_pooling import max_pooling
from models.gradients.mean_pooling import mean_pooling
from models.gradients.windows import pair
from models.layers.registration import register


class Pooling(keras.layers.Layer):
    """A layer that turns each window of an image into one number per channel.

    Inputs are images (B, H, W, C), outputs (B, H', W', C).

    Args:
        pool_size: (P, Q), or one int for both.
        strides: (S, T), or one int for both; `pool_size` by default.
        padding: "same", "valid", or ((top, bottom), (left, right)), each less than `pool_size`.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: no window fits into the padded images.
    """

    def __init__(self, pool_size, strides=None, padding="valid", **kwargs):
        super().__init__(**kwargs)
        self.pool_size = pair(pool_size, "pool_size")
        self.strides = self.pool_size if strides is None else pair(strides, "strides")
        self.padding = padding if isinstance(padding, str) else tuple(map(tuple, padding))

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
        }


@register
class MaxPooling(Pooling):
    """The largest element of each window; the first of equal ones, row by row. The arguments are `Pooling`'s."""

    def call(self, inputs):
        """(B, H', W', C)."""
        return max_pooling(inputs, self.pool_size, self.strides, self.padding)


@register
class MeanPooling(Pooling):
    """The mean of each window's elements inside the image. The arguments are `Pooling`'s."""

    def call(self, inputs):
        """(B, H', W', C)."""
        return mean_pooling(inputs, self.pool_size, self.strides, self.padding)


@register
class GlobalPooling(keras.layers.Layer):
    """One number per channel of an image of any size.

    Inputs are images (B, H, W, C), outputs (B, C).

    Args:
        mode: "mean" or "max".
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: the mode is neither.
    """

    def __init__(self, mode="mean", **kwargs):
        super().__init__(**kwargs)
        if mode not in ("mean", "max"):
            raise ValueError(f'the mode of GlobalPooling is "mean" or "max", got {mode!r}')
        self.mode = mode

    def call(self, inputs):
        """(B, C)."""
        return global_mean_pooling(inputs) if self.mode == "mean" else global_max_pooling(inputs)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "mode": self.mode}
