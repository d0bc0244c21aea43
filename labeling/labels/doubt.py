"""Given classes that a teacher doubts, by confident learning (Northcutt, Jiang and Chuang 2021) as cleanlab does it."""

import dataclasses

import numpy as np

from labeling.labels.opinions import Opinion
from tfpipeline.system import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Doubt:
    """What a teacher says of the classes that images were given.

    Attributes:
        images: int64 (M,), those whose given class is known, the most doubted first.
        score: float (M,), in 0..1; a low one is a strong doubt.
        probability: float (M,), that of the given class among the classes that were given to any image.
        instead: int64 (M,), the most probable of these classes.
        is_error: bool (M,), whether confident learning counts the given class as an error.
    """

    images: np.ndarray
    score: np.ndarray
    probability: np.ndarray
    instead: np.ndarray
    is_error: np.ndarray


def doubt_given(label: Opinion, given: np.ndarray) -> Doubt:
    """How much a teacher doubts each given class, in comparison with how sure it is of that class elsewhere.

    The teacher's probabilities are renormalized over the classes that were given to any image.

    Args:
        label: the teacher's opinion of N images.
        given: int (N,), the class that each image was given, -1 where none is known; two or more occur.

    Raises:
        UserError: cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError as error:
        raise UserError(f"errors in given classes are found by cleanlab ({error}): pip install cleanlab") from error
    known = np.flatnonzero(given >= 0)
    classes, labels = np.unique(given[known], return_inverse=True)
    log_p = np.stack([label.log_probability_of(np.full(len(given), each))[known] for each in classes], axis=1)
    p = np.exp(log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True))
    score = get_label_quality_scores(labels, p, adjust_pred_probs=True)
    is_error = find_label_issues(labels, p, n_jobs=1)
    order = np.argsort(score, kind="stable")
    chosen = np.arange(len(labels))[order]
    return Doubt(
        known[order], score[order], p[chosen, labels[order]], classes[p.argmax(1)][order], np.asarray(is_error)[order]
    )
