"""Where the labels are, how much of the answers they keep, and the forms that other programs read."""

import dataclasses
from typing import Literal

from tfpipeline.system.flags import Flags, Range, flag, required

ExportForm = Literal["tfrecord", "parquet", "csv"]
ImageExportForm = Literal["huggingface", "imagefolder"]


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
