"""How good a student is, against the truth and against its teacher."""

import dataclasses
import functools
import math
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
        loss: float32 (N,), minus the log of the probability of the true class, in nats; NaN where the truth is unknown;
            or None.
        divergence: float32 (N,), how far the answer is from the teacher's, in nats; or None.
    """

    top: np.ndarray
    probabilities: np.ndarray
    loss: np.ndarray | None = None
    divergence: np.ndarray | None = None

    @property
    def probability(self) -> np.ndarray:
        """That of the best, (N,)."""
        return self.probabilities[:, 0]


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """What a network's answers to N images are held against.

    Attributes:
        truth: int32 (N,), -1 where unknown; or None.
        answers: the teacher's, leading axes (N,), in the types of the loss; or None.
        divergence: (log-probabilities (B, K), the arrays of `answers` for a batch, by name) -> (B,), in nats; needed
            where there are answers.
    """

    truth: np.ndarray | None = None
    answers: Answers | None = None
    divergence: Callable | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """What is known of each image, by name."""
        truth = {} if self.truth is None else {_TRUTH: self.truth}
        return truth | ({} if self.answers is None else self.answers.arrays())


_TRUTH = "truth"


def predict_images(
    model: "keras.Model",
    images: Pixels,
    batch_size: int = 250,
    flip: bool = False,
    console: Console = SILENT,
    reference: Reference = Reference(),
) -> Predictions:
    """The network's answers, in the order of the images; nothing is dropped.

    Args:
        model: a keras.Model from (B, H, W, 3) pixels in 0..255 to logits (B, K).
        images: uint8 (N, H, W, 3), an array or a memory map; read batch by batch.
        batch_size: images at a time.
        flip: also ask about the mirrored image, and average the two log-probabilities (test-time augmentation).
        console: where progress goes.
        reference: what the answers are held against.
    """
    import tensorflow as tf

    predict, targets = _predictor(model, flip, reference.divergence), reference.arrays()
    batches = []
    with console.bar("evaluating", len(images), "image") as advance:
        for first in range(0, len(images), batch_size):
            last = first + batch_size
            pixels = tf.constant(np.asarray(images[first:last]))
            of_batch = {name: tf.constant(array[first:last]) for name, array in targets.items()}
            batches.append(predict(tf.cast(pixels, tf.float32), of_batch))
            advance(len(pixels))
    return Predictions(**{name: np.concatenate([batch[name].numpy() for batch in batches]) for name in batches[0]})


@functools.lru_cache(maxsize=1)
def _predictor(model, flip, divergence):
    """The graph that answers a batch; kept, because a training asks the same model after every epoch."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True, autograph=False)
    def predict(pixels, of_batch):
        log_probs = tf.nn.log_softmax(tf.cast(model(pixels, training=False), tf.float32))
        if flip:
            mirrored = tf.nn.log_softmax(tf.cast(model(pixels[:, :, ::-1], training=False), tf.float32))
            log_probs = tf.nn.log_softmax((log_probs + mirrored) / 2)
        best, classes = tf.math.top_k(log_probs, min(TOP, log_probs.shape[-1]))
        answers = {name: array for name, array in of_batch.items() if name != _TRUTH}
        measured = {"divergence": divergence(log_probs, answers)} if answers else {}
        if _TRUTH in of_batch:
            truth = of_batch[_TRUTH]
            own = tf.gather(log_probs, tf.maximum(truth, 0), batch_dims=1)
            measured["loss"] = tf.where(truth >= 0, -own, math.nan)
        return {"top": classes, "probabilities": tf.exp(best), **measured}

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
        cross_entropy_nats: mean of -log q[truth], in nats, over the images whose truth is known.
        kl_nats: mean of KL(teacher || student) = sum_k p[k] log(p[k] / q[k]), in nats, the mass outside the stored
            answers spread evenly over the other classes; 0 is a perfect student.
        teacher_top1: share of images on which the teacher is right.
        relative_top1: top1 / teacher_top1.
    """
    top1 = share_in_top(predictions.top, truth, 1)
    result = {"top1": top1, "top5": share_in_top(predictions.top, truth, TOP), "cross_entropy_nats": None}
    result |= dict.fromkeys(("agreement_top1", "agreement_top5", "kl_nats", "teacher_top1", "relative_top1"))
    if predictions.loss is not None and top1 is not None:
        result["cross_entropy_nats"] = float(np.nanmean(predictions.loss, dtype=np.float64))
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
