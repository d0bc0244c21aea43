"""What a training reads: images and what is known of them, joined by index, and held-out images to measure on."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from labeling.labels import SPEC_FILE, Counting, LabelSpec, LabelStore, count_alike, open_labels, quality
from tfpipeline.batches import Answers, views_to_replay
from tfpipeline.images import ImageStore, Pixels, View
from tfpipeline.system import Console, UserError

TRUTH = "truth"


@dataclasses.dataclass(frozen=True)
class TrueClasses:
    """How the truth counts its classes: a `Counting`."""

    class_names: tuple[str, ...]
    classes: int
    subset: tuple[int, ...] = ()
    subset_of: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class LabeledImages:
    """Images with what is known of them.

    Attributes:
        images: uint8 (N, H, W, 3), memory-mapped.
        classes: number of classes that the student answers over, K.
        truth: int32 (N,) in 0..K-1, -1 where unknown.
        answers: the teacher's to each whole image, leading axes (N,); None where there is no teacher.
        identity: hashes of all that decides the result, by name, for the experiment.
        counting: how the student counts the classes.
        class_names: of the classes, in their order; () where neither the labels nor the images say.
        views: the views that are replayed in training; () when only whole images are learned.
        answers_to_views: the teacher's to each of these views, leading axes (N, views); None without them.
    """

    images: Pixels
    classes: int
    truth: np.ndarray
    answers: Answers | None
    identity: dict[str, Any]
    counting: Counting
    class_names: tuple[str, ...] = ()
    views: tuple[View, ...] = ()
    answers_to_views: Answers | None = None

    def __getitem__(self, index: Any) -> "LabeledImages":
        """Some of the images, by an index of the first axis as NumPy takes it."""
        return dataclasses.replace(
            self,
            images=self.images[index],
            truth=self.truth[index],
            answers=None if self.answers is None else self.answers[index],
            answers_to_views=None if self.answers_to_views is None else self.answers_to_views[index],
        )

    @property
    def teacher_top(self) -> np.ndarray | None:
        """The teacher's most probable class, int32 (N,), or None."""
        return None if self.answers is None else self.answers.first

    @property
    def has_truth(self) -> bool:
        """Whether the class of any image is known."""
        return bool((self.truth >= 0).any())


def join_labels(store: ImageStore, labels: str, console: Console, replay: bool = False) -> LabeledImages:
    """The images of a store with the labels to learn from.

    Args:
        store: the images.
        labels: a label-store directory, or "truth".
        console: where notes go.
        replay: whether each stored view is shown and learned; else whole images are.

    Raises:
        UserError: the labels are incomplete, damaged or of other images; or the truth is not known.
        FlagError: the views are to be replayed, and there are none.
    """
    if labels == TRUTH:
        return _learn_truth(store, replay)
    return _learn_answers(store, labels, console, replay)


def _learn_truth(store, replay):
    if not store.has_truth:
        unknown = int((store.truth < 0).sum())
        raise UserError(
            f"--labels truth: the truth of {unknown:,} of {len(store):,} images is not known; "
            "give --truth CSV, or a label store"
        )
    if replay:
        views_to_replay(())
    classes = len(store.classes) or int(store.truth.max()) + 1
    identity = _identity_of(store) | {"labels": hash_of([store.truth]), "class_order": hash_of_names(store.classes)}
    counting = TrueClasses(tuple(name for name, _ in store.classes), classes)
    return LabeledImages(store.images, classes, store.truth, None, identity, counting, counting.class_names)


def _learn_answers(store, labels, console, replay):
    stored = open_joined(store, labels, console)
    spec, everything = stored.spec, _answers_of(store, stored).for_loss()
    whole = spec.whole_view
    if not replay:
        _note_view(spec.views, whole, labels, console)
    learned = everything if replay else everything.view(whole)
    identity = _identity_of(store) | {
        "labels": hash_of(learned.arrays().values()),
        "class_order": hash_of_names(spec.class_names or map(str, spec.subset)),
        "views": spec.views if replay else (spec.views[whole],),
    }
    return LabeledImages(
        store.images,
        spec.classes,
        truth_in_classes_of(spec, store, console),
        everything.view(whole),
        identity,
        spec,
        _class_names(spec, store),
        views_to_replay(spec.views) if replay else (),
        everything if replay else None,
    )


