"""What all layers have in common: a name in Keras files, and the type that they compute in."""

import keras
import tensorflow as tf

register = keras.saving.register_keras_serializable("tfpipeline")
"""The decorator that gives a class the name under which Keras files know what is ours."""

Shape = tuple[int | None, ...]
"""Of tensors; None where a length is unknown."""


class Layer(keras.layers.Layer):
    """A layer that computes in its own type, also where the inputs are integers, such as the bytes of an image."""

    def as_floats(self, inputs: tf.Tensor) -> tf.Tensor:
        """The inputs, in the layer's compute type if they are no floats; Keras casts floats by itself."""
        return inputs if inputs.dtype.is_floating else tf.cast(inputs, self.compute_dtype)
