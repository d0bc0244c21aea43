"""Softmax cross-entropy on logits, against class indices, whole distributions, or a few classes and a tail."""

import tensorflow as tf


def softmax_cross_entropy(logits: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """l[b] = -sum_k p[b,k] log q[b,k] with q = softmax(z), against whole distributions; 0 log q is 0, also for q = 0

    Args:
        logits: z, (B, K), float.
        probabilities: p, (B, K), of the type of `logits`; a row sums to any s, usually 1.

    Returns:
        l, (B,). With g = dL/dl and log q[k] = z[k] - log sum_j exp z[j]:
            dL/dz[b,k] = g[b] (s[b] q[b,k] - p[b,k])        as d log q[j] / dz[k] = [j = k] - q[k]
            dL/dp[b,k] = -g[b] log q[b,k]

    Raises:
        ValueError: the two do not have the same number of classes.
    """
    if probabilities.shape[-1] != logits.shape[-1]:
        raise ValueError(f"logits have {logits.shape[-1]} classes, but probabilities have {probabilities.shape[-1]}")
    return _softmax_cross_entropy(logits, probabilities)


@tf.custom_gradient
def _softmax_cross_entropy(z, p):
    log_q = tf.nn.log_softmax(z)

    def gradient(g):
        g = g[:, tf.newaxis]
        total = tf.reduce_sum(p, axis=-1, keepdims=True)
        return g * (total * tf.exp(log_q) - p), tf.math.multiply_no_nan(log_q, -g)

    return -tf.reduce_sum(tf.math.multiply_no_nan(log_q, p), axis=-1), gradient


def class_cross_entropy(logits: tf.Tensor, classes: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
    """The cross-entropy against class indices, (B,)

    With smoothing eps the true class has the probability 1 - eps, and each of the K - 1 others eps / (K - 1).

    Args:
        logits: (B, K), float.
        classes: (B,), integers in 0..K-1.
        label_smoothing: eps, a float in [0, 1).

    Raises:
        ValueError: eps is out of range.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing!r}")
    ones = tf.ones_like(classes, logits.dtype)
    rest = label_smoothing / max(logits.shape[-1] - 1, 1)
    return sparse_cross_entropy(
        logits, classes[:, tf.newaxis], ones[:, tf.newaxis] * (1 - label_smoothing), ones * rest
    )


def sparse_cross_entropy(logits: tf.Tensor, indices: tf.Tensor, probabilities: tf.Tensor, rest: tf.Tensor) -> tf.Tensor:
    """l[b] = -sum_k p[b,k] log q[b,k], where p is given at a few classes and is the same at all others

    p is never built on the host: (B, k) and (B,) numbers describe it, and its gradient adds them where they belong.
    A class index out of range is an error where the device can raise one, as a CPU can; elsewhere, as in XLA, loss and
    gradient of its row are NaN.

    Args:
        logits: z, (B, K), float.
        indices: i, (B, k), integers in 0..K-1, different in a row.
        probabilities: p[b,i[b,j]], (B, k), of the type of `logits`.
        rest: r, (B,), like `probabilities`: p[b,k] of each class k that is not in i[b]; ignored where k = K.

    Returns:
        l, (B,). The probabilities are constants: no gradient flows into them. With q = softmax(z), s[b] = sum_k p[b,k],
        the logits less their maximum as z', and log q[k] = z'[k] - log sum_j exp z'[j]:
            l[b] = s[b] log sum_k exp z'[b,k] - sum_j (p[b,i[j]] - r[b]) z'[b,i[j]] - r[b] sum_k z'[b,k]
        and with g = dL/dl:
            dL/dz[b,k] = g[b] (s[b] q[b,k] - r[b] - (p[b,k] - r[b] if k is in i[b], else 0))

    Raises:
        ValueError: there are more indices than classes.
    """
    classes, given = logits.shape[-1], indices.shape[-1]
    if given > classes:
        raise ValueError(f"{given} class indices were given for logits of {classes} classes")
    # Not in int32, in which an index of more bits may come into range.
    indices = tf.cast(indices, tf.int64)
    if given == classes:
        rest = tf.zeros_like(rest)
    excess = probabilities - rest[:, tf.newaxis]
    total = tf.reduce_sum(probabilities, axis=-1) + rest * (classes - given)
    in_range = tf.reduce_all((indices >= 0) & (indices < classes), axis=-1)
    total = tf.where(in_range, total, tf.constant(float("nan"), total.dtype))
    shape = tf.shape(indices, tf.int64)
    rows = tf.broadcast_to(tf.range(shape[0])[:, tf.newaxis], shape)
    places = tf.stack([rows, indices], axis=-1)

    @tf.custom_gradient
    def cross_entropy(z):
        shifted = z - tf.reduce_max(z, axis=-1, keepdims=True)
        log_sum = tf.reduce_logsumexp(shifted, axis=-1)

        def gradient(g):
            q = tf.exp(shifted - log_sum[:, tf.newaxis])
            everywhere = total[:, tf.newaxis] * q - rest[:, tf.newaxis]
            return g[:, tf.newaxis] * tf.tensor_scatter_nd_sub(everywhere, places, excess)

        # A class whose logit is -inf and whose probability is 0 adds nothing. Where r is above 0, its terms would be
        # infinite: they are left out of both sums.
        chosen = tf.gather_nd(shifted, places)
        chosen = tf.where((probabilities == 0) & (chosen == -float("inf")), tf.zeros_like(chosen), chosen)
        picked = tf.reduce_sum(tf.math.multiply_no_nan(chosen, excess), axis=-1)
        everything = tf.reduce_sum(tf.tensor_scatter_nd_update(shifted, places, chosen), axis=-1)
        elsewhere = tf.math.multiply_no_nan(everything, rest)
        return total * log_sum - picked - elsewhere, gradient

    return cross_entropy(logits)
