"""A first layer that is computed from images, not learned."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.gradients.convolution import convolution
from models.gradients.linear import add_bias
from models.layers.layer import Layer, Shape, register


@register
class PatchWhitening(Layer):
    """Whitened patches and their negatives: y[b,h,w] = (W p[b,h,w] + b, -W p[b,h,w] + b'), cov(W p) = I

    p are the P*P*C numbers of the patch at (h, w); patches overlap, with stride 1. With the eigenvalues l_i and the
    orthonormal eigenvectors v_i of the covariance of patches, E diag(l) E', row i of W is v_i / sqrt(l_i + epsilon).
    Neighboring pixels say nearly the same: without whitening the first layer must learn that before all others can
    (Coates and Ng 2012; as a frozen layer: Page 2018, Jordan 2024). The kernel is frozen, the bias learns.

    Inputs are images (B, H, W, C), outputs (B, H-P+1, W-P+1, 2 P P C). Before `adapt` the kernel is random.

    Args:
        patch_size: P.
        epsilon: added to the eigenvalues, above 0, so that directions without variance stay small.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, patch_size: int = 2, epsilon: float = 5e-4, **kwargs):
        super().__init__(**kwargs)
        self.patch_size, self.epsilon = patch_size, epsilon
        self.input_spec = keras.InputSpec(ndim=4)

    def build(self, input_shape: Shape) -> None:
        """Makes the weights for inputs of the given shape."""
        size, filters = self.patch_size, self._filters(input_shape)
        shape = (size, size, input_shape[-1], filters)
        self.kernel = self.add_weight(shape=shape, initializer="he_normal", name="kernel", trainable=False)
        self.bias = self.add_weight(shape=(filters,), initializer="zeros", name="bias")

    def _filters(self, input_shape):
        return 2 * self.patch_size**2 * input_shape[-1]

    def adapt(self, images: np.ndarray) -> None:
        """Computes the kernel.

        Args:
            images: (N, H, W, C), floats as the layer will see them; a few thousand are enough.
        """
        size = self.patch_size
        windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))  # (N, h, w, C, P, P)
        patches = np.moveaxis(windows, 3, -1).reshape(-1, size * size * images.shape[-1]).astype(np.float64)
        values, vectors = np.linalg.eigh(np.cov(patches, rowvar=False, bias=True))
        whitening = vectors / np.sqrt(np.maximum(values, 0) + self.epsilon)  # A column for each filter.
        self.kernel.assign(np.concatenate([whitening, -whitening], axis=1).reshape(self.kernel.shape))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """(B, H-P+1, W-P+1, 2 P P C)."""
        inputs = self.as_floats(inputs)
        features = convolution(inputs, tf.cast(self.kernel, inputs.dtype), 1, "valid")
        return add_bias(features, tf.cast(self.bias, inputs.dtype))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(B, H-P+1, W-P+1, 2 P P C)."""
        lengths = (None if length is None else length - self.patch_size + 1 for length in input_shape[1:3])
        return input_shape[0], *lengths, self._filters(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "patch_size": self.patch_size, "epsilon": self.epsilon}
