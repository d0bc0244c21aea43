"""Activations as a Keras layer."""

from typing import Any

import tensorflow as tf

from models.gradients import activations
from models.layers.layer import Layer, Shape, register

FUNCTIONS = {
    "relu": activations.relu,
    "leaky_relu": activations.leaky_relu,
    "sigmoid": activations.sigmoid,
    "tanh": activations.tanh,
    "silu": activations.silu,
    "gelu": activations.gelu,
}


@register
class Activation(Layer):
    """An activation by its name, element by element.

    Args:
        activation: a key of `FUNCTIONS`.
        **kwargs: of `keras.layers.Layer`: name, dtype, ...

    Raises:
        ValueError: no activation has this name.
    """

    def __init__(self, activation: str, **kwargs):
        super().__init__(**kwargs)
        if activation not in FUNCTIONS:
            raise ValueError(f"activation {activation!r} is unknown; choose one of {', '.join(FUNCTIONS)}")
        self.activation = activation

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The outputs, like the inputs."""
        return FUNCTIONS[self.activation](self.as_floats(inputs))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "activation": self.activation}
