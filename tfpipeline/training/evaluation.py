"""What a trained network answers on images, and how good that is against the truth and against its teacher."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from tfpipeline.system import SILENT

TOP = 5


@dataclasses.dataclass(frozen=True)
class Answers:
    """A network's answers on N images.

    Attributes:
        top: int32 (N, min(5, K)), the most probable classes, the best first.
        probability: float32 (N,), the softmax probability of the best, in [0, 1].
        divergence: float32 (N,), how far the answer is from the teacher's, in nats; or None.
    """

    top: np.ndarray
    probability: np.ndarray
    divergence: np.ndarray | None = None


def answer_images(
    model,
    images,
    batch_size: int = 250,
    flip: bool = False,
    console=SILENT,
    divergence: Callable | None = None,
    targets: dict[str, np.ndarray] | None = None,
) -> Answers:
    """The network's answers, in the order of the images; nothing is dropped.

    Args:
        model: a keras.Model from (B, H, W, 3) pixels in 0..255 to logits (B, K).
        images: uint8 (N, H, W, 3), an array or a memory map; read batch by batch.
        batch_size: images at a time.
        flip: also ask about the mirrored image, and average the two log-probabilities (test-time augmentation).
        console: where progress goes.
        divergence: (log-probabilities (B, K), targets of a batch) -> (B,), in nats; not asked without targets.
        targets: what the divergence is measured from, arrays (N, ...) by name; or None.
    """
    import tensorflow as tf

    targets = targets or {}
    answer = _answering(model, flip, divergence)
    batches = []
    with console.bar("evaluating", len(images), "image") as advance:
        for first in range(0, len(images), batch_size):
            last = first + batch_size
            pixels = tf.constant(np.asarray(images[first:last]))
            of_batch = {name: tf.constant(array[first:last]) for name, array in targets.items()}
            batches.append([part.numpy() for part in answer(tf.cast(pixels, tf.float32), of_batch)])
            advance(len(pixels))
    return Answers(*map(np.concatenate, zip(*batches, strict=True)))


@functools.lru_cache(maxsize=1)
def _answering(model, flip, divergence):
    """The graph that answers a batch; kept, because a training asks the same model after every epoch."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def answer(pixels, of_batch):
        log_probs = tf.nn.log_softmax(tf.cast(model(pixels, training=False), tf.float32))
        if flip:
            mirrored = tf.nn.log_softmax(tf.cast(model(pixels[:, :, ::-1], training=False), tf.float32))
            log_probs = tf.nn.log_softmax((log_probs + mirrored) / 2)
        best, classes = tf.math.top_k(log_probs, min(TOP, log_probs.shape[-1]))
        return classes, tf.exp(best[:, 0]), *([divergence(log_probs, of_batch)] if of_batch else [])

    return answer


def share_in_top(top, wanted, k: int) -> float | None:
    """The share of images whose wanted class is among the first k answers; None where no class is known.

    Args:
        top: int (N, >= k or all classes), the best first.
        wanted: int (N,), -1 where unknown; these do not count.
        k: how many answers may hold it.
    """
    known = wanted >= 0
    if not known.any():
        return None
    return float(np.mean(np.any(top[known, :k] == wanted[known, None], axis=1)))


def figures(answers: Answers, truth, teacher_top=None) -> dict:
    """The figures of an evaluation; None where truth or teacher is not known.

    Args:
        answers: of the student.
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
    top1 = share_in_top(answers.top, truth, 1)
    result = {"top1": top1, "top5": share_in_top(answers.top, truth, TOP)}
    result |= dict.fromkeys(("agreement_top1", "agreement_top5", "kl_nats", "teacher_top1", "relative_top1"))
    if answers.divergence is not None:
        result["kl_nats"] = float(np.mean(answers.divergence, dtype=np.float64))
    if teacher_top is not None:
        teacher_top = np.asarray(teacher_top, np.int64)
        teacher_top1 = share_in_top(teacher_top[:, None], truth, 1)
        result["agreement_top1"] = share_in_top(answers.top, teacher_top, 1)
        result["agreement_top5"] = share_in_top(answers.top, teacher_top, TOP)
        result["teacher_top1"] = teacher_top1
        result["relative_top1"] = top1 / teacher_top1 if teacher_top1 else None
    return result
