import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.gradients.convolution import METHODS, convolution
from models.gradients.convolution_by.unfold import fold, unfold
from models.gradients.windows import windows_on
from tests.support import oracles

ALL_METHODS = ("auto", *METHODS)
ODD = {  # (images, kernel, strides, padding): H != W, C != F
    "kernel wider than stride": ((2, 5, 4, 3), (3, 2, 3, 2), (1, 1), "same"),
    "stride wider than kernel": ((1, 5, 7, 2), (2, 1, 2, 3), (3, 2), "valid"),
    "even kernel": ((2, 4, 3, 2), (2, 4, 2, 1), (1, 2), "same"),
    "one pixel high": ((3, 1, 6, 2), (3, 3, 2, 4), (2, 1), "same"),
    "explicit": ((1, 3, 4, 2), (3, 2, 2, 3), (2, 3), ((2, 0), (0, 1))),
    "tiles": ((2, 4, 6, 3), (2, 2, 3, 4), (2, 2), "valid"),
    "one by one": ((2, 3, 4, 3), (1, 1, 3, 2), (1, 1), "same"),
    "one by one, strided": ((1, 5, 4, 3), (1, 1, 3, 2), (2, 3), "same"),
}


def operands(images_shape, kernel_shape, strides, padding, seed=0):
    """Random images, kernel and cotangent, float64, and the padding as pairs."""
    random = np.random.default_rng(seed)
    images, kernel = random.standard_normal(images_shape), random.standard_normal(kernel_shape)
    windows = windows_on(images_shape, kernel_shape[:2], strides, padding)
    cotangent = random.standard_normal((images_shape[0], *windows.output, kernel_shape[3]))
    return images, kernel, cotangent, windows.padding


def results(function, images, kernel, cotangent, dtype=tf.float64):
    """(y, dL/dx, dL/dK) as float64 arrays."""
    images, kernel, cotangent = (tf.cast(array, dtype) for array in (images, kernel, cotangent))
    with tf.GradientTape() as tape:
        tape.watch((images, kernel))
        result = function(images, kernel)
    gradients = tape.gradient(result, (images, kernel), output_gradients=cotangent)
    assert all(tensor.dtype == dtype for tensor in (result, *gradients))
    return [np.asarray(tf.cast(tensor, tf.float64)) for tensor in (result, *gradients)]


def loops(images, kernel, cotangent, strides, pads):
    """(y, dL/dx, dL/dK) by the nested loops."""
    gradients = oracles.convolution_gradients(images, kernel, cotangent, strides, pads)
    return oracles.convolution(images, kernel, strides, pads), *gradients


