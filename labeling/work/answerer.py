"""Images in, the teacher's top-k answers out: one graph, its weights frozen into it, and a runtime for it."""

import collections.abc
import copy

import numpy as np

from labeling.enlarging import Expert, answer_filled, freeze
from labeling.labels import Labels
from labeling.work import runtimes

_IMAGES_PER_CALL = 8


def largest(log_p: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k largest log-probabilities and the logarithm of the rest.

    Args:
        log_p: (..., classes); exp of a row sums to 1.
        k: how many.

    Returns:
        Their classes, int64 (..., k), the log-probabilities, (..., k), largest first, of equals the first class first,
        and log(1 - sum of the k), (...), computed as the sum of what is left, so that small tails keep their digits;
        -inf when k is all classes.
    """
    rest = log_p.shape[-1] - k
    order = np.argpartition(log_p, rest, axis=-1) if rest else np.broadcast_to(np.arange(k), log_p.shape)
    kept = np.sort(order[..., rest:], axis=-1)
    values = np.take_along_axis(log_p, kept, -1)
    ranks = np.argsort(-values, axis=-1, kind="stable")
    left = np.take_along_axis(log_p, order[..., :rest], -1)
    highest = left.max(-1, initial=np.finfo(left.dtype).min)
    with np.errstate(divide="ignore"):  # log(0) where all classes are kept
        log_tail = highest + np.log(np.exp(left - highest[..., None]).sum(-1))
    return np.take_along_axis(kept, ranks, -1), np.take_along_axis(values, ranks, -1), log_tail


class Answerer:
    """Answers images, always with the same program and in steps of the same shape: the same image gets the same bits.

    Args:
        experts: the teachers.
        view_names: the views to keep apart, each a name of labeling.enlarging.views or several joined by "+".
        k: answers to keep per view.
        image_shape: (H, W, 3).
        batch_size: images per step; a smaller batch is filled up.
        runtime: one of runtimes.RUNTIMES.
        precision: one of runtimes.PRECISIONS.

    Attributes:
        runtime, batch_size, precision: as given.
        parallel: how many threads may usefully ask at the same time.

    Raises:
        UserError: the runtime is not installed, or cannot run the teachers.
    """

    def __init__(
        self,
        experts: collections.abc.Sequence[Expert],
        view_names: collections.abc.Sequence[str],
        k: int,
        image_shape: tuple[int, int, int],
        batch_size: int,
        runtime: str = "tensorflow",
        precision: str = "float32",
    ):
        self._frozen = freeze(experts, view_names, image_shape)
        self._k = k
        self._run_by(runtime, batch_size, precision)

    def by(self, runtime: str, batch_size: int, precision: str | None = None) -> "Answerer":
        """The same answers, up to rounding, computed in another way."""
        way = runtime, batch_size, precision or self.precision
        if way == (self.runtime, self.batch_size, self.precision):
            return self
        other = copy.copy(self)
        other._run_by(*way)
        return other

    def _run_by(self, runtime, batch_size, precision):
        self.runtime, self.batch_size, self.precision = runtime, batch_size, precision
        self._program = runtimes.PROGRAMS[runtime](self._frozen, batch_size, precision)
        self.parallel = self._program.parallel

    def largest_tensor_bytes(self) -> int:
        """Size of the largest tensor in the graph, for one image."""
        tensors = [tensor for op in self._frozen.graph.get_operations() for tensor in op.outputs]
        known = [tensor for tensor in tensors if tensor.shape.rank and tensor.shape[1:].is_fully_defined()]
        return max(tensor.shape[1:].num_elements() * tensor.dtype.size for tensor in known if tensor.shape[0] is None)

    @property
    def images_per_call(self) -> int:
        """How many images to hand over at a time, so that steps of few images cost no more around them: whole steps."""
        return self.batch_size * max(1, _IMAGES_PER_CALL // self.batch_size)

    def log_probs(self, images: np.ndarray) -> np.ndarray:
        """All log-probabilities for images, uint8 (n, H, W, 3), as float32 (n, views, classes)."""
        starts = range(0, len(images), self.batch_size)
        batches = (images[start : start + self.batch_size] for start in starts)
        return np.concatenate([answer_filled(self._program, batch, self.batch_size) for batch in batches])

    def __call__(self, images: np.ndarray) -> Labels:
        """The labels of images, uint8 (n, H, W, 3)."""
        top_k, log_p, log_tail = largest(self.log_probs(images), self._k)
        return Labels(top_k.astype(np.uint16), log_p.astype(np.float16), log_tail.astype(np.float16))
