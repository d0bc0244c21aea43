"""What a student's logits are held to: the teacher's stored answers, or the truth. A loss per sample, float32.

Every loss takes the logits (B, K) of any float type and a batch, a dict of tensors; models/objective.py mixes them.
"""

import math

import keras
import tensorflow as tf

from models.gradients.softmax_cross_entropy import class_cross_entropy, sparse_cross_entropy


def distillation(logits: tf.Tensor, batch: dict[str, tf.Tensor], temperature: float = 1.0) -> tf.Tensor:
    """T^2 KL(p_T || q_T): how far the student is from the teacher's answer (Hinton et al. 2015)

    p_T is proportional to p^(1/T), the teacher's answer at temperature 1, and q_T = softmax(z / T). T^2 keeps the
    size of the gradient from shrinking with T. The teacher's entropy is taken off, so that 0 is a perfect student.

    Args:
        logits: z, (B, K).
        batch: "top_k" int32 (B, k), the teacher's likeliest classes; "log_probs" float32 (B, k), their
            log-probabilities at temperature 1; "log_tail" float32 (B,), the log of the mass of the other K - k classes,
            -inf for none.
        temperature: T, above 0.

    Returns:
        The loss, float32 (B,), 0 or above but for rounding.

    Raises:
        ValueError: the temperature is not above 0, or k is above K.
    """
    log_probs, log_rest = tempered_answer(batch["log_probs"], batch["log_tail"], logits.shape[-1], temperature)
    probs, rest = tf.exp(log_probs), tf.exp(log_rest)
    cross_entropy = sparse_cross_entropy(tf.cast(logits, tf.float32) / temperature, batch["top_k"], probs, rest)
    others = logits.shape[-1] - log_probs.shape[-1]
    negative_entropy = tf.reduce_sum(_times_log(probs, log_probs), axis=-1) + others * _times_log(rest, log_rest)
    return temperature**2 * (cross_entropy + negative_entropy)


def tempered_answer(
    log_probs: tf.Tensor, log_tail: tf.Tensor, classes: int, temperature: float = 1.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """The teacher's answer at temperature T, normalized: (log p of the top k (B, k), log p of each other class (B,))

    The tail's mass is spread evenly over the K - k other classes, each of which is then tempered like the top k:
        p_T[j] = p[j]^(1/T) / sum_i p[i]^(1/T)

    Args:
        log_probs: (B, k), at temperature 1.
        log_tail: (B,), the log of the mass outside the top k, -inf for none; ignored where k = K.
        classes: K.
        temperature: T, above 0.

    Raises:
        ValueError: the temperature is not above 0.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature!r}")
    log_probs, log_tail = tf.cast(log_probs, tf.float32), tf.cast(log_tail, tf.float32)
    others = classes - log_probs.shape[-1]
    tempered = log_probs / temperature
    if others <= 0:
        normalized = tempered - tf.reduce_logsumexp(tempered, axis=-1, keepdims=True)
        return normalized, tf.fill(tf.shape(log_tail), tf.constant(-math.inf))
    tempered_rest = (log_tail - math.log(others)) / temperature
    tempered_tail = tempered_rest + math.log(others)
    log_sum = tf.reduce_logsumexp(tf.concat([tempered, tempered_tail[:, tf.newaxis]], axis=-1), axis=-1)
    return tempered - log_sum[:, tf.newaxis], tempered_rest - log_sum


def hard_labels(logits: tf.Tensor, batch: dict[str, tf.Tensor], label_smoothing: float = 0.0) -> tf.Tensor:
    """The cross-entropy against the truth; 0, with no gradient, where it is unknown

    Args:
        logits: (B, K).
        batch: "truth" int32 (B,), a class index, or -1 where it is unknown.
        label_smoothing: eps; the true class has 1 - eps, each other one eps / (K - 1).

    Returns:
        The loss, float32 (B,).
    """
    known = batch["truth"] >= 0
    loss = class_cross_entropy(tf.cast(logits, tf.float32), tf.maximum(batch["truth"], 0), label_smoothing)
    return tf.where(known, loss, tf.zeros_like(loss))


def teacher_class(logits: tf.Tensor, batch: dict[str, tf.Tensor], label_smoothing: float = 0.0) -> tf.Tensor:
    """The cross-entropy against the teacher's most probable class alone, as if it were the truth

    Args:
        logits: (B, K).
        batch: "top_k" int32 (B, k), the most probable class first.
        label_smoothing: as of `hard_labels`.

    Returns:
        The loss, float32 (B,).
    """
    return class_cross_entropy(tf.cast(logits, tf.float32), batch["top_k"][:, 0], label_smoothing)


def l2_penalty(model: keras.Model | keras.layers.Layer, strength: float) -> tf.Tensor:
    """lambda/2 sum |w|^2 over the model's kernels, so that lambda w is what it adds to the gradient of each

    Biases, and gamma and beta of the normalizations, are left out: they have no scale that could grow without end. So
    are frozen kernels.
    (`keras.regularizers.L2(l2)` adds l2 |w|^2, twice as much for the same number.)

    Args:
        model: a keras.Model or layer.
        strength: lambda, 0 or above.

    Returns:
        A float32 scalar.
    """
    kernels = [variable for variable in model.trainable_variables if variable.name == "kernel"]
    if not kernels:
        return tf.zeros(())
    return strength * tf.add_n([tf.nn.l2_loss(tf.cast(kernel, tf.float32)) for kernel in kernels])


def _times_log(probs, log_probs):
    """p log p, which is 0 where p is 0."""
    return tf.math.multiply_no_nan(log_probs, probs)
