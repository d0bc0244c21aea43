"""How good labels are: what they say of themselves, and what the truth says of them."""

from collections.abc import Sequence

import numpy as np

from labeling.labels.spec import Counting
from tfpipeline.batches import Answers
from tfpipeline.images import (
    ImageStore,
    compose_name,
    find_imagenet_class,
    imagenet_name,
    imagenet_names,
)
from tfpipeline.system import SILENT, Console
from tfpipeline.training import TOP, entropy, share_in_top

IMAGENET_CLASSES = 1000
_BLOCK = 16_384  # images


def figures(answers: Answers, truth: np.ndarray | None) -> dict[str, float | None]:
    """The figures of the answers to one view.

    Args:
        answers: to N images, leading axes (N,).
        truth: int (N,) in the teacher's classes, -1 where unknown; None when there is none.

    Returns:
        top1, top5: share of images whose true class is the first, among the first five answers; None without truth.
        mean_top_probability: mean probability of the first answer.
        mean_tail_mass: mean probability outside the stored answers.
        mean_entropy: mean entropy of the stored answers in nats, the tail counted as one class.
        classes_answered: number of classes that are the first answer of some image.
    """
    first_five = answers.top_k[:, :TOP]
    top, tail, doubt = 0.0, 0.0, 0.0
    for start in range(0, len(answers), _BLOCK):  # In float64, a block at a time: memory stays flat.
        block = answers[start : start + _BLOCK]
        probabilities, outside = np.exp(block.log_probs.astype(np.float64)), np.exp(block.log_tail.astype(np.float64))
        top += probabilities[:, 0].sum()
        tail += outside.sum()
        doubt += entropy(probabilities).sum() + entropy(outside[:, None]).sum()
    return {
        "top1": None if truth is None else share_in_top(first_five, truth, 1),
        "top5": None if truth is None else share_in_top(first_five, truth, TOP),
        "mean_top_probability": float(top / len(answers)),
        "mean_tail_mass": float(tail / len(answers)),
        "mean_entropy": float(doubt / len(answers)),
        "classes_answered": len(np.unique(answers.first)),
    }


def class_histogram(answers: Answers, classes: int) -> np.ndarray:
    """How many images have each class as their first answer, int64 (classes,); leading axes of the answers (N,)."""
    return np.bincount(answers.first, minlength=classes)


def known_truth(counting: Counting, image_store: ImageStore, console: Console = SILENT) -> np.ndarray | None:
    """The truth of the images, counted as labels or a teacher count their classes.

    Args:
        counting: the spec of the labels, or the teacher.
        image_store: the images.
        console: where it is said why the two cannot be compared.

    Returns:
        int32 (N,), -1 for unknown and for what is no class of the labels; None where no truth is known, or the two
        cannot be compared.
    """
    if not (image_store.truth >= 0).any():
        return None
    positions = _positions(counting, image_store)
    if positions is None:
        count = counting.subset_of or counting.classes
        console.say(
            f"no accuracy: the truth counts {len(image_store.classes):,} classes and the teacher {count:,}; "
            "a truth csv whose class_index is the teacher's, with classes.csv beside it, makes them comparable"
        )
        return None
    return np.array([*positions, -1], np.int32)[image_store.truth]


def _positions(counting, image_store):
    """The index among the labels' classes of each class of the images, -1 for none; None when nothing tells it.

    By name or WordNet id where the labels have names; else by index where the images count as many classes as the
    teacher; else, where all classes that occur are ImageNet's by their names, by WordNet id.
    """
    if not image_store.classes:
        return None
    ids, names = ([compose_name(name) for name in column] for column in zip(*image_store.classes, strict=True))
    known = [compose_name(name) for name in counting.class_names or ()]  # However a system composes accents.
    for own in (names, ids):
        if set(own) & set(known):
            return _indices_in(known, own)
    if len(ids) == (counting.subset_of or counting.classes):
        indices = range(len(ids))
    else:
        found = [find_imagenet_class(one) or find_imagenet_class(name) for one, name in image_store.classes]
        if any(found[index] is None for index in np.unique(image_store.truth) if index >= 0):
            return None
        if known and imagenet_names().keys() >= set(known):
            return _indices_in(known, found)
        if not imagenet_ids(counting):
            return None
        indices = _indices_in(imagenet_ids(counting), found)
    return _indices_in(counting.subset, indices) if counting.subset else indices


def _indices_in(everything, wanted):
    """The index of each of `wanted` in `everything`, -1 for what is not there."""
    if tuple(everything) == tuple(wanted):  # Two of ImageNet's classes are called "crane".
        return range(len(everything))
    position = {each: index for index, each in enumerate(everything)}
    return [position.get(each, -1) for each in wanted]


def imagenet_ids(counting: Counting) -> tuple[str, ...]:
    """The WordNet ids of the classes of a teacher that has a thousand and does not name them; () for others."""
    if counting.class_names or (counting.subset_of or counting.classes) != IMAGENET_CLASSES:
        return ()
    return tuple(imagenet_names())


def class_names(counting: Counting, image_classes: Sequence[tuple[str, str]] = ()) -> list[str]:
    """A name for each class: their own, else those of the images where they are as many, else ImageNet's, else numbers.

    Args:
        counting: the spec of the labels, or the teacher.
        image_classes: (WordNet id or name, name) of each class of the images.
    """
    if counting.class_names:
        known = dict(image_classes)  # The names of WordNet ids, where the images know them.
        return [imagenet_name(known.get(name, name)) for name in counting.class_names]
    indices = counting.subset or range(counting.classes)
    if len(image_classes) == (counting.subset_of or counting.classes):
        return [imagenet_name(image_classes[index][1]) for index in indices]
    if ids := imagenet_ids(counting):
        return [imagenet_name(ids[index]) for index in indices]
    return [f"class {index}" for index in indices]
