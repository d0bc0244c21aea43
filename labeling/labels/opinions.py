"""How far labels can be trusted: by a second opinion, and where the truth is known, by the truth.

A second opinion is another stored view of the images, or the labels of another teacher. It shares errors with the
first, so agreement is an upper bound of accuracy; a teacher of another kind shares fewer than a mirror image does.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tfpipeline.batches import Answers

LARGEST_SHARPENING = 20.0  # 1 / T; at 20 every distribution of interest is a single class.


@dataclasses.dataclass(frozen=True, eq=False)
class Opinion:
    """One distribution over K classes for each of N images.

    Attributes:
        name: of the teacher or the view.
        answers: leading axes (N,), int64 and float64.
        classes: K. The classes outside the top k share the tail evenly.
    """

    name: str
    answers: Answers
    classes: int

    @property
    def outside(self) -> int:
        """The number of classes outside the top k."""
        return self.classes - self.answers.top_k.shape[-1]

    @property
    def log_rest(self) -> np.ndarray:
        """The log-probability of each class outside the top k, float64 (N,); -inf where nothing is outside."""
        return self.answers.log_tail - (np.log(self.outside) if self.outside else np.inf)

    def log_probability_of(self, wanted: np.ndarray) -> np.ndarray:
        """The log-probability of one class for each image, float64 (N,); `wanted` is int (N,)."""
        found = self.answers.top_k == wanted[:, None]
        listed = np.max(np.where(found, self.answers.log_probs, -np.inf), axis=1)
        return np.where(found.any(axis=1), listed, self.log_rest)

    def at(self, temperature: float) -> "Opinion":
        """The opinion with p^(1/T), normalized, in the place of p."""
        log_probs, log_rest = self.answers.log_probs / temperature, self.log_rest / temperature
        log_sum, log_tail = np.logaddexp.reduce(log_probs, axis=1), log_rest
        if self.outside:
            log_tail = log_rest + np.log(self.outside)
            log_sum = np.logaddexp(log_sum, log_tail)
        answers = Answers(self.answers.top_k, log_probs - log_sum[:, None], log_tail - log_sum)
        return dataclasses.replace(self, answers=answers)


def opinions_of(answers: Answers, classes: int, names: Sequence[str]) -> list[Opinion]:
    """The stored views as opinions.

    Args:
        answers: leading axes (N, views).
        classes: K.
        names: one for each view.
    """
    views = [answers.view(number) for number in range(len(names))]
    return [
        Opinion(
            name,
            Answers(view.top_k.astype(np.int64), view.log_probs.astype(np.float64), view.log_tail.astype(np.float64)),
            classes,
        )
        for name, view in zip(names, views, strict=True)
    ]


def trust(first: Opinion, others: Sequence[Opinion]) -> np.ndarray:
    """The probability of the first opinion's answer, mean over all opinions, float64 (N,).

    It is low where the first opinion is in doubt, and where the others contradict it.
    """
    return np.mean([np.exp(opinion.log_probability_of(first.answers.first)) for opinion in (first, *others)], axis=0)


def confident_disagreement(first: Opinion, others: Sequence[Opinion]) -> np.ndarray:
    """The largest product of two confidences whose answers differ, float64 (N,); 0 where all agree."""
    mine = first.answers
    return np.max(
        [
            np.where(theirs.first == mine.first, 0, mine.confidence * theirs.confidence)
            for theirs in (other.answers for other in others)
        ],
        axis=0,
    )


def fit_temperature(opinion: Opinion, references: Sequence[np.ndarray]) -> float:
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
    slopes = [_slope(opinion, reference) for reference in references]
    low, high = 0.0, LARGEST_SHARPENING
    for _ in range(60):
        middle = (low + high) / 2
        if np.mean([slope(middle) for slope in slopes]) > 0:
            high = middle
        else:
            low = middle
    return 1 / high if high > 1e-9 else np.inf


def _slope(opinion, reference) -> Callable[[float], float]:
    """The function b -> derivative of the mean of -log p_b(reference)."""
    known = reference >= 0
    opinion = dataclasses.replace(opinion, answers=opinion.answers[known])
    target = opinion.log_probability_of(reference[known])
    # A class without any probability can be predicted at no temperature; it does not count.
    possible = np.isfinite(target)
    levels, target = np.column_stack([opinion.answers.log_probs, opinion.log_rest])[possible], target[possible]
    log_many = np.append(np.zeros(levels.shape[1] - 1), np.log(opinion.outside) if opinion.outside else -np.inf)

    def slope(b):
        scaled = np.where(np.isfinite(levels), b * levels, -np.inf) + log_many
        weights = np.exp(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True))
        expected = np.sum(weights * np.where(np.isfinite(levels), levels, 0), axis=1)
        return np.mean(expected - target)

    return slope


def worst_classes(first: np.ndarray, truth: np.ndarray, classes: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The classes that are confused most, and how.

    Args:
        first: the most probable class of each image, int (N,).
        truth: int (N,), -1 where unknown.
        classes: K.
        most: how many classes.

    Returns:
        The classes with the most wrong answers from or to them, int (m,), and their confusion matrix, int
        (m + 1, m + 1): row truth, column answer; the last row and column stand for all other classes together.
    """
    known = truth >= 0
    wrong = known & (first != truth)
    errors = np.bincount(truth[wrong], minlength=classes) + np.bincount(first[wrong], minlength=classes)
    chosen = np.sort(np.argsort(-errors, kind="stable")[: min(most, np.count_nonzero(errors))])
    position = np.full(classes, len(chosen))
    position[chosen] = np.arange(len(chosen))
    side = len(chosen) + 1
    pairs = position[truth[known]] * side + position[first[known]]
    return chosen, np.bincount(pairs, minlength=side**2).reshape(side, side)
