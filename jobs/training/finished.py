"""What other jobs need of a run that jobs.train left: its network, its flags, and how it counts the classes."""

import dataclasses
import pathlib

import numpy as np

from jobs.training.config import Config
from jobs.training.data import TRUTH, answers_to_images, hash_of_names, open_joined, spec_in, truth_in_classes_of
from labeling.labels import LabelSpec, count_alike, quality
from tfpipeline.batches import Answers
from tfpipeline.images import ImageStore
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


def read_classes(directory: pathlib.Path, count: int, labels: str | None = None) -> "Classes":
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
    if given and own and not count_alike(given, own):
        raise UserError(
            f"--labels {labels} count other classes, or in another order, than {learned}, which the network "
            "learned from; give labels by the same teacher over the same classes"
        )
    order = config.get("experiment", {}).get("class_order") if learned == TRUTH else None
    return Classes(count, given or own, order)


@dataclasses.dataclass(frozen=True)
class Classes:
    """How the network of a run counts its classes, and what they are called.

    Attributes:
        count: how many.
        spec: of labels that count them alike; None where there are none.
        order: the hash of the classes, in their order, that the network learned from the truth; None where nothing
            says it.
    """

    count: int
    spec: LabelSpec | None = None
    order: str | None = None

    def truth_of(self, store: ImageStore, console: Console) -> np.ndarray:
        """The truth of images as the network counts its classes, int32 (N,), -1 where it is not known.

        Raises:
            UserError: the truth counts other classes than the network, and nothing tells how they belong together.
        """
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

    def names(self, store: ImageStore) -> list[str]:
        """A short name for each class: as the labels' spec or the store has them, else the numbers."""
        if self.spec is not None:
            return [name.split(",")[0] for name in quality.class_names(self.spec, store)]
        if len(store.classes) != self.count:
            return [str(number) for number in range(self.count)]
        return [name.split(",")[0] for _, name in store.classes]
