"""Images in, the teacher's top-k answers out: one graph, its weights frozen into it."""

import collections.abc
import dataclasses

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from labeling import interpolation, views
from labeling.label_store import Labels
from labeling.teachers import Teacher


@dataclasses.dataclass(frozen=True)
class Expert:
    """A teacher with its way of enlarging and its weight among others.

    Attributes:
        teacher: the teacher.
        interpolation: one of interpolation.METHODS.
        weight: its exponent in the geometric mean, relative to the others.
    """

    teacher: Teacher
    interpolation: str
    weight: float = 1.0


def log_probs(images: tf.Tensor, experts: collections.abc.Sequence[Expert], view: str) -> tf.Tensor:
    """log p of the weighted geometric mean over experts and over the views that `view` joins with "+".

        log p = log_softmax(sum_ev w_e log p_e(view_v(images)) / sum_ev w_e)

    Args:
        images: uint8 (B, H, W, 3).
        experts: the teachers, which answer over the same classes.
        view: names of views, joined by "+".

    Returns:
        float32 (B, classes).
    """
    total, weights = 0.0, 0.0
    for name in view.split(views.JOIN):
        seen = views.look(images, name)
        for expert in experts:
            pixels = interpolation.enlarge(seen, expert.teacher.size, expert.interpolation)
            total += expert.weight * expert.teacher.log_probs(pixels)
            weights += expert.weight
    return tf.nn.log_softmax(total / weights)


def largest(log_p: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The k largest log-probabilities and the logarithm of the rest.

    Args:
        log_p: (B, classes); exp of a row sums to 1.
        k: how many.

    Returns:
        Their classes, int32 (B, k), the log-probabilities, (B, k), largest first, and log(1 - sum of the k), (B,),
        computed as the sum of what is left, so that small tails keep their digits; -inf when k is all classes.
    """
    values, indices = tf.math.top_k(log_p, log_p.shape[-1])
    return indices[:, :k], values[:, :k], tf.reduce_logsumexp(values[:, k:], -1)


class Answerer:
    """Answers batches of images, always with the same graph and shape: the same image gets the same bits.

    Args:
        experts: the teachers.
        view_names: the views to keep apart, each a name of labeling.views or several joined by "+".
        k: answers to keep per view.
        image_shape: (H, W, 3).
        batch_size: images per step; a smaller batch is filled up.
    """

    def __init__(self, experts, view_names, k: int, image_shape: tuple[int, int, int], batch_size: int):
        self.batch_size = batch_size

        def answer(images):
            answers = [largest(log_probs(images, experts, view), k) for view in view_names]
            return [tf.stack(parts, axis=1) for parts in zip(*answers, strict=True)]

        signature = tf.TensorSpec((batch_size, *image_shape), tf.uint8, name="images")
        # Frozen weights let TensorFlow fold constants and fuse operations: about 1.3 times the rate on a CPU.
        self.function = convert_variables_to_constants_v2(tf.function(answer).get_concrete_function(signature))

    def __call__(self, images: np.ndarray) -> Labels:
        """The labels of up to `batch_size` images, uint8 (n, H, W, 3)."""
        n = len(images)
        if n < self.batch_size:
            images = np.concatenate([images, np.zeros((self.batch_size - n, *images.shape[1:]), np.uint8)])
        top_k, log_p, log_tail = (part.numpy()[:n] for part in self.function(tf.constant(images)))
        return Labels(top_k.astype(np.uint16), log_p.astype(np.float16), log_tail.astype(np.float16))
