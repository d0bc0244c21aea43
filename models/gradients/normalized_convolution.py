"""A convolution and the batch normalization of its outputs, in the two forms that the residual blocks are made of."""

import typing

import tensorflow as tf

from models.gradients.batch_normalization import (
    batch_gradient,
    batch_statistics,
    channel_sum,
    normalize_by_batch,
    normalize_by_statistics,
    statistics_dtype,
)


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


class NormalizedConvolution:
    """z = conv(x, K), y = BN(z), for any kernel with "same" padding. The gradient needs x and z.

    Args:
        weights: K, gamma and beta.
        strides: (S, T).
        epsilon: of the normalization.
    """

    def __init__(self, weights: Weights, strides, epsilon):
        self.kernel, self.gamma, self.beta = weights
        self.options = {"strides": (1, *strides, 1), "padding": "SAME"}
        self.epsilon = epsilon

    def forward(self, x):
        """(y, z); the batch's statistics are kept in this object."""
        z = tf.raw_ops.Conv2D(input=x, filter=self.kernel, **self.options)
        y, self.residuals = normalize_by_batch(z, self.gamma, self.beta, self.epsilon)
        self.statistics = batch_statistics(z, self.residuals)
        return y, z

    def normalized(self, z):
        """y again, from z."""
        return normalize_by_statistics(z, self.gamma, self.beta, *self.statistics, self.epsilon)

    def gradient(self, g, x, z):
        """(dL/dx, (dL/dK, dL/dgamma, dL/dbeta)) of g = dL/dy."""
        dz, dgamma, dbeta = batch_gradient(g, z, self.gamma, self.residuals, self.epsilon)
        dx = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(x), filter=self.kernel, out_backprop=dz, **self.options
        )
        dkernel = tf.raw_ops.Conv2DBackpropFilter(
            input=x, filter_sizes=tf.shape(self.kernel), out_backprop=dz, **self.options
        )
        return dx, (dkernel, dgamma, dbeta)


class NormalizedProjection:
    """z = x W, y = BN(z), for a 1x1 kernel, without ever computing z. The gradient needs x and small matrices only.

    x has n rows of C, one per pixel, W is (C, F), m is the mean row of x and
    V = 1/n (x - m)^T (x - m) its covariance. As z is linear in x, so are its statistics:
        1.  mu = m W,   v[f] = sum_c W[c,f] (V W)[c,f],   r = 1 / sqrt(v + epsilon),   s = gamma r
        2.  y = x (W s) + (beta - mu s)                         one product: the normalization costs no sweep
    Backward, with g = dL/dy and P = (x - m)^T g, which dL/dW needs anyway:
        3.  dL/dbeta  = sum g
        4.  dL/dgamma = r sum g (z - mu) = r sum_c W[c,f] P[c,f]        as z - mu = (x - m) W
        5.  dL/dz = s g - e (z - mu) - k                        batch normalization's compact form, with
            e = s r/n dL/dgamma and k = s/n dL/dbeta, per filter
        6.  dL/dW = (x - m)^T dL/dz = P s - n V W e             as dL/dz sums to 0 over the rows, and so does x - m
        7.  dL/dx = dL/dz W^T = g (W s)^T - x M + (m M - k W^T)     with M = W diag(e) W^T, (C, C)
    z, of n F numbers, appears nowhere, and V costs n C^2 products: cheap where C is less than F.

    Args:
        weights: K of shape (1, 1, C, F), gamma and beta.
        epsilon: of the normalization.
    """

    def __init__(self, weights: Weights, epsilon):
        self.kernel, self.gamma, self.beta = weights
        self.epsilon = epsilon

    def measure(self, x):
        """Takes the statistics of the batch: m and V of x, mu and v of z."""
        dtype = statistics_dtype(x)
        rows = tf.reshape(x, (-1, x.shape[-1]))
        self.entries = tf.cast(tf.shape(rows)[0], dtype)
        self.mean = channel_sum(rows) / self.entries
        centered = self._centered(rows)
        self.covariance = tf.matmul(centered, centered, transpose_a=True) / self.entries
        matrix = self._matrix()
        # A sum of terms of both signs: where a filter sees no variance, rounding may leave it below 0.
        variance = tf.maximum(tf.reduce_sum(matrix * tf.matmul(self.covariance, matrix), axis=0), 0)
        self.statistics = tf.linalg.matvec(matrix, self.mean, transpose_a=True), variance

    def output(self, x):
        """y, line 2, with the statistics that `measure` took."""
        scale = self.gamma * self._deviation_inverse()
        shift = self.beta - self.statistics[0] * scale
        kernel = tf.cast(self._matrix() * scale, x.dtype)[tf.newaxis, tf.newaxis]
        y = tf.nn.conv2d(x, kernel, 1, "VALID")
        return tf.nn.bias_add(y, tf.cast(shift, x.dtype))

    def gradient(self, g, x):
        """(dL/dx, (dL/dK, dL/dgamma, dL/dbeta)) of g = dL/dy."""
        matrix, r, n = self._matrix(), self._deviation_inverse(), self.entries
        # float32 for the small types too: line 7 is a difference of large sums.
        rows = tf.cast(tf.reshape(x, (-1, x.shape[-1])), matrix.dtype)
        g_rows = tf.cast(tf.reshape(g, (-1, g.shape[-1])), matrix.dtype)
        product = tf.matmul(self._centered(rows), g_rows, transpose_a=True)
        dbeta = channel_sum(g)
        dgamma = r * tf.reduce_sum(matrix * product, axis=0)
        s = self.gamma * r
        e, k = s * r * dgamma / n, s * dbeta / n
        dmatrix = product * s - n * tf.matmul(self.covariance, matrix) * e
        m = tf.matmul(matrix * e, matrix, transpose_b=True)
        shift = tf.linalg.matvec(m, self.mean) - tf.linalg.matvec(matrix, k)
        dx = tf.cast(tf.matmul(g_rows, matrix * s, transpose_b=True) - tf.matmul(rows, m) + shift, x.dtype)
        dkernel = tf.cast(dmatrix, self.kernel.dtype)[tf.newaxis, tf.newaxis]
        return tf.reshape(dx, tf.shape(x)), (dkernel, dgamma, dbeta)

    def _matrix(self):
        return tf.cast(self.kernel[0, 0], self.gamma.dtype)

    def _deviation_inverse(self):
        return tf.math.rsqrt(self.statistics[1] + self.epsilon)

    def _centered(self, rows):
        """x - m, of the statistics' type."""
        return tf.cast(rows, self.gamma.dtype) - self.mean
