"""python -m benchmarks.start_up: how long a command takes before it does what it was called for.

`jobs.train --help`; `jobs.train` until its first step is saved, on 50,000 images of 32x32 (noise, as many as CIFAR-10
has), at the first start, which stores them, and at a later one; and a store's file of 2 GB opened: verified, and again
on the same day, when it is not read for it (`tfpipeline/images/mapped.py`). The last line is one JSON object.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from jobs.processes import kill_job
from tfpipeline.images.mapped import MappedImages
from tfpipeline.system import sha256_of_file

REPEATS, IMAGES, SIZE, LARGE = 5, 50_000, 32, 160_000
SECONDS_UNTIL_OLD = 3  # A younger file is verified each time.


def seconds_of(function) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def print_help():
    """jobs.train --help"""
    subprocess.run([sys.executable, "-m", "jobs.train", "--help"], stdout=subprocess.DEVNULL, check=True)


def seconds_to_first_step(place: pathlib.Path) -> list[float]:
    """Those of the first start and of later ones."""
    (place / "images").mkdir()
    random = np.random.default_rng(0)
    data = random.integers(0, 256, (IMAGES, 3 * SIZE * SIZE), np.uint8)
    np.savez(place / "images" / "train_data_batch_1.npz", data=data, labels=random.integers(1, 11, IMAGES))
    seconds = []
    for number in range(REPEATS + 1):
        run = place / f"run-{number}"
        flags = ["--images", f"npz:{place / 'images'}", "--cache", place / "cache", "--labels", "truth", "--quiet"]
        flags += ["--hold-out", "none", "--save-every", 1, "--run", run]
        seconds.append(seconds_of(lambda: kill_job("train", [*map(str, flags)], run / "checkpoints", 1)))  # noqa: B023
    return seconds


def seconds_to_open(place: pathlib.Path) -> tuple[float, float, float]:
    """(verified, again, gigabytes)"""
    path = place / "images.npy"
    pixels = np.random.default_rng(0).integers(0, 256, (LARGE // 16, 64, 64, 3), np.uint8)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (LARGE, 64, 64, 3))
    for first in range(0, LARGE, len(pixels)):
        images[first : first + len(pixels)] = pixels
    del images
    sha256 = sha256_of_file(path)
    time.sleep(SECONDS_UNTIL_OLD)
    verified, again = (seconds_of(lambda: MappedImages(path, sha256)) for _ in range(2))
    return verified, again, path.stat().st_size / 1e9


def main() -> None:
    """Measures and prints."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as place:
        first, *later = seconds_to_first_step(pathlib.Path(place))
        verified, again, gigabytes = seconds_to_open(pathlib.Path(place))
    figures = {
        "help_seconds": statistics.median(seconds_of(print_help) for _ in range(REPEATS)),
        "first_step_seconds_at_the_first_start": first,
        "first_step_seconds": statistics.median(later),
        "gigabytes": gigabytes,
        "seconds_to_verify_them": verified,
        "seconds_to_open_them_again": again,
    }
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
