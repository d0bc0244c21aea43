"""What other jobs need of a run that jobs.train left: its network, its flags, and how it counts the classes."""

import dataclasses
import itertools
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from jobs.training.config import Config
from jobs.training.data import (
    TRUTH,
    TrueClasses,
    answers_to_images,
    hash_of_names,
    open_joined,
    spec_in,
    truth_in_classes_of,
)
from jobs.training.held_out import held_out_images, holds_out, split_store
from labeling.labels import LabelSpec, count_alike, quality
from tfpipeline.batches import Answers
from tfpipeline.images import (
    ImageFlags,
    ImageStore,
    compose_name,
    find_imagenet_class,
    open_images,
    select,
    short_name,
    split_to_measure_on,
)
from tfpipeline.system import Console, UserError, flags
from tfpipeline.training import run_directory


def config_of(saved: dict) -> Config:
    """The config of a run by the flags in its config.json; what it does not know any more is left out.

    Raises:
        UserError: a flag that must be given is not there.
    """
    known = {field.name for field in flags.fields_of(Config)}
    try:
        return flags.from_flat(Config, {name: value for name, value in saved.items() if name in known})
    except TypeError as error:
        raise UserError(f"config.json of the run does not say all its flags ({error}); train it again") from error


def read_answers(labels: str, store: ImageStore, class_count: int, console: Console) -> Answers:
    """The teacher's answers to each image of the store, leading axes (N,).

    Raises:
        UserError: the labels are of other images, or over another number of classes than the network's.
    """
    stored = open_joined(store, labels, console)
    if stored.spec.classes != class_count:
        raise UserError(
            f"--labels {labels} count {stored.spec.classes:,} classes, the network {class_count:,}; give labels by the "
            "teacher that it learned from"
        )
    return answers_to_images(store, stored)


def read_classes(directory: pathlib.Path, count: int, labels: str | None = None) -> "LearnedClasses":
    """How the network of a run counts its classes.

    Args:
        directory: of the run.
        count: number of classes of the network.
        labels: a label store that counts them alike, or None.

    Raises:
        UserError: these labels count their classes otherwise than those that the network learned from.
    """
    config = run_directory.read_config(directory) or {"flags": {}}
    learned = config["flags"].get("labels")
    given, own = spec_in(labels), spec_in(learned)
    names = tuple(config.get("class_names", ()))
    if given and own and not count_alike(given, own):
        raise UserError(
            f"--labels {labels} count other classes, or in another order, than {learned}, which the network "
            "learned from; give labels by the same teacher over the same classes"
        )
    if given and names and given.class_names and tuple(given.class_names) != names:
        raise UserError(
            f"--labels {labels} count other classes, or in another order, than the network learned: "
            f"{first_difference(given.class_names, names)}; give labels by the same teacher over the same classes"
        )
    order = config.get("experiment", {}).get("class_order") if learned == TRUTH else None
    return LearnedClasses(count, given or own, order, names)


@dataclasses.dataclass(frozen=True)
class LearnedClasses:
    """The classes that the network of a run learned: how it counts them, and what they are called.

    Attributes:
        count: how many.
        spec: of labels that count them alike; None where there are none.
        order: the hash of the classes, in their order, that the network learned from the truth; None where nothing
            says it.
        class_names: as the run keeps them; () where it keeps none.
    """

    count: int
    spec: LabelSpec | None = None
    order: str | None = None
    class_names: tuple[str, ...] = ()

    def truth_of(self, store: ImageStore, console: Console) -> np.ndarray:
        """The truth of images as the network counts its classes, int32 (N,), -1 where it is not known.

        Classes are matched by their names; numbers alone are matched only where one side has no names.

        Raises:
            UserError: the truth counts other classes than the network, and nothing tells how they belong together.
        """
        if self.spec is not None and self.spec.class_names:
            return truth_in_classes_of(self.spec, store, console)
        if self.class_names and store.classes:
            return self._by_name(store, console)
        if self.spec is not None:
            return truth_in_classes_of(self.spec, store, console)
        if len(store.classes) not in (0, self.count) or store.truth.max() >= self.count:
            raise UserError(
                f"the truth counts {len(store.classes) or store.truth.max() + 1:,} classes, the network "
                f"{self.count:,}; give the --labels of these images, or a truth csv whose class_index is the network's"
            )
        unknown, unnamed = None, hash_of_names(())
        if store.classes and self.order not in (unknown, unnamed, hash_of_names(store.classes)):
            raise UserError(
                "the truth names other classes, or in another order, than the one that the network learned from; give "
                "the images a truth of the same classes in the same order"
            )
        return store.truth

    def _by_name(self, store, console):
        """The truth where the run and the images name their classes."""
        mine = {compose_name(name): index for index, name in enumerate(self.class_names)}
        # However a system composes accents; and by WordNet id, where the run or the images have that alone.
        pairs = [
            (find_imagenet_class(pair[0]) or find_imagenet_class(pair[1]) or "", *map(compose_name, pair))
            for pair in store.classes
        ]
        theirs = [next((name for name in pair if name in mine), None) for pair in pairs]
        if not any(theirs):
            raise UserError(
                "the images are of other classes than the network learned: "
                f"{first_difference([name for _, name in store.classes], self.class_names)}; give images of its "
                "classes, or a truth that names them as it does"
            )
        if strangers := [pair[-1] for pair, name in zip(store.classes, theirs, strict=True) if name is None]:
            console.say(
                f"{len(strangers):,} of {len(theirs):,} classes of the images, such as {strangers[0]}, are none that "
                "the network learned; their images count as unknown"
            )
        positions = [-1 if name is None else mine[name] for name in theirs]
        return np.array([*positions, -1], np.int32)[store.truth]

    def short_names(self, image_classes: Sequence[tuple[str, str]] = ()) -> list[str]:
        """A short name for each class: as the run, the labels or the images have it, else ImageNet's, else a number.

        Args:
            image_classes: (WordNet id or name, name) of each class of the images.
        """
        counting = self.spec or TrueClasses((), self.count)
        if self.class_names and not counting.class_names:
            counting = TrueClasses(self.class_names, self.count)
        return [short_name(name) for name in quality.class_names(counting, image_classes)]


