"""The flags of jobs.train: the parts of all rooms that a training needs."""

import dataclasses

from models.flags import NetworkFlags, ObjectiveFlags, OptimizerFlags
from tfpipeline.batches import BatchFlags
from tfpipeline.images import ImageFlags
from tfpipeline.system.flags import Flags, Range, flag, part, required
from tfpipeline.training import DeviceFlags, EpochFlags, SavingFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelSourceFlags(Flags):
    """What is learned."""

    labels: str = required("label store of the images, or: truth", metavar="DIR")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationFlags(Flags):
    """The held-out images that the student is measured on after every epoch."""

    validation_images: str | None = flag(None, "held-out images, by default those of --images", metavar="SPEC")
    validation_split: str | None = flag(
        None, "their split; by default the one that is there for it, such as valid", metavar="SPLIT"
    )
    validation_truth: str | None = flag(None, "csv of their truth", metavar="CSV")
    validation_labels: str | None = flag(None, "their label store, for the agreement with the teacher", metavar="DIR")
    validation_limit: int | None = flag(None, "only the first so many of them", metavar="N", within=Range(at_least=1))
    hold_out: str | None = flag(
        None,
        "share of --images to hold out instead, chosen by a hash of their names; or: none (default: 10% in a new run, "
        "where no flag names held-out images and --images have no other split)",
        metavar="SHARE",
    )
    allow_overlap: bool = flag(False, "validate even on images that are trained on, too")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Trains a network from its first weights on a teacher's answers, or on the truth."""

    images: ImageFlags
    labels: LabelSourceFlags
    saving: SavingFlags
    validation: ValidationFlags = part(ValidationFlags)
    network: NetworkFlags = part(NetworkFlags)
    epochs: EpochFlags = part(EpochFlags)
    batches: BatchFlags = part(BatchFlags)
    optimizer: OptimizerFlags = part(OptimizerFlags)
    objective: ObjectiveFlags = part(ObjectiveFlags)
    devices: DeviceFlags = part(DeviceFlags)
    recipe: str | None = flag(
        None,
        "flags that were measured together, from recipes/training/NAME.toml, such as cifar10-93; those on the command "
        "line win",
        metavar="NAME",
    )
    quiet: bool = flag(False, "no progress")
