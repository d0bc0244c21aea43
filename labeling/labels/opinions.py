"""How far labels can be trusted: told from a second opinion, and where the truth is known, from the truth.

A second opinion is another stored view of the images, or the labels of another teacher. It shares errors with the
first, so agreement is an upper bound of accuracy; a teacher of another kind shares fewer than a mirror image does.
"""

import collections.abc
import dataclasses

import numpy as np

from labeling.labels.store import Labels

LARGEST_SHARPENING = 20.0  # 1 / T; at 20 every distribution of interest is a single class.


@dataclasses.dataclass(frozen=True)
class Opinion:
    """One distribution over K classes for each of N images.

    Attributes:
        name: of the teacher or the view.
        top_k: int64 (N, k), the most probable classes, the best first.
        log_probs: float64 (N, k), their log-probabilities.
        log_rest: float64 (N,), the log-probability of each class outside the top k, which share the tail evenly;
            -inf where nothing is outside.
        outside: K - k, the number of classes outside.
    """

    name: str
    top_k: np.ndarray
    log_probs: np.ndarray
    log_rest: np.ndarray
    outside: int

    @property
    def answers(self) -> np.ndarray:
        """The most probable class of each image, int64 (N,)."""
        return self.top_k[:, 0]

    @property
    def confidence(self) -> np.ndarray:
        """Its probability, float64 (N,)."""
        return np.exp(self.log_probs[:, 0])

    def log_probability_of(self, classes: np.ndarray) -> np.ndarray:
        """The log-probability of one class for each image, float64 (N,); `classes` is int (N,)."""
        found = self.top_k == classes[:, None]
        listed = np.max(np.where(found, self.log_probs, -np.inf), axis=1)
        return np.where(found.any(axis=1), listed, self.log_rest)

    def at(self, temperature: float) -> "Opinion":
        """The opinion with p^(1/T), normalized, in the place of p."""
        log_probs, log_rest = self.log_probs / temperature, self.log_rest / temperature
        log_sum = np.logaddexp.reduce(log_probs, axis=1)
        if self.outside:
            log_sum = np.logaddexp(log_sum, log_rest + np.log(self.outside))
        return dataclasses.replace(self, log_probs=log_probs - log_sum[:, None], log_rest=log_rest - log_sum)


def opinions(labels: Labels, classes: int, names: collections.abc.Sequence[str]) -> list[Opinion]:
    """The stored views as opinions.

    Args:
        labels: of N images.
        classes: K.
        names: one for each view.
    """
    outside = classes - labels.top_k.shape[-1]
    shared = np.log(outside) if outside else np.inf
    return [
        Opinion(
            name,
            labels.top_k[:, view].astype(np.int64),
            labels.log_probs[:, view].astype(np.float64),
            labels.log_tail[:, view].astype(np.float64) - shared,
            outside,
        )
        for view, name in enumerate(names)
    ]


def agreement(first: Opinion, others: collections.abc.Sequence[Opinion]) -> float | None:
    """Share of images on which another opinion has the same first answer, mean over the others; None without any."""
    return float(np.mean([np.mean(first.answers == other.answers) for other in others])) if others else None


def trust(first: Opinion, others: collections.abc.Sequence[Opinion]) -> np.ndarray:
    """The probability of the first opinion's answer, mean over all opinions, float64 (N,).

    It is low where the first opinion is in doubt, and where the others contradict it.
    """
    return np.mean([np.exp(opinion.log_probability_of(first.answers)) for opinion in (first, *others)], axis=0)


def confident_disagreement(first: Opinion, others: collections.abc.Sequence[Opinion]) -> np.ndarray:
    """The largest product of two confidences whose answers differ, float64 (N,); 0 where all agree."""
    products = [np.where(other.answers == first.answers, 0, first.confidence * other.confidence) for other in others]
    return np.max(products, axis=0)


def fitted_temperature(opinion: Opinion, references: collections.abc.Sequence[np.ndarray]) -> float:
    """The T > 0 at which the opinion predicts the reference answers best: temperature scaling (Guo et al. 2017).

    With b = 1/T, the mean of -log p_b(r) over images is convex in b, and its derivative is

        mean over images of (sum_c p_b(c) log p(c)) - log p(r),

    whose zero is found by bisection.

    Args:
        opinion: over N images.
        references: answers to predict, each int (N,), such as those of other teachers; -1 where unknown.

    Returns:
        T; at least 1 / LARGEST_SHARPENING, and infinite where the references are worse than chance.
    """
    slope_of = [_slope_at(opinion, reference) for reference in references]
    low, high = 0.0, LARGEST_SHARPENING
    for _ in range(60):
        middle = (low + high) / 2
        if np.mean([slope(middle) for slope in slope_of]) > 0:
            high = middle
        else:
            low = middle
    return 1 / high if high > 1e-9 else np.inf


def _slope_at(opinion, reference):
    """The function b -> derivative of the mean of -log p_b(reference)."""
    known = reference >= 0
    log_probs, log_rest = opinion.log_probs[known], opinion.log_rest[known]
    target = dataclasses.replace(
        opinion, top_k=opinion.top_k[known], log_probs=log_probs, log_rest=log_rest
    ).log_probability_of(reference[known])
    # A class without any probability can be predicted at no temperature; it does not count.
    possible = np.isfinite(target)
    log_probs, log_rest, target = log_probs[possible], log_rest[possible], target[possible]
    levels = np.column_stack([log_probs, log_rest])
    log_many = np.append(np.zeros(log_probs.shape[1]), np.log(opinion.outside) if opinion.outside else -np.inf)

    def slope(b):
        scaled = np.where(np.isfinite(levels), b * levels, -np.inf) + log_many
        weights = np.exp(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True))
        expected = np.sum(weights * np.where(np.isfinite(levels), levels, 0), axis=1)
        return np.mean(expected - target)

    return slope


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """The expected calibration error (Guo et al. 2017, eq. 3), in 0..1: mean |share right - mean confidence| over bins.

    Args:
        confidence: (N,) in 0..1.
        right: bool (N,).
        bins: how many, of equal width.
    """
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(which, right - confidence, bins)).sum() / len(confidence))


def worst_classes(answers: np.ndarray, truth: np.ndarray, classes: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The classes that are confused most, and how.

    Args:
        answers: int (N,).
        truth: int (N,), -1 where unknown.
        classes: K.
        most: how many classes.

    Returns:
        The classes with the most wrong answers from or to them, int (m,), and their confusion matrix, int
        (m + 1, m + 1): row truth, column answer; the last row and column stand for all other classes together.
    """
    known = truth >= 0
    wrong = known & (answers != truth)
    errors = np.bincount(truth[wrong], minlength=classes) + np.bincount(answers[wrong], minlength=classes)
    chosen = np.sort(np.argsort(-errors, kind="stable")[: min(most, np.count_nonzero(errors))])
    position = np.full(classes, len(chosen))
    position[chosen] = np.arange(len(chosen))
    side = len(chosen) + 1
    pairs = position[truth[known]] * side + position[answers[known]]
    return chosen, np.bincount(pairs, minlength=side**2).reshape(side, side)
