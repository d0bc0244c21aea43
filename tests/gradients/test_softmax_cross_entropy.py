"""Softmax cross-entropy in its three forms against NumPy's formula, autodiff and finite differences."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.gradients.softmax_cross_entropy import class_cross_entropy, softmax_cross_entropy, sparse_cross_entropy
from tests.support.oracles import assert_gradient, assert_rejects_swapped_axes, finite_difference_gradient

BOUNDED = settings(max_examples=25, deadline=None, derandomize=True)


def loss_and_gradient(function, logits, cotangent):
    logits = tf.convert_to_tensor(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = function(logits)
    return loss, tape.gradient(loss, logits, output_gradients=tf.cast(cotangent, loss.dtype))


def cross_entropy(probabilities):
    """-sum p log softmax(z) of TensorFlow's operations, for autodiff."""
    return lambda logits: -tf.reduce_sum(probabilities * tf.nn.log_softmax(logits), -1)


def draw(batch, classes, given, seed):
    """(logits, indices, probabilities, rest, dense probabilities, cotangent); rows of p sum to other numbers than 1."""
    random = np.random.default_rng(seed)
    indices = np.argsort(random.random((batch, classes)), axis=1)[:, :given].astype(np.int32)
    probabilities, rest = random.random((batch, given)), random.random(batch)
    dense = np.tile(rest[:, None], (1, classes))
    np.put_along_axis(dense, indices, probabilities, axis=1)
    return random.normal(size=(batch, classes)) * 3, indices, probabilities, rest, dense, random.normal(size=batch)


@BOUNDED
@given(batch=st.integers(1, 5), classes=st.integers(1, 9), seed=st.integers(0, 99), data=st.data())
def test_few_classes_and_the_rest_equal_the_dense_distribution(batch, classes, seed, data):
    given_classes = data.draw(st.integers(1, classes))
    logits, indices, probabilities, rest, dense, cotangent = draw(batch, classes, given_classes, seed)
    loss, dz = loss_and_gradient(lambda z: sparse_cross_entropy(z, indices, probabilities, rest), logits, cotangent)
    expected, dz_expected = loss_and_gradient(cross_entropy(dense), logits, cotangent)
    np.testing.assert_allclose(loss, expected, rtol=0, atol=1e-10)
    assert_gradient(dz, dz_expected, 1e-10)


@BOUNDED
@given(batch=st.integers(1, 5), classes=st.integers(1, 9), seed=st.integers(0, 99))
def test_whole_distributions_equal_autodiff_by_logits_and_probabilities(batch, classes, seed):
    logits, *_, dense, cotangent = draw(batch, classes, 1, seed)
    for place, ours, theirs in (
        (logits, lambda z: softmax_cross_entropy(z, tf.constant(dense)), cross_entropy(dense)),
        (
            dense,
            lambda p: softmax_cross_entropy(tf.constant(logits), p),
            lambda p: -tf.reduce_sum(p * tf.nn.log_softmax(logits), -1),
        ),
    ):
        loss, derived = loss_and_gradient(ours, place, cotangent)
        expected, oracle = loss_and_gradient(theirs, place, cotangent)
        np.testing.assert_allclose(loss, expected, rtol=0, atol=1e-10)
        assert_gradient(derived, oracle, 1e-10)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_class_indices_are_smoothed_over_the_other_classes(smoothing):
    logits, *_, cotangent = draw(6, 5, 1, seed=1)
    classes = np.array([0, 4, 2, 2, 1, 3])
    dense = np.full((6, 5), smoothing / 4)
    dense[np.arange(6), classes] = 1 - smoothing
    loss, dz = loss_and_gradient(lambda z: class_cross_entropy(z, tf.constant(classes), smoothing), logits, cotangent)
    expected, dz_expected = loss_and_gradient(cross_entropy(dense), logits, cotangent)
    np.testing.assert_allclose(loss, expected, rtol=0, atol=1e-10)
    assert_gradient(dz, dz_expected, 1e-10)


def test_gradients_equal_finite_differences():
    logits, indices, probabilities, rest, dense, cotangent = draw(3, 7, 3, seed=2)
    for function in (
        lambda z: sparse_cross_entropy(tf.constant(z), indices, probabilities, rest),
        lambda z: softmax_cross_entropy(tf.constant(z), tf.constant(dense)),
        lambda z: class_cross_entropy(tf.constant(z), tf.constant([1, 0, 6]), 0.2),
    ):
        with tf.GradientTape() as tape:
            z = tf.constant(logits)
            tape.watch(z)
            loss = function(z)
        derived = tape.gradient(loss, z, output_gradients=cotangent)
        assert_gradient(derived, finite_difference_gradient(function, logits, cotangent), 1e-6)


