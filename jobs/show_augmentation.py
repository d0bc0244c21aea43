"""python -m jobs.show_augmentation: a contact sheet of images as training sees them, epoch by epoch."""

import dataclasses
import pathlib

import numpy as np

from jobs import command
from jobs.command import flag, required
from jobs.image_flags import ImageFlags, open_images
from tfpipeline.system import FlagError

EXAMPLE = "python -m jobs.show_augmentation --images shapes --augment flip,translate:4,color:20 --out augmentation.png"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageFlags):
    """Draws images and, beside each, what jobs.train makes of it in its first epochs with the same --seed."""

    out: str = required("the picture to write, a .png", metavar="FILE")
    augment: str = flag("flip,translate:4", "as of jobs.train", metavar="LIST")
    labels: str | None = flag(None, "label store whose views --augment replay shows", metavar="DIR")
    seed: int = flag(0, "as of jobs.train")
    count: int = flag(8, "images to show, the first ones", metavar="N")
    epochs: int = flag(7, "epochs to show", metavar="N")


def run(config: Config) -> dict:
    """Writes the contact sheet."""
    for name in ("count", "epochs"):
        if getattr(config, name) < 1:
            raise FlagError(f"--{name} is {getattr(config, name)}; it must be at least 1")
    from tfpipeline import pictures
    from tfpipeline.batches import parse_augmentation
    from tfpipeline.system import Console

    stored = stored_views(config)
    parse_augmentation(config.augment, 1, stored)  # A wrong flag is told before any image is read.
    store = open_images(config, Console(config.quiet))
    change = parse_augmentation(config.augment, len(store), stored)
    shown = views(store.images[: config.count], change, config.seed, config.epochs, len(store))
    captions = ["as it is", *(f"epoch {epoch + 1}" for epoch in range(config.epochs))] * len(shown)
    sheet = pictures.contact_sheet(
        shown.reshape(-1, *shown.shape[2:]), captions, columns=1 + config.epochs, title=config.augment
    )
    pictures.save(sheet, pathlib.Path(config.out))
    return {"images": len(shown), "epochs": config.epochs, "augment": config.augment, "out": config.out}


def stored_views(config) -> tuple[str, ...]:
    """The views that the labels hold, () without labels."""
    if config.labels is None:
        return ()
    from labeling.labels import open_labels

    return open_labels(config.labels).spec.views


def views(images, change, seed: int, epochs: int, count: int) -> np.ndarray:
    """The first images of a training set as they are and in each epoch, uint8 (n, 1 + epochs, H, W, 3).

    Args:
        images: uint8 (n, H, W, 3).
        change: (images, seed, counters) -> images.
        seed: the run's seed.
        epochs: how many.
        count: number of images in the training set.
    """
    index = np.arange(len(images))
    return np.stack([images, *(change(images, seed, epoch * count + index) for epoch in range(epochs))], axis=1)


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
