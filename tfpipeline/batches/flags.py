"""What decides which samples a training sees, and how they are changed."""

import dataclasses

from tfpipeline.system.flags import Flags, Range, flag


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchFlags(Flags):
    """Which samples make a batch, and how they are changed."""

    batch_size: int = flag(100, "images per step", within=Range(at_least=1), experiment=True)
    augment: str = flag(
        "flip,translate:4",
        "changes to the training images, or: none; replay first: each view that the labels keep, with its own answer",
        metavar="LIST",
        experiment=True,
    )
    mix: str = flag(
        "none",
        "mixtures of two images and their labels: mixup:0.2, cutmix:1, or none",
        metavar="NAME:ALPHA",
        experiment=True,
    )
    seed: int = flag(
        0,
        "of the first weights, the order and the augmentation",
        within=Range(at_least=0, below=2**64),
        experiment=True,
    )
    sizes: str | None = flag(
        None,
        "sizes in pixels that the batches have in turn, such as 16,24,32, and that are all validated; for networks "
        "that take any size",
        metavar="LIST",
    )
    enlarge: bool = flag(False, "with --sizes: bring the images back to one size, for networks that take no other")
    overfit: int | None = flag(
        None,
        "check: learn the first so many images by heart, unaugmented",
        metavar="N",
        within=Range(at_least=1),
        experiment=True,
    )
