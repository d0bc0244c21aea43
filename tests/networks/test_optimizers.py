"""Keras's optimizers against the update equations that the documentation states, over several steps."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.layers.products import Linear
from models.losses import l2_penalty
from models.optimizers import SGD, Muon, orthogonalize
from models.schedules import Cyclical

GRADIENTS = np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32)
START = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)


def steps_of(optimizer):
    """The weights after each of the steps."""
    variable = keras.Variable(START)
    for gradient in GRADIENTS:
        optimizer.apply([tf.constant(gradient)], [variable])
        yield variable.numpy().astype(np.float64)


def assert_follows(optimizer, update):
    """Holds `optimizer` to `update`, theta, gradient, step, state -> theta, in float64."""
    theta, state = START.astype(np.float64), {}
    for step, ours in enumerate(steps_of(optimizer)):
        theta = update(theta, GRADIENTS[step].astype(np.float64), step, state)
        np.testing.assert_allclose(ours, theta, rtol=1e-4, atol=1e-6)


def test_sgd_is_theta_minus_eta_g():
    assert_follows(keras.optimizers.SGD(0.1), lambda theta, g, _step, _state: theta - 0.1 * g)


def test_sgd_takes_the_rate_of_its_schedule_at_each_step():
    rates = [0.1, 0.55, 1.0, 0.55, 0.1, 0.55]
    optimizer = keras.optimizers.SGD(Cyclical(0.1, 1.0, 2))
    assert_follows(optimizer, lambda theta, g, step, _state: theta - rates[step] * g)


def test_momentum_is_v_to_mu_v_minus_eta_g():
    def update(theta, g, _step, state):
        state["v"] = 0.9 * state.get("v", 0) - 0.1 * g
        return theta + state["v"]

    assert_follows(keras.optimizers.SGD(0.1, momentum=0.9), update)


def test_nesterov_looks_ahead_along_v():
    def update(theta, g, _step, state):
        state["v"] = 0.9 * state.get("v", 0) - 0.1 * g
        return theta + 0.9 * state["v"] - 0.1 * g

    assert_follows(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True), update)


@pytest.mark.parametrize("epsilon", [1e-7, 0.5])
def test_rmsprop_divides_by_the_root_of_r_plus_epsilon(epsilon):
    def update(theta, g, _step, state):
        state["r"] = 0.95 * state.get("r", 0) + 0.05 * g**2
        return theta - 0.01 * g / np.sqrt(state["r"] + epsilon)

    assert_follows(keras.optimizers.RMSprop(0.01, rho=0.95, epsilon=epsilon), update)


def test_l2_penalty_with_sgd_shrinks_kernels_and_leaves_biases():
    layer = Linear(3)
    layer.build((None, 4))
    layer.bias.assign([1.0, 2.0, 3.0])
    start = layer.kernel.numpy()
    optimizer = keras.optimizers.SGD(0.1)
    x = tf.constant(np.random.default_rng(2).normal(size=(5, 4)), tf.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x)) + l2_penalty(layer, 0.4)
    optimizer.apply(tape.gradient(loss, layer.trainable_variables), layer.trainable_variables)
    data_gradient = np.tile(np.sum(x, 0)[:, None], (1, 3))
    np.testing.assert_allclose(layer.kernel, start - 0.1 * (data_gradient + 0.4 * start), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.bias, np.array([1.0, 2.0, 3.0]) - 0.1 * 5, rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_bias_factor_is_a_learning_rate_of_its_own(nesterov):
    variables = {name: keras.Variable(START, name=name) for name in ("kernel", "gamma", "bias", "beta")}
    optimizer = SGD(Cyclical(0.1, 1.0, 2), bias_factor=8.0, momentum=0.9, nesterov=nesterov)
    for gradient in GRADIENTS:
        optimizer.apply([tf.constant(gradient)] * 4, list(variables.values()))
    for name, variable in variables.items():
        factor = 8 if name in ("bias", "beta") else 1
        rate = Cyclical(0.1 * factor, 1.0 * factor, 2)
        *_, expected = steps_of(keras.optimizers.SGD(rate, momentum=0.9, nesterov=nesterov))
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5)
    assert SGD.from_config(optimizer.get_config()).bias_factor == 8


def test_without_a_factor_it_is_the_optimizer_of_keras_to_the_bit():
    ours, theirs = (list(steps_of(kind(0.1, momentum=0.9, nesterov=True))) for kind in (SGD, keras.optimizers.SGD))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (7, 7), (9, 1)])
def test_orthogonalize_keeps_the_singular_vectors_and_brings_the_values_near_one(shape):
    matrix = np.random.default_rng(2).normal(size=shape)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values /= np.linalg.norm(values)
    for _ in range(3):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    found = orthogonalize(tf.constant(matrix)).numpy()
    np.testing.assert_allclose(found, left * values @ right, atol=1e-6)
    assert np.all(values > 0.3) and np.all(values < 1.3)


@pytest.mark.parametrize("mu", [0.6, 0.0])
def test_muon_takes_orthogonal_steps_from_kernels_of_one_length(mu):
    start = np.random.default_rng(3).normal(size=(3, 3, 4, 6)).astype(np.float32)
    gradients = np.random.default_rng(4).normal(size=(4, *start.shape)).astype(np.float32)
    kernel, bias = keras.Variable(start, name="kernel"), keras.Variable(START, name="bias")
    optimizer = Muon(0.1, bias_factor=2.0, momentum=mu, nesterov=True)
    theta, m = start.astype(np.float64), np.zeros(start.shape)
    for gradient, of_bias in zip(gradients, GRADIENTS, strict=False):
        optimizer.apply([tf.constant(gradient), tf.constant(of_bias)], [kernel, bias])
        m = mu * m + gradient
        step = orthogonalize(tf.constant((gradient + mu * m).reshape(-1, 6))).numpy()
        theta = np.sqrt(6) * theta / np.linalg.norm(theta) - 0.1 * step.reshape(start.shape)
        np.testing.assert_allclose(kernel.numpy(), theta, rtol=1e-3, atol=1e-4)
    *_, expected = itertools.islice(steps_of(keras.optimizers.SGD(0.2, momentum=mu, nesterov=True)), 4)
    np.testing.assert_allclose(bias.numpy(), expected, rtol=1e-5)
