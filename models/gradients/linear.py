"""The linear layer, and the bias that any layer may add."""

import tensorflow as tf

from models.gradients.windows import check_channels, dimensions, rows


def linear(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """y[n,f] = sum_d x[n,d] W[d,f], over the last axis of inputs of any rank

    Args:
        inputs: x, (..., D).
        kernel: W, (D, F), a tensor of the dtype of `inputs`.

    Returns:
        y, (..., F). With g = dL/dy, all axes but the last as rows n:
            dL/dx[n,d] = sum_f g[n,f] W[d,f]    dL/dx = g W^T
            dL/dW[d,f] = sum_n x[n,d] g[n,f]    dL/dW = x^T g

    Raises:
        ValueError: the inputs' last axis is not D.
    """
    check_channels(inputs.shape, kernel.shape)
    return tf.reshape(_product(rows(inputs), kernel), (*dimensions(inputs)[:-1], kernel.shape[-1]))


@tf.custom_gradient
def _product(inputs, kernel):
    def gradient(g):
        return tf.matmul(g, kernel, transpose_b=True), tf.matmul(inputs, g, transpose_a=True)

    return tf.matmul(inputs, kernel), gradient


@tf.custom_gradient
def add_bias(features: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """y[n,f] = x[n,f] + b[f], all axes but the last as rows n

    Args:
        features: x, (..., F).
        bias: b, (F,), a tensor of the dtype of `features`.

    Returns:
        y, of the shape of x. With g = dL/dy: dL/dx = g, and dL/db[f] = sum_n g[n,f], so dL/db = 1^T g.
    """

    # The product with ones adds up in float32 when g is bfloat16. TensorFlow's BiasAddGrad adds up in bfloat16, where a
    # sum stops growing once it is 256 times its terms: over 16,384 rows it was 51 % off, and no faster.
    def gradient(g):
        g_rows = rows(g)
        return g, tf.matmul(tf.ones((1, tf.shape(g_rows)[0]), g.dtype), g_rows)[0]

    return tf.nn.bias_add(features, bias), gradient