@st.composite
def geometries(draw):
    """(shape of the images, shape of the kernel, strides, padding) such that at least one window fits."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)))
    strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    end = st.integers(0, 3)
    padding = draw(st.one_of(st.sampled_from(["same", "valid"]), st.tuples(st.tuples(end, end), st.tuples(end, end))))
    given = ((0, 0), (0, 0)) if isinstance(padding, str) else padding
    least = [1 if padding == "same" else max(1, kernel[axis] - sum(given[axis])) for axis in (0, 1)]
    height, width = draw(st.integers(least[0], 6)), draw(st.integers(least[1], 5))
    return (draw(st.integers(1, 2)), height, width, kernel[2]), kernel, strides, padding


@pytest.mark.parametrize("method", ALL_METHODS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(geometries())
def test_equals_loops(method, geometry):
    *_, strides, padding = geometry
    images, kernel, cotangent, pads = operands(*geometry)
    ours = results(lambda x, k: convolution(x, k, strides, padding, method), images, kernel, cotangent)
    for derived, expected in zip(ours, loops(images, kernel, cotangent, strides, pads), strict=True):
        oracles.assert_gradient(derived, expected, 1e-10)


@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.parametrize("geometry", ODD.values(), ids=ODD)
def test_gradients_equal_finite_differences(method, geometry):
    *_, strides, padding = geometry
    images, kernel, cotangent, _ = operands(*geometry)

    @tf.function
    def convolved(x, k):
        return convolution(x, k, strides, padding, method)

    _, by_images, by_kernel = results(convolved, images, kernel, cotangent)
    expected = oracles.finite_difference_gradient(lambda x: convolved(tf.constant(x), kernel), images, cotangent)
    oracles.assert_gradient(by_images, expected, 1e-6)
    expected = oracles.finite_difference_gradient(lambda k: convolved(images, tf.constant(k)), kernel, cotangent)
    oracles.assert_gradient(by_kernel, expected, 1e-6)


@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.parametrize("dtype, tolerance", [(tf.float32, 1e-5), (tf.bfloat16, 2e-2)])
@pytest.mark.parametrize("geometry", ODD.values(), ids=ODD)
def test_lower_precisions(method, dtype, tolerance, geometry):
    *_, strides, padding = geometry
    images, kernel, cotangent, pads = operands(*geometry)
    ours = results(lambda x, k: convolution(x, k, strides, padding, method), images, kernel, cotangent, dtype)
    for derived, expected in zip(ours, loops(images, kernel, cotangent, strides, pads), strict=True):
        oracles.assert_gradient(derived, expected, tolerance)


@pytest.mark.parametrize("padding", ["same", "valid", ((1, 1), (1, 1)), ((2, 0), (0, 1))])
def test_many_channels_in_bfloat16_take_the_shifted_products(padding):
    geometry = (2, 5, 4, 192), (3, 3, 192, 200), (1, 1), padding
    images, kernel, cotangent, _ = operands(*geometry)
    _, _, by_kernel = results(lambda x, k: convolution(x, k, 1, padding), images, kernel, cotangent, tf.bfloat16)
    *_, expected = results(
        lambda x, k: convolution(x, k, 1, padding, "shifted"), images, kernel, cotangent, tf.bfloat16
    )
    *_, exact = results(lambda x, k: convolution(x, k, 1, padding, "primitives"), images, kernel, cotangent)
    np.testing.assert_array_equal(by_kernel, expected)
    oracles.assert_gradient(by_kernel, exact, 2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.parametrize("name", ["kernel wider than stride", "explicit", "tiles"])
def test_compiled_and_of_unknown_size_equals_eager(method, name):
    geometry = ODD[name]
    images_shape, kernel_shape, strides, padding = geometry
    images, kernel, cotangent, _ = operands(*geometry)

    def convolved(x, k):
        return convolution(x, k, strides, padding, method)

    expected = results(convolved, images, kernel, cotangent)
    signature = [
        tf.TensorSpec((None, None, None, images_shape[3]), tf.float64),
        tf.TensorSpec(kernel_shape, tf.float64),
    ]
    for function in (tf.function(convolved, jit_compile=True), tf.function(convolved, input_signature=signature)):
        for ours, eager in zip(results(function, images, kernel, cotangent), expected, strict=True):
            oracles.assert_gradient(ours, eager, 1e-12)


@pytest.mark.parametrize("which", ["dL/dx", "dL/dK"])
@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_with_swapped_axes_is_rejected(method, which, monkeypatch):
    """A square geometry, where a transposed gradient has the right shape: only its values can tell."""
    images, kernel, cotangent, pads = operands((3, 3, 3, 3), (3, 3, 3, 3), (1, 1), "same")
    name = {"dL/dx": "images_gradient", "dL/dK": "kernel_gradient"}[which]
    derived = getattr(METHODS[method], name)
    expected = loops(images, kernel, cotangent, (1, 1), pads)[1 if which == "dL/dx" else 2]
    for axes in [(1, 0, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2), (2, 1, 0, 3), (3, 1, 2, 0), (0, 3, 2, 1)]:
        monkeypatch.setattr(METHODS[method], name, lambda *args, axes=axes: tf.transpose(derived(*args), axes))
        wrong = results(lambda x, k: convolution(x, k, method=method), images, kernel, cotangent)
        with pytest.raises(AssertionError):
            oracles.assert_gradient(wrong[1 if which == "dL/dx" else 2], expected, 1e-10)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(geometries())
def test_fold_is_the_transpose_of_unfold(geometry):
    shape, (*size, _, _), strides, padding = geometry
    random = np.random.default_rng(0)
    images = tf.constant(random.standard_normal(shape))
    with tf.GradientTape() as tape:
        tape.watch(images)
        columns = unfold(images, size, strides, padding)
    weights = random.standard_normal(columns.shape)
    folded = fold(tf.constant(weights), shape, size, strides, padding)
    np.testing.assert_allclose(np.sum(columns * weights), np.sum(images * folded), atol=1e-10)
    np.testing.assert_array_equal(tape.gradient(columns, images, output_gradients=tf.constant(weights)), folded)


def test_fold_needs_the_output_shape():
    columns = tf.ones((1, 2, 2, 4))
    assert [fold(columns, (1, *image, 1), 2, 2).shape[1:3] for image in ((4, 4), (5, 4), (5, 5))] == [
        (4, 4),
        (5, 4),
        (5, 5),
    ]


def test_fold_gradient_is_unfold():
    columns = tf.constant(np.random.default_rng(0).standard_normal((2, 2, 3, 12)))
    cotangent = np.random.default_rng(1).standard_normal((2, 5, 4, 3))
    with tf.GradientTape() as tape:
        tape.watch(columns)
        images = fold(columns, (2, 5, 4, 3), 2, (2, 1))
    gradient = tape.gradient(images, columns, output_gradients=tf.constant(cotangent))
    np.testing.assert_array_equal(gradient, unfold(tf.constant(cotangent), 2, (2, 1)))


def test_wrong_sizes_are_named():
    images, kernel = tf.zeros((1, 4, 6, 3)), tf.zeros((5, 3, 3, 2))
    with pytest.raises(ValueError, match=r"have 3 channels.*takes 2"):
        convolution(images, tf.zeros((3, 3, 2, 5)))
    with pytest.raises(ValueError, match=r"windows of 5x3 do not fit into images of 4x6"):
        convolution(images, kernel, padding="valid")
    with pytest.raises(ValueError, match=r'method must be "auto" or one of primitives, unfold, shifted, got \'fft\''):
        convolution(images, kernel, method="fft")
    with pytest.raises(ValueError, match=r"padding must be .*, got \(\(1, 1\), \(-1, 1\)\)"):
        convolution(images, kernel, padding=((1, 1), (-1, 1)))
    with pytest.raises(ValueError, match=r"strides must be .*, got \(1, 2, 3\)"):
        convolution(images, kernel, strides=(1, 2, 3))
