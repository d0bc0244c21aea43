"""Schedules against their formulas in plain Python, step by step."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.blocks import ResidualBlock
from models.layers.products import Linear
from models.losses import l2_penalty
from models.schedules import CosineWithRestarts, Cyclical, Triangular, WarmupCosine

EVERY = [
    Cyclical(1e-5, 0.1, 5, growth=2, decay=0.5),
    CosineWithRestarts(0.2, 4, 0.01, growth=3, decay=0.9),
    WarmupCosine(0.3, 20, 5, 0.02),
    Triangular(0.4, 20, 6, 0.1, 0.05),
]
every_schedule = pytest.mark.parametrize("schedule", EVERY, ids=lambda schedule: type(schedule).__name__)


def cycle_of(step, length, growth):
    """(number of the cycle, steps done in it, its length), by walking."""
    number = 0
    while step >= length:
        step, length, number = step - length, length * growth, number + 1
    return number, step, length


@pytest.mark.parametrize("growth, decay", [(1, 1.0), (2, 1.0), (2, 0.5), (3, 0.9)])
def test_cyclical_equals_its_formula(growth, decay):
    schedule = Cyclical(1e-5, 1e-1, 6, growth, decay)
    for step in range(200):
        number, done, length = cycle_of(step, 12, growth)
        part = done / (length / 2)
        expected = 1e-5 + (1e-1 - 1e-5) * decay**number * (part if part <= 1 else 2 - part)
        np.testing.assert_allclose(float(schedule(step)), expected, rtol=1e-5)


def test_cyclical_meets_its_valleys_and_peaks_exactly_where_cycles_double():
    schedule = Cyclical(0.25, 1.0, 100, growth=2)
    for step, rate in ((0, 0.25), (100, 1.0), (200, 0.25), (400, 1.0), (600, 0.25), (1000, 1.0), (1400, 0.25)):
        assert float(schedule(step)) == rate


@pytest.mark.parametrize("growth, decay", [(1, 1.0), (2, 0.7)])
def test_cosine_with_restarts_equals_its_formula_and_keras(growth, decay):
    schedule = CosineWithRestarts(0.2, 7, 0.02, growth, decay)
    theirs = keras.optimizers.schedules.CosineDecayRestarts(0.2, 7, t_mul=growth, m_mul=decay)
    without_floor = CosineWithRestarts(0.2, 7, 0.0, growth, decay)
    for step in range(100):
        number, done, length = cycle_of(step, 7, growth)
        expected = 0.02 + 0.18 * decay**number * (1 + math.cos(math.pi * done / length)) / 2
        np.testing.assert_allclose(float(schedule(step)), expected, rtol=1e-5)
        if done:  # Keras finds the cycle by a logarithm, whose rounding may miss its first step.
            np.testing.assert_allclose(float(without_floor(step)), float(theirs(step)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("warmup", [0, 4])
def test_warmup_cosine_equals_its_formula(warmup):
    schedule = WarmupCosine(0.3, 20, warmup, 0.01)
    for step in range(30):
        if step < warmup:
            expected = 0.3 * (step + 1) / warmup
        else:
            part = min((step - warmup) / (20 - warmup), 1)
            expected = 0.01 + 0.29 * (1 + math.cos(math.pi * part)) / 2
        np.testing.assert_allclose(float(schedule(step)), expected, rtol=1e-5)


def test_triangular_is_linear_between_its_corners():
    schedule = Triangular(1.0, 20, 5, eta_start=0.2, eta_end=0.1)
    expected = np.interp(np.arange(30), [0, 5, 20], [0.2, 1.0, 0.1])
    np.testing.assert_allclose([float(schedule(step)) for step in range(30)], expected, rtol=1e-5)


@every_schedule
def test_config_round_trips_and_survives_an_optimizer(schedule):
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert type(twin) is type(schedule) and twin.get_config() == schedule.get_config()
    optimizer = keras.optimizers.SGD(schedule)
    restored = keras.optimizers.SGD.from_config(optimizer.get_config())
    assert restored.get_config() == optimizer.get_config()


@every_schedule
def test_a_graph_gives_the_rates_of_eager_mode(schedule):
    rates = tf.function(schedule.__call__)
    for step in (0, 3, 9, 17, 60):
        np.testing.assert_allclose(rates(tf.constant(step, tf.int64)), schedule(step), rtol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Cyclical(0.2, 0.1, 5), "0 <= eta_min <= eta_max, got 0.2 and 0.1"),
        (lambda: Cyclical(0.1, 0.2, 0), "n_s must be at least 1, got 0"),
        (lambda: Cyclical(0.1, 0.2, 5, growth=1.5), "growth must be a whole number from 1 on, got 1.5"),
        (lambda: Cyclical(0.1, 0.2, 5, decay=0), r"decay must be in \(0, 1\], got 0"),
        (lambda: CosineWithRestarts(0.1, 0), "first_steps must be at least 1, got 0"),
        (lambda: WarmupCosine(0.1, 5, 5), "0 <= warmup_steps < total_steps, got 5 and 5"),
        (lambda: Triangular(0.1, 5, 6), "0 < peak_step < total_steps, got 6 and 5"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_l2_penalty_adds_lambda_times_each_kernel_to_the_gradient_and_nothing_to_other_weights():
    images = keras.Input((4, 4, 3))
    model = keras.Model(images, Linear(2)(keras.layers.Flatten()(ResidualBlock(5)(images))))
    with tf.GradientTape() as tape:
        penalty = l2_penalty(model, 0.3)
    kernels = [variable for variable in model.trainable_variables if variable.path.endswith("kernel")]
    assert len(kernels) == 4
    np.testing.assert_allclose(penalty, 0.15 * sum(np.sum(np.square(kernel)) for kernel in kernels), rtol=1e-5)
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(penalty, model.trainable_variables), strict=True
    ):
        if variable.path.endswith("kernel"):
            np.testing.assert_allclose(gradient, 0.3 * variable.numpy(), rtol=1e-5)
        else:
            assert gradient is None


def test_frozen_kernels_are_not_penalized():
    model = keras.Sequential([keras.Input((3,)), Linear(4), Linear(2)])
    model.layers[0].trainable = False
    np.testing.assert_allclose(l2_penalty(model, 0.5), 0.25 * np.sum(np.square(model.layers[1].kernel)), rtol=1e-6)
    model.trainable = False
    assert l2_penalty(model, 0.5) == 0