def first_difference(given: Sequence[str], own: Sequence[str]) -> str:
    """The first class that two lists of names do not have at the same place, for the person at the terminal."""
    for number, (one, other) in enumerate(itertools.zip_longest(given, own, fillvalue="nothing")):
        if one != other:
            return f"class {number} is {one} there and {other} here"
    return "no class differs"


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluatedStore:
    """The images that an evaluation is about.

    Attributes:
        store: the images.
        labels: their label store, or None.
        place: where the results go within the run directory.
    """

    store: ImageStore
    labels: str | None
    place: str


def open_evaluated(
    directory: pathlib.Path,
    wanted: ImageFlags,
    image_shape: tuple[int | None, ...],
    labels: str | None,
    console: Console,
) -> EvaluatedStore:
    """The images to evaluate a run on: those that are named, else those that it held out.

    Args:
        directory: of the run.
        wanted: what is named of them; `images` and `split` may be None.
        image_shape: (H, W, 3) of what the network takes; None where it takes any.
        labels: a label store of them, or None.
        console: where notes go.

    Raises:
        UserError: they cannot be read, are of another size than the network takes, or nothing says which they are.
    """
    saved = run_directory.read_config(directory)
    config = None if saved is None else config_of(saved["flags"])
    if config is not None and wanted.images is not None:
        # The images of a run that held a share of them out: the others are no measure.
        held_out_of_them = holds_out(config.validation) and wanted.images == config.images.images
        config = config if held_out_of_them and wanted.split is None else None
    if config is None and wanted.images is None:
        raise UserError(f"{directory} does not say which images the run had; give --images and --split")
    height = image_shape[0]
    if wanted.size not in (None, height) and height is not None:
        raise UserError(f"--size {wanted.size}: the network of {directory} takes images of {height} pixels a side")
    given = {name: value for name, value in flags.flat(wanted).items() if value not in (None, False)}
    if config is None:
        images = flags.from_flat(ImageFlags, {"size": height} | given)
        if wanted.split is None:
            images = flags.change(images, split=split_to_measure_on(images))
        store = open_images(images, console)
        held_out = (saved or {}).get("experiment", {}).get("validation_images")
        is_held_out = held_out == store.description["files"]["images.npy"]
        other = f"evaluation-{_file_name(images.images)}-{_file_name(images.split)}"
        return EvaluatedStore(store, labels, "evaluation" if is_held_out else other)
    if wanted.split is None:
        store, own_labels = _open_held_out(config, given, console)
        return EvaluatedStore(store, labels or own_labels, "evaluation")
    if wanted.split == config.images.split:
        console.say(f"--split {wanted.split}: these are images that the run was trained on")
    images = flags.change(config.images, **given)
    return EvaluatedStore(open_images(images, console), labels, f"evaluation-{_file_name(wanted.split)}")


def _open_held_out(config, given, console):
    """(the images that a run held out, their label store or None)."""
    validation, limit = config.validation, given.get("limit")
    if holds_out(validation):
        given = {name: value for name, value in given.items() if name != "limit"} | {"limit": config.images.limit}
        _, held_out = split_store(open_images(flags.change(config.images, **given), console), validation)
        own_labels = None if config.labels.labels == TRUTH else config.labels.labels
        return select(held_out, np.arange(len(held_out))[:limit]), own_labels
    images = held_out_images(validation, config.images)
    if images is None:
        raise UserError("the run held no images out; give --images and --split, such as --split train")
    return open_images(flags.change(images, **given), console), validation.validation_labels


def _file_name(text):
    """A text as a part of a file name."""
    return re.sub(r"[^\w.+-]+", "-", pathlib.PurePath(text).name)[:60]
