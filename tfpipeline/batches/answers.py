"""A teacher's answers as every room knows them, from the label store to the loss."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """Distributions over K classes, of each the k most probable.

    The leading axes are (N, views) for N images as they are stored, and (N,) for one view. Everything that takes only
    the answers to whole images takes one view of them.

    Attributes:
        top_k: the k most probable classes, most probable first, int (..., k).
        log_probs: their log-probabilities at temperature 1, float (..., k).
        log_tail: log of the probability outside the top k, float (...); -inf where nothing is outside.
    """

    top_k: np.ndarray
    log_probs: np.ndarray
    log_tail: np.ndarray

    def __len__(self):
        return len(self.top_k)

    def __getitem__(self, index: Any) -> "Answers":
        """The answers at an index of the leading axes, as NumPy takes it."""
        return Answers(*(array[index] for array in self.arrays().values()))

    def view(self, number: int) -> "Answers":
        """The answers to one view of each image, leading axes (N,)."""
        return self[:, number]

    def as_rows(self) -> "Answers":
        """The answers to all views, those of an image side by side, leading axes (N * views,)."""
        return Answers(*(array.reshape(-1, *array.shape[2:]) for array in self.arrays().values()))

    @property
    def first(self) -> np.ndarray:
        """The most probable class, int (...)."""
        return self.top_k[..., 0]

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the most probable class, in the type of `log_probs`, (...)."""
        return np.exp(self.log_probs[..., 0])

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def for_loss(self) -> "Answers":
        """The same in the types that the losses take: int32 and float32."""
        return Answers(self.top_k.astype(np.int32), self.log_probs.astype(np.float32), self.log_tail.astype(np.float32))


def concatenate(parts: list[Answers]) -> Answers:
    """The answers to consecutive images as one."""
    columns = zip(*(part.arrays().values() for part in parts), strict=True)
    return Answers(*map(np.concatenate, columns))
