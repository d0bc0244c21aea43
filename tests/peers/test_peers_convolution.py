"""The operations with windows against PyTorch's, in float64."""

import numpy as np
import pytest
import tensorflow as tf

from models.gradients.convolution import METHODS, convolution
from models.gradients.convolution_by.unfold import fold, unfold
from models.gradients.global_pooling import global_max_pooling, global_mean_pooling
from models.gradients.linear import add_bias, linear
from models.gradients.max_pooling import max_pooling
from models.gradients.mean_pooling import mean_pooling
from models.gradients.patchify import patchify
from tests.support import oracles

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

GEOMETRIES = [  # H, W, P, Q, (S, T), (vertical, horizontal) padding
    (7, 5, 3, 2, (1, 1), (1, 0)),
    (6, 9, 2, 4, (3, 2), (0, 2)),
    (1, 8, 1, 3, (2, 4), (0, 1)),
    (5, 4, 5, 4, (1, 1), (0, 0)),
]


def random_arrays(*shapes):
    random = np.random.default_rng(0)
    return [random.standard_normal(shape) for shape in shapes]


def assert_same(ours, theirs, *arrays):
    """Value and gradients by all arrays of our function are those of PyTorch's.

    Args:
        ours: TensorFlow tensors -> y.
        theirs: PyTorch tensors of the same arrays -> y, with the axes in our order.
        *arrays: the arguments, float64.
    """
    tensors = [tf.constant(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = ours(*tensors)
    (cotangent,) = random_arrays(value.shape)
    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = theirs(*leaves)
    expected.backward(torch.tensor(cotangent))
    oracles.assert_gradient(value, expected.detach().numpy(), 1e-10)
    gradients = tape.gradient(value, tensors, output_gradients=tf.constant(cotangent))
    for derived, leaf in zip(gradients, leaves, strict=True):
        oracles.assert_gradient(derived, leaf.grad.numpy(), 1e-10)


@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_convolution(geometry, method):
    height, width, rows, columns, strides, padding = geometry
    images, kernel = random_arrays((2, height, width, 3), (rows, columns, 3, 4))

    def theirs(x, k):
        x, k = x.permute(0, 3, 1, 2), k.permute(3, 2, 0, 1)
        return torch.nn.functional.conv2d(x, k, stride=strides, padding=padding).permute(0, 2, 3, 1)

    pads = tuple((zeros, zeros) for zeros in padding)
    assert_same(lambda x, k: convolution(x, k, strides, pads, method), theirs, images, kernel)


@pytest.mark.parametrize("size, height, width", [(2, 6, 4), (4, 8, 12), (2, 36, 34), (16, 16, 32)])
def test_patchify(size, height, width):
    images, kernel = random_arrays((2, height, width, 3), (size, size, 3, 5))

    def theirs(x, k):
        y = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), k.permute(3, 2, 0, 1), stride=size)
        return y.permute(0, 2, 3, 1)

    assert_same(patchify, theirs, images, kernel)


@pytest.mark.parametrize("ours, theirs", [(max_pooling, "max_pool2d"), (mean_pooling, "avg_pool2d")])
@pytest.mark.parametrize("ties", [False, True])
def test_pooling(ours, theirs, ties):
    (images,) = random_arrays((2, 7, 6, 3))
    images = np.round(images) if ties else images
    options = {"count_include_pad": False} if theirs == "avg_pool2d" else {}
    function = getattr(torch.nn.functional, theirs)
    for window, strides, padding in [((2, 3), (2, 3), (0, 0)), ((3, 2), (2, 1), (1, 1)), ((2, 2), (3, 3), (1, 0))]:
        pads = tuple((zeros, zeros) for zeros in padding)
        assert_same(
            lambda x, w=window, s=strides, p=pads: ours(x, w, s, p),
            lambda x, w=window, s=strides, p=padding: function(
                x.permute(0, 3, 1, 2), w, stride=s, padding=p, **options
            ).permute(0, 2, 3, 1),
            images,
        )


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_unfold_and_fold(geometry):
    height, width, rows, columns, strides, padding = geometry
    (images,) = random_arrays((2, height, width, 3))
    pads = tuple((zeros, zeros) for zeros in padding)
    options = {"kernel_size": (rows, columns), "stride": strides, "padding": padding}
    shape = unfold(tf.constant(images), (rows, columns), strides, pads).shape

    def their_unfold(x):
        y = torch.nn.functional.unfold(x.permute(0, 3, 1, 2), **options)  # (B, C P Q, H'W')
        return y.reshape(2, 3, rows * columns, -1).permute(0, 3, 2, 1).reshape(*shape)

    def their_fold(m):
        m = m.reshape(2, -1, rows * columns, 3).permute(0, 3, 2, 1).reshape(2, 3 * rows * columns, -1)
        return torch.nn.functional.fold(m, output_size=(height, width), **options).permute(0, 2, 3, 1)

    assert_same(lambda x: unfold(x, (rows, columns), strides, pads), their_unfold, images)
    (values,) = random_arrays(shape)
    assert_same(lambda m: fold(m, images.shape, (rows, columns), strides, pads), their_fold, values)


def test_linear_bias_and_global_pools():
    inputs, kernel, bias, images = random_arrays((3, 2, 5), (5, 4), (4,), (2, 3, 4, 5))
    assert_same(lambda x, k, b: add_bias(linear(x, k), b), lambda x, k, b: x @ k + b, inputs, kernel, bias)
    assert_same(global_mean_pooling, lambda x: x.mean((1, 2)), images)
    assert_same(global_max_pooling, lambda x: x.amax((1, 2)), images)


@pytest.mark.parametrize("special", [float("nan"), float("-inf"), float("inf")])
def test_max_pooling_of_nan_and_of_infinities(special):
    (images,) = random_arrays((2, 7, 6, 3))
    images[np.random.default_rng(1).random(images.shape) < 0.4] = special
    x = torch.tensor(images).permute(0, 3, 1, 2)
    pooled = torch.nn.functional.max_pool2d(x, (3, 2), stride=(2, 1), padding=(1, 1)).permute(0, 2, 3, 1)
    ours = max_pooling(tf.constant(images), (3, 2), (2, 1), ((1, 1), (1, 1)))
    np.testing.assert_array_equal(ours, pooled.numpy())
    np.testing.assert_array_equal(global_max_pooling(tf.constant(images)), x.amax((2, 3)).numpy())
