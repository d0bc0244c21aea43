"""Images in, the teacher's top-k answers out: one graph, its weights frozen into it, and a runtime for it."""

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np

from labeling.enlarging import Expert, answer_batch, freeze, most_probable
from labeling.labels import Adaptation, LabelSpec, adaptation, as_stored
from labeling.work import runtimes
from labeling.work.runtimes import Way
from tfpipeline.batches import Answers
from tfpipeline.images import View

_IMAGES_PER_CALL = 8


class Answerer:
    """Answers images, always with the same program and in steps of the same shape: the same image gets the same bits.

    Args:
        experts: the teachers.
        views: of each answer that is kept, the views whose mean it is.
        k: classes to keep of each answer.
        image_shape: (H, W, 3).
        way: how the answers are computed; a smaller batch is filled up.

    Attributes:
        way: as given.
        parallel: how many threads may usefully ask at the same time.

    Raises:
        UserError: the runtime is not installed, or cannot run the teachers.
    """

    def __init__(
        self,
        experts: Sequence[Expert],
        views: Sequence[Sequence[View]],
        k: int,
        image_shape: Sequence[int],
        way: Way,
    ):
        self._frozen = freeze(experts, views, image_shape)
        self._k = k
        self._adaptation: Adaptation | None = None
        self._subset: tuple[int, ...] = ()
        self._groups: tuple[tuple[int, ...], ...] = ()
        self._compile(way)

    def by(self, way: Way) -> "Answerer":
        """The same answers, up to rounding, computed in another way."""
        if way == self.way:
            return self
        other = copy.copy(self)
        other._compile(way)
        return other

    def adapted(self, spec: LabelSpec) -> "Answerer":
        """The answers as the adaptation of a spec makes them of those over all classes; themselves without one."""
        other = copy.copy(self)
        other._adaptation, other._subset, other._groups = spec.adaptation, spec.subset, spec.class_map
        return other

    def _compile(self, way):
        self.way = way
        self._program = runtimes.PROGRAMS[way.runtime](self._frozen, way.batch_size, way.precision)
        self.parallel = self._program.parallel

    def largest_tensor_bytes(self) -> int:
        """Size of the largest tensor in the graph, for one image."""
        tensors = [tensor for op in self._frozen.graph.get_operations() for tensor in op.outputs]
        known = [tensor for tensor in tensors if tensor.shape.rank and tensor.shape[1:].is_fully_defined()]
        return max(tensor.shape[1:].num_elements() * tensor.dtype.size for tensor in known if tensor.shape[0] is None)

    @property
    def images_per_call(self) -> int:
        """How many images to hand over at a time, so that steps of few images cost no more around them: whole steps."""
        return self.way.batch_size * max(1, _IMAGES_PER_CALL // self.way.batch_size)

    def log_probs(self, images: np.ndarray) -> np.ndarray:
        """All log-probabilities for images, uint8 (n, H, W, 3), as float32 (n, answers, classes)."""
        size = self.way.batch_size
        batches = (images[start : start + size] for start in range(0, len(images), size))
        return np.concatenate([answer_batch(self._program, batch, size) for batch in batches])

    def __call__(self, images: np.ndarray) -> Answers:
        """The answers to images, uint8 (n, H, W, 3), in the types that are stored, leading axes (n, answers)."""
        return self.keep(self.log_probs(images))

    def keep(self, log_p: np.ndarray) -> Answers:
        """What is stored of the answers of `log_probs`, adapted where they are to be."""
        if self._adaptation is not None:
            log_p = adaptation.merge_classes(self._adaptation.apply(log_p, self._subset), self._groups)
        return as_stored(most_probable(log_p, self._k), log_p.shape[-1])


def over_all_classes(experts: Sequence[Expert]) -> list[Expert]:
    """The experts, answering over all classes of their networks: what an adaptation is found on, and applied to."""
    whole = (dataclasses.replace(expert.teacher, subset=(), class_map=(), class_names=None) for expert in experts)
    return [dataclasses.replace(expert, teacher=teacher) for expert, teacher in zip(experts, whole, strict=True)]
