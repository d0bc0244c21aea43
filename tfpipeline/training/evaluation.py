"""How good a student is, against the truth and against its teacher."""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tfpipeline.batches import Answers
from tfpipeline.images import Pixels
from tfpipeline.system import SILENT, Console
from tfpipeline.training.metrics import TOP, share_in_top

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """A network's answers to N images.

    Attributes:
        top: int32 (N, min(5, K)), the most probable classes, the best first.
        probabilities: float32 (N, min(5, K)), their softmax probabilities, in [0, 1].
        divergence: float32 (N,), how far the answer is from the teacher's, in nats; or None.
    """

    top: np.ndarray
    probabilities: np.ndarray
    divergence: np.ndarray | None = None

    @property
    def probability(self) -> np.ndarray:
        """That of the best, (N,)."""
        return self.probabilities[:, 0]


@dataclasses.dataclass(frozen=True, eq=False)
class Divergence:
    """How far a network's answers are from a teacher's.

    Attributes:
        function: (log-probabilities (B, K), the arrays of `answers` for a batch, by name) -> (B,), in nats.
        answers: the teacher's to each image, leading axes (N,), in the types of the loss.
    """

    function: Callable
    answers: Answers


def predict_images(
    model: "keras.Model",
    images: Pixels,
    batch_size: int = 250,
    flip: bool = False,
    console: Console = SILENT,
    divergence: Divergence | None = None,
) -> Predictions:
    """The network's answers, in the order of the images; nothing is dropped.

    Args:
        model: a keras.Model from (B, H, W, 3) pixels in 0..255 to logits (B, K).
        images: uint8 (N, H, W, 3), an array or a memory map; read batch by batch.
        batch_size: images at a time.
        flip: also ask about the mirrored image, and average the two log-probabilities (test-time augmentation).
        console: where progress goes.
        divergence: what else to measure, or None.
    """
    import tensorflow as tf

    predict = _predictor(model, flip, None if divergence is None else divergence.function)
    targets = {} if divergence is None else divergence.answers.arrays()
    batches = []
    with console.bar("evaluating", len(images), "image") as advance:
        for first in range(0, len(images), batch_size):
            last = first + batch_size
            pixels = tf.constant(np.asarray(images[first:last]))
            of_batch = {name: tf.constant(array[first:last]) for name, array in targets.items()}
            batches.append([part.numpy() for part in predict(tf.cast(pixels, tf.float32), of_batch)])
            advance(len(pixels))
    return Predictions(*map(np.concatenate, zip(*batches, strict=True)))


@functools.lru_cache(maxsize=1)
def _predictor(model, flip, divergence):
    """The graph that answers a batch; kept, because a training asks the same model after every epoch."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def predict(pixels, of_batch):
        log_probs = tf.nn.log_softmax(tf.cast(model(pixels, training=False), tf.float32))
        if flip:
            mirrored = tf.nn.log_softmax(tf.cast(model(pixels[:, :, ::-1], training=False), tf.float32))
            log_probs = tf.nn.log_softmax((log_probs + mirrored) / 2)
        best, classes = tf.math.top_k(log_probs, min(TOP, log_probs.shape[-1]))
        return classes, tf.exp(best), *([divergence(log_probs, of_batch)] if of_batch else [])

    return predict


def measure(
    predictions: Predictions, truth: np.ndarray, teacher_top: np.ndarray | None = None
) -> dict[str, float | None]:
    """The figures of an evaluation; None where truth or teacher is not known.

    Args:
        predictions: of the student.
        truth: int32 (N,), -1 where unknown.
        teacher_top: int (N,), the teacher's most probable class, or None.

    Returns:
        top1, top5: share of images with the true class among the first 1, 5 answers.
        agreement_top1, agreement_top5: share with the teacher's first answer among them.
        kl_nats: mean of KL(teacher || student) = sum_k p[k] log(p[k] / q[k]), in nats, the mass outside the stored
            answers spread evenly over the other classes; 0 is a perfect student.
        teacher_top1: share of images on which the teacher is right.
        relative_top1: top1 / teacher_top1.
    """
    top1 = share_in_top(predictions.top, truth, 1)
    result = {"top1": top1, "top5": share_in_top(predictions.top, truth, TOP)}
    result |= dict.fromkeys(("agreement_top1", "agreement_top5", "kl_nats", "teacher_top1", "relative_top1"))
    if predictions.divergence is not None:
        result["kl_nats"] = float(np.mean(predictions.divergence, dtype=np.float64))
    if teacher_top is not None:
        teacher_top = np.asarray(teacher_top, np.int64)
        teacher_top1 = share_in_top(teacher_top[:, None], truth, 1)
        result["agreement_top1"] = share_in_top(predictions.top, teacher_top, 1)
        result["agreement_top5"] = share_in_top(predictions.top, teacher_top, TOP)
        result["teacher_top1"] = teacher_top1
        result["relative_top1"] = top1 / teacher_top1 if teacher_top1 and top1 is not None else None
    return result
