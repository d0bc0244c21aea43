"""The parts of several workers, side by side, are the batch of one process: every image, pixel, answer and weight."""

import numpy as np
import pytest

from tfpipeline.batches.augmentation import parse_augmentation
from tfpipeline.batches.dataset import TrainingBatches
from tfpipeline.batches.mixing import parse_mixing
from tfpipeline.images.views import parse_view

COUNT, BATCH = 40, 12
VIEWS = tuple(map(parse_view, ("identity", "crop:1:0:5")))
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 7, 3), np.uint8)
ANSWERS = np.random.default_rng(1).random((COUNT * len(VIEWS), 5), np.float32)


def first_of(count, first_step, mix, part=(0, 1)):
    change = parse_augmentation("replay,flip,translate:2,crop:70,rotate:20,cutout:3,color:30", COUNT)
    batches = TrainingBatches(IMAGES, {"answer": ANSWERS}, BATCH, 3, change, parse_mixing(mix), VIEWS, part)
    return list(batches.from_step(first_step).take(count).as_numpy_iterator())


@pytest.mark.parametrize("mix", ["none", "mixup:0.4", "cutmix:1"])
@pytest.mark.parametrize("workers", [2, 3])
def test_parts_of_workers_are_the_batch_of_one_process_from_any_step_on(mix, workers):
    whole = first_of(7, 0, mix)
    for first_step in (0, 2, 5):  # Three steps make an epoch.
        parts = [first_of(2, first_step, mix, (worker, workers)) for worker in range(workers)]
        for step, of_workers in enumerate(zip(*parts, strict=True), first_step):
            assert {len(part["index"]) for part in of_workers} == {BATCH // workers}
            for name, values in whole[step].items():
                assert np.array_equal(np.concatenate([part[name] for part in of_workers]), values), (step, name)


def test_a_worker_has_the_shape_of_its_part():
    spec = TrainingBatches(IMAGES, {}, BATCH, 0, part=(1, 3)).from_step(0).element_spec
    assert spec["images"].shape == (4, 8, 7, 3) and spec["index"].shape == (4,)
