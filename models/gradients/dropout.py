"""Inverted dropout whose mask is a function of a seed and a step, so that a resumed training repeats it."""

import tensorflow as tf

from models.gradients.replicas import count_replicas, rows_of_replica


def dropout(inputs: tf.Tensor, rate: float, seed: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """y = m x / (1 - rate), where m is 1 with probability 1 - rate, else 0, element by element

    The division ("inverted" dropout) keeps the expectation, so inference needs no factor.

    Args:
        inputs: x, a float tensor of any shape.
        rate: the probability that an element is dropped, in [0, 1).
        seed: integers (2,), such as (seed, step): they alone determine m, on every device. (XLA has its own numbers.)
            Where replicas share a batch, each has its rows of the mask of the whole batch.

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
    shape = tf.shape(x)
    if count_replicas() == 1:
        kept = _draw(shape, seed) >= rate
    else:
        first, last = rows_of_replica(shape[0])
        whole = tf.concat([shape[:1] * count_replicas(), shape[1:]], axis=0)
        kept = _draw(whole, seed)[first:last] >= rate
    return tf.where(kept, x / tf.constant(1 - rate, x.dtype), tf.zeros_like(x))


def _draw(shape, seed):
    # One algorithm for all devices: by default each kind has its own.
    return tf.random.stateless_uniform(shape, seed, dtype=tf.float32, alg="philox")
