"""Images, their truth and their labels on the disk, with a single value changed where a test asks for it."""

import csv
import dataclasses

import numpy as np

from labeling.labels.span import Span
from labeling.labels.spec import LabelSpec
from labeling.labels.store import create_labels
from tests.support.images import store_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder
from tfpipeline.batches import Answers

COUNT, HELD_OUT, TOP = 16, 8, 2


@dataclasses.dataclass(frozen=True)
class World:
    """What a training reads. Each field is a change to it; without one it is always the same."""

    pixel: int = 0
    truth: int = 0
    answer: int = 0
    names: tuple[str, ...] = ("a", "b", "c")
    views: tuple[str, ...] = ("identity", "flip")
    held_out_pixel: int = 0
    held_out_truth: int = 0
    held_out_answer: int = 0

    def build(self, directory) -> dict[str, str]:
        """Writes it, and returns the flags that name it."""
        store, flags = write_images(directory / "train", COUNT, self.pixel, self.truth)
        held_out, held_out_flags = write_images(
            directory / "valid", HELD_OUT, self.held_out_pixel, self.held_out_truth, COUNT
        )
        return {
            **flags,
            "labels": write_labels(directory / "labels", store, self.names, self.views, self.answer),
            **{f"validation-{name}": value for name, value in held_out_flags.items()},
            "validation-labels": write_labels(
                directory / "labels-valid", held_out, self.names, ("identity",), self.held_out_answer
            ),
        }


def write_images(directory, count, pixel, truth, first=0):
    """(ImageStore of `count` images with their truth, the flags that name them); 1 for a change to the fourth image."""
    pixels = [pixels_of(first + number, 8, 8) for number in range(count)]
    pixels[3][2, 5, 1] ^= pixel
    write_folder(directory, {f"{number:02d}.png": encoded(image) for number, image in enumerate(pixels)})
    table = directory.with_suffix(".csv")
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "wnid", "class_index"))
        classes = [(number + (truth if number == 3 else 0)) % 3 for number in range(count)]
        writer.writerows((f"{number:02d}.png", "abc"[index], index) for number, index in enumerate(classes))
    store = store_of(f"folder:{directory}", truth=str(table), cache=directory.parent / "cache")
    return store, {"images": f"folder:{directory}", "truth": str(table)}


def write_labels(directory, store, names, views, answer):
    """A label store of the images; 1 for another answer to the fourth one."""
    spec = LabelSpec(
        dataset=store.fingerprint,
        images_sha256=store.description["files"]["images.npy"],
        names_sha256=store.description["files"]["names.txt"],
        count=len(store),
        shard_size=len(store),
        teachers=({"name": "t", "fingerprint": "f" * 64, "interpolation": "bilinear", "weight": 1.0},),
        classes=3,
        class_names=names,
        top_k=TOP,
        views=views,
    )
    top = np.arange(len(store) * len(views)).reshape(len(store), len(views)) % 3
    probs = np.tile([0.5, 0.25], (*top.shape, 1))
    probs[3, 0, 0] += answer / 8
    labels = Answers(
        np.stack([top, (top + 1) % 3], -1).astype(np.uint16),
        np.log(probs).astype(np.float16),
        np.log(1 - probs.sum(-1)).astype(np.float16),
    )
    create_labels(directory, spec).write_shard(Span(0, len(store)), labels)
    return str(directory)
