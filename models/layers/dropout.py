"""Dropout as a Keras layer."""

import random
from typing import Any

import tensorflow as tf

from models.gradients.dropout import dropout
from models.layers.layer import Layer, Shape, register


@register
class Dropout(Layer):
    """Inverted dropout; the mask of a training step is a function of the seed and of the steps done before.

    The count of the steps is a variable of the layer, so a training that resumes from saved variables draws the masks
    that an uninterrupted one draws. In inference the outputs are the inputs.

    Args:
        rate: the probability that an element is dropped, in [0, 1).
        seed: an int; by default one is drawn from the generator that `keras.utils.set_random_seed` seeds.
        **kwargs: of `keras.layers.Layer`: name, dtype, ...

    Raises:
        ValueError: the rate is out of range.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"the rate of dropout must be in [0, 1), got {rate!r}")
        self.rate = rate
        self.seed = random.randrange(2**31) if seed is None else seed

    def build(self, input_shape: Shape) -> None:
        """Makes the count of the training steps."""
        self.step = self.add_weight(shape=(), initializer="zeros", dtype="int64", trainable=False, name="step")

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The outputs, like the inputs; with `training` the count takes a step."""
        inputs = self.as_floats(inputs)
        if not training:
            return inputs
        step = tf.convert_to_tensor(self.step)
        outputs = dropout(inputs, self.rate, tf.stack([tf.constant(self.seed, tf.int64), step]))
        self.step.assign_add(1)
        return outputs

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
