"""Activations as a Keras layer."""

import keras

from models.gradients import activations
from models.layers.registration import register

FUNCTIONS = {
    "relu": activations.relu,
    "leaky_relu": activations.leaky_relu,
    "sigmoid": activations.sigmoid,
    "tanh": activations.tanh,
    "silu": activations.silu,
    "gelu": activations.gelu,
}


@register
class Activation(keras.layers.Layer):
    """An activation by its name, element by element.

    Args:
        activation: a key of `FUNCTIONS`.
        **kwargs: of `keras.layers.Layer`: name, dtype, ...

    Raises:
        ValueError: no activation has this name.
    """

    def __init__(self, activation, **kwargs):
        super().__init__(**kwargs)
        if activation not in FUNCTIONS:
            raise ValueError(f"activation {activation!r} is unknown; choose one of {', '.join(FUNCTIONS)}")
        self.activation = activation

    def call(self, inputs):
        """The outputs, like the inputs."""
        return FUNCTIONS[self.activation](inputs)

    def compute_output_shape(self, input_shape):
        """The shape of the inputs."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "activation": self.activation}
