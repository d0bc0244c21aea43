"""Sums of many terms of one sign in bfloat16 and float16, as a kernel's gradient over all pixels is one.

Added up in bfloat16 such a sum stops growing at 256 times its terms, and rounding to the nearest does not show it on
terms of both signs. TensorFlow's own code adds so, oneDNN does not: the tests run with either.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from models.gradients.convolution import METHODS, convolution
from models.gradients.convolution_by import primitives
from models.gradients.global_pooling import global_mean_pooling
from models.gradients.linear import add_bias, linear
from models.gradients.max_pooling import max_pooling
from models.gradients.mean_pooling import mean_pooling
from models.gradients.normalized_convolution import NormalizedConvolution, NormalizedProjection, Weights
from models.gradients.patchify import patchify

ROOT = pathlib.Path(__file__).parents[2]
ROUNDINGS = {tf.bfloat16: 2**-8, tf.float16: 2**-11}


# name: (function, the shapes of its arguments, by how many roundings of its type a result may be off)
CASES = {
    **{
        f"convolution over many pixels, {method}": (
            lambda x, k, method=method: convolution(x, k, method=method),
            [(2, 64, 48, 4), (3, 3, 4, 5)],
            6,
        )
        for method in ("auto", *METHODS)
    },
    **{
        f"convolution of many filters, {method}": (
            lambda x, k, method=method: convolution(x, k, method=method),
            [(2, 5, 4, 3), (3, 3, 3, 1024)],
            6,
        )
        for method in ("auto", *METHODS)
    },
    **{
        f"convolution with a large kernel, {method}": (
            lambda x, k, method=method: convolution(x, k, method=method),
            [(1, 24, 20, 2), (19, 17, 2, 3)],
            6,
        )
        for method in ("auto", *METHODS)
    },
    "convolution with strides and padding": (
        lambda x, k: convolution(x, k, (2, 1), ((1, 0), (2, 2))),
        [(2, 96, 40, 4), (3, 5, 4, 5)],
        6,
    ),
    "convolution of single pixels": (convolution, [(4, 64, 48, 4), (1, 1, 4, 5)], 6),
    "patches of large images": (patchify, [(4, 64, 48, 3), (2, 2, 3, 8)], 6),
    "patches of small images": (patchify, [(64, 16, 16, 3), (4, 4, 3, 8)], 6),
    "linear over many rows": (linear, [(8192, 24), (24, 8)], 6),
    "linear over a long row": (linear, [(8, 8192), (8192, 6)], 6),
    "bias": (add_bias, [(8192, 5), (5,)], 6),
    "mean of large windows": (lambda x: mean_pooling(x, (64, 48)), [(2, 64, 96, 3)], 2),
    "mean of windows that overlap": (lambda x: mean_pooling(x, 19, 1, "same"), [(2, 40, 24, 3)], 2),
    "largest of windows that overlap": (lambda x: max_pooling(x, 3, 1, "same"), [(2, 40, 24, 3)], 6),
    "mean of an image": (global_mean_pooling, [(2, 96, 64, 3)], 2),
}


def results(function, arrays, cotangent, dtype):
    """[y, the gradients of <cotangent, y> by the arrays], float64."""
    tensors = [tf.cast(array, dtype) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    cotangent = tf.cast(cotangent(value.shape), dtype)
    gradients = tape.gradient(value, tensors, output_gradients=cotangent)
    return [np.asarray(tf.cast(tensor, tf.float64)) for tensor in (value, *gradients)]


def rounded(shape, dtype, seed):
    """Numbers of 0.5..1.5 that the type has, float64."""
    return np.asarray(tf.cast(tf.cast(np.random.default_rng(seed).uniform(0.5, 1.5, shape), dtype), tf.float64))


@pytest.mark.parametrize("dtype", ROUNDINGS, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("name", CASES)
def test_each_sum_is_as_large_as_in_float64(name, dtype):
    function, shapes, roundings = CASES[name]
    arrays = [rounded(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    if dtype == tf.float16:
        # So that the largest sums stay below 65,504.
        arrays = [array / 16 for array in arrays]

    def cotangent(shape):
        return rounded(shape, dtype, 9)

    exact = results(function, arrays, cotangent, tf.float64)
    for ours, expected in zip(results(function, arrays, cotangent, dtype), exact, strict=True):
        # Relative to the largest: the sums are of one size.
        error = np.abs(ours - expected).max() / np.abs(expected).max()
        assert error < roundings * ROUNDINGS[dtype]


@pytest.mark.parametrize("dtype", ROUNDINGS, ids=lambda dtype: dtype.name)
def test_a_normalized_convolution_adds_its_kernels_gradient_so(dtype):
    """Two patterns of 1 and -1, each with the mean 0 and orthogonal to the other.

    The kernel lets the first channel through, and g is the pattern of the second. So dL/dz = gamma r g, and each of the
    n terms of dL/dK of the second channel is gamma r.
    """
    first, second = np.meshgrid(*(np.where(np.arange(length) % 2, 1.0, -1.0) for length in (64, 48)), indexing="ij")
    images = tf.constant(np.stack([first, second], -1)[np.newaxis], dtype)
    weights = Weights(tf.constant([[[[1.0], [0.0]]]], dtype), tf.constant([2.0]), tf.constant([0.5]))
    g = images[..., 1:]
    expected = 64 * 48 * 2 / np.sqrt(1 + 1e-3)
    convolved = NormalizedConvolution(weights, (1, 1), 1e-3)
    z = convolved.convolve(images)
    convolved.normalize(z)
    projected = NormalizedProjection(weights, (1, 1), 1e-3)
    projected.forward(images)
    for _, (kernel_gradient, *_) in (convolved.gradient(g, images, z), projected.gradient_of(g, images)):
        np.testing.assert_allclose(float(kernel_gradient[0, 0, 1, 0]), expected, rtol=2 * ROUNDINGS[dtype])
        np.testing.assert_allclose(float(kernel_gradient[0, 0, 0, 0]), 0, atol=expected * ROUNDINGS[dtype])


def test_other_types_are_never_widened():
    assert primitives.gradients_add_in_float32(tf.float32) and primitives.gradients_add_in_float32(tf.float64)


@pytest.mark.skipif(os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0", reason="this is the run without oneDNN")
def test_all_of_this_without_onednn():
    """As on a processor for which oneDNN has no bfloat16."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "bfloat16",
        str(pathlib.Path(__file__)),
    ]
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    child = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stdout
