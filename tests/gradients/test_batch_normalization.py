"""Batch normalization against the formulas in NumPy, finite differences and autodiff of the plain composition."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.gradients.batch_normalization import batch_normalization, fixed_normalization
from models.layers.normalization import BatchNormalization
from tests.support.oracles import assert_gradient, assert_rejects_swapped_axes, finite_difference_gradient

EPSILON = 1e-3
SHAPES = [(5, 3), (1, 4, 7, 3), (2, 1, 5, 4), (3, 2, 1, 1), (2, 3, 4, 2, 5)]
BOUNDED = settings(max_examples=25, deadline=None, derandomize=True)
shapes = st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple)


def draw(shape, seed=0, dtype=np.float64):
    """(x, gamma, beta, g), the channels with means and scales of their own."""
    random = np.random.default_rng(seed)
    channels = shape[-1]
    x = random.normal(size=shape) * random.uniform(0.5, 3, channels) + random.normal(size=channels) * 4
    gamma, beta = random.normal(size=(2, channels))
    return tuple(array.astype(dtype) for array in (x, gamma, beta, random.normal(size=shape)))


def normalized(x, gamma, beta):
    """The formula, in NumPy."""
    axes = tuple(range(x.ndim - 1))
    return gamma * (x - x.mean(axes)) / np.sqrt(x.var(axes) + EPSILON) + beta


def plain_composition(x, gamma, beta):
    """The same of TensorFlow's elementary operations, for autodiff."""
    axes = list(range(len(x.shape) - 1))
    mean = tf.reduce_mean(x, axes)
    variance = tf.reduce_mean(tf.square(x - mean), axes)
    return gamma * (x - mean) / tf.sqrt(variance + EPSILON) + beta


