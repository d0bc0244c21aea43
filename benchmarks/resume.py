"""python -m benchmarks.resume: how long the first batch takes after a resume, at the first step and at the last.

1,281,167 images, as many as ImageNet has, of one pixel each, so that the order alone is measured: nothing is skipped
and nothing restored, and each time another seed leaves no order in memory.
"""

import itertools
import json

import numpy as np

from benchmarks.timing import medians
from tfpipeline.batches import order
from tfpipeline.batches.dataset import TrainingBatches

IMAGES, BATCH, EPOCHS, REPEATS = 1_281_167, 256, 90, 7


def first_batch(images, truth, step):
    """A function without arguments that takes the first batch of a training that goes on at `step`."""
    seeds = itertools.count()

    def take():
        dataset = TrainingBatches(images, {"truth": truth}, BATCH, next(seeds)).from_step(step)
        next(iter(dataset))

    return take


def main() -> None:
    """Measures and prints."""
    images, truth = np.zeros((IMAGES, 1, 1, 3), np.uint8), np.zeros(IMAGES, np.int32)
    last = EPOCHS * order.steps_per_epoch(BATCH, IMAGES) - 1
    seconds = medians({step: first_batch(images, truth, step) for step in (1, last)}, REPEATS)
    figures = {
        "images": IMAGES,
        "last_step": last,
        "seconds_at_step_1": seconds[1],
        "seconds_at_last_step": seconds[last],
        "difference_seconds": seconds[last] - seconds[1],
    }
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
