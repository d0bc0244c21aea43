import itertools

import numpy as np
import pytest

from tfpipeline.batches import order
from tfpipeline.batches.augmentation import parse_augmentation
from tfpipeline.batches.dataset import TrainingBatches
from tfpipeline.system.errors import UserError

COUNT, BATCH = 23, 5
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 6, 8, 3), np.uint8)
TARGETS = {
    "truth": np.arange(COUNT, dtype=np.int32),
    "log_probs": np.random.default_rng(1).normal(size=(COUNT, 4)).astype(np.float32),
}


def training(first_step, steps, **options):
    options = {"seed": 3, "augment": parse_augmentation("flip,translate:2", COUNT), **options}
    batches = TrainingBatches(IMAGES, TARGETS, BATCH, **options)
    return list(batches.from_step(first_step).take(steps).as_numpy_iterator())


def assert_equal(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert np.array_equal(one[name], other[name])


@pytest.fixture(scope="module")
def three_epochs():
    return training(0, 3 * (COUNT // BATCH))


@pytest.mark.parametrize("step", range(3 * (COUNT // BATCH)))
def test_batches_from_every_step_on_are_the_tail_of_all(three_epochs, step):
    assert_equal(training(step, len(three_epochs) - step), three_epochs[step:])


def test_batches_follow_the_order_and_join_targets_by_index():
    for step, batch in enumerate(training(0, 9, augment=None)):
        index = order.indices_at(3, step, BATCH, COUNT)
        assert np.array_equal(batch["index"], index)
        assert np.array_equal(batch["images"], IMAGES[index])
        assert np.array_equal(batch["truth"], TARGETS["truth"][index])
        assert np.array_equal(batch["log_probs"], TARGETS["log_probs"][index])


def test_augmentation_depends_on_epoch_and_image_not_on_the_batch_size():
    seen = {}
    for batch_size in (5, 7):
        dataset = TrainingBatches(IMAGES, {}, batch_size, 3, parse_augmentation("flip,translate:2", COUNT)).from_step(0)
        for batch in itertools.islice(dataset.as_numpy_iterator(), COUNT // batch_size):
            for index, image in zip(batch["index"], batch["images"], strict=True):
                assert np.array_equal(seen.setdefault(index, image), image)
    assert len(seen) > COUNT - BATCH


def test_shapes_are_static_and_types_are_those_of_the_arrays():
    spec = TrainingBatches(IMAGES, TARGETS, BATCH, 0).from_step(0).element_spec
    assert {name: (tuple(part.shape), part.dtype.name) for name, part in spec.items()} == {
        "index": ((5,), "int64"),
        "images": ((5, 6, 8, 3), "uint8"),
        "truth": ((5,), "int32"),
        "log_probs": ((5, 4), "float32"),
    }


@pytest.mark.slow
def test_the_last_step_of_a_million_images_costs_what_the_first_does(monkeypatch):
    count, calls = 1_281_167, []
    permutation = order.permutation
    monkeypatch.setattr(order, "permutation", lambda *key: calls.append(key) or permutation(*key))
    images = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (count, 1, 1, 3))
    for step in (1, 90 * (count // 256) - 1):
        calls.clear()
        order._recent_permutation.cache_clear()
        dataset = TrainingBatches(images, {}, 256, seed=0).from_step(step)
        (batch,) = dataset.take(1).as_numpy_iterator()
        assert np.array_equal(batch["index"], order.indices_at(0, step, 256, count))
        # Of all the permutations up to here only the epoch's own is made; a batch that is prepared at the same time may
        # be the next epoch's, and its permutation may come first.
        epoch = step // (count // 256)
        assert {(0, epoch, count)} <= set(calls) <= {(0, epoch, count), (0, epoch + 1, count)}


def test_too_large_a_batch_is_refused_at_once():
    with pytest.raises(UserError, match="batch size 24 does not fit 23 images"):
        TrainingBatches(IMAGES, TARGETS, 24, 0)
