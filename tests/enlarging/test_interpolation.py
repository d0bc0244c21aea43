"""Enlarging is tf.image.resize, clipped, and the same inside a graph."""

import numpy as np
import pytest
import tensorflow as tf

from labeling.enlarging import interpolation


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("method", interpolation.METHODS)
@pytest.mark.parametrize(("height", "width", "size"), [(8, 11, 28), (20, 17, 8), (6, 30, 16)])
def test_equals_tensorflow(method, height, width, size):
    pixels = noise(height, width)
    # TensorFlow's antialiasing widens the kernel only along axes that shrink.
    expected = tf.image.resize(pixels, (size, size), method, antialias=size < max(height, width))
    enlarged = interpolation.enlarge(pixels, size, method)
    assert enlarged.dtype == tf.float32
    np.testing.assert_allclose(enlarged, np.clip(expected, 0, 255), atol=2e-3)


def test_overshooting_methods_are_clipped():
    edges = np.zeros((1, 8, 8, 3), np.uint8)
    edges[:, :, 4:] = 255
    for method in ("bicubic", "lanczos3", "lanczos5", "mitchellcubic"):
        overshooting = tf.image.resize(edges, (24, 24), method)
        assert tf.reduce_min(overshooting) < 0
        assert tf.reduce_max(overshooting) > 255
        clipped = interpolation.enlarge(edges, 24, method)
        assert tf.reduce_min(clipped) == 0
        assert tf.reduce_max(clipped) == 255


def test_same_size_changes_nothing():
    pixels = noise(9, 9)
    np.testing.assert_array_equal(interpolation.enlarge(pixels, 9, "lanczos5"), pixels)


def test_a_graph_makes_the_same_pixels():
    pixels = noise(8, 11)

    @tf.function
    def in_graph(x):
        return interpolation.enlarge(x, 28, "lanczos3")

    np.testing.assert_allclose(in_graph(pixels), interpolation.enlarge(pixels, 28, "lanczos3"), atol=1e-4)


def test_rows_of_the_matrix_sum_to_one():
    for method in interpolation.METHODS:
        np.testing.assert_allclose(interpolation.resampling_matrix(64, 224, method).sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("method", interpolation.METHODS)
def test_images_of_64_pixels_become_those_of_tensorflow(method):
    pixels = noise(64, 64)
    expected = np.clip(tf.image.resize(pixels, (224, 224), method), 0, 255)
    np.testing.assert_allclose(interpolation.enlarge(pixels, 224, method), expected, atol=1e-3)


def test_nearest_neighbors_are_exact():
    pixels = noise(64, 64)
    np.testing.assert_array_equal(
        interpolation.enlarge(pixels, 224, "nearest"), tf.image.resize(pixels, (224, 224), "nearest")
    )
