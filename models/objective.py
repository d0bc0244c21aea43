"""What a network's logits are held to in training, as one object: the loss of each sample."""

import keras
import tensorflow as tf

from models.flags import ObjectiveFlags
from models.losses import distillation, hard_labels, l2_penalty, teacher_class
from tfpipeline.batches import OWN_WEIGHT, partners_of


class Objective:
    """(logits, batch) -> the loss of each sample, float32 (B,)

        L = w [(1 - t) teacher + t truth] + l2 penalty

    What a batch holds decides what is asked: without answers of a teacher ("top_k") the truth alone; where samples
    have a "weight" it multiplies theirs; of mixed samples ("own_weight") the loss is own_weight times that by their
    own targets, the rest by their partners'. The divergence to a mixture of two answers differs from that by a
    constant, so the gradients are the same.

    Args:
        flags: t is `truth_weight`; they also say how the teacher's answers are read.
        model: whose kernels the penalty counts; None where there is no penalty.
    """

    def __init__(self, flags: ObjectiveFlags, model: keras.Model | None):
        self._flags, self._model = flags, model

    def __call__(self, logits: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """The loss of each sample.

        Args:
            logits: (B, K).
            batch: as `tfpipeline.batches.TrainingBatches` gives it.
        """
        loss = self._of_targets(logits, batch)
        if OWN_WEIGHT in batch:
            share = batch[OWN_WEIGHT]
            loss = share * loss + (1 - share) * self._of_targets(logits, partners_of(batch))
        return loss + l2_penalty(self._model, self._flags.l2) if self._flags.l2 else loss

    def hits(self, logits: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """1 for each sample whose first answer is the teacher's, or the truth where there is no teacher; else 0

        Of a mixed sample it is the share that the answer has in the mixture.

        Args:
            logits: (B, K).
            batch: as `tfpipeline.batches.TrainingBatches` gives it.

        Returns:
            float32 (B,).
        """
        first = tf.argmax(logits, axis=-1, output_type=tf.int32)
        hits = tf.cast(first == _first_of(batch), tf.float32)
        if OWN_WEIGHT in batch:
            share = batch[OWN_WEIGHT]
            hits = share * hits + (1 - share) * tf.cast(first == _first_of(partners_of(batch)), tf.float32)
        return hits

    def _of_targets(self, logits, targets):
        if "top_k" not in targets:
            loss = hard_labels(logits, targets, self._flags.label_smoothing)
        else:
            share = self._flags.truth_weight
            loss = self._of_teacher(logits, targets)
            if share:
                loss = (1 - share) * loss + share * hard_labels(logits, targets, self._flags.label_smoothing)
        return targets["weight"] * loss if "weight" in targets else loss

    def _of_teacher(self, logits, targets):
        if self._flags.targets == "hard":
            return teacher_class(logits, targets, self._flags.label_smoothing)
        return distillation(logits, targets, self._flags.temperature)


def _first_of(targets):
    """The class that a sample should be answered with, (B,)."""
    return targets["top_k"][:, 0] if "top_k" in targets else targets["truth"]
