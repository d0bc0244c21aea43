"""The built-in pictures: reproducible, varied, and not to be told apart by single pixels."""

import hashlib

import numpy as np
import pytest

from tfpipeline.images import shapes


def pictures(split, count, seed=0):
    pixels, truth = zip(*(shapes.draw(seed, split, index) for index in range(count)), strict=True)
    return np.stack(pixels), np.array(truth)


def test_a_picture_depends_on_seed_split_and_index_alone():
    late, truth = shapes.draw(7, "train", 100_000)
    for index in range(5):
        shapes.draw(7, "train", index)
    again, truth_again = shapes.draw(7, "train", 100_000)
    np.testing.assert_array_equal(late, again)
    assert truth == truth_again == 100_000 % len(shapes.NAMES)


def test_no_picture_comes_twice_over_seeds_splits_and_indices():
    drawn = [shapes.draw(seed, split, i)[0] for seed in (0, 1) for split in shapes.DEFAULT_COUNTS for i in range(60)]
    assert len({hashlib.sha256(pixels).digest() for pixels in drawn}) == len(drawn)


def test_pixels_are_rgb_bytes_and_classes_take_turns():
    pixels, truth = pictures("valid", 36)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (36, 64, 64, 3)
    np.testing.assert_array_equal(np.bincount(truth), [3] * 12)


@pytest.mark.parametrize("name", shapes.NAMES)
def test_a_shape_fills_its_place_without_leaving_the_picture(name):
    for index in range(shapes.NAMES.index(name), 120, 12):
        rng = np.random.default_rng(index)
        mask, _ = shapes._masks(rng, name)
        inked = np.asarray(mask) > 127
        assert 0.02 < inked.mean() < 0.6
        border = np.concatenate([inked[0], inked[-1], inked[:, 0], inked[:, -1]])
        assert not border.any()


def test_every_pair_of_classes_has_its_own_silhouette():
    masks = np.stack([np.asarray(shapes._masks(np.random.default_rng(3), name)[0]) > 127 for name in shapes.NAMES])
    for i in range(len(masks)):
        for j in range(i):
            either, both = (masks[i] | masks[j]).sum(), (masks[i] & masks[j]).sum()
            assert both / either < 0.85, (shapes.NAMES[i], shapes.NAMES[j])


@pytest.mark.slow
def test_a_linear_classifier_on_pixels_fails():
    """Ridge regression on one-hot targets, the regularization chosen in its favor on the test pictures themselves."""
    train, train_truth = pictures("train", 2000)
    valid, valid_truth = pictures("valid", 500)
    x, z = (np.float64(p[:, ::2, ::2].reshape(len(p), -1)) / 255 - 0.5 for p in (train, valid))
    y = np.eye(len(shapes.NAMES))[train_truth]
    values, vectors = np.linalg.eigh(x @ x.T)
    accuracy = []
    for ridge in (1, 10, 100, 1000, 10_000):
        dual = vectors @ ((vectors.T @ y) / (values + ridge)[:, None])
        accuracy.append(np.mean(np.argmax(z @ (x.T @ dual), axis=1) == valid_truth))
    assert max(accuracy) < 0.40, accuracy
