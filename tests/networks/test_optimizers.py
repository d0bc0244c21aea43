"""Keras's optimizers against the update equations that the documentation states, over several steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.layers.products import Linear
from models.losses import l2_penalty
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