def gradients_of(function, inputs, cotangent):
    """The gradients of <cotangent, function(*inputs)> by all inputs."""
    inputs = [tf.constant(array) for array in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
    return tape.gradient(outputs, inputs, output_gradients=tf.constant(cotangent, outputs.dtype))


def trained(x, gamma, beta):
    return batch_normalization(x, gamma, beta, EPSILON)[0]


@BOUNDED
@given(shape=shapes, seed=st.integers(0, 99))
def test_training_equals_the_formula_and_autodiff(shape, seed):
    x, gamma, beta, g = draw(shape, seed)
    outputs, mean, variance = batch_normalization(x, gamma, beta, EPSILON)
    axes = tuple(range(x.ndim - 1))
    np.testing.assert_allclose(outputs, normalized(x, gamma, beta), rtol=0, atol=1e-10)
    np.testing.assert_allclose(mean, x.mean(axes), atol=1e-12)
    np.testing.assert_allclose(variance, x.var(axes), atol=1e-12)
    derived = gradients_of(trained, (x, gamma, beta), g)
    for ours, theirs in zip(derived, gradients_of(plain_composition, (x, gamma, beta), g), strict=True):
        assert_gradient(ours, theirs, 1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_training_gradients_equal_finite_differences(shape):
    inputs = list(draw(shape, seed=3))
    g = inputs.pop()
    derived = gradients_of(trained, inputs, g)
    for place in range(3):

        def function(array, place=place):
            return normalized(*(array if other == place else inputs[other] for other in range(3)))

        assert_gradient(derived[place], finite_difference_gradient(function, inputs[place], g), 1e-6)


def test_a_gradient_with_swapped_axes_is_rejected():
    x, gamma, beta, g = draw((4, 4, 4, 4))
    dx, _, _ = gradients_of(trained, (x, gamma, beta), g)
    expected, _, _ = gradients_of(plain_composition, (x, gamma, beta), g)
    assert_rejects_swapped_axes(dx, expected, 1e-10)


def test_input_gradient_has_no_mean_and_no_part_along_the_outputs():
    x, gamma, beta, g = draw((4, 3, 5, 2))
    (dx,) = gradients_of(lambda x: batch_normalization(x, gamma, beta, 1e-300)[0], (x,), g)
    np.testing.assert_allclose(np.sum(dx, (0, 1, 2)), 0, atol=1e-10)
    np.testing.assert_allclose(np.sum(dx * normalized(x, gamma, 0 * beta), (0, 1, 2)), 0, atol=1e-3)


@pytest.mark.parametrize("dtype, tolerance", [(tf.float32, 1e-5), (tf.bfloat16, 2e-2)])
@pytest.mark.parametrize("shape", [(64, 3), (4, 6, 5, 8)])
def test_kernel_types_equal_float64(shape, dtype, tolerance):
    exact = draw(shape, seed=1)
    x, g = (tf.cast(exact[place], dtype) for place in (0, 3))
    gamma, beta = (tf.cast(exact[place], tf.float32) for place in (1, 2))
    # The oracle sees the same rounded inputs, so that only the operation's own rounding counts.
    x64, gamma64, beta64, g64 = (tf.cast(tensor, tf.float64).numpy() for tensor in (x, gamma, beta, g))
    outputs, mean, variance = batch_normalization(x, gamma, beta, EPSILON)
    assert (outputs.dtype, mean.dtype, variance.dtype) == (dtype, tf.float32, tf.float32)
    assert_gradient(tf.cast(outputs, tf.float64), normalized(x64, gamma64, beta64), tolerance)
    np.testing.assert_allclose(mean, x64.reshape(-1, shape[-1]).mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, x64.reshape(-1, shape[-1]).var(0), rtol=1e-4, atol=1e-5)
    derived = gradients_of(trained, (x, gamma, beta), g)
    for ours, theirs in zip(derived, gradients_of(plain_composition, (x64, gamma64, beta64), g64), strict=True):
        assert_gradient(tf.cast(ours, tf.float64), theirs, tolerance)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_a_single_entry_per_channel_becomes_beta(dtype):
    x, gamma, beta, _ = (tf.cast(array, dtype) for array in draw((1, 4)))
    outputs, mean, variance = batch_normalization(x, gamma, beta, EPSILON)
    np.testing.assert_allclose(outputs[0], beta, atol=1e-6)
    np.testing.assert_allclose(mean, x[0], rtol=1e-6)
    np.testing.assert_array_equal(variance, 0)


def test_a_large_mean_leaves_the_variance_exact():
    x = np.random.default_rng(0).normal(size=(256, 8)).astype(np.float32) + 1000
    _, _, variance = batch_normalization(x, np.ones(8, np.float32), np.zeros(8, np.float32), EPSILON)
    np.testing.assert_allclose(variance, x.astype(np.float64).var(0), rtol=1e-3)


@BOUNDED
@given(shape=shapes, seed=st.integers(0, 99))
def test_inference_equals_the_formula_and_autodiff(shape, seed):
    x, gamma, beta, g = draw(shape, seed)
    random = np.random.default_rng(seed + 1)
    inputs = (x, gamma, beta, random.normal(size=shape[-1]), random.uniform(0.5, 2, shape[-1]))

    def composition(x, gamma, beta, mean, variance):
        return gamma * (x - mean) / tf.sqrt(variance + EPSILON) + beta

    def ours(*inputs):
        return fixed_normalization(*inputs, EPSILON)

    np.testing.assert_allclose(ours(*inputs), composition(*inputs), rtol=0, atol=1e-10)
    for derived, expected in zip(gradients_of(ours, inputs, g), gradients_of(composition, inputs, g), strict=True):
        assert_gradient(derived, expected, 1e-10)


def test_inference_in_bfloat16_keeps_the_statistics_in_float32():
    x, gamma, beta, g = draw((4, 5, 3, 6))
    x16, mean, variance = tf.cast(x, tf.bfloat16), np.float32(x.mean((0, 1, 2))), np.float32(x.var((0, 1, 2)))
    inputs = (x16, np.float32(gamma), np.float32(beta), mean, variance)
    derived = gradients_of(lambda *inputs: fixed_normalization(*inputs, EPSILON), inputs, g)
    assert [tensor.dtype for tensor in derived] == [tf.bfloat16] + [tf.float32] * 4
    assert_gradient(tf.cast(derived[0], tf.float64), g * gamma / np.sqrt(variance + EPSILON), 2e-2)


def test_channel_mismatch_names_both_sizes():
    x, gamma, beta, _ = draw((2, 5, 4, 3))
    with pytest.raises(ValueError, match=r"have 3 channels, but gamma has 2"):
        batch_normalization(x, gamma[:2], beta, EPSILON)
    with pytest.raises(ValueError, match=r"have 3 channels, but beta has 1"):
        fixed_normalization(x, gamma, beta[:1], gamma, gamma, EPSILON)


def test_moving_statistics_follow_the_stated_convention():
    layer = BatchNormalization(momentum=0.75)
    x = draw((6, 4, 3, 5), dtype=np.float32)[0]
    layer(x, training=True)
    layer(x + 1, training=True)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(layer.moving_mean, 0.75 * 0.25 * mean + 0.25 * (mean + 1), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.75**2 + (1 - 0.75**2) * variance, rtol=1e-4)


def test_inference_uses_the_moving_statistics_and_leaves_them():
    layer = BatchNormalization(epsilon=EPSILON)
    x = draw((3, 5), dtype=np.float32)[0]
    layer.build(x.shape)
    layer.set_weights([np.full(5, value, np.float32) for value in (2.0, 0.5, 3.0, 4.0)])
    np.testing.assert_allclose(layer(x), 2 * (x - 3) / np.sqrt(4 + EPSILON) + 0.5, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, 3.0)


def test_layer_in_mixed_bfloat16_keeps_float32_weights():
    layer = BatchNormalization(dtype="mixed_bfloat16")
    outputs = layer(draw((4, 5), dtype=np.float32)[0], training=True)
    assert outputs.dtype == tf.bfloat16
    assert {str(weight.dtype) for weight in layer.weights} == {"float32"}


def test_layer_refuses_other_channels_than_it_was_built_for():
    layer = BatchNormalization()
    layer.build((None, 3))
    with pytest.raises(ValueError, match="have 4 channels, but gamma has 3"):
        layer(np.zeros((2, 4), np.float32), training=True)


@pytest.mark.parametrize("options", [{"momentum": 1.5}, {"epsilon": 0}])
def test_layer_refuses_options_out_of_range(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name} must be .* got {value}"):
        BatchNormalization(**options)


def test_layer_config_round_trips():
    layer = BatchNormalization(momentum=0.8, epsilon=0.01, gamma_initializer="zeros", name="norm")
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert twin.get_config() == layer.get_config()
    twin.build((None, 2))
    np.testing.assert_array_equal(twin.gamma, 0.0)


@pytest.mark.parametrize("training", [False, True])
def test_layer_compiles_with_xla_to_the_same_values(training):
    x = draw((4, 3, 5, 2), dtype=np.float32)[0]
    plain, compiled = BatchNormalization(), BatchNormalization()

    def step(layer):
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = layer(x, training=training)
                loss = tf.reduce_sum(tf.sin(outputs))
            return outputs, tape.gradient(loss, x)

        return run

    plain.build(x.shape), compiled.build(x.shape)
    expected = step(plain)(tf.constant(x))
    for ours, theirs in zip(tf.function(step(compiled), jit_compile=True)(tf.constant(x)), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(compiled.moving_variance, plain.moving_variance, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
def test_a_frozen_layer_is_in_inference_also_in_training(dtype):
    x, *_, g = draw((6, 4, 3, 5), dtype=np.float32)
    layer = BatchNormalization(epsilon=EPSILON, dtype=dtype)
    layer(x, training=True)
    layer.trainable = False
    before = layer.get_weights()
    inputs = tf.constant(x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        frozen, inference = layer(inputs, training=True), layer(inputs)
    np.testing.assert_array_equal(frozen, inference)
    gradients = [tape.gradient(outputs, inputs, tf.cast(g, outputs.dtype)) for outputs in (frozen, inference)]
    np.testing.assert_array_equal(*gradients)
    for weight, kept in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)
    layer.trainable = True
    layer(x, training=True)
    assert not np.array_equal(layer.get_weights()[2], before[2])


def test_a_frozen_layer_gives_what_keras_gives():
    x = draw((6, 4, 3, 5), dtype=np.float32)[0]
    ours, theirs = BatchNormalization(epsilon=EPSILON), keras.layers.BatchNormalization(epsilon=EPSILON)
    random = np.random.default_rng(1)
    weights = [random.uniform(0.5, 2, 5).astype(np.float32) for _ in range(4)]
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.set_weights(weights)
        layer.trainable = False
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ours.moving_mean, theirs.moving_mean)


def test_fit_of_a_frozen_network_leaves_it_as_it_is():
    layer = BatchNormalization()
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(1)])
    layer.trainable = False
    model.compile("sgd", "mse")
    before = layer.get_weights()
    model.fit(draw((8, 4), dtype=np.float32)[0], np.ones((8, 1)), verbose=0)
    for weight, kept in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)
