"""Where the labels are, how much of the answers they keep, and the forms that other programs read."""

import dataclasses
from typing import Literal

from tfpipeline.system import FlagError
from tfpipeline.system.flags import Flags, Range, flag, required

ExportForm = Literal["tfrecord", "parquet", "csv"]
ImageExportForm = Literal["huggingface", "imagefolder"]
AdaptMethod = Literal["auto", "none", "background", "prior"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelFlags(Flags):
    """The label store."""

    out: str = required("the label store, a directory", metavar="DIR")
    top_k: int = flag(
        32, "answers to keep per image; all classes where they are fewer", metavar="K", within=Range(at_least=1)
    )
    shard_size: int = flag(
        1024,
        "images per shard; a killed command loses at most two shards' work",
        metavar="N",
        within=Range(at_least=1),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptFlags(Flags):
    """Whether the answers are adapted to the images, without any truth (docs/labels.md)."""

    adapt: AdaptMethod | None = flag(
        None,
        "take away what the teachers say of every image, and estimate which classes occur: auto does what a sample of "
        "the images proves, background and prior that alone (default: auto for teachers of 100 classes and more, and "
        "what the labels have that are there)",
    )
    adapt_from: str | None = flag(
        None, "label store whose adaptation to take, such as the training images' for validation", metavar="DIR"
    )

    def __post_init__(self):
        super().__post_init__()
        if None not in (self.adapt, self.adapt_from):
            raise FlagError(f"--adapt {self.adapt} and --adapt-from {self.adapt_from} do not go together; give one")
