"""What Keras's own `compile` takes to learn a teacher's answers: a loss and metrics on whole distributions."""

from typing import Any

import keras
import tensorflow as tf

from models.layers import register
from models.losses import distillation


@register
class Distillation(keras.losses.Loss):
    """T^2 KL(p_T || q_T), as `models.losses.distillation`, of probabilities p (B, K) and logits (B, K)

    Args:
        temperature: T, above 0.
        name: of the loss.
        **kwargs: of `keras.losses.Loss`.
    """

    def __init__(self, temperature: float = 1.0, name: str = "distillation", **kwargs):
        super().__init__(name=name, **kwargs)
        self.temperature = temperature

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """The loss of each sample, (B,).

        Args:
            y_true: the teacher's probabilities, (B, K).
            y_pred: the student's logits, (B, K).
        """
        log_probs = tf.math.log(tf.cast(y_true, tf.float32))
        classes = tf.broadcast_to(tf.range(tf.shape(log_probs)[-1]), tf.shape(log_probs))
        classes = tf.ensure_shape(classes, (None, y_pred.shape[-1]))
        log_probs = tf.ensure_shape(log_probs, (None, y_pred.shape[-1]))
        nothing = tf.fill(tf.shape(log_probs)[:1], -float("inf"))
        answers = {"top_k": classes, "log_probs": log_probs, "log_tail": nothing}
        return distillation(y_pred, answers, self.temperature)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "temperature": self.temperature}


def agreement_metrics() -> list[keras.metrics.Metric]:
    """How often the teacher's first answer is the student's, and among its first five, on what `Distillation` takes."""
    return [
        keras.metrics.CategoricalAccuracy(name="agreement_top1"),
        keras.metrics.TopKCategoricalAccuracy(5, name="agreement_top5"),
    ]
