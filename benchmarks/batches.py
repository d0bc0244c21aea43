"""Training batches from a memory-mapped store against a plain TFDS pipeline, both shuffled, flipped and translated.

    python -m benchmarks.batches

10,000 images of 64x64 pixels in batches of 256. The TFDS pipeline is what its guides show: records with PNG pictures,
decoded in parallel, shuffled in a buffer, padded by reflection, cropped and flipped by tf.image, batched, prefetched.
Both take turns within one run, so that a busy moment of the machine meets both; images per second are medians. With
every batch the store looks twice at whether its file was changed; what such a look takes is measured by itself.

The other changes and mixtures take turns, too, each alone.

What to expect on 2 cores: at least 25,000 images/s from the store, several times the TFDS pipeline; a look takes a few
microseconds, where a batch takes milliseconds.

The last line is one JSON object: images_per_second, tfds_images_per_second, of each change and mixture the images per
second, and look_microseconds.
"""

import json
import pathlib
import tempfile
import timeit

import numpy as np
import tensorflow as tf

from benchmarks.timing import medians
from tfpipeline.batches.augmentation import parse_augmentation
from tfpipeline.batches.dataset import TrainingBatches
from tfpipeline.batches.mixing import parse_mixing
from tfpipeline.images import shapes
from tfpipeline.images.mapped import MappedImages
from tfpipeline.system import sha256_of_file

IMAGES, DISTINCT, BATCH, PIXELS = 10_000, 500, 256, 4
BATCHES_PER_TURN, BATCHES_OF_A_CHANGE, REPEATS, LOOKS = 30, 10, 9, 1000
CHANGES = ("none", "flip", "alternate", "translate:4", "crop:75", "rotate:15", "cutout:16", "color:30")
MIXTURES = ("mixup:0.2", "cutmix:1")


def drawn_images() -> np.ndarray:
    """uint8 (IMAGES, 64, 64, 3): pictures of shapes, again and again; PNG compresses each on its own."""
    drawn = np.stack([shapes.draw(0, "train", index)[0] for index in range(DISTINCT)])
    return np.tile(drawn, (IMAGES // DISTINCT, 1, 1, 1))


def store(images, path: pathlib.Path) -> MappedImages:
    """The images as a store has them."""
    np.save(path, images)
    return MappedImages(path, sha256_of_file(path))


def dataset_builder(images, truth, directory: pathlib.Path):
    """A prepared TFDS builder that holds the images as PNG."""
    import tensorflow_datasets as tfds

    examples = ((i, {"image": images[i], "label": int(truth[i])}) for i in range(len(images)))
    return tfds.dataset_builders.store_as_tfds_dataset(
        name="drawn",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=images.shape[1:]), "label": tfds.features.ClassLabel(num_classes=12)}
        ),
        split_datasets={"train": examples},
        data_dir=directory,
    )


def tfds_batches(builder) -> tf.data.Dataset:
    """The plain pipeline."""

    def augmented(example):
        image = tf.pad(example["image"], [[PIXELS, PIXELS], [PIXELS, PIXELS], [0, 0]], "REFLECT")
        image = tf.image.random_crop(image, tf.shape(example["image"]))
        return {"images": tf.image.random_flip_left_right(image), "truth": example["label"]}

    examples = builder.as_dataset("train", shuffle_files=True).repeat().shuffle(IMAGES)
    return examples.map(augmented, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def reader(dataset, count=BATCHES_PER_TURN):
    """A function without arguments that takes so many batches; the iterator lives on between turns."""
    iterator = iter(dataset)

    def read():
        for _ in range(count):
            next(iterator)

    return read


def main() -> None:
    """Measures and prints."""

    def batches(changes="none", mixture="none"):
        change, mix = parse_augmentation(changes, IMAGES), parse_mixing(mixture)
        return TrainingBatches(stored, {"truth": truth}, BATCH, 0, change, mix).from_step(0)

    images = drawn_images()
    truth = np.zeros(IMAGES, np.int32)
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        stored = store(images, directory / "images.npy")
        readers = {
            "images_per_second": reader(batches(f"flip,translate:{PIXELS}")),
            "tfds_images_per_second": reader(tfds_batches(dataset_builder(images, truth, directory / "tfds"))),
        }
        seconds = medians(readers, REPEATS)
        figures = {name: round(BATCHES_PER_TURN * BATCH / value) for name, value in seconds.items()}
        alone = {changes: batches(changes) for changes in CHANGES}
        alone |= {mixture: batches(mixture=mixture) for mixture in MIXTURES}
        readers = {name: reader(dataset, BATCHES_OF_A_CHANGE) for name, dataset in alone.items()}
        seconds = medians(readers, REPEATS)
        figures |= {name: round(BATCHES_OF_A_CHANGE * BATCH / value) for name, value in seconds.items()}
        readers.clear()  # No thread prepares a batch while the interpreter ends.
        look = min(timeit.repeat(stored.check, number=LOOKS, repeat=REPEATS)) / LOOKS
    print(json.dumps({**figures, "look_microseconds": round(1e6 * look, 2)}))


if __name__ == "__main__":
    main()
