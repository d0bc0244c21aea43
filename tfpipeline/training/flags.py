"""What the training loop must be told: how long, what is best, where it is saved, and on which devices it runs."""

import dataclasses
import re
from typing import Literal

from tfpipeline.system import FlagError
from tfpipeline.system.flags import Flags, Range, flag, required

Monitor = Literal["validation_top1", "agreement_top1", "loss"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochFlags(Flags):
    """How long to train, and which epoch is the best."""

    epochs: int = flag(20, "times that all images are seen", within=Range(at_least=1), experiment=True)
    patience: int | None = flag(
        None,
        "end after so many epochs without a better --monitor",
        metavar="EPOCHS",
        within=Range(at_least=1),
        experiment=True,
    )
    best: bool = flag(
        False, "model.keras gets the weights of the epoch with the best --monitor, not the last", experiment=True
    )
    monitor: Monitor = flag("validation_top1", "what is best and what must get better", experiment=True)

    @property
    def is_watched(self) -> bool:
        """Whether the monitored figure decides anything."""
        return self.best or self.patience is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavingFlags(Flags):
    """Where the run is, and how it is saved."""

    run: str = required("run directory: checkpoints, history.csv, config.json, model.keras", metavar="DIR")
    resume: bool = flag(False, "go on from the newest checkpoint in --run; begins where there is none")
    save_every: str = flag("60s", "checkpoint after so many steps (500) or seconds (60s), and after every epoch")
    mirror: str | None = flag(None, "copy checkpoints there too, such as on a mounted drive", metavar="DIR")
    tensorboard: bool = flag(False, "write RUN/tensorboard; needs the tensorboard package")
    profile: bool = flag(False, "write a profile of steps 10 to 20 to RUN/profile")
    gradient_norms: bool = flag(
        False, "write RUN/gradients.csv: how much of the gradient reaches each layer, before and after the training"
    )


@dataclasses.dataclass(frozen=True)
class SaveEvery:
    """How often a checkpoint is saved, beside the end of every epoch.

    Attributes:
        steps: after so many training steps, or None.
        seconds: after so many seconds, or None.
    """

    steps: int | None = None
    seconds: float | None = None


def parse_save_every(text: str) -> SaveEvery:
    """How often to save: "500" steps or "60s".

    Raises:
        FlagError: the text is neither.
    """
    match = re.fullmatch(r"([1-9]\d*)(s?)", text)
    if not match:
        raise FlagError(f"--save-every {text}: write a number of steps such as 500, or of seconds such as 60s")
    return SaveEvery(seconds=int(match[1])) if match[2] else SaveEvery(steps=int(match[1]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceFlags(Flags):
    """What computes the steps."""

    precision: Literal["float32", "mixed_bfloat16"] = flag(
        "float32", "arithmetic of the layers; the weights are float32", experiment=True
    )
    strategy: Literal["one", "mirrored", "multi_worker"] = flag(
        "one", "mirrored: share each batch between all devices; multi_worker: between the machines of TF_CONFIG too"
    )
    worker_timeout: int = flag(
        1800,
        "seconds that a worker of --strategy multi_worker may take between two steps, such as to evaluate or to save; "
        "after them the chief saves, and all but that worker end with 75",
        metavar="SECONDS",
        within=Range(at_least=1),
    )
