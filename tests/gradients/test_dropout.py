"""Dropout: the mask is a function of the seed and the step, and the gradient passes through the same mask."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.gradients.dropout import dropout
from models.layers.dropout import Dropout
from tests.support.oracles import assert_gradient, finite_difference_gradient


def value_and_gradient(x, rate, seed, cotangent):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = dropout(x, rate, seed)
    return y, tape.gradient(y, x, output_gradients=tf.cast(cotangent, y.dtype))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
    rate=st.floats(0, 0.9),
    seed=st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)),
)
def test_value_and_gradient_share_one_mask(shape, rate, seed):
    x, cotangent = np.random.default_rng(0).normal(size=(2, *shape))
    mask = dropout(tf.ones(shape, tf.float64), rate, seed).numpy()
    assert set(np.unique(mask)) <= {0.0, 1 / (1 - rate)}
    y, dx = value_and_gradient(x, rate, seed, cotangent)
    np.testing.assert_allclose(y, mask * x, rtol=0, atol=1e-10)
    assert_gradient(dx, mask * cotangent, 1e-10)


def test_gradient_equals_finite_differences():
    x, cotangent = np.random.default_rng(2).normal(size=(2, 3, 4, 5))
    _, dx = value_and_gradient(x, 0.4, (1, 2), cotangent)
    assert_gradient(dx, finite_difference_gradient(lambda x: dropout(tf.constant(x), 0.4, (1, 2)), x, cotangent), 1e-6)


def test_the_kept_part_is_that_of_the_rate_and_neighbors_are_independent():
    count, rate = 100_000, 0.3
    mask = dropout(tf.ones(count, tf.float64), rate, (5, 0)).numpy() > 0
    deviation = np.sqrt(rate * (1 - rate) / count)
    assert abs(mask.mean() - (1 - rate)) < 4 * deviation
    for other in (
        np.roll(mask, 1),
        dropout(tf.ones(count), rate, (5, 1)) > 0,
        dropout(tf.ones(count), rate, (6, 0)) > 0,
    ):
        assert abs(np.corrcoef(mask, other)[0, 1]) < 4 / np.sqrt(count)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float32])
def test_all_types_draw_the_same_mask(dtype):
    ones = tf.ones((7, 5), dtype)
    y, dx = value_and_gradient(ones, 0.5, (3, 4), np.ones((7, 5)))
    exact = dropout(tf.ones((7, 5), tf.float64), 0.5, (3, 4))
    np.testing.assert_array_equal(tf.cast(y, tf.float64), exact)
    np.testing.assert_array_equal(tf.cast(dx, tf.float64), exact)


def test_a_graph_draws_the_mask_that_eager_mode_draws():
    drawn = tf.function(lambda x, seed: dropout(x, 0.5, seed))(tf.ones((6, 5)), tf.constant([8, 9]))
    np.testing.assert_array_equal(drawn, dropout(tf.ones((6, 5)), 0.5, (8, 9)))


def test_xla_repeats_its_mask_and_shares_it_with_the_gradient():
    compiled = tf.function(lambda x, seed: value_and_gradient(x, 0.5, seed, tf.ones_like(x)), jit_compile=True)
    y, dx = compiled(tf.ones((6, 5)), tf.constant([8, 9]))
    assert set(np.unique(y)) == {0.0, 2.0}
    np.testing.assert_array_equal(dx, y)
    np.testing.assert_array_equal(compiled(tf.ones((6, 5)), tf.constant([8, 9]))[0], y)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_out_of_range_is_refused(rate):
    for use in (lambda: dropout(tf.ones(2), rate, (0, 0)), lambda: Dropout(rate)):
        with pytest.raises(ValueError, match=rf"must be in \[0, 1\), got {rate}"):
            use()


def test_layer_resumed_from_its_saved_count_repeats_the_masks(tmp_path):
    images = keras.Input((9,))
    model = keras.Model(images, Dropout(0.5, seed=7)(images))
    x = np.ones((4, 9), np.float32)
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    rest = [model(x, training=True) for _ in range(3)]
    assert not np.array_equal(rest[0], rest[1])
    twin = keras.models.load_model(tmp_path / "model.keras")
    for expected in rest:
        np.testing.assert_array_equal(twin(x, training=True), expected)


def test_layer_in_inference_is_the_identity_and_counts_nothing():
    layer = Dropout(0.5, seed=7)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_array_equal(layer(x), x)
    assert int(layer.step) == 0


def test_layer_without_a_seed_takes_one_from_the_global_generator():
    keras.utils.set_random_seed(3)
    first, second = Dropout(0.5), Dropout(0.5)
    keras.utils.set_random_seed(3)
    again = Dropout(0.5)
    assert first.seed == again.seed != second.seed


def test_layer_config_round_trips_with_its_seed():
    layer = Dropout(0.25, dtype="mixed_bfloat16")
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert twin.get_config() == layer.get_config()
    assert layer(np.ones((2, 3), np.float32), training=True).dtype == tf.bfloat16
