"""What a training reads: images and targets joined by index, and held-out images to measure on."""

import dataclasses
import hashlib

import numpy as np

from tfpipeline.system import FlagError, UserError

MOST_TOLD = 4096  # answers in the sample of `tell_tail`


@dataclasses.dataclass(frozen=True)
class TrueClasses:
    """How the truth counts its classes, in the words of a labeling.labels.spec.LabelSpec."""

    class_names: tuple[str, ...]
    classes: int
    subset: tuple[int, ...] = ()
    subset_of: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """Images with what is known of them.

    Attributes:
        images: uint8 (N, H, W, 3), memory-mapped.
        classes: number of classes that the student answers over, K.
        truth: int32 (N,) in 0..K-1, -1 where unknown.
        answers: the teacher's to each whole image: "top_k" int32 (N, k), "log_probs" float32 (N, k), "log_tail" float32
            (N,); or None.
        identity: hashes of all that decides the result, by name, for the experiment.
        counting: how the student counts the classes: the LabelSpec, or TrueClasses.
        views: names of the views that are replayed in training; () when only whole images are learned.
        answers_to_views: like `answers`, to each of these views, (N, views, ...); None without them.
    """

    images: np.ndarray
    classes: int
    truth: np.ndarray
    answers: dict[str, np.ndarray] | None
    identity: dict
    counting: object
    views: tuple[str, ...] = ()
    answers_to_views: dict[str, np.ndarray] | None = None

    @property
    def teacher_top(self) -> np.ndarray | None:
        """The teacher's most probable class, int32 (N,), or None."""
        return None if self.answers is None else self.answers["top_k"][:, 0]


def training_data(store, labels: str, console, replay: bool = False) -> Data:
    """The images of a store with the labels to learn from.

    Args:
        store: the ImageStore.
        labels: a label-store directory, or "truth".
        console: where notes go.
        replay: whether each stored view is shown and learned; else whole images are.

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
        identity |= {"labels": hash_of([store.truth]), "class_order": hash_of_names(store.classes)}
        counting = TrueClasses(tuple(name for name, _ in store.classes), classes)
        return Data(store.images, classes, store.truth, None, identity, counting)
    stored = _open_labels(store, labels, console)
    whole = whole_view(stored.spec.views)
    answers, to_views = _answers(stored, whole), _answers(stored) if replay else None
    views = stored.spec.views if replay else ()
    if not replay:
        _tell_view(stored.spec.views, whole, labels, console)
    identity |= {
        "labels": hash_of((to_views or answers).values()),
        "class_order": hash_of_names(stored.spec.class_names or map(str, stored.spec.subset)),
        "views": views or (stored.spec.views[whole],),
    }
    truth = truth_in_classes_of(stored.spec, store, console)
    return Data(store.images, stored.spec.classes, truth, answers, identity, stored.spec, views, to_views)


def validation_data(store, labels: str | None, training: Data, console) -> Data:
    """Held-out images with what is known of them, in the student's classes.

    Args:
        store: the ImageStore of the held-out images.
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
        stored = _open_labels(store, labels, console)
        if stored.spec.classes != training.classes:
            raise UserError(
                f"--validation-labels {labels} count {stored.spec.classes:,} classes, those to learn from "
                f"{training.classes:,}; label both with one teacher"
            )
        if not _count_alike(stored.spec, counting, store, truth):
            raise UserError(
                f"--validation-labels {labels} count other classes, or in another order, than --labels; "
                "label both with one teacher and the same --classes"
            )
        answers = answers_to_images(stored)
    identity = {
        "validation_images": store.description["files"]["images.npy"],
        "validation_truth": hash_of([truth]),
        "validation_labels": answers and hash_of(answers.values()),
    }
    return Data(store.images, training.classes, truth, answers, identity, counting)


def first_images(data: Data, count: int) -> Data:
    """The first images alone, to be learned by heart: a check that a network can learn at all.

    Args:
        data: what there is to learn.
        count: how many images to keep.
    """
    answers = data.answers and {name: array[:count] for name, array in data.answers.items()}
    return dataclasses.replace(data, images=data.images[:count], truth=data.truth[:count], answers=answers)


def targets_of(data: Data, truth_weight: float) -> dict[str, np.ndarray]:
    """The arrays that the loss reads, a row for each image, or for each of its views where these are replayed.

    Raises:
        FlagError: the truth has a weight and is not known.
    """
    if data.answers is None:
        return {"truth": data.truth}
    if truth_weight and not (data.truth >= 0).any():
        raise FlagError(f"--truth-weight {truth_weight}: no truth is known; give --truth CSV or leave it out")
    if data.views:
        targets = {name: array.reshape(-1, *array.shape[2:]) for name, array in data.answers_to_views.items()}
        return targets | ({"truth": np.repeat(data.truth, len(data.views))} if truth_weight else {})
    return data.answers | ({"truth": data.truth} if truth_weight else {})


