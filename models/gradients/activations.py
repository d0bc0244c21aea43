"""Activations, element by element, each with its derivative beside it. All are stable for large |x|."""

import math

import tensorflow as tf


@tf.custom_gradient
def relu(x: tf.Tensor) -> tf.Tensor:
    """y = max(x, 0)

    Args:
        x: a float tensor of any shape.

    Returns:
        y, like x. With g = dL/dy: dL/dx = g where y > 0, else 0, so the derivative at 0 is 0. As y > 0 exactly where
        x > 0, the output is kept and not the input: the next layer keeps it anyway.
    """
    y = tf.nn.relu(x)
    return y, lambda g: relu_gradient(g, y)


def relu_gradient(g: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """g where y > 0, else 0; y may be the output of the ReLU or its input."""
    return tf.raw_ops.ReluGrad(gradients=g, features=y)


def leaky_relu(x: tf.Tensor, slope: float = 0.01) -> tf.Tensor:
    """y = x where x > 0, else slope x

    Args:
        x: a float tensor of any shape.
        slope: a float in 0..1.

    Returns:
        y, like x. With g = dL/dy: dL/dx = g where x > 0, else slope g, so the derivative at 0 is the slope.
    """

    @tf.custom_gradient
    def activate(x):
        return tf.maximum(x, slope * x), lambda g: tf.where(x > 0, g, slope * g)

    return activate(x)


@tf.custom_gradient
def sigmoid(x: tf.Tensor) -> tf.Tensor:
    """y = 1 / (1 + exp(-x))

    With e = exp(-|x|), which never overflows: y = 1 / (1 + e) for x >= 0, and e / (1 + e) else, which keeps the tiny
    values of a large negative x.

    Args:
        x: a float tensor of any shape.

    Returns:
        y, like x. With g = dL/dy: dL/dx = g y (1 - y), as dy/dx = exp(-x) / (1 + exp(-x))^2. Where y rounds to 1,
        1 - y would be lost, so it is computed as the sigmoid of -x.
    """
    y = _sigmoid(x)
    return y, lambda g: g * y * _sigmoid(-x)


@tf.custom_gradient
def tanh(x: tf.Tensor) -> tf.Tensor:
    """y = (exp(x) - exp(-x)) / (exp(x) + exp(-x))

    Args:
        x: a float tensor of any shape.

    Returns:
        y, like x. With g = dL/dy: dL/dx = g (1 - y^2). Where y rounds to 1 this is lost, and with e = exp(-2|x|)
            1 - y^2 = 4 e / (1 + e)^2
        is not: both factors are of one sign and nothing overflows.
    """

    def gradient(g):
        e = tf.exp(-2 * tf.abs(x))
        return g * 4 * e / tf.square(1 + e)

    return tf.tanh(x), gradient


@tf.custom_gradient
def silu(x: tf.Tensor) -> tf.Tensor:
    """y = x s with s = sigmoid(x), also called swish (Elfwing et al. 2018)

    Args:
        x: a float tensor of any shape.

    Returns:
        y, like x. With g = dL/dy, by the product rule and ds/dx = s (1 - s): dL/dx = g (s + x s (1 - s)).
    """

    def gradient(g):
        s = _sigmoid(x)
        return g * s * (1 + x * _sigmoid(-x))

    return x * _sigmoid(x), gradient


@tf.custom_gradient
def gelu(x: tf.Tensor) -> tf.Tensor:
    """y = x P(x) with P(x) = (1 + erf(x / sqrt 2)) / 2, the normal distribution (Hendrycks and Gimpel 2016)

    P(x) = erfc(-x / sqrt 2) / 2 is the same and keeps the tiny values of a large negative x.

    Args:
        x: a float tensor of any shape.

    Returns:
        y, like x. With g = dL/dy and the density p(x) = dP/dx = exp(-x^2 / 2) / sqrt(2 pi), by the product rule:
            dL/dx = g (P(x) + x p(x))
    """

    def distribution():
        return tf.math.erfc(-x / math.sqrt(2)) / 2

    def gradient(g):
        density = tf.exp(-tf.square(x) / 2) / math.sqrt(2 * math.pi)
        return g * (distribution() + x * density)

    return x * distribution(), gradient


def _sigmoid(x):
    e = tf.exp(-tf.abs(x))
    return tf.where(x >= 0, tf.ones_like(e), e) / (1 + e)
