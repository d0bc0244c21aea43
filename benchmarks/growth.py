"""python -m benchmarks.growth: how time and memory grow from 2,000 images to 20,000 and 200,000.

Each time images of noise, 16x16, are opened, labeled by the bundled teacher and learned from for one epoch by a
patchify network, by the commands themselves, start included. The last line is one JSON object: per number of images the
seconds and the peak of memory, in MB (RssAnon: without the pages of the memory-mapped images), of labeling and of
training; the cost of one more image between the two largest numbers, in microseconds; and by how much memory grows
between them.
"""

import json
import pathlib
import tempfile

import numpy as np

from benchmarks.timing import watch

COUNTS, SIZE, CLASSES = (2_000, 20_000, 200_000), 16, 12


def write_images(folder, count):
    """An .npz file as ImageNet64 is published, of noise."""
    folder.mkdir()
    random = np.random.default_rng(0)
    data = random.integers(0, 256, (count, 3 * SIZE * SIZE), np.uint8)
    np.savez(folder / "train_data_batch_1.npz", data=data, labels=random.integers(1, CLASSES + 1, count))


def measure(place, count):
    """What labeling and training of so many images take: {"label": Watched, "train": Watched}."""
    folder = place / f"images-{count}"
    write_images(folder, count)
    images = ["--images", f"npz:{folder}", "--cache", place / "cache", "--quiet"]
    labels, run = place / f"labels-{count}", place / f"run-{count}"
    label = ["--teacher", "bundled", "--no-gate", "--runtime", "tensorflow", "--batch-size", 250, "--out", labels]
    network = ["--network", "patchify_net", "--network-options", "filters=10", "--network-options", "hidden=50"]
    train = ["--labels", labels, "--hold-out", "none", *network, "--epochs", 1, "--run", run]
    return {"label": watch("label_imagenet64", images + label), "train": watch("train", images + train)}


def main() -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as place:
        found = {count: measure(pathlib.Path(place), count) for count in COUNTS}
    figures = {}
    for job in ("label", "train"):
        *_, fewer, most = COUNTS
        for count in COUNTS:
            seconds, megabytes = found[count][job]
            print(f"{job} {count:>7,} images: {seconds:7.1f} s, {megabytes:5.0f} MB", flush=True)
        more = most - fewer
        figures[job] = {
            "seconds": {count: round(found[count][job].seconds, 1) for count in COUNTS},
            "peak_mb": {count: round(found[count][job].megabytes) for count in COUNTS},
            "microseconds_an_image": round(1e6 * (found[most][job].seconds - found[fewer][job].seconds) / more, 1),
            "memory_growth_mb": round(found[most][job].megabytes - found[fewer][job].megabytes),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