def weights_of(targets: dict[str, np.ndarray], threshold: float, balance: float, console) -> dict[str, np.ndarray]:
    """{"weight": float32, one for each row of the targets}, or {} where all count alike.

    Args:
        targets: what `targets_of` gives.
        threshold: --confidence-threshold, 0 for none.
        balance: --class-balance, 0 for none.
        console: where it is told what counts.

    Raises:
        FlagError: the teacher is nowhere as sure as the threshold asks.
    """
    from models.sample_weights import sample_weights

    if not threshold and not balance:
        return {}
    if "top_k" in targets:
        classes, probability = targets["top_k"][:, 0], np.exp(targets["log_probs"][:, 0])
    else:
        classes, probability = targets["truth"], None
    try:
        weights = sample_weights(classes, probability, threshold, balance)
    except ValueError as error:
        raise FlagError(f"--confidence-threshold {threshold}: {error}; give a lower one") from error
    counted = weights[weights > 0]
    console.say(
        f"{len(counted):,} of {len(weights):,} labels count in the loss, with weights from {counted.min():.3g} to "
        f"{counted.max():.3g}, 1 in the mean"
    )
    return {"weight": weights}


def tell_tail(targets: dict[str, np.ndarray], classes: int, temperature: float, console) -> None:
    """Says how much of the tempered answers lies in the classes that the labels do not tell apart, by a sample of them.

    Args:
        targets: what `targets_of` gives.
        classes: K.
        temperature: --temperature; up to 1 it gives them no more than they have, and needs no word.
        console: where it is told.
    """
    from models.losses import tempered_answer

    others = classes - targets["top_k"].shape[-1] if "top_k" in targets else 0
    if temperature <= 1 or others == 0:
        return
    some = slice(None, None, -(-len(targets["log_tail"]) // MOST_TOLD))
    log_probs, log_tail = targets["log_probs"][some], targets["log_tail"][some]
    before, after = (
        others * float(np.mean(np.exp(tempered_answer(log_probs, log_tail, classes, t)[1]))) for t in (1, temperature)
    )
    console.say(
        f"--temperature {temperature:g} gives {100 * after:.1f} % of the teacher's answers, instead of "
        f"{100 * before:.1f} %, to the classes that the labels do not tell apart ({others:,} of {classes:,}); label "
        "with a higher --top-k to tell more of them apart"
    )


def whole_view(views: tuple[str, ...]) -> int:
    """Which of the stored views answers for the whole image: identity, else a mean of views, else the first."""

    def rank(number):
        return 0 if views[number] == "identity" else 1 if "+" in views[number] else 2

    return min(range(len(views)), key=rank)


def answers_to_images(stored) -> dict[str, np.ndarray]:
    """The answers of a LabelStore to each whole image, in the types of the loss, as in `Data.answers`."""
    return _answers(stored, whole_view(stored.spec.views))


def _tell_view(views, whole, labels, console):
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


def _open_labels(store, labels, console):
    from labeling.labels import open_labels

    stored = open_labels(labels)
    if note := stored.check_joins(store):
        console.say(note)
    return stored


def _answers(stored, view=slice(None)):
    """The answers to one view by its number, or to all of them, in the types of the loss."""
    labels = stored.read_all()
    return {
        "top_k": labels.top_k[:, view].astype(np.int32),
        "log_probs": labels.log_probs[:, view].astype(np.float32),
        "log_tail": labels.log_tail[:, view].astype(np.float32),
    }


def _count_alike(spec, counting, store, truth):
    """Whether labels count the classes as training does: by what both say, and by the truth where it is known."""
    from labeling.labels import count_alike, quality

    by_labels, _ = quality.truth_in_classes_of(spec, store)
    said = isinstance(counting, TrueClasses) or count_alike(spec, counting)
    return said and (by_labels is None or np.array_equal(by_labels, truth))


def truth_in_classes_of(spec, store, console):
    """The truth in the classes of labels, or of other truth, -1 where unknown."""
    from labeling.labels import quality

    truth, note = quality.truth_in_classes_of(spec, store)
    if note:
        console.say(note)
    return np.full(len(store), -1, np.int32) if truth is None else truth


def hash_of(arrays) -> str:
    """The sha256 of the bytes of arrays, in hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def hash_of_names(names) -> str:
    """The sha256 of names, or of pairs of names, in their order."""
    return hashlib.sha256(
        repr([tuple(name) if not isinstance(name, str) else name for name in names]).encode()
    ).hexdigest()
