import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.gradients.linear import add_bias, linear
from tests.support import oracles


def results(function, *arguments, cotangent, dtype=tf.float64):
    """The value and the gradients of <g, y> by the arguments, as float64 arrays."""
    tensors = [tf.cast(argument, dtype) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    gradients = tape.gradient(value, tensors, output_gradients=tf.cast(cotangent, dtype))
    return [np.asarray(tf.cast(tensor, tf.float64)) for tensor in (value, *gradients)]


def operands(leading, depth, units):
    random = np.random.default_rng(0)
    return [random.standard_normal(shape) for shape in ((*leading, depth), (depth, units), (*leading, units))]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 5), st.integers(1, 6))
def test_linear_equals_loops(leading, depth, units):
    inputs, kernel, cotangent = operands(leading, depth, units)
    value, by_inputs, by_kernel = (np.zeros_like(array) for array in (cotangent, inputs, kernel))
    for *n, d, f in np.ndindex(*leading, depth, units):
        value[*n, f] += inputs[*n, d] * kernel[d, f]
        by_inputs[*n, d] += cotangent[*n, f] * kernel[d, f]
        by_kernel[d, f] += cotangent[*n, f] * inputs[*n, d]
    ours = results(linear, inputs, kernel, cotangent=cotangent)
    for derived, expected in zip(ours, (value, by_inputs, by_kernel), strict=True):
        oracles.assert_gradient(derived, expected, 1e-10)


def test_gradients_equal_finite_differences():
    inputs, kernel, cotangent = operands((2, 3), 4, 5)
    _, by_inputs, by_kernel = results(linear, inputs, kernel, cotangent=cotangent)
    expected = oracles.finite_difference_gradient(lambda x: linear(tf.constant(x), kernel), inputs, cotangent)
    oracles.assert_gradient(by_inputs, expected, 1e-6)
    expected = oracles.finite_difference_gradient(lambda k: linear(tf.constant(inputs), k), kernel, cotangent)
    oracles.assert_gradient(by_kernel, expected, 1e-6)


def test_a_gradient_with_swapped_axes_is_rejected():
    inputs, kernel, cotangent = operands((4,), 4, 4)
    _, by_inputs, by_kernel = results(linear, inputs, kernel, cotangent=cotangent)
    oracles.assert_rejects_swapped_axes(by_inputs, np.einsum("nf,df->nd", cotangent, kernel), 1e-10)
    oracles.assert_rejects_swapped_axes(by_kernel, np.einsum("nf,nd->df", cotangent, inputs), 1e-10)


@pytest.mark.parametrize("leading", [(3,), (1, 2), (2, 1, 3), (2, 3, 1, 2)])
def test_bias_gradient_is_the_sum_over_all_but_the_last_axis(leading):
    features, _, cotangent = operands(leading, 5, 5)
    bias = np.random.default_rng(1).standard_normal(5)
    value, by_features, by_bias = results(add_bias, features, bias, cotangent=cotangent)
    np.testing.assert_allclose(value, features + bias, atol=1e-10)
    np.testing.assert_array_equal(by_features, cotangent)
    oracles.assert_gradient(by_bias, cotangent.reshape(-1, 5).sum(0), 1e-10)
    expected = oracles.finite_difference_gradient(lambda b: features + b, bias, cotangent)
    oracles.assert_gradient(by_bias, expected, 1e-6)


def test_bfloat16_is_near_float64():
    inputs, kernel, cotangent = operands((64, 8), 24, 16)
    exact = results(linear, inputs, kernel, cotangent=cotangent)
    for derived, expected in zip(
        results(linear, inputs, kernel, cotangent=cotangent, dtype=tf.bfloat16), exact, strict=True
    ):
        oracles.assert_gradient(derived, expected, 2e-2)


def test_bfloat16_bias_gradient_over_many_rows_does_not_stop_growing():
    cotangent = np.full((5000, 3), 0.5)
    _, _, by_bias = results(add_bias, cotangent, np.zeros(3), cotangent=cotangent, dtype=tf.bfloat16)
    oracles.assert_gradient(by_bias, [2500] * 3, 1e-2)


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match=r"inputs of shape \(2, 3\) have 3 channels.*\(4, 5\) takes 4"):
        linear(tf.zeros((2, 3)), tf.zeros((4, 5)))
