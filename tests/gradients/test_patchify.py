import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.gradients.patchify import images_of, patches, patches_product, patchify
from tests.support import oracles

SHAPES = [  # B, H/P, W/P, C, F, P
    (2, 3, 2, 5, 4, 2),
    (1, 1, 1, 3, 2, 4),
    (3, 2, 5, 1, 7, 1),
    (1, 4, 1, 2, 1, 3),
]


def operands(shape, seed=0):
    """Images (B, H, W, C), kernel (P, P, C, F) and cotangent (B, H/P, W/P, F), float64."""
    batch, rows, columns, channels, filters, size = shape
    random = np.random.default_rng(seed)
    return (
        random.standard_normal((batch, rows * size, columns * size, channels)),
        random.standard_normal((size, size, channels, filters)),
        random.standard_normal((batch, rows, columns, filters)),
    )


def gradients(function, *arguments, cotangent):
    """(y, the gradients of <g, y> by the arguments)."""
    tensors = [tf.constant(argument) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        result = function(*tensors)
    return result, tape.gradient(result, tensors, output_gradients=tf.cast(cotangent, result.dtype))


LARGE = (1, 17, 18, 2, 3, 2)  # 34x36 images: the product reads the patches in place.


@pytest.mark.parametrize("shape", [*SHAPES, LARGE])
def test_forward_equals_loops(shape):
    images, kernel, _ = operands(shape)
    np.testing.assert_allclose(patchify(images, tf.constant(kernel)), oracles.patchify(images, kernel), atol=1e-10)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.tuples(*[st.integers(1, 3)] * 3, st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)))
@example(LARGE)
def test_gradients_equal_those_of_a_strided_convolution(shape):
    images, kernel, cotangent = operands(shape)
    size = kernel.shape[0]
    expected, both = gradients(lambda x, k: tf.nn.conv2d(x, k, size, "VALID"), images, kernel, cotangent=cotangent)
    result, derived = gradients(patchify, images, kernel, cotangent=cotangent)
    np.testing.assert_allclose(result, expected, atol=1e-10)
    for ours, theirs in zip(derived, both, strict=True):
        oracles.assert_gradient(ours, theirs, 1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_equal_finite_differences(shape):
    images, kernel, cotangent = operands(shape)
    _, (by_images, by_kernel) = gradients(patchify, images, kernel, cotangent=cotangent)
    expected = oracles.finite_difference_gradient(lambda x: patchify(x, tf.constant(kernel)), images, cotangent)
    oracles.assert_gradient(by_images, expected, 1e-6)
    expected = oracles.finite_difference_gradient(lambda k: patchify(images, tf.constant(k)), kernel, cotangent)
    oracles.assert_gradient(by_kernel, expected, 1e-6)


def test_kernel_gradient_of_large_images_equals_finite_differences():
    images, kernel, cotangent = operands(LARGE)
    _, (_, by_kernel) = gradients(patchify, images, kernel, cotangent=cotangent)
    expected = oracles.finite_difference_gradient(lambda k: patchify(images, tf.constant(k)), kernel, cotangent)
    oracles.assert_gradient(by_kernel, expected, 1e-6)


@pytest.mark.parametrize("shape", [SHAPES[0], LARGE])
def test_first_layer_has_the_same_kernel_gradient_and_none_for_the_images(shape):
    images, kernel, cotangent = operands(shape)
    _, (_, expected) = gradients(patchify, images, kernel, cotangent=cotangent)
    _, (by_images, by_kernel) = gradients(lambda x, k: patchify(x, k, False), images, kernel, cotangent=cotangent)
    assert by_images is None
    np.testing.assert_array_equal(by_kernel, expected)


@pytest.mark.parametrize("shape", [(2, 2, 2, 2, 2, 2), (2, 17, 17, 2, 2, 2)], ids=["small", "large"])
def test_a_gradient_with_swapped_axes_is_rejected(shape):
    """All axes that have one length are swapped, where only the values can tell."""
    images, kernel, cotangent = operands(shape)
    _, derived = gradients(patchify, images, kernel, cotangent=cotangent)
    _, expected = gradients(lambda x, k: tf.nn.conv2d(x, k, 2, "VALID"), images, kernel, cotangent=cotangent)
    for gradient, oracle in zip(derived, expected, strict=True):
        oracles.assert_rejects_swapped_axes(gradient, oracle, 1e-10)


def test_order_of_vec_is_row_column_channel():
    images = np.arange(1 * 4 * 6 * 2).reshape(1, 4, 6, 2)
    result = patches(images, 2).numpy()
    for h, w, p, q, c in np.ndindex(2, 3, 2, 2, 2):
        assert result[0, h * 3 + w, (p * 2 + q) * 2 + c] == images[0, h * 2 + p, w * 2 + q, c]


def test_patches_go_back_to_images():
    images, _, _ = operands(SHAPES[0])
    np.testing.assert_array_equal(images_of(patches(images, 2), *images.shape[1:3], 2), images)


def test_ready_made_patches_give_the_same_product_and_kernel_gradient():
    images, kernel, cotangent = operands((2, 3, 2, 5, 4, 3))
    result, (_, by_kernel) = gradients(patchify, images, kernel, cotangent=cotangent)
    rows = cotangent.reshape(2, 6, 4)
    ready, (by_patches, by_ready_kernel) = gradients(patches_product, patches(images, 3), kernel, cotangent=rows)
    np.testing.assert_array_equal(tf.reshape(result, (2, 6, 4)), ready)
    np.testing.assert_array_equal(by_kernel, by_ready_kernel)
    assert by_patches is None


@pytest.mark.parametrize("shape", [(4, 3, 2, 5, 4, 2), LARGE])
def test_bfloat16_is_near_float64(shape):
    images, kernel, cotangent = operands(shape)
    _, expected = gradients(patchify, images, kernel, cotangent=cotangent)
    halves = [tf.cast(array, tf.bfloat16) for array in (images, kernel)]
    _, derived = gradients(patchify, *halves, cotangent=cotangent)
    for ours, exact in zip(derived, expected, strict=True):
        assert ours.dtype == tf.bfloat16
        oracles.assert_gradient(tf.cast(ours, tf.float64), exact, 2e-2)


@pytest.mark.parametrize("shape", [SHAPES[0], LARGE])
def test_inside_a_function_and_compiled_equals_eager(shape):
    images, kernel, cotangent = operands(shape)
    expected, _ = gradients(patchify, images, kernel, cotangent=cotangent)
    spec = tf.TensorSpec((None, None, None, shape[3]), tf.float64)
    unknown = tf.function(patchify, input_signature=[spec, tf.TensorSpec(kernel.shape, tf.float64)])
    compiled = tf.function(patchify, jit_compile=True)
    for function in (unknown, compiled):
        result, derived = gradients(function, images, kernel, cotangent=cotangent)
        np.testing.assert_allclose(result, expected, atol=1e-12)
        assert derived[0].shape == images.shape


def test_wrong_sizes_are_named():
    images, kernel, _ = operands(SHAPES[0])
    with pytest.raises(ValueError, match=r"4x4 do not tile images of shape \(2, 6, 4, 5\)"):
        patches(images, 4)
    with pytest.raises(ValueError, match=r"have 5 channels.*takes 3"):
        patchify(images, tf.constant(kernel[:, :, :3]))
    with pytest.raises(ValueError, match=r"have 20 numbers.*takes 12"):
        patches_product(patches(images, 2), tf.constant(kernel[:, :, :3]))
    with pytest.raises(ValueError, match=r"square.*\(2, 1, 5, 4\)"):
        patchify(images, tf.constant(kernel[:, :1]))