def test_a_gradient_with_swapped_axes_is_rejected():
    logits, indices, probabilities, rest, dense, cotangent = draw(4, 4, 2, 6)
    _, expected = loss_and_gradient(cross_entropy(dense), logits, cotangent)
    for function in (
        lambda z: sparse_cross_entropy(z, indices, probabilities, rest),
        lambda z: softmax_cross_entropy(z, tf.constant(dense)),
    ):
        assert_rejects_swapped_axes(loss_and_gradient(function, logits, cotangent)[1], expected, 1e-10)


def test_huge_logits_give_finite_losses_and_gradients():
    logits = tf.constant([[1e30, -1e30, 0.0], [1000.0, 999.0, -1000.0]], tf.float32)
    loss, dz = loss_and_gradient(lambda z: class_cross_entropy(z, tf.constant([0, 1])), logits, np.ones(2))
    np.testing.assert_allclose(loss, [0.0, 1 + np.log1p(np.exp(-1))], rtol=1e-6)
    np.testing.assert_allclose(dz[0], 0.0)
    np.testing.assert_allclose(np.sum(dz, axis=1), 0.0, atol=1e-6)


def test_gradient_of_a_distribution_sums_to_zero_in_every_row():
    logits, indices, probabilities, *_ = draw(4, 6, 2, seed=3)
    probabilities /= 2 * probabilities.sum(1, keepdims=True)
    _, dz = loss_and_gradient(
        lambda z: sparse_cross_entropy(z, indices, probabilities, np.full(4, 0.5 / 4)), logits, np.ones(4)
    )
    np.testing.assert_allclose(np.sum(dz, axis=1), 0.0, atol=1e-12)


def test_bfloat16_is_close_to_float64():
    logits, indices, probabilities, rest, dense, _ = draw(8, 10, 3, seed=4)
    small = [tf.cast(array, tf.bfloat16) for array in (logits / 3, probabilities, rest)]
    loss, dz = loss_and_gradient(lambda z: sparse_cross_entropy(z, indices, *small[1:]), small[0], np.ones(8))
    wide = tf.cast(small[0], tf.float64)
    expected, dz_expected = loss_and_gradient(cross_entropy(dense), wide, np.ones(8))
    assert_gradient(tf.cast(loss, tf.float64), expected, 2e-2)
    assert_gradient(tf.cast(dz, tf.float64), dz_expected, 2e-2)


def test_one_graph_for_every_batch_size_and_xla_give_the_same():
    logits, indices, probabilities, rest, *_ = draw(4, 6, 2, seed=5)

    def step(logits, indices, probabilities, rest):
        return loss_and_gradient(
            lambda z: sparse_cross_entropy(z, indices, probabilities, rest), logits, 1.0 + 0 * rest
        )

    arrays = [tf.constant(array) for array in (logits, indices, probabilities, rest)]
    signature = [tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in arrays]
    expected = step(*arrays)
    for compiled in (tf.function(step, input_signature=signature), tf.function(step, jit_compile=True)):
        for ours, theirs in zip(compiled(*arrays), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-10)


def test_mismatches_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="logits have 4 classes, but probabilities have 3"):
        softmax_cross_entropy(tf.ones((2, 4)), tf.ones((2, 3)))
    with pytest.raises(ValueError, match="5 class indices were given for logits of 4 classes"):
        sparse_cross_entropy(tf.ones((2, 4)), tf.zeros((2, 5), tf.int32), tf.ones((2, 5)), tf.ones(2))
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\), got 1"):
        class_cross_entropy(tf.ones((2, 4)), tf.zeros(2, tf.int32), 1)


