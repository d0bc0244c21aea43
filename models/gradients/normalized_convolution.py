"""A convolution and the batch normalization of its outputs, in the two forms that the residual blocks are made of."""

import typing

import tensorflow as tf

from models.gradients.batch_normalization import (
    batch_gradient,
    batch_statistics,
    normalize_by_batch,
    normalize_by_statistics,
    statistics_dtype,
)
from models.gradients.convolution_by import primitives
from models.gradients.windows import dimensions


class Weights(typing.NamedTuple):
    """The weights of a convolution and its normalization.

    Args:
        kernel: K, (P, Q, C, F), a tensor of the type of the images.
        gamma: (F,), a tensor of `statistics_dtype(images)`.
        beta: (F,), like `gamma`.
    """

    kernel: tf.Tensor
    gamma: tf.Tensor
    beta: tf.Tensor


WeightsGradients = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


class NormalizedConvolution:
    """z = conv(x, K), y = BN(z), for any kernel with "same" padding. The gradient needs x and z.

    Args:
        weights: K, gamma and beta.
        strides: (S, T).
        epsilon: of the normalization.
    """

    def __init__(self, weights: Weights, strides: tuple[int, int], epsilon: float):
        self.kernel, self.gamma, self.beta = weights
        self.strides = strides
        self.epsilon = epsilon

    def convolve(self, x: tf.Tensor) -> tf.Tensor:
        """z."""
        return primitives.forward(x, self.kernel, self.strides, "same")

    def normalize(self, z: tf.Tensor) -> tf.Tensor:
        """y; the batch's statistics are kept in this object."""
        y, self.residuals = normalize_by_batch(z, self.gamma, self.beta, self.epsilon)
        self.statistics = batch_statistics(z, self.residuals)
        return y

    def normalize_again(self, z: tf.Tensor) -> tf.Tensor:
        """y again, by the statistics that `normalize` took."""
        return normalize_by_statistics(z, self.gamma, self.beta, *self.statistics, self.epsilon)

    def gradient(self, g: tf.Tensor, x: tf.Tensor, z: tf.Tensor) -> tuple[tf.Tensor, WeightsGradients]:
        """(dL/dx, (dL/dK, dL/dgamma, dL/dbeta)) of g = dL/dy."""
        dz, dgamma, dbeta = batch_gradient(g, z, self.gamma, self.residuals, self.epsilon)
        dx = primitives.images_gradient(dz, self.kernel, dimensions(x), self.strides, "same")
        dkernel = primitives.kernel_gradient(x, dz, self.kernel.shape, self.strides, "same")
        return dx, (dkernel, dgamma, dbeta)


class NormalizedProjection(NormalizedConvolution):
    """z = conv(x, K), y = BN(z), for a 1x1 kernel, without keeping z. The gradient needs x alone.

    z, wider than x in most places, is computed again by the one product that it is. For the small types that is done in
    float32, and so is all that follows from it: dL/dz is a difference, and dL/dK a sum of terms of both signs.

    The statistics are those of z itself, and never derived from those of x. As z is linear in x, of rows x W with the
    covariance V, its variance is also v[f] = sum_c W[c,f] (V W)[c,f], which is cheap where C is less than F. But the
    terms of this sum are as large as what the channels of x have in common, however little of it W lets through: with
    channels that share a signal 1,000 times the rest, v was 30 times too large in float32.
    """

    def forward(self, x: tf.Tensor) -> tf.Tensor:
        """y; the batch's statistics are kept in this object."""
        return self.normalize(self.convolve(x))

    def gradient_of(self, g: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, WeightsGradients]:
        """(dL/dx, (dL/dK, dL/dgamma, dL/dbeta)) of g = dL/dy."""
        dtype = statistics_dtype(x)
        if x.dtype == dtype:
            return self.gradient(g, x, self.convolve(x))
        wide = NormalizedConvolution(
            Weights(tf.cast(self.kernel, dtype), self.gamma, self.beta), self.strides, self.epsilon
        )
        wide_x = tf.cast(x, dtype)
        z = wide.convolve(wide_x)
        wide.normalize(z)
        dx, (dkernel, dgamma, dbeta) = wide.gradient(tf.cast(g, dtype), wide_x, z)
        return tf.cast(dx, x.dtype), (tf.cast(dkernel, x.dtype), dgamma, dbeta)
