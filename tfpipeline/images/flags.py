"""What a command must be told to find its images."""

import dataclasses

from tfpipeline.system.flags import Flags, Range, flag, required


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFlags(Flags):
    """Which images, and where they come from."""

    images: str = required(
        "shapes, a TFDS name (cifar10, downsampled_imagenet/64x64, ...), folder:DIR, archive:FILE.tar, "
        "parquet:FILE_OR_DIR, hf:OWNER/NAME, webdataset:FILE_OR_DIR or npz:FILE_OR_DIR",
        metavar="SPEC",
    )
    split: str = flag(
        "train", "the source's split, or a slice: train[:90%], train[100:200], train+valid, all", metavar="SPLIT"
    )
    truth: str | None = flag(
        None, "csv (file, wnid, class_index) for sources without labels; measures only", metavar="CSV"
    )
    size: int | None = flag(None, "resize to this many pixels a side", metavar="PIXELS", within=Range(at_least=1))
    limit: int | None = flag(None, "only the first so many images", metavar="N", within=Range(at_least=1))
    skip_broken: bool = flag(False, "leave unreadable images out and list them")
    archives: str | None = flag(None, "folder with a TFDS source's archives that you already have", metavar="DIR")
    data_dir: str | None = flag(None, "TFDS's data_dir, for sources that TFDS has prepared", metavar="DIR")
    cache: str | None = flag(
        None, "where opened images are kept, by default $TFPIPELINE_CACHE or ~/.cache/tfpipeline", metavar="DIR"
    )