def _class_names(spec, store):
    """The names of the labels' classes: their own, else those of the images where they are as many."""
    if spec.class_names or spec.subset or len(store.classes) != spec.classes:
        return tuple(spec.class_names)
    return tuple(name for name, _ in store.classes)


def _identity_of(store):
    return {"images": store.description["files"]["images.npy"]}


def join_held_out(store: ImageStore, labels: str | None, training: LabeledImages, console: Console) -> LabeledImages:
    """Held-out images with what is known of them, in the student's classes.

    Args:
        store: the held-out images.
        labels: a label store of them, by the teacher that the student learns from; or None.
        training: what the student learns from.
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
    counting, answers = training.counting, None
    if isinstance(counting, TrueClasses) and not (counting.class_names and store.classes):
        truth = store.truth  # Without names the numbers are all that there is.
    else:
        truth = truth_in_classes_of(counting, store, console)
    if labels is not None:
        stored = open_joined(store, labels, console)
        if stored.spec.classes != training.classes:
            raise UserError(
                f"--validation-labels {labels} count {stored.spec.classes:,} classes, those to learn from "
                f"{training.classes:,}; label both with one teacher"
            )
        if not _counts_like(stored.spec, counting, store, truth):
            raise UserError(
                f"--validation-labels {labels} count other classes, or in another order, than --labels; "
                "label both with one teacher and the same --classes"
            )
        answers = answers_to_images(store, stored)
    identity = {
        "validation_images": store.description["files"]["images.npy"],
        "validation_truth": hash_of([truth]),
        "validation_labels": None if answers is None else hash_of(answers.arrays().values()),
    }
    return LabeledImages(store.images, training.classes, truth, answers, identity, counting)


def _counts_like(spec, counting, store, truth):
    """Whether labels count the classes as training does: by what both say, and by the truth where it is known."""
    by_labels = quality.known_truth(spec, store)
    said = isinstance(counting, TrueClasses) or count_alike(spec, counting)
    return said and (by_labels is None or np.array_equal(by_labels, truth))


def open_joined(store: ImageStore, labels: str, console: Console) -> LabelStore:
    """The label store in a directory, whose images are those of the image store.

    Raises:
        UserError: there is none, or its labels belong to other images.
    """
    stored = open_labels(pathlib.Path(labels))
    note = stored.check_same_images(store)
    if note and store.rows is None:  # What a selection is called by is another thing than what was labeled.
        console.say(note)
    return stored


def answers_to_images(store: ImageStore, stored: LabelStore) -> Answers:
    """The answers of a label store to each whole image of an image store, in the types of the loss, leading axes (N,).

    Args:
        store: the images that were labeled, or a selection of them.
        stored: their labels.

    Raises:
        UserError: an image has no whole label.
    """
    return _answers_of(store, stored).view(stored.spec.whole_view).for_loss()


def _answers_of(store, stored):
    answers = stored.read_all()
    return answers if store.rows is None else answers[store.rows]


def _note_view(views, whole, labels, console):
    """Says what is learned where the labels hold more than, or other than, the answers to whole images."""
    if len(views) > 1:
        console.say(
            f"{labels} holds the answers to {len(views)} views ({', '.join(views)}); those to {views[whole]} are "
            "learned: --augment replay shows each view and learns its own answer"
        )
    elif views[whole] != "identity" and "+" not in views[whole]:
        console.say(
            f"{labels} holds the answers to the view {views[whole]}, which are learned as those to the whole image: "
            "--augment replay shows the view"
        )


def truth_in_classes_of(counting: Counting, store: ImageStore, console: Console) -> np.ndarray:
    """The truth as `counting` counts the classes, int32 (N,), -1 where it is unknown or cannot be counted so."""
    truth = quality.known_truth(counting, store, console)
    return np.full(len(store), -1, np.int32) if truth is None else truth


def spec_in(labels: str | None) -> LabelSpec | None:
    """The spec of a label store; None where there is no label store."""
    if not isinstance(labels, str) or labels == TRUTH or not (pathlib.Path(labels) / SPEC_FILE).is_file():
        return None
    return open_labels(pathlib.Path(labels)).spec


def hash_of(arrays: Iterable[np.ndarray]) -> str:
    """The sha256 of the bytes of arrays, in hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def hash_of_names(names: Iterable) -> str:
    """The sha256 of names, or of pairs of names, in their order."""
    return hashlib.sha256(
        repr([tuple(name) if not isinstance(name, str) else name for name in names]).encode()
    ).hexdigest()
