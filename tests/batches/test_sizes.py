"""Batches of several sizes in turn: each of one size, all of them a pure function of their step."""

import numpy as np
import pytest

from tfpipeline.batches.augmentation import parse_augmentation
from tfpipeline.batches.dataset import TrainingBatches
from tfpipeline.batches.sizes import Sizes, parse_sizes
from tfpipeline.system import FlagError

IMAGES = np.random.default_rng(0).integers(0, 256, (14, 12, 12, 3), np.uint8)
TRUTH = np.arange(14, dtype=np.int32)


def batches(sizes):
    return TrainingBatches(IMAGES, {"truth": TRUTH}, 4, 3, parse_augmentation("flip,translate:1", 14), sizes=sizes)


def test_the_sizes_take_turns_and_nothing_else_changes():
    plain, sized = batches(None), batches(Sizes((5, 8, 12)))
    for step in range(7):
        ours, theirs = sized.at(step), plain.at(step)
        length = (5, 8, 12)[step % 3]
        assert ours["images"].shape == (4, length, length, 3) and ours["images"].dtype == np.uint8
        np.testing.assert_array_equal(ours["truth"], theirs["truth"])
        if length == 12:
            np.testing.assert_array_equal(ours["images"], theirs["images"])


@pytest.mark.parametrize("first", [0, 2, 5])
@pytest.mark.parametrize("enlarge", [False, True])
def test_the_dataset_gives_the_same_from_any_step(first, enlarge):
    sized = batches(Sizes((5, 8), enlarge))
    for step, batch in zip(range(first, first + 3), sized.from_step(first), strict=False):
        np.testing.assert_array_equal(batch["images"], sized.at(step)["images"])
        assert batch["images"].shape[1] == (12 if enlarge else (5, 8)[step % 2])


def test_a_constant_image_stays_itself_and_half_a_checkerboard_is_gray():
    checks = np.indices((8, 8)).sum(0) % 2 * 200
    images = np.stack([np.full((8, 8, 3), 77), np.repeat(checks[..., None], 3, -1)]).astype(np.uint8)
    shown = Sizes((4,)).show(images, 4)
    assert (shown[0] == 77).all()
    assert np.abs(shown[1, 1:-1, 1:-1].astype(int) - 100).max() <= 13  # Away from the edge the filter sees both alike.
    assert Sizes((4,), enlarge=True).show(images, 4).shape == images.shape


def test_all_images_at_a_size_are_the_batches_of_that_size():
    sizes = Sizes((5,))
    np.testing.assert_array_equal(sizes.show_all(IMAGES, 5)[3:6], sizes.show(IMAGES[3:6], 5))


@pytest.mark.parametrize("text", ["16,", "a", "0,4", "16 24", "-3", ""])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(FlagError, match=r"--sizes .*: write whole numbers of pixels above 0"):
        parse_sizes(text, False)
