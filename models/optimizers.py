"""Stochastic gradient descent whose biases may learn faster, and whose convolutions may take orthogonal steps."""

from typing import Any

import keras
import tensorflow as tf

from models.layers import register

BIASES = ("bias", "beta")  # What layers name the weights that are added.


@register
class SGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD` with a learning rate of its own for biases: bias_factor times that of all others

    With eta, the momentum mu and g = dL/dtheta, where c is bias_factor for a bias, and 1 else:
        v <- mu v - c eta g;  theta <- theta + v,  or theta + mu v - c eta g with Nesterov's momentum

    A bias is one number that a whole feature map agrees on: its gradient hardly depends on the batch, and a rate that
    would shake the kernels is right for it (Page 2018).

    Args:
        learning_rate: eta, a float or a schedule.
        bias_factor: c, above 0.
        **kwargs: of `keras.optimizers.SGD`.
    """

    def __init__(self, learning_rate: Any = 0.01, bias_factor: float = 1.0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.bias_factor = bias_factor

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one weight; Keras calls it."""
        # What TensorFlow passes on has a longer name.
        name = self._trainable_variables[self._get_variable_index(variable)].name
        factor = self.bias_factor if name in BIASES else 1.0
        super().update_step(gradient, variable, learning_rate * factor if factor != 1 else learning_rate)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "bias_factor": self.bias_factor}


@register
class Muon(SGD):
    """Orthogonal steps for the kernels of convolutions, `SGD` for all other weights (Jordan et al. 2024)

    With g = dL/dK of a kernel K as a matrix (PQC, F), a row for each number that a filter sees:
        m <- mu m + g;  u = g + mu m;  K <- sqrt(F) K / |K| - eta O(u)
    where O(U S V') = U V' replaces all singular values by 1: directions in which the gradient is weak learn as fast as
    those in which it is strong. O is approximated by `orthogonalize`. The kernel keeps the norm sqrt(F), which a
    normalization after it makes meaningless but for the length of a step beside it. Without one, as in patchify_net,
    the network cannot choose how large its features are.
    """

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one weight; Keras calls it."""
        if len(variable.shape) != 4:
            super().update_step(gradient, variable, learning_rate)
            return
        filters = variable.shape[-1]
        if self.momentum:
            momentum = self.momentums[self._get_variable_index(variable)]
            self.assign(momentum, self.momentum * momentum + gradient)
            gradient = gradient + self.momentum * momentum
        step = orthogonalize(tf.reshape(gradient, (-1, filters)))
        length = tf.sqrt(float(filters)) / (tf.norm(variable) + 1e-7)
        self.assign(variable, length * variable - learning_rate * tf.reshape(step, variable.shape))


def orthogonalize(matrix: tf.Tensor, rounds: int = 3) -> tf.Tensor:
    """U V' of a matrix U S V', roughly: all singular values are brought near 1

    By the Newton-Schulz iteration X <- a X + (b A + c A^2) X with A = X X', which acts on the singular values alone, as
    s <- a s + b s^3 + c s^5, from X = matrix / |matrix| on. The coefficients are chosen for speed (Jordan 2024): the
    values end in about 0.5..1.3, those of less than a fiftieth of |matrix| lower.

    Args:
        matrix: (N, M), float.
        rounds: of the iteration.

    Returns:
        A tensor like `matrix`.
    """
    x = matrix / (tf.norm(matrix) + 1e-7)
    tall = matrix.shape[0] > matrix.shape[1]
    x = tf.transpose(x) if tall else x
    for _ in range(rounds):
        square = tf.matmul(x, x, transpose_b=True)
        x = 3.4445 * x + tf.matmul(-4.7750 * square + 2.0315 * tf.matmul(square, square), x)
    return tf.transpose(x) if tall else x
