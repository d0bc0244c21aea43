"""Pooling as Keras layers."""

from typing import Any

import keras
import tensorflow as tf

from models.gradients.global_pooling import global_max_pooling, global_mean_pooling
from models.gradients.max_pooling import max_pooling
from models.gradients.mean_pooling import mean_pooling
from models.gradients.windows import Padding, output_lengths, padding_of, pair, pools_on
from models.layers.layer import Layer, Shape, register


class Pooling(Layer):
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

    def __init__(
        self,
        pool_size: int | tuple[int, int],
        strides: int | tuple[int, int] | None = None,
        padding: Padding = "valid",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.pool_size = pair(pool_size, "pool_size")
        self.strides = self.pool_size if strides is None else pair(strides, "strides")
        self.padding = padding_of(padding)
        self.input_spec = keras.InputSpec(ndim=4)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(B, H', W', C)."""
        lengths = output_lengths(pools_on, input_shape, self.pool_size, self.strides, self.padding)
        return input_shape[0], *lengths, input_shape[3]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
        }


@register
class MaxPooling(Pooling):
    """The largest element of each window, NaN if it holds one; the gradient goes to the first of equal ones.

    The arguments are `Pooling`'s.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """(B, H', W', C)."""
        return max_pooling(self.as_floats(inputs), self.pool_size, self.strides, self.padding)


@register
class MeanPooling(Pooling):
    """The mean of each window's elements inside the image. The arguments are `Pooling`'s."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """(B, H', W', C)."""
        return mean_pooling(self.as_floats(inputs), self.pool_size, self.strides, self.padding)


@register
class GlobalPooling(Layer):
    """One number per channel of an image of any size.

    Inputs are images (B, H, W, C), outputs (B, C).

    Args:
        mode: "mean" or "max".
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: the mode is neither.
    """

    def __init__(self, mode: str = "mean", **kwargs):
        super().__init__(**kwargs)
        if mode not in ("mean", "max"):
            raise ValueError(f'the mode of GlobalPooling is "mean" or "max", got {mode!r}')
        self.mode = mode
        self.input_spec = keras.InputSpec(ndim=4)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """(B, C)."""
        images = self.as_floats(inputs)
        return global_mean_pooling(images) if self.mode == "mean" else global_max_pooling(images)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(B, C)."""
        batch, _, _, channels = input_shape
        return batch, channels

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "mode": self.mode}
