"""How good labels are: what they say of themselves, and what the truth says of them."""

import numpy as np

from labeling.label_store import Labels, LabelSpec
from tfpipeline.evaluation import TOP, share_in_top

_BLOCK = 16_384  # images


def figures(labels: Labels, truth: np.ndarray | None) -> dict:
    """The figures of the first stored view.

    Args:
        labels: the answers to N images.
        truth: int (N,) in the teacher's classes, -1 where unknown; None when there is none.

    Returns:
        top1, top5: share of images whose true class is the first, among the first five answers; None without truth.
        mean_top_probability: mean probability of the first answer.
        mean_tail_mass: mean probability outside the stored answers.
        mean_entropy: mean entropy of the stored answers in nats, the tail counted as one class.
        classes_answered: number of classes that are the first answer of some image.
    """
    first_five = labels.top_k[:, 0, :TOP]
    top, tail, entropy = 0.0, 0.0, 0.0
    for start in range(0, len(labels), _BLOCK):  # In float64, a block at a time: memory stays flat.
        block = slice(start, start + _BLOCK)
        probabilities = np.exp(labels.log_probs[block, 0].astype(np.float64))
        outside = np.exp(labels.log_tail[block, 0].astype(np.float64))
        top += probabilities[:, 0].sum()
        tail += outside.sum()
        entropy += _entropy(probabilities).sum() + _entropy(outside[:, None]).sum()
    return {
        "top1": None if truth is None else share_in_top(first_five, truth, 1),
        "top5": None if truth is None else share_in_top(first_five, truth, TOP),
        "mean_top_probability": float(top / len(labels)),
        "mean_tail_mass": float(tail / len(labels)),
        "mean_entropy": float(entropy / len(labels)),
        "classes_answered": len(np.unique(first_five[:, 0])),
    }


def _entropy(probabilities):
    """-sum p log p of each row, with 0 log 0 = 0."""
    logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    return -np.sum(probabilities * logs, axis=1)


def class_histogram(labels: Labels, classes: int) -> np.ndarray:
    """How many images have each class as their first answer, int64 (classes,)."""
    return np.bincount(labels.top_k[:, 0, 0], minlength=classes)


def truth_in_classes_of(spec: LabelSpec, image_store) -> tuple[np.ndarray | None, str]:
    """The truth of the images, counted as the teacher counts its classes.

    Args:
        spec: of the labels.
        image_store: the images.

    Returns:
        (truth, note): int32 (N,) with -1 for unknown, or None with the reason when the two cannot be compared; or
        None and "" when no truth is known.
    """
    if not (image_store.truth >= 0).any():
        return None, ""
    names = [name for _, name in image_store.classes]
    if spec.class_names and set(names) & set(spec.class_names):
        position = {name: index for index, name in enumerate(spec.class_names)}
        table = np.array([*(position.get(name, -1) for name in names), -1], np.int32)
        return table[image_store.truth], ""
    if len(names) != spec.classes:
        return None, (
            f"no accuracy: the truth counts {len(names):,} classes and the teacher {spec.classes:,}; "
            "a truth csv whose class_index is the teacher's, with classes.csv beside it, makes them comparable"
        )
    return image_store.truth, ""


def class_names(spec: LabelSpec, image_store) -> list[str]:
    """A name for each class of the teacher: its own, else those of the images where they are as many, else numbers."""
    if spec.class_names:
        return list(spec.class_names)
    if len(image_store.classes) == spec.classes:
        return [name for _, name in image_store.classes]
    return [f"class {index}" for index in range(spec.classes)]