def test_a_class_with_a_logit_of_minus_infinity_and_no_probability_adds_nothing():
    logits = tf.constant([[1.0, 2.0, -math.inf]], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = class_cross_entropy(logits, tf.constant([1]))
    np.testing.assert_allclose(loss, [math.log(1 + math.exp(-1))], rtol=1e-12)
    q = 1 / (1 + math.exp(-1))
    np.testing.assert_allclose(tape.gradient(loss, logits), [[1 - q, q - 1, 0]], atol=1e-12)


@pytest.mark.parametrize("dtype", [tf.uint8, tf.uint16, tf.int32, tf.int64])
def test_class_indices_of_any_integer_type(dtype):
    logits = tf.constant([[1.0, 2.0, 0.5], [0.0, 1.0, 3.0]])
    np.testing.assert_array_equal(
        class_cross_entropy(logits, tf.constant([1, 2], dtype)), class_cross_entropy(logits, tf.constant([1, 2]))
    )


def test_the_rest_is_ignored_where_all_classes_are_given():
    logits, classes = tf.constant([[1.0, 2.0]]), tf.constant([[1, 0]])
    expected = sparse_cross_entropy(logits, classes, tf.constant([[0.75, 0.25]]), tf.zeros(1))
    for rest in (math.inf, math.nan):
        loss = sparse_cross_entropy(logits, classes, tf.constant([[0.75, 0.25]]), tf.constant([rest]))
        np.testing.assert_array_equal(loss, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype, wrong", [(tf.int32, 3), (tf.int32, -1), (tf.uint8, 255), (tf.int64, 2**32 + 1)])
def test_a_class_out_of_range_is_nan_in_xla_as_tensorflows_own(dtype, wrong, smoothing):
    logits, classes = tf.constant([[1.0, 2.0, 0.5], [0.0, 1.0, 3.0]]), tf.constant([wrong, 2], dtype)
    ours = tf.function(
        lambda z: loss_and_gradient(lambda z: class_cross_entropy(z, classes, smoothing), z, np.ones(2)),
        jit_compile=True,
    )
    loss, dz = ours(logits)
    assert np.isnan(loss[0]) and np.all(np.isnan(dz[0]))
    expected = loss_and_gradient(lambda z: class_cross_entropy(z, tf.constant([2]), smoothing), logits[1:], np.ones(1))
    np.testing.assert_allclose(loss[1:], expected[0], rtol=1e-6)
    np.testing.assert_allclose(dz[1:], expected[1], rtol=1e-6)
    if dtype in (tf.int32, tf.int64):
        theirs = tf.function(
            lambda z: loss_and_gradient(
                lambda z: tf.nn.sparse_softmax_cross_entropy_with_logits(classes, z), z, np.ones(2)
            ),
            jit_compile=True,
        )
        np.testing.assert_array_equal(np.isnan(theirs(logits)[0]), np.isnan(loss))
        np.testing.assert_array_equal(np.isnan(theirs(logits)[1]), np.isnan(dz))


@pytest.mark.parametrize("wrong", [3, -1, 2**32 + 1])
def test_a_class_out_of_range_is_an_error_on_a_cpu(wrong):
    with tf.device("CPU"), pytest.raises(tf.errors.InvalidArgumentError):
        class_cross_entropy(tf.ones((2, 3)), tf.constant([wrong, 2], tf.int64))


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.bfloat16], ids=lambda dtype: dtype.name)
def test_whole_distributions_may_rule_out_a_class_whose_logit_is_minus_infinity(dtype):
    logits = tf.constant([[1.0, -math.inf, 2.0], [-math.inf, 0.5, 0.0]], dtype)
    probabilities = tf.constant([[0.25, 0.0, 0.75], [0.0, 1.0, 0.0]], dtype)
    loss, dz = loss_and_gradient(lambda z: softmax_cross_entropy(z, probabilities), logits, np.ones(2))
    # The same without the class.
    kept = np.array([[0, 2], [1, 2]])
    few = [tf.cast(tf.gather(tensor, kept, batch_dims=1), tf.float64) for tensor in (logits, probabilities)]
    expected, dz_few = loss_and_gradient(cross_entropy(few[1]), few[0], np.ones(2))
    dz_expected = np.zeros((2, 3))
    np.put_along_axis(dz_expected, kept, np.asarray(dz_few), axis=1)
    tolerance = 2e-2 if dtype == tf.bfloat16 else 1e-6
    np.testing.assert_allclose(tf.cast(loss, tf.float64), expected, rtol=tolerance)
    np.testing.assert_allclose(tf.cast(dz, tf.float64), dz_expected, atol=tolerance)


def test_a_class_that_is_probable_and_impossible_costs_infinitely_much():
    logits = tf.constant([[1.0, -math.inf, 2.0]])
    assert softmax_cross_entropy(logits, tf.constant([[0.5, 0.5, 0.0]])) == math.inf
    assert (
        sparse_cross_entropy(logits, tf.constant([[1, 0]]), tf.constant([[0.5, 0.5]]), tf.constant([0.0])) == math.inf
    )
    assert sparse_cross_entropy(logits, tf.constant([[0]]), tf.constant([[0.5]]), tf.constant([0.25])) == math.inf


def test_the_probabilities_gradient_is_zero_where_nothing_comes_back():
    logits, probabilities = tf.constant([[1.0, -math.inf]]), tf.constant([[1.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(probabilities)
        loss = softmax_cross_entropy(logits, probabilities)
    np.testing.assert_array_equal(tape.gradient(loss, probabilities, output_gradients=tf.zeros(1)), [[0.0, 0.0]])


def test_a_given_class_may_be_impossible_while_all_others_have_their_share():
    """p = 0 at one of the few classes, whose logit is -inf, and r above 0 at all others."""
    logits = tf.constant([[1.0, -math.inf, 2.0, 0.5]], tf.float64)
    indices, probabilities, rest = (
        tf.constant([[1, 2]]),
        tf.constant([[0.0, 0.6]], tf.float64),
        tf.constant([0.2], tf.float64),
    )
    loss, dz = loss_and_gradient(lambda z: sparse_cross_entropy(z, indices, probabilities, rest), logits, np.ones(1))
    few, p = np.array([1.0, 2.0, 0.5]), np.array([0.2, 0.6, 0.2])
    log_q = few - np.log(np.exp(few).sum())
    np.testing.assert_allclose(loss, [-(p * log_q).sum()], rtol=1e-12)
    np.testing.assert_allclose(dz, [np.insert(np.exp(log_q) - p, 1, 0.0)], atol=1e-12)
