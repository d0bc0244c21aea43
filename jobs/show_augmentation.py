"""python -m jobs.show_augmentation: a contact sheet of images as training sees them, epoch by epoch."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from jobs import command
from tfpipeline.images import ImageFlags, open_images
from tfpipeline.system import Console
from tfpipeline.system.flags import Flags, Range, flag, required

if TYPE_CHECKING:
    from tfpipeline.batches import TrainingBatches

EXAMPLE = "python -m jobs.show_augmentation --images shapes --augment flip,translate:4,color:20 --out augmentation.png"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SheetFlags(Flags):
    """What the contact sheet shows."""

    out: str = required("the picture to write, a .png", metavar="FILE")
    augment: str = flag("flip,translate:4", "as of jobs.train", metavar="LIST")
    labels: str | None = flag(None, "label store whose views --augment replay shows", metavar="DIR")
    seed: int = flag(0, "as of jobs.train")
    count: int = flag(8, "images to show, the first ones", metavar="N", within=Range(at_least=1))
    epochs: int = flag(7, "epochs to show", metavar="N", within=Range(at_least=1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Draws images and, beside each, what jobs.train makes of it in its first epochs with the same --seed."""

    images: ImageFlags
    sheet: SheetFlags
    quiet: bool = flag(False, "no progress")


def run(config: Config) -> dict:
    """Writes the contact sheet."""
    command.import_tensorflow()
    from labeling.labels import open_labels
    from tfpipeline import pictures
    from tfpipeline.batches import TrainingBatches, parse_augmentation, replays, views_to_replay

    sheet = config.sheet
    names = () if sheet.labels is None else open_labels(pathlib.Path(sheet.labels)).spec.views
    views = views_to_replay(names) if replays(sheet.augment) else ()
    parse_augmentation(sheet.augment, 1)  # A wrong flag is told before any image is read.
    store = open_images(config.images, Console(config.quiet))
    augment = parse_augmentation(sheet.augment, len(store))
    shown = show_epochs(
        TrainingBatches(store.images, {}, 1, sheet.seed, augment, views=views), sheet.count, sheet.epochs
    )
    captions = ["as it is", *(f"epoch {epoch + 1}" for epoch in range(sheet.epochs))] * len(shown)
    figure = pictures.contact_sheet(
        shown.reshape(-1, *shown.shape[2:]), captions, columns=1 + sheet.epochs, title=sheet.augment
    )
    pictures.save(figure, pathlib.Path(sheet.out))
    return {"images": len(shown), "epochs": sheet.epochs, "augment": sheet.augment, "out": sheet.out}


def show_epochs(batches: "TrainingBatches", count: int, epochs: int) -> np.ndarray:
    """The first images of a training set as they are and in each epoch, uint8 (n, 1 + epochs, H, W, 3).

    Args:
        batches: of the training set.
        count: how many images.
        epochs: how many epochs.
    """
    index = np.arange(min(count, len(batches.images)))
    return np.stack([batches.images[index], *(batches.samples(index, epoch)[0] for epoch in range(epochs))], axis=1)


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
