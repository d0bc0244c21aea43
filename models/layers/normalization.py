"""Batch normalization as a Keras layer."""

from typing import Any

import keras
import tensorflow as tf

from models.gradients.batch_normalization import batch_normalization, fixed_normalization, statistics_dtype
from models.layers.layer import Layer, Shape, register


@register
class BatchNormalization(Layer):
    """y = gamma (x - mu) / sqrt(v + epsilon) + beta, per channel (Ioffe and Szegedy 2015)

    In training mu and v are the batch's mean and biased variance, and the moving statistics follow them:
        moving <- momentum * moving + (1 - momentum) * batch
    In inference mu and v are the moving statistics. A frozen layer (trainable = False) is always in inference, as
    Keras's is: its statistics stay what they are. All statistics are computed and kept in float32, or in float64 in a
    float64 layer, whatever the type of the inputs.

    Inputs are (..., C), outputs have the same shape and the layer's compute type.

    Args:
        momentum: the part of the moving statistics that stays at each step, 0..1. (PyTorch's momentum is 1 minus it.)
        epsilon: a float above 0.
        gamma_initializer: how gamma starts; "zeros" makes a residual branch start as nothing. beta starts at 0.
        scale: False keeps gamma at 1, for a layer that follows takes any scale.
        **kwargs: of `keras.layers.Layer`: name, dtype, ...

    Raises:
        ValueError: momentum or epsilon is out of range, or the inputs do not have the channels the layer was built for.
    """

    def __init__(
        self,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        gamma_initializer: str | keras.initializers.Initializer = "ones",
        scale: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in 0..1, got {momentum!r}")
        if epsilon <= 0:
            raise ValueError(f"epsilon must be above 0, got {epsilon!r}")
        self.momentum = momentum
        self.epsilon = epsilon
        self.scale = scale
        self.gamma_initializer = keras.initializers.get(gamma_initializer)

    def build(self, input_shape: Shape) -> None:
        """Makes gamma, beta and the moving statistics for inputs of the given shape."""

        def channels(name: str, initializer: str | keras.initializers.Initializer, trainable: bool) -> keras.Variable:
            # Not cast by mixed precision: the statistics stay exact in the type of the variables.
            shape = (input_shape[-1],)
            return self.add_weight(shape=shape, initializer=initializer, name=name, trainable=trainable, autocast=False)

        self.gamma = channels("gamma", self.gamma_initializer, self.scale)
        self.beta = channels("beta", "zeros", True)
        self.moving_mean = channels("moving_mean", "zeros", False)
        self.moving_variance = channels("moving_variance", "ones", False)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The outputs; with `training`, unless the layer is frozen, the moving statistics take a step."""
        inputs = self.as_floats(inputs)
        dtype = statistics_dtype(inputs)
        gamma, beta = tf.cast(self.gamma, dtype), tf.cast(self.beta, dtype)
        if not (training and self.trainable):
            mean, variance = tf.cast(self.moving_mean, dtype), tf.cast(self.moving_variance, dtype)
            return fixed_normalization(inputs, gamma, beta, mean, variance, self.epsilon)
        outputs, mean, variance = batch_normalization(inputs, gamma, beta, self.epsilon)
        self.follow(mean, variance)
        return outputs

    def follow(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        """Moves the moving statistics towards those of a batch, (C,) each."""
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + tf.cast(batch, moving.dtype) * (1 - self.momentum))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
            "scale": self.scale,
        }
