"""What a training reads: images and targets joined by index, and held-out images to measure on."""

import dataclasses
import hashlib

import numpy as np

from tfpipeline.errors import FlagError, UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """Images with what is known of them.

    Attributes:
        images: uint8 (N, H, W, 3), memory-mapped.
        classes: number of classes that the student answers over, K.
        truth: int32 (N,) in 0..K-1, -1 where unknown.
        answers: the teacher's: "top_k" int32 (N, k), "log_probs" float32 (N, k), "log_tail" float32 (N,); or None.
        identity: hashes of all that decides the result, by name, for the experiment.
    """

    images: np.ndarray
    classes: int
    truth: np.ndarray
    answers: dict[str, np.ndarray] | None
    identity: dict[str, str]

    @property
    def teacher_top(self) -> np.ndarray | None:
        """The teacher's most probable class, int32 (N,), or None."""
        return None if self.answers is None else self.answers["top_k"][:, 0]


def training_data(store, labels: str, console) -> Data:
    """The images of a store with the labels to learn from.

    Args:
        store: the ImageStore.
        labels: a label-store directory, or "truth".
        console: where notes go.

    Raises:
        UserError: the labels are incomplete, damaged or of other images; or the truth is not known.
    """
    identity = {"images": store.description["files"]["images.npy"]}
    if labels == "truth":
        if not store.has_truth:
            unknown = int((store.truth < 0).sum())
            raise UserError(
                f"--labels truth: the truth of {unknown:,} of {len(store):,} images is not known; "
                "give --truth CSV, or a label store"
            )
        classes = len(store.classes) or int(store.truth.max()) + 1
        identity |= {"labels": _hash([store.truth]), "class_order": _hash_of_names(store.classes)}
        return Data(store.images, classes, store.truth, None, identity)
    stored = _open_labels(store, labels, console)
    answers = _answers(stored)
    identity |= {"labels": _hash(answers.values()), "class_order": _hash_of_names(stored.spec.class_names)}
    return Data(store.images, stored.spec.classes, truth_in_classes_of(stored.spec, store, console), answers, identity)


def validation_data(store, labels: str | None, training: Data, training_labels: str, console) -> Data:
    """Held-out images with what is known of them, in the student's classes.

    Args:
        store: the ImageStore of the held-out images.
        labels: a label store of them, by the teacher that the student learns from; or None.
        training: what the student learns from.
        training_labels: where those labels are, or "truth".
        console: where notes go.

    Raises:
        UserError: the images are of another size, or the labels of other images or classes.
    """
    if store.images.shape[1:] != training.images.shape[1:]:
        height, width = training.images.shape[1:3]
        raise UserError(
            f"the validation images are {store.images.shape[1]}x{store.images.shape[2]}, those to train on "
            f"{height}x{width}; give --size for both"
        )
    answers, truth = None, store.truth
    if labels is not None:
        stored = _open_labels(store, labels, console)
        if stored.spec.classes != training.classes:
            raise UserError(
                f"--validation-labels {labels} count {stored.spec.classes:,} classes, those to learn from "
                f"{training.classes:,}; label both with one teacher"
            )
        answers, truth = _answers(stored), truth_in_classes_of(stored.spec, store, console)
    elif training_labels != "truth":
        from labeling import label_store

        truth = truth_in_classes_of(label_store.open_labels(training_labels).spec, store, console)
    identity = {
        "validation_images": store.description["files"]["images.npy"],
        "validation_truth": _hash([truth]),
        "validation_labels": answers and _hash(answers.values()),
    }
    return Data(store.images, training.classes, truth, answers, identity)


def first_images(data: Data, count: int) -> Data:
    """The first images alone, to be learned by heart: a check that a network can learn at all.

    Args:
        data: what there is to learn.
        count: how many images to keep.
    """
    answers = data.answers and {name: array[:count] for name, array in data.answers.items()}
    return dataclasses.replace(data, images=data.images[:count], truth=data.truth[:count], answers=answers)


def targets_of(data: Data, truth_weight: float) -> dict[str, np.ndarray]:
    """The arrays that the loss reads.

    Raises:
        FlagError: the truth has a weight and is not known.
    """
    if data.answers is None:
        return {"truth": data.truth}
    if truth_weight and not (data.truth >= 0).any():
        raise FlagError(f"--truth-weight {truth_weight}: no truth is known; give --truth CSV or leave it out")
    return data.answers | ({"truth": data.truth} if truth_weight else {})


def _open_labels(store, labels, console):
    from labeling import label_store

    stored = label_store.open_labels(labels)
    if note := stored.check_joins(store):
        console.say(note)
    return stored


def _answers(stored):
    labels = stored.read_all()
    return {
        "top_k": labels.top_k[:, 0].astype(np.int32),
        "log_probs": labels.log_probs[:, 0].astype(np.float32),
        "log_tail": labels.log_tail[:, 0].astype(np.float32),
    }


def truth_in_classes_of(spec, store, console):
    """The truth in the teacher's classes, -1 where unknown."""
    from labeling import quality

    truth, note = quality.truth_in_classes_of(spec, store)
    if note:
        console.say(note)
    return np.full(len(store), -1, np.int32) if truth is None else truth


def _hash(arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _hash_of_names(names):
    return hashlib.sha256(
        repr([tuple(name) if not isinstance(name, str) else name for name in names]).encode()
    ).hexdigest()
