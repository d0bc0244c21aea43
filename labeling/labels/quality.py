"""How good labels are: what they say of themselves, and what the truth says of them."""

import numpy as np

from labeling.labels.store import Labels, LabelSpec
from tfpipeline.images import resized_order
from tfpipeline.training import TOP, share_in_top

IMAGENET_CLASSES = 1000
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
        spec: of the labels; or a Teacher, which says the same of its classes.
        image_store: the images.

    Returns:
        (truth, note): int32 (N,) with -1 for unknown and for what is no class of the labels, or None with the reason
        when the two cannot be compared; or None and "" when no truth is known.
    """
    if not (image_store.truth >= 0).any():
        return None, ""
    positions = _positions(spec, image_store)
    if positions is None:
        count = spec.subset_of or spec.classes
        return None, (
            f"no accuracy: the truth counts {len(image_store.classes):,} classes and the teacher {count:,}; "
            "a truth csv whose class_index is the teacher's, with classes.csv beside it, makes them comparable"
        )
    return np.array([*positions, -1], np.int32)[image_store.truth], ""


def _positions(spec, image_store):
    """The index among the labels' classes of each class of the images, -1 for none; None when nothing tells it.

    By name or WordNet id where the labels have names; else by index where the images count as many classes as the
    teacher; else, for a teacher of ImageNet's thousand classes, by WordNet id.
    """
    if not image_store.classes:
        return None
    ids, names = zip(*image_store.classes, strict=True)
    for own in (names, ids):
        if set(own) & set(spec.class_names or ()):
            return _indices_in(spec.class_names, own)
    if len(ids) == (spec.subset_of or spec.classes):
        indices = range(len(ids))
    elif {ids[index] for index in np.unique(image_store.truth) if index >= 0} <= set(imagenet_ids(spec)):
        indices = _indices_in(imagenet_ids(spec), ids)
    else:
        return None
    return _indices_in(spec.subset, indices) if spec.subset else indices


def _indices_in(everything, wanted):
    """The index of each of `wanted` in `everything`, -1 for what is not there."""
    if tuple(everything) == tuple(wanted):  # Two of ImageNet's classes are called "crane".
        return range(len(everything))
    position = {each: index for index, each in enumerate(everything)}
    return [position.get(each, -1) for each in wanted]


def imagenet_ids(spec: LabelSpec) -> tuple[str, ...]:
    """The WordNet ids of the classes of a teacher that has a thousand and does not name them; () for others.

    Args:
        spec: of the labels; or a Teacher.
    """
    if spec.class_names or (spec.subset_of or spec.classes) != IMAGENET_CLASSES:
        return ()
    return tuple(sorted(resized_order()))


def class_names(spec: LabelSpec, image_store) -> list[str]:
    """A name for each class of the labels: their own, else those of the images where they are as many, else numbers."""
    if spec.class_names:
        shown = dict(image_store.classes)  # The names of WordNet ids, where the images know them.
        return [shown.get(name, name) for name in spec.class_names]
    indices = spec.subset or range(spec.classes)
    if len(image_store.classes) == (spec.subset_of or spec.classes):
        return [image_store.classes[index][1] for index in indices]
    return [f"class {index}" for index in indices]
