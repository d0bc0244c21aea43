"""Activations against autodiff and finite differences, also far from zero."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.gradients import activations
from models.layers.activation import FUNCTIONS, Activation
from tests.support.oracles import assert_gradient, assert_rejects_swapped_axes, finite_difference_gradient

BOUNDED = settings(max_examples=20, deadline=None, derandomize=True)
every_activation = pytest.mark.parametrize("name", FUNCTIONS)
# TensorFlow's own functions, whose gradients autodiff takes.
ORACLES = {
    "relu": tf.nn.relu,
    "leaky_relu": lambda x: tf.where(x > 0, x, 0.01 * x),
    "sigmoid": tf.sigmoid,
    "tanh": tf.tanh,
    "silu": lambda x: x * tf.sigmoid(x),
    "gelu": lambda x: x * (1 + tf.math.erf(x / np.sqrt(2))) / 2,
}


def value_and_gradient(function, x, cotangent):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return y, tape.gradient(y, x, output_gradients=tf.cast(cotangent, y.dtype))


@every_activation
@BOUNDED
@given(shape=st.lists(st.integers(1, 5), min_size=0, max_size=4).map(tuple), seed=st.integers(0, 99))
def test_value_and_gradient_equal_autodiff(name, shape, seed):
    x, cotangent = np.random.default_rng(seed).normal(size=(2, *shape)) * 3
    y, dx = value_and_gradient(FUNCTIONS[name], x, cotangent)
    expected, dx_expected = value_and_gradient(ORACLES[name], x, cotangent)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-10)
    assert_gradient(dx, dx_expected, 1e-10)


@every_activation
def test_gradient_equals_finite_differences(name):
    x, cotangent = np.random.default_rng(4).normal(size=(2, 3, 4, 5))
    _, dx = value_and_gradient(FUNCTIONS[name], x, cotangent)
    expected = finite_difference_gradient(lambda x: FUNCTIONS[name](tf.constant(x)), x, cotangent)
    assert_gradient(dx, expected, 1e-6)


@every_activation
def test_a_gradient_with_swapped_axes_is_rejected(name):
    x, cotangent = np.random.default_rng(4).normal(size=(2, 3, 3, 3, 3))
    _, dx = value_and_gradient(FUNCTIONS[name], x, cotangent)
    assert_rejects_swapped_axes(dx, value_and_gradient(ORACLES[name], x, cotangent)[1], 1e-10)


@every_activation
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.bfloat16])
def test_far_from_zero_nothing_overflows(name, dtype):
    x = tf.constant([-1e30, -1e4, -90.0, 90.0, 1e4, 1e30], dtype)
    y, dx = value_and_gradient(FUNCTIONS[name], x, 1.0 + tf.zeros_like(x))
    assert np.all(np.isfinite(tf.cast(y, tf.float64))) and np.all(np.isfinite(tf.cast(dx, tf.float64)))
    upper = 1.0 if name in ("sigmoid", "tanh") else tf.cast(x[3:], tf.float64)
    np.testing.assert_allclose(tf.cast(y[3:], tf.float64), upper + np.zeros(3))


def test_sigmoid_keeps_tiny_values_and_slopes_on_both_sides():
    y, dx = value_and_gradient(activations.sigmoid, np.array([-500.0, 500.0]), np.ones(2))
    np.testing.assert_allclose(y, [np.exp(-500), 1.0], rtol=1e-12)
    np.testing.assert_allclose(dx, [np.exp(-500), np.exp(-500)], rtol=1e-12)


def test_tanh_keeps_tiny_slopes_where_its_value_rounds_to_one():
    y, dx = value_and_gradient(activations.tanh, np.array([-30.0, 30.0]), np.ones(2))
    np.testing.assert_array_equal(y, [-1.0, 1.0])
    np.testing.assert_allclose(dx, 4 * np.exp(-60), rtol=1e-12)


def test_gelu_keeps_tiny_values_of_large_negative_inputs():
    expected = -20 * math.erfc(20 / math.sqrt(2)) / 2
    np.testing.assert_allclose(activations.gelu(tf.constant(-20.0, tf.float64)), expected, rtol=1e-12)


@pytest.mark.parametrize("name, slope", [("relu", 0.0), ("leaky_relu", 0.01)])
def test_the_derivative_at_zero_is_that_of_the_negative_side(name, slope):
    _, dx = value_and_gradient(FUNCTIONS[name], np.zeros(3), np.ones(3))
    np.testing.assert_array_equal(dx, slope)


def test_leaky_relu_takes_any_slope():
    y, dx = value_and_gradient(lambda x: activations.leaky_relu(x, 0.25), np.array([-2.0, 3.0]), np.array([1.0, 5.0]))
    np.testing.assert_array_equal(y, [-0.5, 3.0])
    np.testing.assert_array_equal(dx, [0.25, 5.0])


@every_activation
def test_bfloat16_is_close_to_float64(name):
    x, cotangent = np.random.default_rng(1).normal(size=(2, 200))
    rounded = tf.cast(x, tf.bfloat16)
    y, dx = value_and_gradient(FUNCTIONS[name], rounded, tf.cast(cotangent, tf.bfloat16))
    expected = value_and_gradient(ORACLES[name], tf.cast(rounded, tf.float64), cotangent)
    for ours, exact in zip((y, dx), expected, strict=True):
        assert_gradient(tf.cast(ours, tf.float64), exact, 2e-2)


@every_activation
def test_layer_applies_it_in_its_precision_compiles_and_round_trips(name):
    layer = Activation(name, dtype="mixed_bfloat16")
    x = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
    assert layer(x).dtype == tf.bfloat16
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert twin.get_config() == layer.get_config()
    compiled = tf.function(lambda x: value_and_gradient(FUNCTIONS[name], x, tf.ones_like(x)), jit_compile=True)
    expected = value_and_gradient(FUNCTIONS[name], x, np.ones_like(x))
    for ours, theirs in zip(compiled(tf.constant(x)), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_an_unknown_activation_is_refused_by_name():
    with pytest.raises(ValueError, match="activation 'swish' is unknown; choose one of relu, leaky_relu"):
        Activation("swish")
