"""Inverted dropout whose mask is a function of a seed and a step, so that a resumed training repeats it."""

import tensorflow as tf


def dropout(inputs: tf.Tensor, rate: float, seed: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """y = m x / (1 - rate), where m is 1 with probability 1 - rate, else 0, element by element

    The division ("inverted" dropout) keeps the expectation, so inference needs no factor.

    Args:
        inputs: x, a float tensor of any shape.
        rate: the probability that an element is dropped, in [0, 1).
        seed: integers (2,), such as (seed, step): they alone determine m, on every device. (XLA has its own numbers.)

    Returns:
        y, like x. With g = dL/dy: dL/dx = m g / (1 - rate). The mask is not kept: it is drawn again from the seed.

    Raises:
        ValueError: the rate is out of range.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"the rate of dropout must be in [0, 1), got {rate!r}")
    if rate == 0:
        return tf.identity(inputs)

    @tf.custom_gradient
    def drop(x):
        return _drop(x, rate, seed), lambda g: _drop(g, rate, seed)

    return drop(inputs)


def _drop(x, rate, seed):
    # One algorithm for all devices: by default each kind has its own.
    kept = tf.random.stateless_uniform(tf.shape(x), seed, dtype=tf.float32, alg="philox") >= rate
    return tf.where(kept, x / tf.constant(1 - rate, x.dtype), tf.zeros_like(x))
