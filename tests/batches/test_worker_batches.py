"""The parts of several workers, side by side, are the batch of one process: every image, pixel, answer and weight."""

import numpy as np
import pytest

from tfpipeline.batches.augmentation import parse_augmentation
from tfpipeline.batches.dataset import training_batches
from tfpipeline.batches.mixing import parse_mixing

COUNT, BATCH = 40, 12
VIEWS = ["identity", "crop:1:0:5"]
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 7, 3), np.uint8)
ANSWERS = np.random.default_rng(1).random((COUNT * len(VIEWS), 5), np.float32)


def first_of(count, first_step, mix, **part):
    change = parse_augmentation("replay,flip,translate:2,crop:70,rotate:20,cutout:3,color:30", COUNT, VIEWS)
    dataset = training_batches(
        IMAGES, {"answer": ANSWERS}, BATCH, 3, first_step, change, parse_mixing(mix), len(VIEWS), **part
    )
    return list(dataset.take(count).as_numpy_iterator())


@pytest.mark.parametrize("mix", ["none", "mixup:0.4", "cutmix:1"])
@pytest.mark.parametrize("workers", [2, 3])
def test_parts_of_workers_are_the_batch_of_one_process_from_any_step_on(mix, workers):
    whole = first_of(7, 0, mix)
    for first_step in (0, 2, 5):  # Three steps make an epoch.
        parts = [first_of(2, first_step, mix, worker=worker, workers=workers) for worker in range(workers)]
        for step, of_workers in enumerate(zip(*parts, strict=True), first_step):
            assert {len(part["index"]) for part in of_workers} == {BATCH // workers}
            for name, values in whole[step].items():
                assert np.array_equal(np.concatenate([part[name] for part in of_workers]), values), (step, name)


def test_a_worker_has_the_shape_of_its_part():
    spec = training_batches(IMAGES, {}, BATCH, 0, 0, worker=1, workers=3).element_spec
    assert spec["images"].shape == (4, 8, 7, 3) and spec["index"].shape == (4,)
