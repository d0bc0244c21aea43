"""Figures of answers: how many are right, how sure they are, and whether the two go together."""

import dataclasses
from collections.abc import Sequence

import numpy as np

TOP = 5


def share_in_top(top: np.ndarray, wanted: np.ndarray, k: int) -> float | None:
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


def agreement(first: np.ndarray, others: Sequence[np.ndarray]) -> float | None:
    """The share of images to which others give the same answer, mean over the others; None without any.

    Args:
        first: the answers, int (N,).
        others: theirs, int (N,) each.
    """
    return float(np.mean([np.mean(first == other) for other in others])) if others else None


def entropy(p: np.ndarray) -> np.ndarray:
    """-sum_c p_c log p_c in nats, with 0 log 0 = 0, of probabilities (..., K); (...)."""
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    return -np.sum(p * logs, axis=-1)


@dataclasses.dataclass(frozen=True, eq=False)
class Reliability:
    """How often answers are right at each confidence, in bins of equal width.

    Attributes:
        counts: int (bins,), answers in each bin.
        accuracy: float64 (bins,), share of them that is right; NaN where there are none.
        error: the expected calibration error (Guo et al. 2017, eq. 3), in 0..1: the mean over answers of |share right -
            mean confidence| of their bin.
    """

    counts: np.ndarray
    accuracy: np.ndarray
    error: float


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> Reliability:
    """How confidence and accuracy go together.

    Args:
        confidence: (N,), probabilities of the answers, in 0..1.
        right: bool (N,).
        bins: how many.
    """
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        accuracy = np.bincount(which, right, bins) / counts
    error = np.abs(np.bincount(which, right - confidence, bins)).sum() / max(len(confidence), 1)
    return Reliability(counts, accuracy, float(error))
